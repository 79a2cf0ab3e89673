"""Protobuf's wire format, as far as the tensors need it: fields of the top level, without copying what is in them."""

from __future__ import annotations

from collections.abc import Iterator

from serving.errors import InvalidInput

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10


def read_varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """(value, position behind it).

    Raises:
        InvalidInput: the message ends inside it, or it is longer than any varint.
    """
    value = shift = 0
    try:
        for _ in range(MAX_VARINT_BYTES):
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
    except IndexError:
        raise InvalidInput("the message is cut off inside a number") from None
    raise InvalidInput("the message is no protobuf: a number has more than 10 bytes")


def varint(value: int) -> bytes:
    """A number as bytes."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: (number, wire type, start and end of the content).

    Raises:
        InvalidInput: the bytes are no message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == DELIMITED:
            length, start = read_varint(data, at)
            at = start + length
        elif kind == VARINT:
            _, at = read_varint(data, at)
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise InvalidInput(f"the message is no protobuf: wire type {kind} in field {number}")
        if number == 0:
            raise InvalidInput("the message is no protobuf: field number 0")
        if at > end:
            raise InvalidInput(
                f"the message is cut off inside field {number}: {end - start} of {at - start} bytes"
            )
        yield number, kind, start, at
