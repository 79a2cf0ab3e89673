"""The client against server processes: one of two is killed under load."""

import os
import signal
import subprocess
import sys
from collections import deque

import pytest

from serving.client import InferenceSession
from tests.serving.planes import check, rows


@pytest.fixture
def processes(models, executables, front):
    """Two servers: (process, address) each."""
    command = [sys.executable, "-m", "recon", "serve", "--models", str(models), "--metrics", "0"]
    command += ["--grpc-front", front]
    environment = {**os.environ, "RECON_EXECUTABLES": str(executables)}
    running = [
        subprocess.Popen(
            [*command, "--grpc", "0", "--http", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment,
        )
        for _ in range(2)
    ]  # fmt: skip
    found = []
    for process in running:
        words = process.stdout.readline().split()
        assert words[:1] == ["ready:"], words
        found.append((process, "grpc://" + words[words.index("grpc") + 1].removeprefix("grpc://")))
    yield found
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("mode", ["async"])
def test_no_answer_is_lost_when_one_of_two_servers_is_killed(processes, models, mode):
    (first, address), (second, other) = processes
    with InferenceSession(
        f"{address},{other}", model="mlp", mode=mode, timeout=5.0, fallback=f"local:{models}"
    ) as session:
        waiting, answered = deque(), []

        def take():
            number, x, handle = waiting.popleft()
            check(session.produce(handle), x)
            answered.append(number)

        for number in range(600):
            x = rows(1 + number % 4, number)
            waiting.append((number, x, session.acquire({"x": x})))
            if len(waiting) >= 16:
                take()
            if number == 200:
                os.kill(first.pid, signal.SIGKILL)
            if number == 400:
                assert session.counters.failovers > 0
                assert session.counters.fallbacks == 0
                os.kill(second.pid, signal.SIGKILL)
        while waiting:
            take()
        assert answered == list(range(600))
        counts = session.counters
        assert (counts.calls, counts.failures, counts.cancelled) == (600, 0, 0)
        assert counts.fallbacks > 0
