"""Messages in parts, headers of time, trailers of errors: the bytes of gRPC."""

import random

import hpack
import pytest

from serving.errors import CLASS_HEADER, InferenceFailed, InvalidInput, MessageTooLarge, ModelNotFound
from serving.grpc_calls import ending_of
from serving.grpc_framing import CODES, Deframer, timeout_of, trailers
from serving.http2.headers import block


def framed(content, flag=0):
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_found_however_they_are_cut(seed):
    rng = random.Random(seed)
    sizes = [rng.choice((0, 1, 4, 5, 6, 100, 4095, 4096, 5000, 70_000)) for _ in range(rng.randint(1, 12))]
    messages = [(rng.randbytes(size), rng.randrange(2)) for size in sizes]
    data = b"".join(framed(content, flag) for content, flag in messages)
    deframer, found, at = Deframer(100_000), [], 0
    while at < len(data):
        size = rng.choice((1, 3, 5, 1000, 4096, 50_000))
        deframer.add(data[at : at + size])
        at += size
        # Whoever asks later, as a stream does that is busy, finds them all the same.
        while rng.random() < 0.7 and (message := deframer.next()) is not None:
            found.append(message)
    while (message := deframer.next()) is not None:
        found.append(message)
    assert [(content, int(flag)) for content, flag in found] == messages
    assert all(type(content) is bytes for content, _ in found)
    assert (deframer.held, deframer.is_empty) == (0, True)


def test_parts_of_messages_are_no_messages():
    deframer = Deframer(10)
    for part in (b"\0\0", b"\0\0\3", b"ab"):
        deframer.add(part)
        assert deframer.next() is None
        assert not deframer.is_empty
    deframer.add(b"c\0")
    assert deframer.next().content == b"abc"
    assert deframer.held == 1


def test_messages_that_are_refused():
    deframer = Deframer(10)
    deframer.add(framed(bytes(10)) + b"\0\0\0\0\x0b")
    assert len(deframer.next().content) == 10
    with pytest.raises(MessageTooLarge, match="11 bytes; 10 are allowed"):
        deframer.next()
    deframer = Deframer(10)
    deframer.add(b"\2\0\0\0\0")
    with pytest.raises(InferenceFailed, match="byte 2"):
        deframer.next()


TIMES = [
    (b"1H", 3600),
    (b"2M", 120),
    (b"3S", 3),
    (b"4m", 4e-3),
    (b"5u", 5e-6),
    (b"6n", 6e-9),
    (b"0S", 0),
    (None, None),
]


@pytest.mark.parametrize(("value", "seconds"), TIMES)
def test_times(value, seconds):
    assert timeout_of(value) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"-1S", b"1.5S", b"1 S", b"123456789S", b"1s", b"1S\n"])
def test_times_that_are_none(value):
    with pytest.raises(InvalidInput, match="grpc-timeout"):
        timeout_of(value)


@pytest.mark.parametrize("text", ["plain", "100 %", "é", "\N{TELESCOPE}", "two\nlines", "~ \x7f"])
def test_trailers_of_errors(text):
    head, content = trailers(ending_of(ModelNotFound(text)), alone=True)
    found = dict(hpack.Decoder().decode(content))
    assert len(content) == int.from_bytes(head[:3], "big")
    assert (found[":status"], found["grpc-status"]) == ("200", str(CODES.index("NOT_FOUND")))
    assert found[CLASS_HEADER] == "ModelNotFound"
    message = found["grpc-message"]
    assert all(" " <= letter <= "~" for letter in message)
    parts = message.encode().split(b"%")
    assert parts[0] + b"".join(bytes.fromhex(p[:2].decode()) + p[2:] for p in parts[1:]) == text.encode()


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 300, 5000])
def test_headers_of_all_lengths(length):
    pair = (b"n" * max(1, length), b"v" * length)
    _, content = block([(b":status", b"200"), pair])
    assert hpack.Decoder().decode(content, raw=True) == [(b":status", b"200"), pair]
