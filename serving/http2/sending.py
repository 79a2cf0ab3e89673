"""What leaves on a connection: one write for all that a turn of the event loop brings, within the peer's windows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from serving.http2.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    LARGEST_WINDOW,
    Code,
    Kind,
    ProtocolError,
)
from serving.http2.headers import Block
from serving.http2.stream import Stream

LONGEST_FRAME = 1 << 18
"""Bytes of a DATA frame, even if the peer takes longer ones: others have their turn in between."""

LARGE = 1 << 16
"""Bytes that are worth a write of their own and not a copy."""

Part = bytes | memoryview


class Turn:
    """The connections that have something to send in a turn of the event loop.

    Args:
        loop: whose turn it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._held = loop, False
        self._waiting: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Write for this connection at the end of the turn."""
        if not (self._waiting or self._held):
            self._loop.call_soon(self.end)
        self._waiting.append(sender)

    def hold(self) -> None:
        """Whoever calls this calls `end` as well."""
        self._held = True

    def end(self) -> None:
        """Write."""
        self._held = False
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            sender.flush()


class Sender:
    """The sending half of a connection.

    Args:
        turn: that tells when to write.

    Attributes:
        window: bytes that the peer takes on all streams.
        initial: bytes that it takes on a new one.
        frame_bytes: of the longest frame that it takes.
        is_paused: the transport holds more than it should already.
        queued_bytes: of answers that wait for the peer's windows.
    """

    def __init__(self, turn: Turn) -> None:
        self.window = self.initial = DEFAULT_WINDOW
        self.frame_bytes = DEFAULT_FRAME_BYTES
        self.is_paused = False
        self.queued_bytes = 0
        self.transport: asyncio.Transport | None = None
        self._turn = turn
        self._out: list[Part] = []
        self._is_waiting = False
        # Streams with queued data: those that may send, in their order, and those whose own window is used up, which
        # nobody looks at until it opens: the peer could make that dear.
        self._ready: OrderedDict[int, Stream] = OrderedDict()
        self._stuck: dict[int, Stream] = {}

    def _soon(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._turn.add(self)

    def control(self, frame: bytes) -> None:
        """A frame that no window holds back."""
        self._out.append(frame)
        self._soon()

    def headers(self, stream: Stream, block: Block) -> None:
        """Headers that come before any data of their stream."""
        self._out += (block.head, stream.number.to_bytes(4, "big"), block.content)
        self._soon()

    def answer(self, stream: Stream, head: Block, prefix: bytes, body: bytes, tail: Block) -> bool:
        """A whole answer.

        Args:
            stream: that it belongs to.
            head: its headers.
            prefix: of the body.
            body: its data.
            tail: its trailers.

        Returns:
            Whether nothing of it has to wait for the peer.
        """
        size = len(prefix) + len(body)
        number = stream.number.to_bytes(4, "big")
        if (
            size > self.window
            or size > self.initial + stream.delta
            or size > self.frame_bytes
            or size > LARGE
            or self._ready
            or self.is_paused
        ):
            self._out += (head.head, number, head.content)
            self.data(stream, prefix, body)
            return self.close(stream, tail)
        self.window -= size
        self._out += (
            head.head, number, head.content, size.to_bytes(3, "big"), b"\0\0", number, prefix, body, tail.head, number,
            tail.content,
        )  # fmt: skip
        if not self._is_waiting:
            self._is_waiting = True
            self._turn.add(self)
        return True

    def data(self, stream: Stream, *parts: bytes) -> None:
        """Data of a stream, when the peer takes it."""
        if stream.queued is None:
            stream.queued = deque()
        for part in parts:
            if part:
                stream.queued.append(memoryview(part))
                stream.queued_bytes += len(part)
                self.queued_bytes += len(part)
        if stream.number not in self._stuck:
            self._ready[stream.number] = stream
            self.pump()

    def close(self, stream: Stream, tail: Block) -> bool:
        """Trailers behind a stream's data; whether they are on their way."""
        if stream.queued:
            stream.tail = tail
            return False
        self.headers(stream, tail)
        return True

    def forget(self, stream: Stream) -> None:
        """Drop what waits."""
        self._ready.pop(stream.number, None)
        self._stuck.pop(stream.number, None)
        self.queued_bytes -= stream.queued_bytes
        stream.queued, stream.queued_bytes, stream.tail = None, 0, None

    def widened(self, stream: Stream) -> None:
        """The window of a stream has opened."""
        if stream.number in self._stuck and self.initial + stream.delta > 0:
            self._ready[stream.number] = self._stuck.pop(stream.number)
            self.pump()

    def all_widened(self) -> None:
        """The windows of all streams may have opened."""
        for stream in list(self._stuck.values()):
            self.widened(stream)

    def pump(self) -> None:
        """Send what the windows allow, a frame of each stream in turn."""
        while self._ready and self.window > 0 and not self.is_paused:
            _, stream = self._ready.popitem(last=False)
            self._send_frame(stream)

    def _send_frame(self, stream: Stream) -> None:
        """The next DATA frame of a stream, if its window allows one."""
        own = self.initial + stream.delta
        if own <= 0:
            self._stuck[stream.number] = stream
            return
        if not stream.queued:
            return
        room = min(self.window, own, self.frame_bytes, LONGEST_FRAME)
        parts: list[memoryview] = []
        size = 0
        while stream.queued and size < room:
            part = stream.queued.popleft()
            if len(part) > room - size:
                stream.queued.appendleft(part[room - size :])
                part = part[: room - size]
            parts.append(part)
            size += len(part)
        self.window -= size
        stream.delta -= size
        stream.queued_bytes -= size
        self.queued_bytes -= size
        number = stream.number.to_bytes(4, "big")
        self._out += (size.to_bytes(3, "big"), bytes((Kind.DATA, 0)), number, *parts)
        if size >= LARGE:
            # Now and not at the end of the turn: the transport says when it has enough.
            self.flush()
        else:
            self._soon()
        if stream.queued:
            self._ready[stream.number] = stream
        else:
            self._emptied(stream)

    def _emptied(self, stream: Stream) -> None:
        if stream.tail is not None:
            self.headers(stream, stream.tail)
            stream.tail = None
            stream.connection.answered(stream)
        else:
            stream.drained()

    def flush(self) -> None:
        """Write what there is."""
        self._is_waiting = False
        out, self._out = self._out, []
        if self.transport is None or not out:
            return
        small: list[Part] = []
        for part in out:
            if len(part) < LARGE:
                small.append(part)
                continue
            self.transport.write(b"".join(small))
            small.clear()
            self.transport.write(part)
        if small:
            self.transport.write(b"".join(small))

    def grow(self, size: int) -> None:
        """The peer takes more on the connection.

        Raises:
            ProtocolError: than any window can be.
        """
        self.window += size
        if self.window > LARGEST_WINDOW:
            raise ProtocolError(
                Code.FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes the connection's window too large"
            )
        self.pump()
