"""One request and its answer."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.http2.headers import Block
    from serving.http2.session import Session


class Stream:
    """A stream of a connection; the server's own kind of stream overrides what it wants to hear.

    Attributes:
        connection: that it belongs to.
        number: of the stream.
        head: what the server made of the request's headers.
        has_ended: the peer has sent everything.
        is_open: the answer has not ended, and the peer waits for it.
        delta: bytes that may be sent beyond the peer's initial window.
        window: bytes that the peer may send.
        owed: bytes that it may send but has not been told of.
        queued: what waits for the peer's windows, in its order.
        tail: the trailers behind it.
    """

    __slots__ = (
        "connection", "delta", "has_ended", "head", "is_open", "number", "owed", "queued", "queued_bytes",
        "tail", "window",
    )  # fmt: skip

    def __init__(self, connection: Session, number: int, head: Any) -> None:
        self.connection, self.number, self.head = connection, number, head
        self.has_ended, self.is_open = False, True
        self.delta = self.queued_bytes = self.owed = 0
        self.window = connection.limits.window
        self.queued: deque[memoryview] | None = None
        self.tail: Block | None = None

    def opened(self) -> None:
        """The request's headers are here."""

    def take(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """A part of the request's body is here.

        Args:
            data: that holds it.
            start: of the part.
            stop: of the part.
            ended: whether it was the last one.
        """

    def lost(self) -> None:
        """The peer gave up, or the connection is gone."""

    def drained(self) -> None:
        """All that was queued has left."""

    def consumed(self, size: int) -> None:
        """Let the peer send so many bytes more."""
        self.connection.grant(self, size)
