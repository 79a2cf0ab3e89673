"""The HTTP front under load, at its limits and at its end; who may call it."""

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
import zlib

import numpy as np
import pytest
import tritonclient.http as triton

from serving.errors import ServingError
from serving.http_server import HttpFront
from serving.security import TlsFiles
from tests.serving.http_calls import call, serving, tensors
from tests.serving.planes import expected, rows


@pytest.fixture(scope="module")
def address(dataplane):
    with serving(dataplane) as address:
        yield address


def test_bodies_have_a_limit_also_when_compressed(dataplane):
    with serving(dataplane, max_body_bytes=100_000) as address:
        path = "/v2/models/mlp/infer"
        for body, headers in (
            (b" " * 100_001, {}),
            (gzip.compress(b" " * 100_001), {"Content-Encoding": "gzip"}),
            (zlib.compress(b" " * 10**8), {"Content-Encoding": "deflate"}),
        ):
            status, _, content = call(address, "POST", path, body, headers)
            assert (status, json.loads(content)["error"]) == (
                413,
                "the body has more than the 100000 bytes allowed",
            )
        exact = gzip.compress(json.dumps(tensors()).encode().rjust(100_000))
        assert call(address, "POST", path, exact, {"Content-Encoding": "gzip"})[0] == 200


@pytest.fixture
def gate(dataplane, monkeypatch):
    """Set to let the model go on; until then one execution runs and one more may wait."""
    scheduler, opened = dataplane.repository.get("mlp").scheduler, threading.Event()
    run = scheduler.runner.run

    def held(*arguments, **options):
        opened.wait(20)
        return run(*arguments, **options)

    monkeypatch.setattr(scheduler.runner, "run", held)
    monkeypatch.setattr(scheduler, "limit", 1)
    yield opened
    opened.set()


@contextlib.contextmanager
def sent(address, body):
    """The socket of a request whose answer has not been read."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    data = json.dumps(body).encode()
    head = f"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: here\r\nContent-Length: {len(data)}\r\n\r\n"
    with connection:
        connection.sendall(head.encode() + data)
        yield connection


def wait_until(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_overload_and_callers_that_go_away(dataplane, address, gate):
    scheduler = dataplane.repository.get("mlp").scheduler
    before = failures(dataplane)
    with sent(address, tensors()) as first:
        wait_until(lambda: scheduler._free == 0 and scheduler.pending == 0)
        with sent(address, tensors()):
            wait_until(lambda: scheduler.pending == 1)
            status, headers, content = call(address, "POST", "/v2/models/mlp/infer", tensors())
            assert status == 429
            assert int(headers["Retry-After"]) >= 1
            assert "is full: 1 requests wait" in json.loads(content)["error"]
            # Others are answered while the model is busy.
            assert call(address, "GET", "/v2/health/ready")[0] == 200
        wait_until(lambda: scheduler.pending == 0)
        gate.set()
        assert first.recv(20).startswith(b"HTTP/1.1 200")
    after = failures(dataplane)
    assert {reason: after[reason] - before.get(reason, 0) for reason in ("REJECTED", "CANCELED")} == {
        "REJECTED": 1,
        "CANCELED": 1,
    }


def failures(dataplane):
    return {reason: found.count for reason, found in dataplane.statistics("mlp")[0].fail.items()}


def test_the_deadline_of_a_request(dataplane, address, gate):
    scheduler = dataplane.repository.get("mlp").scheduler
    with sent(address, tensors()):
        wait_until(lambda: scheduler._free == 0)
        with sent(address, {**tensors(), "parameters": {"timeout": 20_000}}) as late:
            # It ends at its time though the model is still busy.
            assert late.recv(20).startswith(b"HTTP/1.1 504")
            gate.set()


def test_stop_waits_for_answers(dataplane, gate):
    with contextlib.ExitStack() as stack:
        with serving(dataplane) as address:
            running = stack.enter_context(sent(address, tensors()))
            wait_until(lambda: dataplane.repository.get("mlp").scheduler._free == 0)
            threading.Timer(0.2, gate.set).start()
        assert running.recv(20).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionRefusedError):
            stack.enter_context(sent(address, tensors()))


def test_shared_memory_is_for_this_host(dataplane, monkeypatch):
    # Loopback is all that a test may listen on: let its peers look like others.
    monkeypatch.setattr("serving.http_server.is_loopback", lambda host: False)
    parameters = {"shared_memory_region": "a", "shared_memory_byte_size": 32}
    with serving(dataplane) as address:
        for path, body in (
            ("/v2/systemsharedmemory/region/a/register", {"key": "/a", "byte_size": 1}),
            ("/v2/systemsharedmemory/unregister", None),
            ("/v2/models/mlp/infer", tensors(parameters=parameters)),
            (
                "/v2/models/mlp/infer",
                {**tensors(), "outputs": [{"name": "logits", "parameters": parameters}]},
            ),
        ):
            status, _, content = call(address, "POST", path, body)
            assert status == 403
            assert "callers on this host" in json.loads(content)["error"]


def test_mutual_tls(dataplane, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    files = TlsFiles(certificate=certificate, key=key, client_authority=certificate)
    with serving(dataplane, tls=files) as address:
        url = f"localhost:{address.rpartition(':')[2]}"
        ours = ssl.create_default_context(cafile=certificate)
        ours.load_cert_chain(certificate, key)
        factory = lambda **_: ours  # noqa: E731
        with triton.InferenceServerClient(url, ssl=True, ssl_context_factory=factory) as client:
            given = triton.InferInput("x", [1, 8], "FP32").set_data_from_numpy(rows(1))
            found = client.infer("mlp", [given]).as_numpy("logits")
            np.testing.assert_allclose(found, expected(rows(1)), rtol=1e-5, atol=1e-5)
        stranger = http.client.HTTPSConnection(url, context=ssl.create_default_context(cafile=certificate))
        # With TLS 1.3 a refusal comes with the answer to the first request.
        stranger.request("GET", "/v2")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            stranger.getresponse()
        stranger.close()


def test_a_token_is_asked_for(dataplane):
    with serving(dataplane, token="secret") as address:
        assert call(address, "GET", "/v2")[0] == 401
        assert call(address, "GET", "/v2", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert call(address, "GET", "/v2", headers={"Authorization": "Bearer secret"})[0] == 200
        assert call(address, "GET", "/v2/health/ready")[0] == 200


def test_a_port_in_use_is_an_error(dataplane, address):
    for port in (int(address.rpartition(":")[2]), 70_000):
        front = HttpFront(dataplane, port=port)
        with pytest.raises(ServingError, match="cannot listen"):
            front.start()
        # Nothing stays behind.
        assert not front._thread.is_alive()
        front.stop()
