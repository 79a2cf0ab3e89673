"""This project's server, an echo of grpcio and NVIDIA Triton 2.51 (Python backend), one client for all in one run.

What counts is the CPU time of the server's processes a request: it does not depend on how fast the client is. See
README.md here for the command and the peer's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import psutil
from inference_models import CLASSES, LARGE, WIDTH, triton_command, write_artefacts, write_triton

from serving.protocol.codec import build_request, parse_response
from serving.protocol.messages import SERVICE
from serving.types import InferRequest

CASES = (
    ("identity [1, 100], 1 client", "identity", WIDTH, 1),
    ("identity [1, 100], 16 clients", "identity", WIDTH, 16),
    ("perceptron, 64 clients, batching", "mlp", WIDTH, 64),
    ("16 MiB through gRPC, 1 client", "identity_large", LARGE, 1),
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and its children."""
    total = 0.0
    for member in (process, *process.children(recursive=True)):
        times = member.cpu_times()
        total += times.user + times.system
    return total


def drive(address: str, model: str, width: int, clients: int, seconds: float) -> tuple[list[float], int]:
    """Closed loop: every client sends its next request when it has its answer; (latencies in s, errors)."""
    message = build_request(InferRequest(model=model, inputs={"INPUT0": np.ones((1, width), np.float32)}))
    latencies: list[float] = []
    errors = 0
    until = time.perf_counter() + seconds
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    lock = threading.Lock()

    with grpc.insecure_channel(address, options) as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        outputs = CLASSES if model == "mlp" else width
        if parse_response(call(message, wait_for_ready=True)).outputs[0].shape != (1, outputs):
            raise RuntimeError(f"{address} gives a wrong answer")

        def client() -> None:
            nonlocal errors
            mine, failed = [], 0
            while (started := time.perf_counter()) < until:
                try:
                    call(message)
                    mine.append(time.perf_counter() - started)
                except grpc.RpcError:
                    failed += 1
            with lock:
                latencies.extend(mine)
                errors += failed

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return latencies, errors


def measure(name: str, process: psutil.Process, address: str, seconds: float) -> list[dict[str, object]]:
    """All cases of one server."""
    rows = []
    for case, model, width, clients in CASES:
        drive(address, model, width, clients, seconds / 4)
        before = cpu_seconds(process)
        started = time.perf_counter()
        latencies, errors = drive(address, model, width, clients, seconds)
        took, cpu = time.perf_counter() - started, cpu_seconds(process) - before
        row = {
            "server": name,
            "case": case,
            "requests": len(latencies),
            "errors": errors,
            "rate": len(latencies) / took,
            "cpu_us": 1e6 * cpu / len(latencies),
            "p50_us": 1e6 * float(np.percentile(latencies, 50)),
            "p99_us": 1e6 * float(np.percentile(latencies, 99)),
        }
        rows.append(row)
        print(
            f"| {case} | {name} | {row['cpu_us']:,.0f} | {row['p50_us']:,.0f} | {row['p99_us']:,.0f} | "
            f"{row['rate']:,.0f} | {errors} |",
            flush=True,
        )
    return rows


def main() -> None:
    """Start the servers one after the other and measure each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--triton", type=Path, help="virtual environment with nvidia-pytriton==0.7.0 and numpy 1.26"
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", help="names of servers; all by default")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = Path(temporary) / "models", Path(temporary) / "triton"
        write_artefacts(ours)
        write_triton(theirs)
        print("| case | server | CPU a request [us] | p50 [us] | p99 [us] | requests a second | errors |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for _ in range(options.rounds):
            port = free_port()
            command = [sys.executable, "-m", "recon", "serve", "--models", str(ours), "--grpc", str(port)]
            command += ["--http", "-1", "--metrics", "-1"]
            servers = [("recon serve", command, dict(os.environ), port)]
            fast = [*command, "--grpc-front", "asyncio"]
            servers.append(("recon serve, asyncio front", fast, dict(os.environ), port))
            # What the threads of grpcio cost that pass the interpreter from core to core.
            servers.append(
                ("recon serve, one core", ["taskset", "-c", "0", *command], dict(os.environ), port)
            )
            port = free_port()
            echo = [sys.executable, str(Path(__file__).with_name("inference_echo.py")), str(port)]
            servers.append(("grpcio echo", echo, dict(os.environ), port))
            if options.triton:
                port = free_port()
                servers.append(("Triton 2.51", *triton_command(options.triton, theirs, port), port))
            for name, arguments, environment, port in servers:
                if options.only and name not in options.only:
                    continue
                with subprocess.Popen(
                    arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                ) as process:
                    try:
                        rows += measure(
                            name, psutil.Process(process.pid), f"127.0.0.1:{port}", options.seconds
                        )
                    finally:
                        process.terminate()
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
