"""The client against real servers in this process."""

import contextlib
import logging
import threading
import time

import grpc
import numpy as np
import pytest

from serving import errors
from serving.client import InferenceSession
from serving.errors import (
    ArtifactError,
    Cancelled,
    DeadlineExceeded,
    InputTooLarge,
    InvalidInput,
    Overloaded,
    ServerUnreachable,
    ServingError,
    error_of,
)
from serving.protocol.codec import build_request, parse_response
from serving.protocol.messages import SERVICE
from serving.repository import Repository
from serving.types import InferRequest
from tests.serving import artifacts
from tests.serving.planes import MODES, check, counted, expected, rows, serving


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_remotely_and_locally(server, models, mode):
    for url in (server.url, f"local:{models}"):
        with InferenceSession(url, model="mlp", mode=mode) as session:
            xs = [rows(1 + n % 4, n) for n in range(20)]
            handles = [session.acquire({"x": x}) for x in xs]
            for handle, x in zip(reversed(handles), reversed(xs), strict=True):
                check(session.produce(handle), x)
            assert session.counters.calls == 20
            assert counted(session) == (0, 0, 0, 0)


def test_an_answer_is_given_once_and_to_its_own_session(server):
    with (
        InferenceSession(server.url, model="mlp") as session,
        InferenceSession(server.url, model="mlp") as other,
    ):
        handle = session.acquire({"x": rows(1)})
        with pytest.raises(ServingError, match="another session"):
            other.produce(handle)
        session.produce(handle)
        with pytest.raises(ServingError, match="produced already"):
            session.produce(handle)


def test_sync_evaluates_in_acquire_and_async_does_not(server):
    with InferenceSession(server.url, model="mlp") as session:
        assert session.acquire({"x": rows(1)}).done()
    for mode in ("async", "pseudo-async"):
        with InferenceSession(server.url, model="mlp", mode=mode) as session:
            server.gate.clear()
            handle = session.acquire({"x": rows(1)})
            assert not handle.done()
            server.gate.set()
            check(session.produce(handle), rows(1))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": rows(1)}, r"inputs \['y'\]; allowed are \['x'\]"),
        ({}, r"inputs \[\]; allowed"),
        ({"x": rows(1).astype(np.float64)}, "'x' has the datatype FP64; FP32 is allowed"),
        ({"x": rows(2)[:, :5]}, r"'x' has the shape \[2, 5\]; \[2, 8\] is allowed"),
        ({"x": rows(1)[0]}, r"'x' has the shape \[8\]"),
        ({"x": rows(1).tolist()}, "'x' is a list; a NumPy array"),
    ],
)
def test_bad_inputs_are_refused_before_they_are_sent(server, inputs, message):
    with InferenceSession(server.url, model="mlp") as session:
        with pytest.raises(InvalidInput, match=message):
            session.acquire(inputs)
        assert server.asked == 0


def test_equal_axes_are_checked_where_they_are_known(models, executables):
    with InferenceSession(f"local:{models}", model="graph") as session:
        inputs = artifacts.random_graph(1)
        inputs["receivers"] = inputs["receivers"][:-1]
        with pytest.raises(InvalidInput, match=r"'receivers' has the shape \[8\]; \[9\] is allowed"):
            session.acquire(inputs)


@pytest.mark.parametrize("mode", MODES)
def test_the_servers_error_class_comes_back_and_is_not_retried(server, mode):
    with InferenceSession(server.url, model="mlp", mode=mode) as session:
        with pytest.raises(InputTooLarge):
            session.infer({"x": rows(17)})
        with pytest.raises(InvalidInput, match="finite"):
            session.infer({"x": rows(1) * np.float32(np.nan)})
        assert server.asked == 2
        assert counted(session) == (0, 0, 0, 2)
        check(session.infer({"x": rows(1)}), rows(1))


def test_errors_map_back_to_their_classes():
    for kind, status in errors.STATUS.items():
        found = error_of(status.grpc, "text", kind=kind.__name__)
        assert type(found) is kind
        assert str(found) == "text"
    assert type(error_of("INTERNAL", "", kind="Overloaded")) is errors.InferenceFailed
    assert type(error_of("UNKNOWN", "")) is errors.InferenceFailed
    assert type(error_of("UNAVAILABLE", "")) is ServerUnreachable


