"""The client's settings: shared memory, compression, tokens, certificates, and what is refused."""

import gc
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from serving.client import InferenceSession, engine
from serving.client_grpc import ClientTls
from serving.errors import ArtifactError, InvalidInput, ModelNotFound, ServerUnreachable, Unauthenticated
from serving.repository import Repository
from serving.security import TlsFiles
from tests.serving import artifacts
from tests.serving.planes import MODES, check, counted, rows, serving


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use", ["auto", True])
def test_shared_memory(tmp_path, executables, mode, use):
    artifacts.identity(tmp_path, width=50_000)
    repository = Repository(tmp_path)
    repository.start()
    with serving(repository) as server:
        with InferenceSession(server.url, model="identity", mode=mode, shared_memory=use) as session:
            big = np.random.default_rng(0).normal(size=(8, 50_000)).astype(np.float32)
            handles = [session.acquire({"INPUT0": big + n}) for n in range(4)]
            for n, handle in enumerate(handles):
                np.testing.assert_array_equal(session.produce(handle)["OUTPUT0"], big + n)
            regions = server.shared_memory.status()
            assert regions
            assert not any(Path("/dev/shm", region.key.removeprefix("/")).exists() for region in regions)
            # By now the size of the output is known: it comes through shared memory too, in the pool's segments.
            for n in range(3):
                before = len(server.shared_memory.status())
                np.testing.assert_array_equal(session.infer({"INPUT0": big * n})["OUTPUT0"], big * n)
            assert len(server.shared_memory.status()) == before
            # The server forgets: the tensors go in the message, and then through shared memory again.
            server.shared_memory.unregister("")
            np.testing.assert_array_equal(session.infer({"INPUT0": big})["OUTPUT0"], big)
            np.testing.assert_array_equal(session.infer({"INPUT0": big})["OUTPUT0"], big)
            assert counted(session) == (0, 0, 0, 0)
            if mode != "sync":
                server.gate.clear()
                handle = session.acquire({"INPUT0": big})
                handle.cancel()
                server.gate.set()
        assert server.shared_memory.status() == []
    repository.close(1.0)


def test_small_tensors_and_false_stay_in_the_message(server):
    for use in ("auto", False):
        with InferenceSession(server.url, model="mlp", shared_memory=use) as session:
            session.infer({"x": rows(16)})
            assert server.shared_memory.status() == []


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compression(server, compression):
    with InferenceSession(server.url, model="mlp", compression=compression) as session:
        check(session.infer({"x": rows(16)}), rows(16))


def test_token(repository):
    with serving(repository, token="secret") as server:
        with pytest.raises(Unauthenticated):
            InferenceSession(server.url, model="mlp")
        with InferenceSession(server.url, model="mlp", token="secret") as session:
            check(session.infer({"x": rows(1)}), rows(1))


def test_mutual_tls(repository, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    files = TlsFiles(certificate=certificate, key=key, client_authority=certificate)
    with serving(repository, tls=files, token="secret") as server:
        address = f"grpc://localhost:{server.port}"
        ours = ClientTls(authority=certificate, certificate=certificate, key=key)
        with InferenceSession(address, model="mlp", tls=ours, token="secret") as session:
            check(session.infer({"x": rows(1)}), rows(1))
        named = ClientTls(authority=certificate, certificate=certificate, key=key, server_name="localhost")
        with InferenceSession(server.url, model="mlp", tls=named, token="secret") as session:
            check(session.infer({"x": rows(1)}), rows(1))
        for tls in (ClientTls(authority=certificate), True, False):
            with pytest.raises(ServerUnreachable):
                InferenceSession(address, model="mlp", tls=tls, token="secret", timeout=2)


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("http://host", {}, "url 'http://host'"),
        ("grpc://", {}, "url 'grpc://'"),
        ("grpc://host", {}, "url 'grpc://host'"),
        ("grpc://host:8001,http://other:8000", {}, "HOST:PORT"),
        ("grpc://a:1,grpc://a:1", {}, "names a server twice"),
        ("local:", {}, "'local:FOLDER' is allowed"),
        ("grpc://a:1", {"mode": "later"}, "mode = 'later'"),
        ("grpc://a:1", {"tries": 0}, "tries = 0"),
        ("grpc://a:1", {"timeout": 0}, "timeout = 0"),
        ("grpc://a:1", {"compression": "zstd"}, "compression = 'zstd'"),
        ("grpc://a:1", {"shared_memory": "yes"}, "shared_memory = 'yes'"),
        ("grpc://a:1", {"shared_memory": True}, "a server on this host"),
        ("local:x", {"fallback": "local:y"}, "fallback"),
    ],
)
def test_settings_are_checked(url, settings, message):
    with pytest.raises(InvalidInput, match=message):
        InferenceSession(url, model="mlp", **settings)


def test_tls_files_are_checked(tmp_path):
    with pytest.raises(InvalidInput, match="is no file"):
        ClientTls(authority=tmp_path / "missing.pem")
    with pytest.raises(InvalidInput, match="belong together"):
        ClientTls(certificate=tmp_path / "missing.pem")


def test_unknown_models_and_outputs(server, models):
    with pytest.raises(ModelNotFound, match="'nothing'"):
        InferenceSession(server.url, model="nothing")
    with pytest.raises(ArtifactError, match="'nothing'"):
        InferenceSession(f"local:{models}", model="nothing")
    with pytest.raises(InvalidInput, match="no output 'scores'"):
        InferenceSession(server.url, model="mlp", outputs=["scores"])
    with InferenceSession(server.url, model="graph", outputs=["scores"]) as session:
        assert set(session.infer(artifacts.random_graph(1))) == {"scores"}


def test_engine_is_asynchronous(server):
    with engine(server.url, model="mlp") as session:
        assert session.mode == "async"
        check(session.infer({"x": rows(1)}), rows(1))


def test_no_thread_stays(server):
    gc.collect()
    before = set(threading.enumerate())
    for mode in MODES:
        with InferenceSession(server.url, model="mlp", mode=mode) as session:
            session.infer({"x": rows(1)})
    until = time.monotonic() + 5
    while time.monotonic() < until and any("session" in t.name for t in set(threading.enumerate()) - before):
        time.sleep(0.02)
    assert not [t for t in set(threading.enumerate()) - before if "session" in t.name]
