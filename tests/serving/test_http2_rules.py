"""The rules of HTTP/2 on the gRPC front of asyncio: what breaks them ends a stream or a connection, with its code."""

import struct

import pytest
from hyperframe import frame as frames

from serving.grpc_async import AsyncGrpcFront
from serving.http2.frames import Code
from tests.serving.http2_wire import PATH, PREFACE, Wire, answers, framed, request


@pytest.fixture(scope="module")
def port(dataplane):
    front = AsyncGrpcFront(dataplane, port=0, threads=4)
    yield front.start()
    front.stop()


def raw(kind, payload=b"", flags=0, stream=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(*pairs):
    return raw(4, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def opened(wire):
    """A stream that has only its headers."""
    return wire.headers(1).serialize()


def done(wire):
    """A stream that is over."""
    wire.call(1)
    assert wire.status(1) == 0
    return b""


def with_headers(*pairs, drop=()):
    def make(wire):
        base = [(":method", "POST"), (":scheme", "http"), (":path", PATH + "ModelInfer"), (":authority", "a")]
        base = [pair for pair in base if pair[0] not in drop] + [("content-type", "application/grpc")]
        return wire.headers(1, base=[*base, *pairs]).serialize()

    return make


CONNECTION = {
    "settings on a stream": (lambda w: raw(4, b"", stream=1), Code.PROTOCOL_ERROR),
    "settings cut": (lambda w: raw(4, b"12345"), Code.FRAME_SIZE_ERROR),
    "settings acknowledged with content": (lambda w: raw(4, b"123456", flags=1), Code.FRAME_SIZE_ERROR),
    "settings without end": (lambda w: settings(*[(9, 9)] * 100), Code.ENHANCE_YOUR_CALM),
    "push neither on nor off": (lambda w: settings((2, 2)), Code.PROTOCOL_ERROR),
    "initial window": (lambda w: settings((4, 2**31)), Code.FLOW_CONTROL_ERROR),
    "frame size small": (lambda w: settings((5, 16383)), Code.PROTOCOL_ERROR),
    "frame size large": (lambda w: settings((5, 2**24)), Code.PROTOCOL_ERROR),
    "ping cut": (lambda w: raw(6, b"1234567"), Code.FRAME_SIZE_ERROR),
    "ping on a stream": (lambda w: raw(6, b"12345678", stream=1), Code.PROTOCOL_ERROR),
    "goaway on a stream": (lambda w: raw(7, bytes(8), stream=1), Code.PROTOCOL_ERROR),
    "goaway cut": (lambda w: raw(7, bytes(7)), Code.FRAME_SIZE_ERROR),
    "push promise": (lambda w: raw(5, bytes(4), flags=4, stream=1), Code.PROTOCOL_ERROR),
    "priority on 0": (lambda w: raw(2, bytes(5)), Code.PROTOCOL_ERROR),
    "priority cut": (lambda w: raw(2, bytes(4), stream=1), Code.FRAME_SIZE_ERROR),
    "reset on 0": (lambda w: raw(3, bytes(4)), Code.PROTOCOL_ERROR),
    "reset cut": (lambda w: opened(w) + raw(3, bytes(3), stream=1), Code.FRAME_SIZE_ERROR),
    "reset of an idle stream": (lambda w: raw(3, bytes(4), stream=5), Code.PROTOCOL_ERROR),
    "window update cut": (lambda w: raw(8, bytes(3)), Code.FRAME_SIZE_ERROR),
    "window update of 0": (lambda w: raw(8, bytes(4)), Code.PROTOCOL_ERROR),
    "window update of an idle stream": (lambda w: raw(8, b"\0\0\0\1", stream=7), Code.PROTOCOL_ERROR),
    "window of the connection": (lambda w: raw(8, b"\x7f\xff\xff\xff") * 2, Code.FLOW_CONTROL_ERROR),
    "data on 0": (lambda w: raw(0, b"x"), Code.PROTOCOL_ERROR),
    "data on an idle stream": (lambda w: raw(0, b"x", stream=1), Code.PROTOCOL_ERROR),
    "data with padding only": (lambda w: opened(w) + raw(0, b"\x05abc", flags=8, stream=1), Code.PROTOCOL_ERROR),
    "padded data of nothing": (lambda w: opened(w) + raw(0, b"", flags=8, stream=1), Code.PROTOCOL_ERROR),
    "headers on 0": (lambda w: raw(1, b"\x82", flags=4), Code.PROTOCOL_ERROR),
    "headers of the server's number": (lambda w: raw(1, b"\x82", flags=4, stream=2), Code.PROTOCOL_ERROR),
    "headers with padding only": (lambda w: raw(1, b"\x09\x82", flags=12, stream=1), Code.PROTOCOL_ERROR),
    "padded headers of nothing": (lambda w: raw(1, b"", flags=12, stream=1), Code.FRAME_SIZE_ERROR),
    "headers with half a priority": (lambda w: raw(1, b"\0\0", flags=36, stream=1), Code.PROTOCOL_ERROR),
    "headers of an older stream": (lambda w: done(w) + w.headers(1).serialize(), Code.STREAM_CLOSED),
    "no header block": (lambda w: raw(1, b"\xff\xff\xff\xff\xff\xff", flags=4, stream=1), Code.COMPRESSION_ERROR),
    "an entry that is not there": (lambda w: raw(1, b"\xfe", flags=4, stream=1), Code.COMPRESSION_ERROR),
    "table size too large": (lambda w: raw(1, b"\x3f\xff\xff\x03", flags=4, stream=1), Code.COMPRESSION_ERROR),
    "continuation of nothing": (lambda w: raw(9, b"\x82", flags=4, stream=1), Code.PROTOCOL_ERROR),
    "continuation of another": (
        lambda w: raw(1, b"\x82", stream=1) + raw(9, b"\x84", flags=4, stream=3), Code.PROTOCOL_ERROR),
    "another frame within headers": (lambda w: raw(1, b"\x82", stream=1) + raw(6, bytes(8)), Code.PROTOCOL_ERROR),
    "unknown frame within headers": (lambda w: raw(1, b"\x82", stream=1) + raw(99, bytes(8)), Code.PROTOCOL_ERROR),
    "a frame too long": (lambda w: raw(0, b"", stream=1)[:0] + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
                         Code.FRAME_SIZE_ERROR),
    "a header block too long": (lambda w: b"\x0f\xff\xff\x01\x04\x00\x00\x00\x01", Code.ENHANCE_YOUR_CALM),
}  # fmt: skip


@pytest.mark.parametrize("case", CONNECTION)
def test_a_broken_rule_ends_the_connection(port, case):
    make, code = CONNECTION[case]
    with Wire(port) as wire:
        wire.raw(make(wire))
        assert wire.goaway() == code
        wire.read()
        assert wire.is_closed
    assert answers(port)


STREAM = {
    "window of the stream": (
        lambda w: opened(w) + raw(8, b"\x7f\xff\xff\xff", stream=1),
        Code.FLOW_CONTROL_ERROR,
    ),
    "window update of 0": (lambda w: opened(w) + raw(8, bytes(4), stream=1), Code.PROTOCOL_ERROR),
    "trailers that do not end": (lambda w: opened(w) + w.headers(1).serialize(), Code.PROTOCOL_ERROR),
    "data behind the end": (lambda w: done(w) + raw(0, b"x", stream=1), Code.STREAM_CLOSED),
    "no path": (with_headers(drop=(":path",)), Code.PROTOCOL_ERROR),
    "no method": (with_headers(drop=(":method",)), Code.PROTOCOL_ERROR),
    "a pseudo header twice": (with_headers((":path", "/")), Code.PROTOCOL_ERROR),
    "an unknown pseudo header": (with_headers((":status", "200")), Code.PROTOCOL_ERROR),
    "upper case": (with_headers(("Name", "x")), Code.PROTOCOL_ERROR),
    "no name": (with_headers(("", "x")), Code.PROTOCOL_ERROR),
    "a header of HTTP/1.1": (with_headers(("connection", "close")), Code.PROTOCOL_ERROR),
    "te": (with_headers(("te", "gzip")), Code.PROTOCOL_ERROR),
    "a line break": (with_headers(("name", "a\r\nb: c")), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", STREAM)
def test_a_broken_rule_ends_the_stream(port, case):
    make, code = STREAM[case]
    with Wire(port) as wire:
        wire.raw(make(wire))
        assert wire.reset(1) == code
        # The connection, and the tables of headers on both sides, are as they should be.
        wire.call(3)
        assert wire.status(3) == 0


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", bytes(40)]
)
def test_what_is_not_http2_is_told_so(port, first):
    with Wire(port, greet=False) as wire:
        wire.raw(first)
        assert wire.goaway() == Code.PROTOCOL_ERROR


def test_settings_come_first(port):
    with Wire(port, greet=False) as wire:
        wire.raw(PREFACE + raw(6, bytes(8)))
        assert wire.goaway() == Code.PROTOCOL_ERROR


def test_a_byte_at_a_time(port):
    with Wire(port, greet=False) as wire:
        call = wire.headers(1).serialize() + raw(0, request(id="slow"), flags=1, stream=1)
        for byte in PREFACE + settings() + call:
            wire.raw(bytes([byte]))
        assert wire.status(1) == 0


def test_padding_priorities_continuations_and_unknown_frames(port):
    with Wire(port) as wire:
        head = wire.headers(1)
        block, body = head.data, request(2)
        parts = [block[n : n + 7] for n in range(0, len(block), 7)]
        wire.raw(raw(1, b"\x03" + bytes([0, 0, 0, 0, 15]) + parts[0] + bytes(3), flags=0x28, stream=1))
        for part in parts[1:-1]:
            wire.raw(raw(9, part, stream=1))
        wire.raw(raw(9, parts[-1], flags=4, stream=1))
        wire.raw(raw(99, b"whatever", flags=0xFF, stream=1) + raw(2, bytes(5), stream=1))
        wire.send(
            *[
                frames.DataFrame(1, body[n : n + 9], flags=("PADDED",), pad_length=200)
                for n in range(0, len(body), 9)
            ]
        )
        wire.send(frames.DataFrame(1, b"", flags=("END_STREAM",)))
        assert wire.status(1) == 0
        assert wire.ping()


def test_trailers_of_a_request_end_it(port):
    with Wire(port) as wire:
        wire.send(wire.headers(1), frames.DataFrame(1, request()))
        wire.send(wire.headers(1, base=[("grpc-extra", "x")], flags=("END_HEADERS", "END_STREAM")))
        assert wire.status(1) == 0


def test_an_early_end_stops_the_request(port):
    """An answer before the end of the request: the rest is not wanted, and what is on its way is no error."""
    with Wire(port) as wire:
        wire.send(wire.headers(1, "Nothing"))
        assert wire.status(1) == 12
        assert wire.reset(1) == Code.NO_ERROR
        wire.send(frames.DataFrame(1, bytes(10_000)), frames.RstStreamFrame(1, 8))
        wire.call(3)
        assert wire.status(3) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 12), (request() * 2, 12), (request()[:-3], 13), (framed(b"", 1), 13), (b"\x07" + request()[1:], 13),
     (framed(b"\xff\xff"), 3), (b"\0\xff\xff\xff\xff", 8), (b"\0\0", 13)],
)  # fmt: skip
def test_messages_that_are_none(port, body, status):
    with Wire(port) as wire:
        wire.call(1, body)
        assert wire.status(1) == status
        wire.call(3)
        assert wire.status(3) == 0


@pytest.mark.parametrize("path", ["ModelInfer", "ModelStreamInfer", "ServerLive"])
def test_a_message_that_is_too_long_is_refused_before_it_is_here(port, path):
    with Wire(port) as wire:
        wire.send(wire.headers(1, path), frames.DataFrame(1, b"\0\xff\xff\xff\xff" + bytes(100)))
        assert wire.status(1) == 8
        assert wire.reset(1) == Code.NO_ERROR


def test_what_is_not_grpc_gets_an_http_status(port):
    base = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
    with Wire(port) as wire:
        wire.send(wire.headers(1, base=base, flags=("END_HEADERS", "END_STREAM")))
        assert wire.answer(1)[0][":status"] == "405"
        wire.send(wire.headers(3, base=[(":method", "POST"), *base[1:]], flags=("END_HEADERS", "END_STREAM")))
        assert wire.answer(3)[0][":status"] == "415"