@pytest.mark.parametrize("mode", MODES)
def test_an_overloaded_server_is_tried_again_when_it_says(server, mode):
    with InferenceSession(server.url, model="mlp", mode=mode) as session:
        server.errors = [Overloaded("the queue is full", 0.2)] * 2
        start = time.monotonic()
        check(session.infer({"x": rows(2)}), rows(2))
        assert time.monotonic() - start > 0.4
        assert counted(session) == (2, 0, 0, 0)
        server.errors = [Overloaded("the queue is full", 0.01)] * 3
        with pytest.raises(Overloaded, match="queue is full"):
            session.infer({"x": rows(2)})
        assert counted(session) == (4, 0, 0, 1)


@pytest.mark.parametrize("mode", MODES)
def test_failover_and_fallback(repository, models, mode, caplog):
    with serving(repository) as first, serving(repository) as second:
        url = f"{first.url},{second.url}"
        with InferenceSession(url, model="mlp", mode=mode, fallback=f"local:{models}") as session:
            check(session.infer({"x": rows(1)}), rows(1))
            assert (first.asked, second.asked) == (1, 0)
            first.stop()
            with caplog.at_level(logging.WARNING, "serving"):
                check(session.infer({"x": rows(2)}), rows(2))
            assert "going on with" in caplog.text
            assert counted(session) == (2, 1, 0, 0)
            # The one that failed is passed over for a while.
            check(session.infer({"x": rows(3)}), rows(3))
            assert counted(session) == (2, 1, 0, 0)
            second.stop()
            check(session.infer({"x": rows(4)}), rows(4))
            check(session.infer({"x": rows(5)}), rows(5))
            assert counted(session) == (4, 1, 2, 0)
            assert second.asked == 2


@pytest.mark.parametrize("mode", ["async", "pseudo-async"])
def test_a_server_that_dies_under_load_loses_nothing(repository, mode):
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(serving(repository)) for _ in range(2))
        with InferenceSession(f"{first.url},{second.url}", model="mlp", mode=mode) as session:
            xs = [rows(1, n) for n in range(12)]
            first.gate.clear()
            handles = [session.acquire({"x": x}) for x in xs]
            while first.asked < len(xs):
                time.sleep(0.005)
            stopper = threading.Thread(target=first.stop)
            stopper.start()
            for handle, x in zip(handles, xs, strict=True):
                check(session.produce(handle), x)
            first.gate.set()
            stopper.join()
            assert session.counters.calls == 12
            assert session.counters.failures == 0
            assert second.asked == 12


def test_a_restarted_server_is_found_again_and_must_serve_the_same(repository, models, tmp_path):
    with serving(repository) as server:
        session = InferenceSession(server.url, model="mlp", tries=1, shared_memory=True)
        check(session.infer({"x": rows(1)}), rows(1))
        port = server.port
    with session:
        with pytest.raises(ServerUnreachable):
            session.infer({"x": rows(1)})
        # The new server does not know the shared memory of the old one.
        with serving(repository, port):
            check(patiently(session, rows(1)), rows(1))
        with pytest.raises(ServerUnreachable):
            session.infer({"x": rows(1)})
        artifacts.mlp(tmp_path, seed=4)
        changed = Repository(tmp_path)
        changed.start()
        with serving(changed, port), pytest.raises(ArtifactError, match="checksum"):
            patiently(session, rows(1))
        changed.close(1.0)


def test_a_server_that_was_replaced_while_nothing_was_asked_is_not_believed(
    repository, tmp_path, executables
):
    artifacts.mlp(tmp_path, seed=4)
    changed = Repository(tmp_path)
    changed.start()
    with serving(repository) as server:
        session = InferenceSession(server.url, model="mlp")
        check(session.infer({"x": rows(1)}), rows(1))
    with session, serving(changed, server.port) as other:
        time.sleep(0.5)
        with pytest.raises(ArtifactError, match="checksum"):
            session.infer({"x": rows(1)})
        assert other.statistics("mlp")[0].execution_count == 0
    changed.close(1.0)


