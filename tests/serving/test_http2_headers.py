"""Header blocks that are remembered mean what they meant, whatever the peer's table of headers has become."""

import random

import hpack
import pytest

from serving.errors import InvalidInput
from serving.http2.frames import Code, ProtocolError
from serving.http2.headers import KEPT_BLOCKS, HeaderReader, fault_of
from serving.http2.limits import Limits

BASE = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/m"), (b":authority", b"a")]


def reader():
    made = []

    def make(headers, size):
        made.append(headers)
        return headers, size

    return HeaderReader(Limits(), make), made


@pytest.mark.parametrize("seed", range(10))
def test_blocks_are_read_as_without_a_memory(seed):
    """Calls that repeat, change, and push entries out of the table; the table changes its size as well."""
    rng = random.Random(seed)
    encoder, (ours, _), theirs = hpack.Encoder(), reader(), hpack.Decoder()
    for _ in range(600):
        if rng.random() < 0.02:
            encoder.header_table_size = rng.choice((0, 100, 1000, 4096))
        headers = list(BASE)
        for _ in range(rng.randrange(4)):
            name, value = (
                rng.choice((b"x", b"y", b"z")),
                bytes([rng.choice(b"abcdef")]) * rng.choice((1, 50, 900)),
            )
            headers.append(
                hpack.NeverIndexedHeaderTuple(name, value) if rng.random() < 0.3 else (name, value)
            )
        block = encoder.encode(headers, huffman=rng.random() < 0.5)
        found, size = ours.read(block)
        assert (
            found == [tuple(pair) for pair in theirs.decode(block, raw=True)] == [tuple(p) for p in headers]
        )
        assert size == sum(len(name) + len(value) + 32 for name, value in headers)


def test_a_block_that_comes_again_is_made_once():
    encoder, (ours, made) = hpack.Encoder(), reader()
    blocks = [encoder.encode(BASE) for _ in range(10)]
    assert [ours.read(block)[0] for block in blocks] == [BASE] * 10
    # The first two differ: one fills the table, the other is what all others are.
    assert len(made) == 2


def test_what_is_remembered_is_bounded():
    ours, made = reader()
    plain = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in BASE)
    for number in range(1000):
        text = str(number).encode()
        assert ours.read(plain + b"\0\1x" + bytes([len(text)]) + text)[0][-1] == (b"x", text)
        assert len(ours._kept) <= KEPT_BLOCKS
    assert len(made) == 1000


def test_bombs_and_nonsense_end_the_connection():
    ours, _ = reader()
    with pytest.raises(ProtocolError) as caught:
        ours.read(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 100)
    assert caught.value.code == Code.ENHANCE_YOUR_CALM
    for data in (
        b"\x80",
        b"\xff",
        b"\x40",
        b"\x40\x05ab",
        b"\x00\x81\xff\x01a",
        b"\x3f\xff\xff\xff\xff\xff\xff",
    ):
        with pytest.raises(ProtocolError) as caught:
            reader()[0].read(data)
        assert caught.value.code == Code.COMPRESSION_ERROR


def test_requests_have_no_fault():
    assert fault_of([*BASE, (b"te", b"trailers"), (b"x", b""), (b"x", b"twice")]) == ""
    assert "missing" in fault_of(BASE[1:])
    assert "not allowed" in fault_of([*BASE, (b"upgrade", b"h2c")])


@pytest.mark.parametrize(("name", "value"), [("streams", 0), ("window", 2**31), ("frame_bytes", 100)])
def test_limits_say_what_is_allowed(name, value):
    with pytest.raises(InvalidInput, match=f"{name} is {value}; .* are allowed"):
        Limits(**{name: value})
