"""A gRPC call on a stream of HTTP/2: its messages, its deadline and its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.batching import Scheduler, given_up, too_late
from serving.errors import DeadlineExceeded, InferenceFailed, Overloaded, Unimplemented
from serving.grpc_calls import ending_of
from serving.grpc_framing import (
    HEADERS,
    OK,
    Deframer,
    Message,
    decompress,
    prefix_of,
    trailers,
)
from serving.http2.headers import Block
from serving.http2.session import Session
from serving.http2.stream import Stream
from serving.pending import Pending

if TYPE_CHECKING:
    from serving.grpc_async_calls import Calls, Route


@dataclass(frozen=True, slots=True)
class Head:
    """What the headers of a call say; the same for all calls with the same headers.

    Attributes:
        route: what is called; `None` if the call is refused.
        timeout: seconds.
        coding: of the messages.
        refusal: what the call ends with at once.
    """

    route: Route | None
    timeout: float | None = None
    coding: bytes = b"identity"
    refusal: Block | None = None


class Call(Stream):
    """A call of any kind; also the context that handlers are given.

    Attributes:
        calls: all calls of the front.
        deadline: on the clock of `time.monotonic`.
        has_begun: the headers of the answer are on their way.
        is_done: its end is on its way, or waits for the peer to take what is before it.
        kept: bytes of the request that are held here.
        scheduler: whose queue holds the request.
        pending: the request there.
        timer: that ends the call.
        waiting: timer that ends the waiting of the request: a message of a stream may have a time of its own.
    """

    __slots__ = (
        "calls",
        "deadline",
        "deframer",
        "has_begun",
        "is_done",
        "kept",
        "pending",
        "scheduler",
        "timer",
        "waiting",
    )
    head: Head

    def __init__(self, connection: Session, number: int, head: Head, calls: Calls) -> None:
        super().__init__(connection, number, head)
        self.calls = calls
        self.deadline = None if head.timeout is None else time.monotonic() + head.timeout
        self.deframer: Deframer | None = None
        self.has_begun = self.is_done = False
        self.kept = 0
        self.scheduler: Scheduler | None = None
        self.pending: Pending | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.waiting: asyncio.TimerHandle | None = None

    @property
    def route(self) -> Route:
        """What is called; a call without one is refused before anybody asks."""
        if self.head.route is None:
            raise InferenceFailed("the call was refused")
        return self.head.route

    # The context.

    def peer(self) -> str:
        """The caller's address as grpcio writes it."""
        if not self.connection.peer:
            return "unknown:"
        host, port = self.connection.peer
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; `None` for none."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def is_active(self) -> bool:
        """Whether the caller waits."""
        return self.is_open and not self.is_done

    # The request.

    def opened(self) -> None:
        """Refuse what can be refused already."""
        if self.head.refusal is not None:
            self._end(self.head.refusal)

    def take(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """Collect what came, and look whether it is enough."""
        if self.is_done:
            return
        try:
            if self.deframer is None:
                self.deframer = Deframer(self.calls.max_message_bytes)
                self.calls.arm(self)
            self.deframer.add(data[start:stop])
            self.keep(stop - start)
            self.proceed()
            if not self.is_done:
                self.paid(stop - start)
        except Exception as error:
            self.fail(error)

    def proceed(self) -> None:
        """Do what can be done with what is here; raises what ends the call."""

    def next_message(self) -> Message | None:
        """The next message that is complete.

        Raises:
            InferenceFailed: the rest of the request is none.
        """
        if self.deframer is None:
            return None
        message = self.deframer.next()
        if message is None and self.has_ended and not self.deframer.is_empty:
            raise InferenceFailed("the call ended inside a message")
        return message

    def only_message(self) -> Message | None:
        """The message of a call that has one, once it is certain that there is no other.

        Raises:
            Unimplemented: there is another, or none.
        """
        if not self.has_ended:
            if self.deframer is not None:
                # One that is too long is refused before it is here.
                self.deframer.is_ready()
            return None
        message = self.next_message()
        if message is None:
            raise Unimplemented("the call has no message; one is needed")
        if self.next_message() is not None:
            raise Unimplemented("the call has more than one message; one is allowed")
        return message

    def keep(self, size: int) -> None:
        """Count bytes of the request that are held here, or that no longer are.

        Raises:
            Overloaded: all calls together hold too many.
        """
        self.kept += size
        self.calls.hold(size)

    def paid(self, size: int) -> None:
        """So many bytes of the request were taken."""
        if not self.has_ended:
            self.consumed(size)

    def content_of(self, message: Message) -> bytes:
        """A message without its compression."""
        if not message.is_compressed:
            return message.content
        return decompress(message.content, self.head.coding, self.calls.max_message_bytes)

    # The answer.

    def send(self, message: bytes) -> None:
        """A message of an answer that has several, or may have."""
        if self.is_active():
            sender = self.connection.sender
            if not self.has_begun:
                self.has_begun = True
                sender.headers(self, HEADERS)
            sender.data(self, prefix_of(message), message)

    def finish(self) -> None:
        """End a call that went well."""
        if self.is_active():
            if not self.has_begun:
                self.connection.sender.headers(self, HEADERS)
            self._end(OK)

    def fail(self, error: Exception) -> None:
        """End a call that did not."""
        if self.is_active():
            self._end(trailers(ending_of(error), alone=not self.has_begun))

    def conclude(self, message: bytes) -> None:
        """End a call with its only message."""
        waiting = self.connection.sender.queued_bytes
        if waiting and waiting + len(message) > self.connection.limits.queued_bytes:
            self.fail(Overloaded(f"{waiting} bytes of answers wait for the caller to read them"))
        if self.is_active():
            self.release()
            self.is_done = True
            sender = self.connection.sender
            if sender.answer(self, HEADERS, prefix_of(message), message, OK):
                self.connection.answered(self)

    def _end(self, tail: Block) -> None:
        self.release()
        self.is_done = True
        if self.connection.sender.close(self, tail):
            self.connection.answered(self)

    def expire(self) -> None:
        """The call's deadline is over."""
        self.timer = None
        scheduler, pending = self.scheduler, self.pending
        self.settle()
        self.fail(DeadlineExceeded("the deadline was over before the answer was there"))
        if scheduler is not None and pending is not None:
            scheduler.withdraw(pending, too_late())

    def expire_waiting(self) -> None:
        """The request's deadline is over; if it runs already, its answer will do."""
        self.waiting = None
        if self.scheduler is not None and self.pending is not None:
            self.scheduler.withdraw(self.pending, too_late())

    def settle(self) -> None:
        """The request is no longer in a queue, or need not be."""
        self.pending = None
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None

    def lost(self) -> None:
        """The caller gave up."""
        self.is_done = True
        self.release()

    def release(self) -> None:
        """Let go of what the call holds."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.deframer = None
        if self.kept:
            self.keep(-self.kept)
        pending = self.pending
        self.settle()
        if pending is not None and self.scheduler is not None:
            self.scheduler.withdraw(pending, given_up())
