"""Measurements of a served model: where it runs, how many ask, how many answer, how much at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from serving.artifact import Artifact
from serving.client import InferenceSession
from serving.delay import DelayProxy
from serving.errors import InvalidInput, ServingError
from serving.manifest import Manifest, versions_in

Inputs = dict[str, np.ndarray]
WARM = 3


class Server(NamedTuple):
    """A server in a process of its own."""

    port: int
    process: psutil.Process


class Load(NamedTuple):
    """Closed loop: calls a second, and the latency of each, s."""

    rate: float
    latencies: np.ndarray


def read_manifest(models: Path, model: str) -> Manifest:
    """The newest version of a model whose requests can be joined along one axis."""
    versions = versions_in(models / model)
    if not versions:
        raise InvalidInput(f"{models} holds no model {model!r}; `recon export` writes one")
    manifest = Artifact(models / model / versions[-1]).manifest
    if not manifest.max_batch_size:
        raise InvalidInput(f"model {model!r} does not take batches of rows; the study needs one that does")
    return manifest


def random_inputs(manifest: Manifest, rows: int, seed: int) -> Inputs:
    """Inputs of a batch."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.random((rows, *spec.dims[1:]), np.float32).astype(spec.dtype)
        for spec in manifest.inputs
    }


@contextmanager
def running_server(models: Path, *options: str) -> Iterator[Server]:
    """Start `recon serve`, wait until it is ready, and end it."""
    command = [sys.executable, "-m", "recon", "serve", "--models", str(models), "--grpc", "0", "--http", "-1"]
    with subprocess.Popen(  # noqa: S603 - this very package
        [*command, "--metrics", "-1", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            words = process.stdout.readline().split() if process.stdout else []
            if "grpc" not in words:
                raise ServingError(f"{' '.join(command)} did not start")
            yield Server(int(words[words.index("grpc") + 1].rpartition(":")[2]), psutil.Process(process.pid))
        finally:
            process.terminate()


def latencies(url: str, model: str, inputs: Inputs, calls: int) -> np.ndarray:
    """Seconds of single calls, one after the other."""
    with InferenceSession(url, model=model, timeout=120.0, shared_memory=False) as session:
        return _timed(session, inputs, calls)


def _timed(session: InferenceSession, inputs: Inputs, calls: int) -> np.ndarray:
    for _ in range(WARM):
        session.infer(inputs)
    found = np.empty(calls)
    for number in range(calls):
        started = time.perf_counter()
        session.infer(inputs)
        found[number] = time.perf_counter() - started
    return found


def places(
    models: Path, model: str, inputs: Inputs, calls: int, delay: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Latencies in this process, through gRPC on this host, and through a network with a delay."""
    yield "local", latencies(f"local:{models}", model, inputs, calls)
    with running_server(models) as server:
        yield "on-prem", latencies(f"grpc://127.0.0.1:{server.port}", model, inputs, calls)
        with DelayProxy(server.port, delay) as proxy:
            yield "remote", latencies(f"grpc://127.0.0.1:{proxy.port}", model, inputs, calls)


def throughputs(
    models: Path, model: str, inputs: Inputs, clients: Sequence[int], servers: int, seconds: float
) -> Iterator[tuple[int, Load]]:
    """Calls a second of simultaneous clients, spread over servers, for every number of clients."""
    with ExitStack() as stack:
        ports = [stack.enter_context(running_server(models)).port for _ in range(servers)]
        for count in clients:
            with ExitStack() as opened:
                urls = [f"grpc://127.0.0.1:{ports[number % servers]}" for number in range(count)]
                sessions = [
                    opened.enter_context(InferenceSession(url, model=model, timeout=120.0)) for url in urls
                ]
                for session in sessions:
                    session.infer(inputs)
                yield count, _drive(sessions, inputs, seconds)


def _drive(sessions: list[InferenceSession], inputs: Inputs, seconds: float) -> Load:
    found: list[float] = []
    lock = threading.Lock()
    started = time.perf_counter()

    def client(session: InferenceSession) -> None:
        mine = []
        while (begin := time.perf_counter()) < started + seconds:
            session.infer(inputs)
            mine.append(time.perf_counter() - begin)
        with lock:
            found.extend(mine)

    threads = [threading.Thread(target=client, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(len(found) / (time.perf_counter() - started), np.array(found))


def with_threads(
    models: Path, model: str, inputs: Inputs, threads: int, calls: int
) -> tuple[np.ndarray, int]:
    """Latencies, and bytes of memory of a server whose executions have so many threads."""
    with running_server(models, "--xla-threads", str(threads)) as server:
        found = latencies(f"grpc://127.0.0.1:{server.port}", model, inputs, calls)
        return found, int(server.process.memory_info().rss)


def batches(models: Path, manifest: Manifest, seed: int, calls: int) -> Iterator[tuple[int, np.ndarray]]:
    """Latencies in this process of every batch size that the model was exported for."""
    axis = manifest.axes[0]
    with InferenceSession(f"local:{models}", model=manifest.name, timeout=None) as session:
        for rows in sorted({bucket.sizes[axis] for bucket in manifest.buckets}):
            yield rows, _timed(session, random_inputs(manifest, rows, seed), calls)
