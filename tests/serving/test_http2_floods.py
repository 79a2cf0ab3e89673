"""The gRPC front of asyncio against peers that mean harm: floods, bombs, and 10,000 mutated conversations."""

import random
import socket
import time

import hpack
import psutil
import pytest
from hyperframe import frame as frames

from serving.grpc_async import AsyncGrpcFront
from serving.http2.frames import Code
from serving.http2.limits import Allowance, Limits
from tests.serving.http2_wire import PREFACE, Wire, answers, framed, request

CALM = Code.ENHANCE_YOUR_CALM


@pytest.fixture(scope="module")
def port(dataplane):
    # On a busy machine 4000 calls take longer than the default rate gives back 2000 of them.
    front = AsyncGrpcFront(dataplane, port=0, threads=4, limits=Limits(rate=1.0))
    yield front.start()
    front.stop()


def raw(kind, payload=b"", flags=0, stream=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


FLOODS = {
    "pings": lambda wire, n: raw(6, bytes(8)),
    "settings": lambda wire, n: raw(4),
    "priorities": lambda wire, n: raw(2, bytes(5), stream=1),
    "unknown frames": lambda wire, n: raw(77),
    "goaways": lambda wire, n: raw(7, bytes(8)),
    "empty data": lambda wire, n: (wire.headers(1).serialize() if n == 0 else b"") + raw(0, stream=1),
    "rapid resets": lambda wire, n: wire.headers(2 * n + 1).serialize() + raw(3, b"\0\0\0\x08", stream=2 * n + 1),
    "resets of calls": lambda wire, n: (
        wire.headers(2 * n + 1).serialize() + raw(0, request(), 1, 2 * n + 1) + raw(3, bytes(4), stream=2 * n + 1)),
    # What makes the server reset a stream itself costs the same.
    "streams that break rules": lambda wire, n: (
        wire.headers(2 * n + 1).serialize() + raw(8, bytes(4), stream=2 * n + 1)),
    "requests that are none": lambda wire, n: raw(1, b"\x83", flags=5, stream=2 * n + 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_end_their_connection_only(port, kind):
    make = FLOODS[kind]
    with Wire(port) as other, Wire(port) as wire:
        data = b"".join(make(wire, n) for n in range(4000))
        for at in range(0, len(data), 1 << 15):
            wire.raw(data[at : at + (1 << 15)])
        assert wire.goaway() == CALM
        other.call(1)
        assert other.status(1) == 0


def test_what_calls_need_is_no_flood(port):
    """Cancelled calls, pings and settings, a few hundred of each, as busy clients send them."""
    with Wire(port) as wire:
        for n in range(300):
            stream = 4 * n + 1
            wire.call(stream)
            wire.send(
                frames.RstStreamFrame(stream, 8), frames.PingFrame(0, bytes(8)), frames.SettingsFrame(0)
            )
            wire.call(stream + 2)
            assert wire.status(stream + 2) == 0
            wire.received.clear()


def test_an_allowance_comes_back():
    allowance = Allowance(burst=10, rate=1000.0)
    assert [allowance.spend() for _ in range(10)] == [True] * 10
    time.sleep(0.02)
    assert allowance.spend()
    spent = 0
    while allowance.spend():
        spent += 1
    assert spent < 200


@pytest.mark.parametrize("size", [0, 1, 500])
def test_headers_without_end(port, size):
    """Whether a header block never ends in many small frames or in a few large ones."""
    with Wire(port) as wire:
        wire.raw(raw(1, b"\x82", stream=1) + raw(9, bytes(size), stream=1) * 2000)
        assert wire.goaway() == CALM


def test_a_header_bomb(port):
    """An entry of 4 KB in the table, named four thousand times in as many bytes."""
    with Wire(port) as wire:
        entry = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000
        wire.raw(raw(1, entry + b"\xbe" * 10_000, flags=5, stream=1))
        assert wire.goaway() == CALM


def test_more_streams_than_allowed_are_refused(port):
    with Wire(port) as wire:
        wire.send(*[wire.headers(2 * n + 1) for n in range(1030)])
        assert wire.reset(2049) == Code.REFUSED_STREAM
        wire.send(*[frames.RstStreamFrame(2 * n + 1, 8) for n in range(1024)])
        wire.call(2061)
        assert wire.status(2061) == 0


def test_long_messages_hold_memory_only_as_they_come(port):
    """A length of 2 GB costs nothing until the bytes are there."""
    before = psutil.Process().memory_info().rss
    with Wire(port) as wire:
        for n in range(500):
            wire.send(
                wire.headers(2 * n + 1), frames.DataFrame(2 * n + 1, b"\0\x7f\xff\xff\xfe" + bytes(100))
            )
        assert wire.ping()
        assert psutil.Process().memory_info().rss - before < 32 << 20
        wire.call(1001)
        assert wire.status(1001) == 0


def test_requests_that_arrive_have_a_limit_together(dataplane):
    front = AsyncGrpcFront(dataplane, port=0, threads=2, max_message_bytes=1 << 20)
    front._calls._max_held_bytes = 1 << 19
    port = front.start()
    try:
        with Wire(port) as wire:
            part = b"\0\0\x0f\x00\x00" + bytes(15_000)
            for n in range(40):
                wire.send(wire.headers(2 * n + 1), frames.DataFrame(2 * n + 1, part))
            assert wire.status(79) == 8
            wire.send(*[frames.RstStreamFrame(2 * n + 1, 8) for n in range(39)])
            # Nor does what is refused leave a trace, or what is whole before its call has ended.
            wire.call(81, b"\x07" + bytes(8000))
            assert wire.status(81) == 13
            wire.send(wire.headers(83), frames.DataFrame(83, request()), frames.RstStreamFrame(83, 8))
            wire.call(85, request() * 2)
            assert wire.status(85) == 12
            wire.call(87, request() + request()[:9], "ModelStreamInfer")
            assert wire.status(87) == 13
            assert wire.ping()
            assert front._calls._held == 0
        assert answers(port)
    finally:
        front.stop()


def test_answers_that_nobody_reads_have_a_limit(dataplane):
    front = AsyncGrpcFront(dataplane, port=0, threads=2, limits=Limits(queued_bytes=1000))
    port = front.start()
    try:
        with Wire(port, settings={4: 0}) as wire:
            for n in range(20):
                wire.call(2 * n + 1, request(16))
            refused = wire.answer(39)[2]
            assert (refused["grpc-status"], "wait for the caller" in refused["grpc-message"]) == ("8", True)
            wire.send(frames.SettingsFrame(0, settings={4: 1 << 16}))
            assert wire.status(1) == 0
            wire.call(41)
            assert wire.status(41) == 0
    finally:
        front.stop()


def test_a_window_opened_byte_by_byte_costs_in_proportion(port):
    """A thousand answers that wait must not be looked at for each byte that one of them may send."""
    with Wire(port, settings={4: 0}) as wire:
        for n in range(1000):
            wire.call(2 * n + 1)
            if n % 100 == 99:
                assert wire.ping()
        before = time.process_time()
        wire.raw(raw(8, b"\0\0\0\1", stream=1) * 200 + raw(8, b"\0\0\0\1") * 20_000)
        assert wire.ping()
        assert time.process_time() - before < 2
        assert len([f for f in wire.received if isinstance(f, frames.DataFrame)]) > 40


def test_a_stream_of_many_small_messages_leaves_others_their_turn(port):
    """Reflection answers 5 bytes with a kilobyte, and waits until it is read."""
    before = psutil.Process().memory_info().rss
    with Wire(port, settings={4: 1000}) as wire, Wire(port) as other:
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "t"),
            ("content-type", "application/grpc"),
        ]
        path = (":path", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        wire.send(wire.headers(1, base=[head[0], head[1], path, *head[2:]]))
        wire.raw(raw(0, framed(b"\x3a\x00") * 2000, stream=1) * 200)
        other.call(1)
        assert other.status(1) == 0
        assert psutil.Process().memory_info().rss - before < 64 << 20


def conversation(generator):
    """What a client might say: some calls of all kinds, in one piece."""
    wire = Wire.__new__(Wire)
    wire.encoder = hpack.Encoder()
    said = [PREFACE, raw(4)]
    for n in range(generator.randint(1, 4)):
        stream = 2 * n + 1
        path = generator.choice(["ModelInfer", "ModelStreamInfer", "ServerLive", "ModelConfig", "Nothing"])
        said.append(wire.headers(stream, path).serialize())
        body = request(generator.randint(1, 4)) if "Infer" in path else framed(b"")
        cut = generator.randint(0, len(body))
        said += [raw(0, body[:cut], stream=stream), raw(0, body[cut:], 1, stream)]
        said += generator.choice(
            [[], [raw(6, bytes(8))], [raw(8, b"\0\0\1\0", stream=stream)], [raw(3, bytes(4), stream=1)]]
        )
    return said


def mutated(generator, said):
    """The same with something wrong: frames swapped, lost or doubled, bits turned, bytes cut out or put in."""
    said = list(said)
    for _ in range(generator.randint(1, 3)):
        kind, at = generator.randrange(6), generator.randrange(len(said))
        if kind == 0:
            said[at] = b""
        elif kind == 1:
            said.insert(generator.randrange(len(said)), said[at])
        elif kind == 2:
            said.append(said.pop(at))
        elif said[at]:
            part, place = bytearray(said[at]), generator.randrange(len(said[at]))
            if kind == 3:
                part[place] ^= 1 << generator.randrange(8)
            elif kind == 4:
                del part[place : place + generator.randint(1, 9)]
            else:
                part[place:place] = generator.randbytes(generator.randint(1, 9))
            said[at] = bytes(part)
    return b"".join(said)


def test_mutated_conversations_harm_nobody(port, caplog):
    generator = random.Random(20_261_127)
    memory = []
    for number in range(10_000):
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(mutated(generator, conversation(generator)))
            if number % 10 == 0:
                # Some wait for what the server has to say, most are gone before.
                peer.shutdown(socket.SHUT_WR)
                peer.settimeout(5)
                while _received(peer):
                    pass
        if number % 1000 == 999:
            assert answers(port)
            memory.append(psutil.Process().memory_info().rss)
    assert memory[-1] - memory[0] < 32 << 20
    assert [
        record.message for record in caplog.records if "unexpected error in an HTTP/2" in record.message
    ] == []
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def _received(peer):
    try:
        return peer.recv(1 << 16)
    except ConnectionResetError:
        return b""
