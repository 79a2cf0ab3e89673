"""Header blocks: those of requests are decoded once and found again by their bytes, those of answers are constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import hpack
from hpack.exceptions import OversizedHeaderListError
from hpack.table import HeaderTable

from serving.http2.frames import Code, Flag, Kind, ProtocolError
from serving.http2.limits import Limits

Headers = list[tuple[bytes, bytes]]
Made = TypeVar("Made")

KEPT_BLOCKS = 64
LONGEST_KEPT = 1024
"""Bytes of a block that is worth keeping."""

PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority", b":protocol"))
NEEDED = (b":method", b":scheme", b":path")
FORBIDDEN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Of HTTP/1.1."""


class _Table(HeaderTable):
    """The peer's table of headers; it counts its changes, which give later blocks another meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Take in an entry."""
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Bytes of the table."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


class HeaderReader(Generic[Made]):
    """Decodes the header blocks of one connection.

    Args:
        limits: of the connection.
        make: makes what the server needs from headers and their size.
    """

    def __init__(self, limits: Limits, make: Callable[[Headers, int], Made]) -> None:
        self._make = make
        self._decoder = hpack.Decoder(limits.unpacked_bytes)
        self._table = self._decoder.header_table = _Table()
        self._kept: dict[bytes, Made | None] = {}
        self._changes = 0

    def read(self, block: bytes) -> Made | None:
        """What `make` made of a block; `None` if its headers are no request.

        Raises:
            ProtocolError: it is no header block, or a bomb.
        """
        # An entry was made with the table of now, or the cache was cleared since.
        if block in self._kept:
            return self._kept[block]
        headers = self._decode(block)
        made = None if fault_of(headers) else self._make(headers, size_of(headers))
        if self._table.changes != self._changes:
            self._changes = self._table.changes
            self._kept.clear()
        elif len(block) <= LONGEST_KEPT:
            if len(self._kept) >= KEPT_BLOCKS:
                self._kept.clear()
            self._kept[block] = made
        return made

    def _decode(self, block: bytes) -> Headers:
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, str(error)) from error
        except (
            Exception
        ) as error:  # whatever the decoder stumbles over: the state of both sides is no longer the same
            raise ProtocolError(Code.COMPRESSION_ERROR, f"header block: {error}") from error


def size_of(headers: Headers) -> int:
    """Bytes as RFC 9113 counts them."""
    return sum(len(name) + len(value) + 32 for name, value in headers)


def fault_of(headers: Headers) -> str:
    """Why headers are no request (RFC 9113, 8.2 and 8.3); empty if they are one."""
    seen: set[bytes] = set()
    has_plain = False
    for name, value in headers:
        if name.startswith(b":"):
            if has_plain or name in seen or name not in PSEUDO:
                return f"pseudo header {name!r} is unknown, given twice or behind others"
            seen.add(name)
            continue
        has_plain = True
        if not name or name != name.lower() or name in FORBIDDEN or (name == b"te" and value != b"trailers"):
            return f"header {name!r} is not allowed"
        if b"\r" in value or b"\n" in value or b"\0" in value:
            return f"header {name!r} holds a line break"
    missing = [name for name in NEEDED if name not in seen]
    return f"pseudo header {missing[0]!r} is missing" if missing else ""


class Block(NamedTuple):
    """Headers to send.

    Attributes:
        head: length, kind and flags of their frame; the stream's number follows, then the content.
        content: the header block.
    """

    head: bytes
    content: bytes


def block(headers: Iterable[tuple[bytes, bytes]], *, ends: bool = False) -> Block:
    """Headers as literals that need no table, the same bytes on every connection.

    Args:
        headers: in lower case; ":status" must be 200 or come as text.
        ends: whether they end their stream.
    """
    content = b"".join(
        b"\x88" if (name, value) == (b":status", b"200") else b"\x00" + _text(name) + _text(value)
        for name, value in headers
    )
    flags = Flag.END_HEADERS | (Flag.END_STREAM if ends else 0)
    return Block(len(content).to_bytes(3, "big") + bytes((Kind.HEADERS, flags)), content)


def _text(text: bytes) -> bytes:
    """A text with its length in front: in 7 bits, or 127 and the rest in groups of 7 bits."""
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    length -= 127
    out = bytearray(b"\x7f")
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    out.append(length)
    return bytes(out) + text
