"""How the servers of the benchmark are started: this project's, an echo of grpcio, and the peers."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import psutil
from inference_models import WIDTH, triton_command
from inference_server import free_port

from serving.protocol.codec import build_request
from serving.protocol.messages import SERVICE
from serving.types import InferRequest

HERE = Path(__file__).resolve().parent
START_SECONDS = 180.0


class Server(NamedTuple):
    """How to start a server, and whether it has the large models and shared memory."""

    name: str
    command: list[str]
    environment: dict[str, str]
    port: int
    has_large: bool = False
    has_memory: bool = False


def ours(models: Path) -> Iterator[Server]:
    """`recon serve` with both fronts, that of grpcio on all cores and on one, and an echo."""
    for front, where, before in (
        ("asyncio", "", []),
        ("grpcio", "", []),
        ("grpcio", ", one core", ["taskset", "-c", "0"]),
    ):
        port, name = free_port(), f"recon serve, {front}{where}"
        command = [*before, sys.executable, "-m", "recon", "serve", "--models", str(models)]
        command += ["--grpc-front", front, "--grpc", str(port), "--http", "-1", "--metrics", "-1"]
        yield Server(name, command, dict(os.environ), port, has_large=True, has_memory=True)
    # The floor of whatever stands on grpcio.
    port = free_port()
    command = [sys.executable, str(HERE / "inference_echo.py"), str(port)]
    yield Server("grpcio echo", command, dict(os.environ), port, has_large=True)


def _environment(peer: Path, path: Path) -> dict[str, str]:
    home = {"HOME": str(Path.home()), "JAX_PLATFORMS": "cpu", "RAY_USAGE_STATS_ENABLED": "0"}
    flags = {"XLA_FLAGS": os.environ["XLA_FLAGS"]} if "XLA_FLAGS" in os.environ else {}
    return {"PATH": f"{peer / 'bin'}:/usr/bin:/bin", "PYTHONPATH": f"{HERE}:{path}", **home, **flags}


def python_peer(name: str, peer: str, where: Path, folder: Path) -> Server:
    """One of `inference_peer_models.py`, in its own environment."""
    port, environment = free_port(), _environment(where, folder)
    if peer == "ray":
        protocol = HERE.parent / "serving" / "protocol"
        tool = [str(where / "bin" / "python"), "-m", "grpc_tools.protoc", f"-I{protocol}", "inference.proto"]
        subprocess.run([*tool, f"--python_out={folder}", f"--grpc_python_out={folder}"], check=True)
    if peer == "pytriton":
        # The libraries that Triton's stub needs are found as for Triton itself.
        environment["LD_LIBRARY_PATH"] = triton_command(where, folder, 0)[1]["LD_LIBRARY_PATH"]
    script = str(HERE / "inference_peer_models.py")
    command = [str(where / "bin" / "python"), script, peer, str(port), str(folder / "weights.npz")]
    return Server(name, command, environment, port)


def mlserver(where: Path, folder: Path) -> Server:
    """MLServer without worker processes, which would cost more, with adaptive batching for the perceptron."""
    port, root = free_port(), folder / "mlserver"
    settings = {"grpc_port": port, "http_port": free_port(), "metrics_endpoint": None, "parallel_workers": 0}
    batching = {"max_batch_size": 64, "max_batch_time": 0.001}
    for name, more in (("identity", {}), ("mlp", batching)):
        (root / name).mkdir(parents=True, exist_ok=True)
        model = {"name": name, "implementation": "inference_peer_mlserver.Runtime", **more}
        (root / name / "model-settings.json").write_text(json.dumps(model))
    (root / "settings.json").write_text(json.dumps({**settings, "debug": False}))
    environment = {**_environment(where, folder), "BENCHMARK_WEIGHTS": str(folder / "weights.npz")}
    return Server("MLServer 1.7.1", [str(where / "bin" / "mlserver"), "start", str(root)], environment, port)


def servers(options: argparse.Namespace, folder: Path) -> Iterator[Server]:
    """Those whose environments were given."""
    yield from ours(folder / "models")
    if options.triton:
        port = free_port()
        command, environment = triton_command(options.triton, folder / "triton", port)
        yield Server("Triton 2.51", command, environment, port, has_large=True, has_memory=True)
        yield python_peer("pytriton 0.7", "pytriton", options.triton, folder)
    if options.mlserver:
        yield mlserver(options.mlserver, folder)
    if options.kserve:
        yield python_peer("KServe SDK 0.21", "kserve", options.kserve, folder)
    if options.ray:
        yield python_peer("Ray Serve 2.60", "ray", options.ray, folder)


@contextmanager
def running(server: Server, log: Path) -> Iterator[psutil.Process]:
    """A server that answers for every model; it and its children are gone afterwards."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            server.command, env=server.environment, cwd=log.parent, stdout=output, stderr=output
        ) as process,
    ):
        tree = psutil.Process(process.pid)
        try:
            for model in ("identity", "mlp"):
                wait(f"127.0.0.1:{server.port}", model, process, log)
            yield tree
        finally:
            members = [*tree.children(recursive=True), tree]
            process.terminate()
            _, alive = psutil.wait_procs(members, timeout=20)
            for member in alive:
                member.kill()


def wait(address: str, model: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until there is an answer: some servers listen before they have loaded."""
    request = build_request(InferRequest(model=model, inputs={"INPUT0": np.ones((1, WIDTH), np.float32)}))
    until = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(address) as channel:
        while True:
            try:
                channel.unary_unary(f"/{SERVICE}/ModelInfer")(request, timeout=5)
            except grpc.RpcError as error:
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError(f"{address}: {error.details()}\n{log.read_text()[-4000:]}") from error
                time.sleep(0.2)
            else:
                return
