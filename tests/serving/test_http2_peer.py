"""The gRPC front of asyncio and the `h2` package: windows of all sizes, large messages, slow readers, the stop."""

import contextlib
import gzip
import socket
import threading
import time
import zlib

import numpy as np
import psutil
import pytest
from hyperframe import frame as frames
from tritonclient.grpc import service_pb2

from serving.grpc_async import AsyncGrpcFront
from serving.http2.frames import Code
from serving.http2.limits import Limits
from serving.repository import Repository
from tests.serving import artifacts, planes
from tests.serving.http2_client import Client
from tests.serving.http2_wire import Wire, framed, request
from tests.serving.planes import expected, rows

WIDE = 1 << 20
"""Numbers of a row of `wide`: 4 MiB."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory, executables):
    """An identity of four rows of 4 MiB."""
    root = tmp_path_factory.mktemp("wide")
    artifacts.write(
        root, "wide", lambda weights, x: {"OUTPUT0": x["INPUT0"]}, {},
        [artifacts.spec("INPUT0", ["batch", WIDE])], [artifacts.spec("OUTPUT0", ["batch", WIDE])],
        sizes=[{"batch": 1}, {"batch": 4}],
    )  # fmt: skip
    artifacts.mlp(root)
    repository = Repository(root)
    repository.start()
    yield repository
    repository.close(5.0)


@contextlib.contextmanager
def front_of(repository, **settings):
    plane = planes.Plane(repository)
    front = AsyncGrpcFront(plane, port=0, threads=4, **settings)
    plane.port, plane.front = front.start(), front
    try:
        yield plane
    finally:
        plane.gate.set()
        front.stop()


@pytest.fixture(scope="module")
def plane(wide):
    with front_of(wide) as plane:
        yield plane


def logits(body):
    answer = service_pb2.ModelInferResponse.FromString(body)
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(-1, 3)


@pytest.mark.parametrize("window", [1, 7, 100])
def test_tiny_windows(plane, window):
    with Client(plane.port, window=window) as client:
        body, trailers = client.call(request(16))
        assert trailers["grpc-status"] == "0"
        np.testing.assert_allclose(logits(body), expected(rows(16)), rtol=1e-5, atol=1e-5)


def test_windows_that_change_while_answers_wait(plane):
    with Client(plane.port, window=0) as client:
        streams = [client.open() for _ in range(3)]
        for stream in streams:
            client.send(stream, request(4))
        assert client.connection.open_outbound_streams == 3
        time.sleep(0.1)
        client.connection.increment_flow_control_window(10, streams[0])
        client.connection.update_settings({4: 50})
        client.flush()
        client.read_once()
        client.connection.update_settings({4: 1 << 20})
        client.flush()
        for stream in streams:
            body, _ = client.answer(stream)
            np.testing.assert_allclose(logits(body), expected(rows(4)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "sizes", [{}, {"window": 1 << 22, "frame_bytes": 1 << 20, "connection_window": 1 << 24}]
)
def test_messages_of_16_mib(plane, sizes):
    x = np.random.default_rng(0).normal(size=(4, WIDE)).astype(np.float32)
    with Client(plane.port, **sizes) as client:
        body, trailers = client.call(request(model="wide", x=x))
        assert trailers["grpc-status"] == "0"
        answer = service_pb2.ModelInferResponse.FromString(body)
        np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], np.float32), x.ravel())


def test_small_calls_pass_large_ones(plane):
    x = np.ones((1, WIDE), np.float32)
    with Client(plane.port) as client:
        large = client.open()
        client.send(large, request(model="wide", x=x), end=False)
        body, _ = client.call(request(1))
        np.testing.assert_allclose(logits(body), expected(rows(1)), rtol=1e-5, atol=1e-5)
        client.send(large, b"")
        assert client.answer(large)[1]["grpc-status"] == "0"


def test_padding_is_paid_back(plane):
    """Otherwise the window would be used up: padding is most of what is sent."""
    x = np.ones((1, WIDE), np.float32)[:, : 1 << 20]
    with Client(plane.port) as client:
        stream = client.open()
        body = request(model="wide", x=x)
        client.send(stream, body, pad=255)
        assert client.answer(stream)[1]["grpc-status"] == "0"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_compressed_messages(plane, coding):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding)
    plain = request(3)
    body = framed(pack(plain[5:]), 1) if pack else plain
    with Client(plane.port) as client:
        answer, trailers = client.call(body, extra=[("grpc-encoding", coding)])
        assert trailers["grpc-status"] == "0"
        np.testing.assert_allclose(logits(answer), expected(rows(3)), rtol=1e-5, atol=1e-5)
        stream = client.open("ModelStreamInfer", extra=[("grpc-encoding", coding)])
        client.send(stream, body + plain)
        assert client.answer(stream)[1]["grpc-status"] == "0"


def test_compression_has_its_limits(wide):
    bomb = framed(gzip.compress(bytes(1 << 26)), 1)
    with front_of(wide, max_message_bytes=1 << 20) as plane, Client(plane.port) as client:
        for body, coding, status, text in (
            (bomb, "gzip", "8", "1048576 are allowed"),
            (framed(b"no gzip", 1), "gzip", "13", "but a message is none"),
            (framed(gzip.compress(b"x" * 999)[:-9], 1), "gzip", "13", "cut short"),
            (framed(b"x", 1), "identity", "13", "names no compression"),
            (request(), "snappy", "12", "identity, gzip, deflate are allowed"),
        ):
            _, trailers = client.call(body, extra=[("grpc-encoding", coding)])
            assert (trailers["grpc-status"], text in trailers["grpc-message"]) == (status, True), trailers
        assert client.call(request())[1]["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("value", "status"),
    [("5S", "0"), ("99999999H", "0"), ("1n", "4"), ("0m", "4"), ("soon", "3"), ("123456789S", "3")],
)
def test_timeouts(plane, value, status):
    with Client(plane.port) as client:
        assert client.call(request(), extra=[("grpc-timeout", value)])[1]["grpc-status"] == status


def test_a_deadline_ends_calls_that_wait_and_calls_that_run(plane):
    plane.gate.clear()
    try:
        with Client(plane.port) as client:
            for path, body in (("ModelInfer", request()), ("ModelStreamInfer", request())):
                started = time.monotonic()
                _, trailers = client.call(body, path=path, extra=[("grpc-timeout", "200m")])
                assert trailers["grpc-status"] == "4"
                assert 0.15 < time.monotonic() - started < 5
    finally:
        plane.gate.set()


def test_the_time_of_a_message_is_not_that_of_its_stream(wide):
    """A message that waits too long is an answer; the stream and the messages behind it go on."""
    message = service_pb2.ModelInferRequest.FromString(request()[5:])
    message.parameters["timeout"].int64_param = 50_000
    late, other = framed(message.SerializeToString()), request(2)
    scheduler = wide.get("mlp").scheduler
    with front_of(wide) as plane, Client(plane.port) as client:
        # All instances are taken: what comes waits in the queue.
        with scheduler._idle:
            free, scheduler._free = scheduler._free, 0
        try:
            stream = client.open("ModelStreamInfer", extra=[("grpc-timeout", "20S")])
            client.send(stream, late, end=False)
            while b"before the model ran" not in client.bodies[stream]:
                client.read_once()
        finally:
            with scheduler._idle:
                scheduler._free = free
        client.send(stream, other)
        body, trailers = client.answer(stream)
        assert trailers["grpc-status"] == "0"
        assert b"logits" in body


def test_messages_of_errors_are_percent_encoded(plane):
    message = service_pb2.ModelMetadataRequest(name="é %\n").SerializeToString()
    with Client(plane.port) as client:
        _, trailers = client.call(framed(message), path="ModelMetadata")
        assert trailers["grpc-message"].startswith("there is no model 'é %25\\n'".replace("é", "%C3%A9"))
        assert trailers["error-class"] == "ModelNotFound"


def test_a_slow_reader_holds_little_and_no_one_else(plane):
    """Answers wait for windows, requests for answers: what a peer can make the server keep is bounded."""
    memory = psutil.Process().memory_info
    with Client(plane.port, window=1000) as client, Client(plane.port) as other:
        stream = client.open("ModelStreamInfer")
        before = memory().rss
        sent = 0
        part = request(16, id="x" * 20_000) * 10
        client.socket.settimeout(0.5)
        while sent < 100 << 20:
            while client.connection.local_flow_control_window(stream) < len(part):
                try:
                    client.read_once(grant=False)
                except TimeoutError:
                    break
            else:
                client.send(stream, part, end=False)
                sent += len(part)
                continue
            break
        assert 1 << 20 < sent < 16 << 20
        assert memory().rss - before < 64 << 20
        assert other.call(request())[1]["grpc-status"] == "0"


def test_a_peer_that_never_reads_is_let_go(wide):
    limits = Limits(stall_seconds=0.3)
    x = np.ones((1, WIDE), np.float32)
    with front_of(wide, limits=limits) as plane:
        with Wire(plane.port, settings={4: 2**31 - 1, 5: 1 << 20}, size=4096) as wire:
            wire.raw(b"\0\0\4\x08\0\0\0\0\0\x7f\0\0\0")
            for stream in range(1, 9, 2):
                wire.call(stream, request(model="wide", x=x))
            until = time.monotonic() + 10
            while plane.front._calls.connections and time.monotonic() < until:
                time.sleep(0.05)
            assert not plane.front._calls.connections
        with Client(plane.port) as client:
            assert client.call(request())[1]["grpc-status"] == "0"


def test_a_stop_lets_calls_finish_and_refuses_new_ones(wide):
    with front_of(wide) as plane, Wire(plane.port) as wire:
        wire.call(1)
        assert wire.status(1) == 0
        plane.gate.clear()
        wire.call(3)
        while plane.asked < 2:
            time.sleep(0.01)
        stopping = threading.Thread(target=plane.front.stop, args=(10.0,))
        stopping.start()
        # First the wish, then, once it was heard, the last stream that is served.
        first = wire.read(lambda frame: isinstance(frame, frames.GoAwayFrame))
        assert (first.error_code, first.last_stream_id) == (Code.NO_ERROR, 2**31 - 1)
        wire.call(5)
        ping = wire.read(lambda frame: isinstance(frame, frames.PingFrame))
        wire.send(frames.PingFrame(0, ping.opaque_data, flags=("ACK",)))
        second = wire.read(lambda frame: isinstance(frame, frames.GoAwayFrame))
        assert (second.error_code, second.last_stream_id) == (Code.NO_ERROR, 5)
        wire.call(7)
        assert wire.reset(7) == Code.REFUSED_STREAM
        plane.gate.set()
        for stream in (3, 5):
            assert wire.status(stream) == 0
            np.testing.assert_allclose(
                logits(wire.answer(stream)[1][5:]), expected(rows(1)), rtol=1e-5, atol=1e-5
            )
        wire.read()
        assert wire.is_closed
        stopping.join(5)
        assert not stopping.is_alive()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", plane.port))


def test_a_stop_does_not_wait_longer_than_it_should(wide):
    with front_of(wide) as plane, Wire(plane.port) as wire:
        plane.gate.clear()
        wire.call(1)
        wire.send(wire.headers(3, "ModelStreamInfer"), frames.DataFrame(3, request()[:9]))
        assert wire.ping()
        started = time.monotonic()
        plane.front.stop(0.3)
        assert time.monotonic() - started < 2
        assert [wire.status(stream) for stream in (1, 3)] == [14, 14]


def test_a_connection_that_says_nothing_is_closed(wide):
    with (
        front_of(wide, limits=Limits(handshake_seconds=0.1)) as plane,
        Wire(plane.port, greet=False) as wire,
        Wire(plane.port) as idle,
    ):
        assert wire.goaway() == Code.PROTOCOL_ERROR
        time.sleep(0.2)
        assert idle.ping()
