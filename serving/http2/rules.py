"""What frames of a client mean, and when they break the rules of RFC 9113: one method a kind of frame."""

from __future__ import annotations

from typing import Any

from serving.http2 import frames
from serving.http2.frames import FIXED, Code, Flag, Kind, ProtocolError, StreamError
from serving.http2.headers import HeaderReader
from serving.http2.session import Session, Site
from serving.http2.settings import apply_settings
from serving.http2.stream import Stream

MOST_CONTINUATIONS = 64
LONGEST_SETTINGS = 6 * 64


class Rules(Session):
    """The receiving half of a connection, a frame at a time.

    Args:
        site: the server.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._reader: HeaderReader[Any] = HeaderReader(site.limits, site.head)
        self._table = FIRST
        self._block: bytearray | None = None
        self._block_stream = self._block_flags = self._block_frames = 0

    def _check_size(self, kind: int, size: int) -> None:
        """Refuse a frame before it is collected."""
        if size > self.limits.frame_bytes:
            raise ProtocolError(
                Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes; {self.limits.frame_bytes} are allowed"
            )
        if kind in (Kind.HEADERS, Kind.CONTINUATION) and size > self.limits.block_bytes + 256:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, f"a header block of {size} bytes")
        if kind == Kind.SETTINGS and size > LONGEST_SETTINGS:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, f"SETTINGS of {size} bytes")
        if kind in FIXED and size != FIXED[Kind(kind)]:
            raise ProtocolError(
                Code.FRAME_SIZE_ERROR, f"{Kind(kind).name} of {size} bytes; {FIXED[Kind(kind)]} are allowed"
            )

    def _on_data(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        size = stop - start
        self._window -= size
        if self._window < self.limits.connection_window >> 1:
            self._grant_connection()
        stream = self.streams.get(number)
        if stream is None or stream.has_ended:
            self._stray(number, "DATA", is_data=True)
            return
        stream.window -= size
        if stream.window < 0:
            raise StreamError(Code.FLOW_CONTROL_ERROR, "DATA beyond the stream's window")
        if flags & Flag.PADDED:
            stop = start + size - (data[start] if size else 0)
            start += 1
            if stop < start:
                raise ProtocolError(Code.PROTOCOL_ERROR, "DATA with more padding than content")
            self.grant(stream, size - (stop - start))
        if start == stop and not flags & Flag.END_STREAM:
            self._spend("empty DATA")
        stream.has_ended = bool(flags & Flag.END_STREAM)
        stream.take(data, start, stop, stream.has_ended)

    def _on_headers(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        if flags & (Flag.PADDED | Flag.PRIORITY):
            start, stop = _unpadded(data, start, stop, flags)
        if not number & 1:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"HEADERS on stream {number}; clients have odd ones")
        if stop - start > self.limits.block_bytes:
            self._check_size(Kind.HEADERS, stop - start)
        if flags & Flag.END_HEADERS:
            self._request(number, data[start:stop], flags)
            return
        self._block, self._block_stream, self._block_flags = bytearray(data[start:stop]), number, flags
        self._block_frames = 0
        self._table = CONTINUED

    def _on_continuation(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        block = self._block
        if block is None or number != self._block_stream:
            raise ProtocolError(
                Code.PROTOCOL_ERROR, f"CONTINUATION on stream {number}, which has nothing to continue"
            )
        block += memoryview(data)[start:stop]
        self._block_frames += 1
        if len(block) > self.limits.block_bytes or self._block_frames > MOST_CONTINUATIONS:
            raise ProtocolError(
                Code.ENHANCE_YOUR_CALM,
                f"a header block of {len(block)} bytes in {self._block_frames + 1} frames",
            )
        if flags & Flag.END_HEADERS:
            self._block, self._table = None, OPEN
            self._request(number, bytes(block), self._block_flags)

    def _request(self, number: int, block: bytes, flags: int) -> None:
        """A whole header block: of a new stream, or trailers."""
        head = self._reader.read(block)
        if number <= self.last:
            self._trailers(number, flags)
            return
        self.last = number
        if head is None:
            self._refuse(number, Code.PROTOCOL_ERROR)
            return
        if self.is_leaving or len(self.streams) >= self.limits.streams:
            self._refuse(number, Code.REFUSED_STREAM)
            return
        stream = self.site.stream(self, number, head)
        self.streams[number] = stream
        stream.has_ended = bool(flags & Flag.END_STREAM)
        stream.opened()
        if stream.has_ended and stream.is_open:
            stream.take(b"", 0, 0, True)

    def _trailers(self, number: int, flags: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            if number in self._resets:
                return
            raise ProtocolError(Code.STREAM_CLOSED, f"HEADERS on stream {number}, which is closed")
        if stream.has_ended:
            raise StreamError(Code.STREAM_CLOSED, "HEADERS behind the end of the stream")
        if not flags & Flag.END_STREAM:
            raise StreamError(Code.PROTOCOL_ERROR, "a second HEADERS that does not end the stream")
        stream.has_ended = True
        stream.take(b"", 0, 0, True)

    def _on_priority(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        self._check_fixed(Kind.PRIORITY, stop - start, number)
        self._spend("PRIORITY")

    def _on_reset(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        self._check_fixed(Kind.RST_STREAM, stop - start, number)
        self._spend("RST_STREAM")
        stream = self.streams.get(number)
        if stream is None:
            self._stray(number, "RST_STREAM")
            return
        self._drop(stream)

    def _on_settings(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        if self._table is FIRST:
            self._table = OPEN
            self._stop_timer()
        self._check_size(Kind.SETTINGS, stop - start)
        if number:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"SETTINGS on stream {number}; 0 is allowed")
        if flags & Flag.ACK:
            if start != stop:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with content")
            return
        self._spend("SETTINGS")
        apply_settings(self.sender, self.streams, data[start:stop])
        self.sender.control(frames.frame(Kind.SETTINGS, Flag.ACK, 0))
        self.sender.all_widened()

    def _on_ping(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        if number:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"PING on stream {number}; 0 is allowed")
        self._check_size(Kind.PING, stop - start)
        if flags & Flag.ACK:
            pong, self._pong = self._pong, None
            if pong is not None:
                pong()
            return
        self._spend("PING")
        self.sender.control(frames.frame(Kind.PING, Flag.ACK, 0, data[start:stop]))

    def _on_goaway(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        if number:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"GOAWAY on stream {number}; 0 is allowed")
        if stop - start < 8:
            raise ProtocolError(
                Code.FRAME_SIZE_ERROR, f"GOAWAY of {stop - start} bytes; 8 or more are allowed"
            )
        self._spend("GOAWAY")

    def _on_window_update(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        if stop - start != 4:
            self._check_size(Kind.WINDOW_UPDATE, stop - start)
        size = int.from_bytes(data[start:stop], "big") & 0x7FFFFFFF
        stream = self.streams.get(number)
        if stream is not None:
            self._widen(stream, size)
        elif number > self.last:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {number}, which is idle")
        elif number == 0:
            if size == 0:
                raise ProtocolError(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0 bytes")
            self.sender.grow(size)

    def _widen(self, stream: Stream, size: int) -> None:
        if size == 0:
            raise StreamError(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0 bytes")
        stream.delta += size
        if self.sender.initial + stream.delta > frames.LARGEST_WINDOW:
            raise StreamError(Code.FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes the stream's window too large")
        self.sender.widened(stream)

    def _on_unknown(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        self._check_size(UNKNOWN, stop - start)
        self._spend("unknown frames")

    def _on_push(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        raise ProtocolError(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _out_of_turn(self, data: bytes, start: int, stop: int, flags: int, number: int) -> None:
        what = "a header block" if self._block is not None else "the first SETTINGS"
        raise ProtocolError(Code.PROTOCOL_ERROR, f"a frame of another kind before the end of {what}")

    def _check_fixed(self, kind: Kind, size: int, number: int) -> None:
        self._check_size(kind, size)
        if number == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"{kind.name} on stream 0")

    def _stray(self, number: int, what: str, *, is_data: bool = False) -> None:
        """A frame of a stream that is not there, or whose request is over."""
        if number == 0 or number > self.last:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"{what} on stream {number}, which is idle")
        if not is_data or number in self._resets:
            # On its way before the peer heard of the end.
            return
        if number in self.streams:
            raise StreamError(Code.STREAM_CLOSED, f"{what} behind the end of the stream")
        self._refuse(number, Code.STREAM_CLOSED)


def _unpadded(data: bytes, start: int, stop: int, flags: int) -> tuple[int, int]:
    """Where a header block lies in its frame."""
    if flags & Flag.PADDED:
        if start == stop:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "padded HEADERS without a length of the padding")
        stop -= data[start]
        start += 1
    if flags & Flag.PRIORITY:
        start += 5
    if stop < start:
        raise ProtocolError(Code.PROTOCOL_ERROR, "HEADERS with more padding than content")
    return start, stop


UNKNOWN = 10
"""Place of frames of other kinds in the tables below, of which one says what is allowed now."""
OPEN = (
    Rules._on_data, Rules._on_headers, Rules._on_priority, Rules._on_reset, Rules._on_settings,
    Rules._on_push, Rules._on_ping, Rules._on_goaway, Rules._on_window_update,
    Rules._on_continuation, Rules._on_unknown,
)  # fmt: skip
FIRST = tuple(
    Rules._on_settings if kind == Kind.SETTINGS else Rules._out_of_turn for kind in range(len(OPEN))
)
CONTINUED = tuple(
    Rules._on_continuation if kind == Kind.CONTINUATION else Rules._out_of_turn for kind in range(len(OPEN))
)
