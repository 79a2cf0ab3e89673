"""The streams of a connection: what they may do, how they end, and how the connection does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from serving.http2 import frames
from serving.http2.frames import Code, Kind, ProtocolError
from serving.http2.headers import Headers
from serving.http2.limits import Allowance, Limits
from serving.http2.sending import Sender, Turn
from serving.http2.stream import Stream

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
"""What a peer gets to read the reason why its connection ends."""

KEPT_RESETS = 128
"""Streams that were reset here, of which the peer may not have heard yet."""


class Site(Protocol):
    """The server, as its connections see it."""

    limits: Limits
    turn: Turn
    loop: asyncio.AbstractEventLoop
    connections: set[Session]

    def head(self, headers: Headers, size: int) -> Any:
        """What the server needs to know of a request; kept for requests with the same headers."""

    def stream(self, connection: Session, number: int, head: Any) -> Stream:
        """A new stream."""


class Session(asyncio.Protocol):
    """What a connection knows, and how it and its streams end.

    Args:
        site: the server.

    Attributes:
        streams: that are open, by their number.
        last: number of the newest.
        sender: of the connection.
        is_leaving: no new streams are taken.
        is_over: nothing that comes is looked at.
        peer: address and port of the other side; empty if it has none.
    """

    transport: asyncio.Transport

    def __init__(self, site: Site) -> None:
        self.site, self.limits = site, site.limits
        self.sender = Sender(site.turn)
        self.streams: dict[int, Stream] = {}
        self.last = 0
        self.peer: tuple[str, int] | tuple[()] = ()
        self.is_leaving = self.is_over = False
        self._allowance = Allowance(site.limits.burst, site.limits.rate)
        self._window = site.limits.connection_window
        self._resets: dict[int, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pong: Callable[[], None] | None = None

    def _spend(self, what: str) -> None:
        """Count frames that bring nothing.

        Raises:
            ProtocolError: there were too many.
        """
        if not self._allowance.spend():
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, f"too many frames that bring nothing, at last {what}")

    def _refuse(self, number: int, code: Code) -> None:
        """Reset a stream that was never served. This counts: the peer made it happen."""
        self._spend("streams that are refused")
        self._remember(number)
        self.sender.control(frames.reset(number, code))

    def _break_off(self, number: int, code: Code) -> None:
        """End a stream that broke the rules."""
        stream = self.streams.get(number)
        self._refuse(number, code)
        if stream is not None:
            self._drop(stream)

    def _remember(self, number: int) -> None:
        self._resets[number] = None
        if len(self._resets) > KEPT_RESETS:
            del self._resets[next(iter(self._resets))]

    def _drop(self, stream: Stream) -> None:
        """Forget a stream whose peer does not want the rest."""
        self.streams.pop(stream.number, None)
        self.sender.forget(stream)
        if stream.is_open:
            stream.is_open = False
            stream.lost()
        self._leave_if_done()

    def _grant_connection(self) -> None:
        if self._window < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        self.sender.control(frames.window_update(0, self.limits.connection_window - self._window))
        self._window = self.limits.connection_window

    def _lose_streams(self) -> None:
        streams, self.streams = list(self.streams.values()), {}
        for stream in streams:
            self.sender.forget(stream)
            if stream.is_open:
                stream.is_open = False
                stream.lost()

    def grant(self, stream: Stream, size: int) -> None:
        """Let the peer send more on a stream, once it is worth a frame."""
        stream.owed += size
        if stream.owed >= self.limits.window >> 1 and not stream.has_ended:
            self.sender.control(frames.window_update(stream.number, stream.owed))
            stream.window += stream.owed
            stream.owed = 0

    def answered(self, stream: Stream) -> None:
        """The last of a stream is on its way to the peer."""
        stream.is_open = False
        self.streams.pop(stream.number, None)
        if not stream.has_ended:
            # The peer need not send the rest.
            self._remember(stream.number)
            self.sender.control(frames.reset(stream.number, Code.NO_ERROR))
        if self.is_leaving:
            self._leave_if_done()

    def fail(self, code: Code, reason: str) -> None:
        """End the connection and say why."""
        if not self.is_over:
            log.debug("an HTTP/2 connection ends: %s: %s", code.name, reason)
            self.sender.control(frames.goaway(self.last, code, reason[:200]))
            self._close()

    def _close(self) -> None:
        self.is_over = True
        self._stop_timer()
        self.sender.flush()
        self.sender.transport = None
        self._lose_streams()
        self.transport.close()
        self._timer = self.site.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def leave(self) -> None:
        """Ask the peer to go: it may still open streams until it has heard of it."""
        if self.is_over:
            return
        self.sender.control(frames.goaway(frames.LARGEST_STREAM, Code.NO_ERROR, "the server stops"))
        # The answer to this comes behind all that the peer sent before it knew.
        self._pong = self.leave_now
        self.sender.control(frames.frame(Kind.PING, 0, 0, b"goingoff"))

    def leave_now(self) -> None:
        """Take no more streams, and close once those that are here have ended."""
        if self.is_over or self.is_leaving:
            return
        self.is_leaving = True
        self.sender.control(frames.goaway(self.last, Code.NO_ERROR, "the server stops"))
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self.is_leaving and not self.streams and not self.is_over:
            self._close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
