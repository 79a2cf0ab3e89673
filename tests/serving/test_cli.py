"""`recon serve` as a process."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as triton

from serving.cli import serve


@pytest.fixture
def server(models, executables):
    """A function that starts a server and returns (process, ports)."""
    running = []

    def start(*options):
        command = [
            sys.executable,
            "-m",
            "recon",
            "serve",
            "--models",
            str(models),
            "--grpc",
            "0",
            "--http",
            "0",
        ]
        environment = {**os.environ, "RECON_EXECUTABLES": str(executables)}
        process = subprocess.Popen(
            [*command, "--metrics", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        running.append(process)
        line = process.stdout.readline()
        assert line.startswith("ready: 4 models"), process.stderr.read()
        words = line.split()
        return process, {
            front: int(words[words.index(front) + 1].rpartition(":")[2]) for front in ("grpc", "http")
        }

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("front", ["grpcio", "asyncio"])
def test_serves_drains_and_ends_with_0(server, front):
    started = time.monotonic()
    process, ports = server("--grpc-front", front)
    assert time.monotonic() - started < 60
    x = np.ones((1, 8), np.float32)
    errors, answers = [], []

    def load():
        with triton.InferenceServerClient(f"127.0.0.1:{ports['grpc']}") as client:
            given = triton.InferInput("x", x.shape, "FP32")
            given.set_data_from_numpy(x)
            while True:
                try:
                    answers.append(client.infer("mlp", [given]).as_numpy("logits"))
                except Exception as error:
                    errors.append(error)
                    return

    thread = threading.Thread(target=load)
    thread.start()
    until = time.monotonic() + 20
    while len(answers) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    thread.join()
    assert len(answers) >= 20
    # Whoever comes too late hears that the server stops: nobody waits for ever.
    assert "UNAVAILABLE" in str(errors[0].status())


def test_a_token_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("RECON_TOKEN", "secret")
    _, ports = server("--metrics", "-1")
    with triton.InferenceServerClient(f"127.0.0.1:{ports['grpc']}") as client:
        with pytest.raises(triton.InferenceServerException, match="no token"):
            client.is_server_live()
        assert client.is_server_live(headers={"authorization": "Bearer secret"})


ERRORS = [
    (["--models", "none"], "none is no folder"),
    (["--models", "."], "holds no models"),
    (["--models", ".", "--tls-key", "x"], "--tls-certificate and --tls-key"),
    (["--models", ".", "--http", "70000"], "--http 70000; 1 to 65535"),
    (["--models", ".", "--drain-seconds", "nan"], "--drain-seconds nan"),
    (["--models", ".", "--queue", "0"], "queue = 0"),
    (["--models", ".", "--token-file", "empty"], "empty is empty"),
    (["--models", ".", "--token-file", "absent"], "No such file or directory: absent"),
]


@pytest.mark.parametrize(("words", "text"), ERRORS, ids=[text for _, text in ERRORS])
def test_errors_of_users_are_one_line(tmp_path, capfd, monkeypatch, words, text):
    # The command sets it for its own process, which is this one here: put it back for the tests that follow.
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n")
    assert serve(["--grpc", "-1", "--http", "-1", "--metrics", "-1", *words]) == 2
    captured = capfd.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert text in line
    assert captured.out == ""


def test_an_empty_token_is_none(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("RECON_TOKEN", " ")
    assert serve(["--models", str(tmp_path)]) == 2
    assert "RECON_TOKEN is empty" in capfd.readouterr().err


def test_a_stop_while_models_load(models, executables, tmp_path):
    code = """
import os, signal, sys
from serving import cli, repository
start = repository.Repository.start
def stopped(self):
    os.kill(os.getpid(), signal.SIGTERM)
    start(self)
repository.Repository.start = stopped
sys.exit(cli.serve(sys.argv[1:]))
"""
    words = ["--models", str(models), "--grpc", "-1", "--http", "0", "--metrics", "-1"]
    environment = {**os.environ, "RECON_EXECUTABLES": str(executables)}
    finished = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, env=environment,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0
    assert "told to stop while models were loading" in finished.stderr
    assert finished.stdout == ""
