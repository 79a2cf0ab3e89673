"""Content-Encoding and Accept-Encoding: bodies are decompressed here, within a limit, and not by aiohttp.

aiohttp would take what follows the end of a stream for a new one, and a stream that is cut short for a whole one.
"""

from __future__ import annotations

import zlib

from aiohttp import web

from serving.errors import InvalidInput

IDENTITY = "identity"
CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What is understood, the favourite first, with zlib's name for its framing."""

LONGEST_DECIMAL = 18


def coding_of(header: str | None) -> str:
    """The coding of a body.

    Args:
        header: Content-Encoding.

    Raises:
        InvalidInput: it is not offered.
    """
    coding = (header or IDENTITY).strip().lower()
    if coding != IDENTITY and coding not in CODINGS:
        raise InvalidInput(f"Content-Encoding is {header!r}; {', '.join(CODINGS)} and {IDENTITY} are allowed")
    return coding


def decompress(body: bytes, coding: str, limit: int) -> bytes:
    """What was compressed.

    Args:
        body: one compressed stream.
        coding: a key of `CODINGS`.
        limit: most bytes that are allowed; not many more are ever held.

    Raises:
        InvalidInput: it is no such stream, is cut short, or something follows it.
        web.HTTPRequestEntityTooLarge: it holds more.
    """
    window = CODINGS[coding]
    if coding == "deflate" and body[:1] and body[0] & 0x0F != zlib.DEFLATED:
        # Some clients leave zlib's header out.
        window = -zlib.MAX_WBITS
    stream = zlib.decompressobj(window)
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"Content-Encoding is {coding!r}, but the body is none: {error}") from error
    if len(content) > limit:
        raise too_long(limit)
    if not stream.eof:
        raise InvalidInput(f"Content-Encoding is {coding!r}, but the body of {len(body)} bytes is cut short")
    if stream.unused_data:
        raise InvalidInput(f"{len(stream.unused_data)} bytes behind the {coding} stream; none are allowed")
    return content


def too_long(limit: int) -> web.HTTPRequestEntityTooLarge:
    """The error of a body that is too long."""
    return web.HTTPRequestEntityTooLarge(limit, text=f"the body has more than the {limit} bytes allowed")


def accepted_coding(header: str | None) -> str | None:
    """How the answer may be compressed; `None` for not at all.

    Args:
        header: Accept-Encoding.
    """
    wanted = set()
    for entry in (header or "").lower().split(","):
        name, _, weight = entry.replace(" ", "").partition(";q=")
        if weight.strip("0.") or not weight:
            wanted.add(name)
    return next((coding for coding in CODINGS if coding in wanted), None)


def length_of(header: str | None, name: str) -> int | None:
    """A header that holds a number of bytes.

    Raises:
        InvalidInput: it is no number.
    """
    if header is None:
        return None
    # int() refuses numbers of thousands of digits with an error of its own, and takes those of other scripts.
    if not (header.isascii() and header.isdecimal() and len(header) <= LONGEST_DECIMAL):
        raise InvalidInput(f"{name} is {header[:80]!r}; a whole number of bytes is allowed")
    return int(header)