def patiently(session, x):
    """The answer once the connection is back."""
    until = time.monotonic() + 5
    while True:
        try:
            return session.infer({"x": x})
        except ServerUnreachable:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_a_fallback_of_other_weights_is_refused(server, tmp_path):
    artifacts.mlp(tmp_path, seed=4)
    with pytest.raises(ArtifactError, match="must be the artefact that the servers serve"):
        InferenceSession(server.url, model="mlp", fallback=f"local:{tmp_path}")


def test_servers_of_different_artefacts_are_refused(server, tmp_path):
    artifacts.mlp(tmp_path, seed=4)
    changed = Repository(tmp_path)
    changed.start()
    with serving(changed) as other, pytest.raises(ArtifactError, match="same artefact"):
        InferenceSession(f"{server.url},{other.url}", model="mlp")
    changed.close(1.0)


def test_the_fallback_stands_in_from_the_start(models, executables, repository):
    with serving(repository) as gone:
        url = gone.url
    with pytest.raises(ServerUnreachable):
        InferenceSession(url, model="mlp")
    with InferenceSession(url, model="mlp", tries=1, fallback=f"local:{models}") as session:
        check(session.infer({"x": rows(2)}), rows(2))
        assert counted(session) == (0, 0, 1, 0)


def test_the_newest_version_is_pinned(tmp_path, executables):
    artifacts.mlp(tmp_path)
    repository = Repository(tmp_path)
    repository.start()
    with serving(repository) as server, InferenceSession(server.url, model="mlp") as session:
        assert session.version == "1"
        artifacts.mlp(tmp_path, version="2", seed=4)
        repository.load("mlp")
        check(session.infer({"x": rows(2)}), rows(2))
        with InferenceSession(server.url, model="mlp") as later:
            assert later.version == "2"
            assert np.abs(later.infer({"x": rows(2)})["logits"] - expected(rows(2))).max() > 0.1
    repository.close(1.0)


@pytest.mark.parametrize("mode", MODES)
def test_deadline(server, mode):
    with InferenceSession(server.url, model="mlp", mode=mode, timeout=0.2) as session:
        server.gate.clear()
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            session.infer({"x": rows(1)})
        assert time.monotonic() - start < 2
        assert counted(session) == (0, 0, 0, 1)
        server.gate.set()
        check(session.infer({"x": rows(1)}), rows(1))


@pytest.mark.parametrize("mode", ["async", "pseudo-async"])
def test_cancel(server, mode):
    with InferenceSession(server.url, model="mlp", mode=mode) as session:
        server.gate.clear()
        handle = session.acquire({"x": rows(1)})
        assert handle.cancel()
        assert handle.done()
        with pytest.raises(Cancelled):
            session.produce(handle)
        server.gate.set()
        ended = session.acquire({"x": rows(1)})
        check(session.produce(ended), rows(1))
        assert not ended.cancel()
        assert session.counters.cancelled == 1
        assert session.counters.failures == 0


def test_a_pause_is_cut_short_by_cancel(server):
    with InferenceSession(server.url, model="mlp", mode="async") as session:
        server.errors = [Overloaded("full", 4.0)]
        handle = session.acquire({"x": rows(1)})
        while session.counters.retries == 0:
            time.sleep(0.005)
        handle.cancel()
        start = time.monotonic()
    assert time.monotonic() - start < 2


def test_close_gives_up_what_is_on_its_way(server, caplog):
    session = InferenceSession(server.url, model="mlp", mode="async")
    server.gate.clear()
    handle = session.acquire({"x": rows(1)})
    session.close()
    session.close()
    assert "1 calls on their way" in caplog.text
    with pytest.raises(Cancelled):
        session.produce(handle)
    with pytest.raises(ServingError, match="closed"):
        session.acquire({"x": rows(1)})


def test_a_server_refuses_what_was_meant_for_another_artefact(repository):
    """Also when the client has not noticed yet that its connection is a new one."""
    request = InferRequest(model="mlp", inputs={"x": rows(2)})
    checksum = repository.get("mlp").artifact.checksum
    with serving(repository) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        assert parse_response(call(build_request(request, checksum=checksum))).outputs[0].shape == (2, 3)
        before = server.statistics("mlp")[0].execution_count
        with pytest.raises(grpc.RpcError) as caught:
            call(build_request(request, checksum=checksum[::-1]))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert checksum in caught.value.details()
        assert server.statistics("mlp")[0].execution_count == before
