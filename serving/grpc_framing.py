"""gRPC on HTTP/2 as bytes: messages in DATA, headers of calls and the trailers that end them."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple
from urllib.parse import quote

from serving.errors import InferenceFailed, InvalidInput, MessageTooLarge
from serving.grpc_calls import FOREVER, Ending
from serving.http2.headers import Block, block

PREFIX = struct.Struct(">BI")
"""In front of a message: whether it is compressed, and its length."""

CODINGS = {b"identity": 0, b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""How messages may be compressed, with zlib's name for the framing."""

ACCEPTED = b",".join(CODINGS)
CONTENT = (b"content-type", b"application/grpc")
HEADERS = block([(b":status", b"200"), CONTENT])
OK = block([(b"grpc-status", b"0")], ends=True)

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
NUMBERS = {name: str(number).encode() for number, name in enumerate(CODES)}

UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")

SMALL = 4096
"""Bytes of a part that is worth joining to others at once: each part on its own costs fifty more."""

PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def timeout_of(value: bytes | None) -> float | None:
    """Seconds in a header "grpc-timeout"; `None` for none, or for more than any clock can hold.

    Raises:
        InvalidInput: it is no time.
    """
    if value is None:
        return None
    found = TIMEOUT.fullmatch(value)
    if found is None:
        raise InvalidInput(
            f"grpc-timeout is {value!r}; up to 8 digits and one of H, M, S, m, u, n are allowed"
        )
    seconds = int(found[1]) * UNITS[found[2]]
    return seconds if seconds < FOREVER else None


def trailers(ending: Ending, *, alone: bool) -> Block:
    """The trailers of a failed call.

    Args:
        ending: of the call.
        alone: whether no headers went before them.
    """
    found = [(b":status", b"200"), CONTENT] if alone else []
    found.append((b"grpc-status", NUMBERS[ending.code]))
    if ending.text:
        found.append((b"grpc-message", quote(ending.text, safe=PRINTABLE).encode()))
    found += [(name.encode(), value.encode()) for name, value in ending.trailers]
    if alone and ending.code == "UNIMPLEMENTED":
        # Also the answer to a compression that is not known here.
        found.append((b"grpc-accept-encoding", ACCEPTED))
    return block(found, ends=True)


def prefix_of(message: bytes) -> bytes:
    """What goes in front of a message."""
    return PREFIX.pack(0, len(message))


class Message(NamedTuple):
    """A message as it came.

    Attributes:
        content: its bytes.
        is_compressed: whether they are.
    """

    content: bytes
    is_compressed: bool


class Deframer:
    """Puts messages together that come in parts.

    Args:
        limit: bytes of the longest message.

    Attributes:
        held: bytes that are here.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes | bytearray] = []
        self._at, self._length = 0, -1
        self._is_compressed = False
        self.held = 0

    def next(self) -> Message | None:
        """The next message, taken out; `None` if none is complete.

        Raises:
            MessageTooLarge: it is too long.
            InferenceFailed: it is no message.
        """
        if not self.is_ready():
            return None
        length, self._length = self._length, -1
        return Message(self._cut(length), self._is_compressed)

    def is_ready(self) -> bool:
        """Whether a message is complete; raises as `next`."""
        if self._length < 0:
            if self.held < PREFIX.size:
                return False
            self._read_prefix()
        return self.held >= self._length

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, not even a part of a message."""
        return not self.held and self._length < 0

    def add(self, part: bytes) -> None:
        """Take a part in."""
        if not part:
            return
        if self._at:
            # What was taken out goes now, so that a long message is copied once and not twice.
            self._parts[0] = self._parts[0][self._at :]
            self._at = 0
        self.held += len(part)
        last = self._parts[-1] if self._parts else b""
        if len(part) < SMALL and isinstance(last, bytearray):
            last += part
        else:
            self._parts.append(bytearray(part) if len(part) < SMALL else part)

    def _read_prefix(self) -> None:
        flag, self._length = PREFIX.unpack(self._cut(PREFIX.size))
        if flag > 1:
            raise InferenceFailed(f"a message begins with the byte {flag}; 0 and 1 (compressed) are allowed")
        if self._length > self._limit:
            raise too_long(self._length, self._limit)
        self._is_compressed = bool(flag)

    def _cut(self, size: int) -> bytes:
        """The first bytes, taken out."""
        if not size:
            return b""
        if self._at + size > len(self._parts[0]):
            self._parts = [b"".join(self._parts)]
        first, start = self._parts[0], self._at
        self._at += size
        self.held -= size
        found = bytes(first[start : self._at])
        if self._at == len(first):
            del self._parts[0]
            self._at = 0
        return found


def too_long(length: int, limit: int) -> MessageTooLarge:
    """The error of a message that is too long."""
    return MessageTooLarge(f"a message of {length} bytes; {limit} are allowed")


def decompress(content: bytes, coding: bytes, limit: int) -> bytes:
    """A message that was compressed.

    Args:
        content: of the message.
        coding: a key of `CODINGS`.
        limit: most bytes that are allowed; not many more are ever held.

    Raises:
        InferenceFailed: it was not, or is cut short.
        MessageTooLarge: it holds more.
    """
    if not CODINGS[coding]:
        raise InferenceFailed("a message is marked as compressed, but grpc-encoding names no compression")
    stream = zlib.decompressobj(CODINGS[coding])
    try:
        found = stream.decompress(content, limit + 1)
    except zlib.error as error:
        raise InferenceFailed(
            f"grpc-encoding is {coding.decode()}, but a message is none: {error}"
        ) from error
    if len(found) > limit:
        raise too_long(len(found), limit)
    if not stream.eof or stream.unused_data:
        raise InferenceFailed(
            f"grpc-encoding is {coding.decode()}, but a message is cut short or goes on behind it"
        )
    return found
