"""This project's server beside Triton, pytriton, MLServer, the SDK of KServe and Ray Serve: one client for all.

Small requests, 400 KiB in the message, and 16 MiB through system shared memory, in a closed loop; CPU time is that of
the server and all its children. All servers run, one at a time is asked, in turns: neighbours of a shared machine come
and go more slowly. See README.md here for the command and the peers' environments.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from inference_client import drive as drive_many
from inference_models import LARGE, MEDIUM, WIDTH, weights, write_artefacts, write_triton
from inference_peer_servers import Server, running, servers
from inference_server import cpu_seconds, drive

from serving.client_memory import Segment
from serving.protocol.codec import build_request
from serving.protocol.messages import SERVICE, message
from serving.types import InferRequest, Region, RequestedOutput

UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
SMALL = (
    ("identity [1, 100], 16 clients", "identity", WIDTH, 16),
    ("perceptron, 64 clients", "mlp", WIDTH, 64),
)
MESSAGE = ("400 KiB in the message, 1 client", "identity_medium", MEDIUM, 1)
MEMORY = ("16 MiB in shared memory", "16 MiB in shared memory, copied by the client")
CASES = (*(case[0] for case in SMALL), MESSAGE[0], *MEMORY)
BARS = (
    (CASES[0], "cpu_us", "Triton 2.51", "at most 1.0"),
    (CASES[0], "cpu_us", "MLServer 1.7.1", "at most 0.25"),
    (CASES[1], "rate", "Triton 2.51", "at least 1.0"),
    (CASES[1], "rate", "pytriton 0.7", "at least 4.0"),
    (CASES[2], "cpu_us", "Triton 2.51", "at most 1.0"),
    (CASES[3], "p50_us", "Triton 2.51", "at most 0.5"),
)
"""What is aimed at: of this project's number over the peer's."""
Row = dict[str, Any]
Run = Callable[[float], tuple[list[float], int]]


def through_memory(address: str, seconds: float, *, copies: bool) -> list[float]:
    """Latencies of one client whose input and output lie in shared memory; `copies` for it to write and read them."""
    size, shape = 4 * LARGE, (1, LARGE)
    given = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    source, target = Segment(size), Segment(size)
    latencies: list[float] = []
    with grpc.insecure_channel(address, UNLIMITED) as channel:
        register = channel.unary_unary(f"/{SERVICE}/SystemSharedMemoryRegister")
        request = message("SystemSharedMemoryRegisterRequest")
        try:
            for segment in (source, target):
                register(
                    request(name=segment.name, key=f"/{segment.name}", byte_size=size).SerializeToString()
                )
        finally:
            source.unlink()
            target.unlink()
        region = source.write(given)
        outputs = (RequestedOutput("OUTPUT0", Region(target.name, size)),)
        asked = InferRequest(model="identity_large", inputs={"INPUT0": given}, outputs=outputs)
        payload = build_request(asked, {"INPUT0": region})
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        infer(payload)
        if not np.array_equal(target.read(given.dtype, shape), given):
            raise RuntimeError(f"{address} gives a wrong answer through shared memory")
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            if copies:
                source.write(given)
            infer(payload)
            if copies:
                target.read(given.dtype, shape)
            latencies.append(time.perf_counter() - started)
    return latencies


def runs(server: Server) -> dict[str, Run]:
    """What a server is asked, by case."""
    address = f"127.0.0.1:{server.port}"
    found: dict[str, Run] = {
        case: lambda s, a=arguments: drive_many(address, *a, s) for case, *arguments in SMALL
    }
    if server.has_large:
        found[MESSAGE[0]] = lambda s: drive(address, *MESSAGE[1:], s)
    if server.has_memory:
        for case, copies in zip(MEMORY, (False, True), strict=True):
            found[case] = lambda s, c=copies: (through_memory(address, s, copies=c), 0)
    return found


def measure(run: Run, process: psutil.Process, seconds: float) -> Row:
    """One case of one server."""
    run(seconds / 4)
    before, started = cpu_seconds(process), time.perf_counter()
    latencies, errors = run(seconds)
    took, cpu = time.perf_counter() - started, cpu_seconds(process) - before
    p50, p99 = (1e6 * float(np.percentile(latencies, at)) for at in (50, 99))
    numbers = {"cpu_us": 1e6 * cpu / len(latencies), "p50_us": p50, "p99_us": p99}
    return {**numbers, "rate": len(latencies) / took, "errors": errors}


def table(rows: list[Row]) -> str:
    """The medians of all rounds, case by case."""
    lines = ["| case | server | CPU a request [us] | p50 [us] | p99 [us] | requests a second | errors |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for case, server in dict.fromkeys((row["case"], row["server"]) for row in sorted(rows, key=_place)):
        those = [row for row in rows if (row["case"], row["server"]) == (case, server)]
        numbers = (np.median([row[name] for row in those]) for name in ("cpu_us", "p50_us", "p99_us", "rate"))
        errors = sum(row["errors"] for row in those)
        lines.append(f"| {case} | {server} | {' | '.join(f'{n:,.0f}' for n in numbers)} | {errors} |")
    return "\n".join(lines)


def ratios(rows: list[Row]) -> str:
    """This project's servers over the peers, round by round: medians and quartiles."""
    lines = ["| case | number | server | over | wanted | median | quartiles |"]
    lines.append("| --- | --- | --- | --- | --- | ---: | ---: |")
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["case"], row["server"]), []).append(row)
    servers = [name for name in dict.fromkeys(row["server"] for row in rows) if name.startswith("recon")]
    for (case, number, peer, wanted), server in itertools.product(BARS, servers):
        pairs = zip(found.get((case, server), []), found.get((case, peer), []), strict=False)
        each = [ours[number] / theirs[number] for ours, theirs in pairs]
        if each:
            low, middle, high = np.percentile(each, (25, 50, 75))
            about = f"{case} | {number} | {server} | {peer} | {wanted}"
            lines.append(f"| {about} | {middle:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines)


def _place(row: Row) -> int:
    return CASES.index(row["case"])


def main() -> None:
    """Start all servers, then ask one at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    for peer in ("triton", "mlserver", "kserve", "ray"):
        parser.add_argument(f"--{peer}", type=Path, help=f"virtual environment of {peer}")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one case in one round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_artefacts(folder / "models")
        write_triton(folder / "triton")
        np.savez(folder / "weights.npz", **weights())
        with ExitStack() as stack:
            started = [
                (server, runs(server), stack.enter_context(running(server, folder / f"{server.port}.log")))
                for server in servers(options, folder)
            ]
            for _, case in itertools.product(range(options.rounds), CASES):
                for server, asked, process in started:
                    if case in asked:
                        row = measure(asked[case], process, options.seconds)
                        rows.append({"case": case, "server": server.name, **row})
                        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows), ratios(rows), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "options": vars(options)}, indent=2, default=str))


if __name__ == "__main__":
    main()
