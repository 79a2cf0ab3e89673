"""Real servers of the small models, behind a gate, and what the client must answer with them."""

import contextlib
import threading

import numpy as np

from serving.dataplane import Dataplane
from serving.grpc_async import AsyncGrpcFront
from serving.grpc_server import GrpcFront
from tests.serving import artifacts

MODES = ("sync", "async", "pseudo-async")


class Plane(Dataplane):
    """The real dataplane, behind a gate that a test can close or make fail."""

    def __init__(self, repository):
        super().__init__(repository)
        self.asked, self.errors = 0, []
        self.gate = threading.Event()
        self.gate.set()

    def infer(self, request):
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        self.gate.wait(10)
        return super().infer(request)

    def enqueue(self, request, end):
        """What a front on an event loop calls: it must not wait for the gate itself."""
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        if self.gate.is_set():
            return super().enqueue(request, end)

        def later():
            self.gate.wait(10)
            try:
                end(Dataplane.infer(self, request))
            except Exception as error:
                end(error)

        threading.Thread(target=later, daemon=True).start()
        return Unhurried(), None


class Unhurried:
    """In place of a scheduler, which runs nothing."""

    def kick(self):
        return False


FRONTS = {"grpcio": GrpcFront, "asyncio": AsyncGrpcFront}


@contextlib.contextmanager
def serving(repository, port=0, front="grpcio", **settings):
    plane = Plane(repository)
    front = FRONTS[front](plane, port=port, threads=16, **settings)
    plane.port = front.start()
    plane.url = f"grpc://127.0.0.1:{plane.port}"
    plane.stop = front.stop
    try:
        yield plane
    finally:
        plane.gate.set()
        front.stop()


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def expected(x):
    weights = artifacts.mlp_weights()
    return np.tanh(x @ weights["first"]) @ weights["second"]


def check(outputs, x):
    assert set(outputs) == {"logits"}
    np.testing.assert_allclose(outputs["logits"], expected(x), rtol=1e-5, atol=1e-5)


def counted(session):
    counts = session.counters
    return counts.retries, counts.failovers, counts.fallbacks, counts.failures
