"""Kinds of gRPC calls: one message or several, answered at once, by a model, or whenever something changes."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from grpc_health.v1 import health_pb2

from serving.errors import Unimplemented
from serving.grpc_call import Call
from serving.grpc_framing import PREFIX, Message
from serving.grpc_handlers import stream_answer
from serving.grpc_services import WATCH_SECONDS, health_of

INLINE_BYTES = 1 << 16
"""Longer messages are read and written off the event loop: others would wait for milliseconds and more."""

QUEUED_MESSAGES = 2
"""Requests of a stream that wait beside the one that runs; the peer may not send more until one is through."""

QUEUED_BYTES = 1 << 20
"""Answers of a stream that wait for the peer, beyond which no more of its requests are looked at."""

MESSAGES_A_TURN = 32
"""Of a stream, before others have their turn."""


class UnaryCall(Call):
    """A request and an answer."""

    __slots__ = ("message",)

    def opened(self) -> None:
        """Wait for the message."""
        self.message: Message | None = None
        super().opened()

    def take(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """Most requests come in one piece."""
        size = stop - start - PREFIX.size
        if (
            ended
            and 0 <= size <= self.calls.max_message_bytes
            and self.deframer is None
            and not self.is_done
            and PREFIX.unpack_from(data, start) == (0, size)
        ):
            self.begin(data[stop - size : stop])
            return
        super().take(data, start, stop, ended)

    def received(self, message: Message) -> None:
        """Keep it until it is certain that there is no other."""
        if self.message is not None:
            raise Unimplemented("the call has more than one message; one is allowed")
        self.message = message

    def ended(self) -> None:
        """Answer."""
        if self.message is None:
            raise Unimplemented("the call has no message; one is needed")
        message, self.message = self.message, None
        if message.is_compressed:
            self.calls.work(self, partial(self._unpacked, message), self.concluded)
        else:
            self.begin(message.content)

    def _unpacked(self, message: Message) -> bytes:
        return self.route.handler(self.content_of(message), self)

    def begin(self, content: bytes) -> None:
        """Answer a message: at once if that takes no time, else on another thread."""
        work = partial(self.route.handler, content, self)
        if not self.route.is_quick:
            self.calls.work(self, work, self.concluded)
            return
        try:
            self.conclude(work())
        except Exception as error:
            self.fail(error)

    def concluded(self, found: bytes | Exception) -> None:
        """The answer is there."""
        self.pending = None
        if isinstance(found, Exception):
            self.fail(found)
        else:
            self.conclude(found)


class InferCall(UnaryCall):
    """ModelInfer."""

    __slots__ = ()

    def begin(self, content: bytes) -> None:
        """Ask the model."""
        self.calls.infer(self, content, self.concluded)


class LongCall(Call):
    """A call that stays open; there may be only so many."""

    __slots__ = ("is_counted",)
    what: str

    def opened(self) -> None:
        """Count it."""
        self.is_counted = False
        super().opened()
        if self.is_done:
            return
        try:
            self.calls.enter(self)
        except Exception as error:
            self.fail(error)
            return
        self.is_counted = True
        self.calls.arm(self, self.deadline)

    def release(self) -> None:
        """Count it no more."""
        super().release()
        if self.is_counted:
            self.is_counted = False
            self.calls.leave(self)


class QueueCall(LongCall):
    """Several messages, each answered after the one before it, and only while the peer takes the answers."""

    __slots__ = ("has_all", "is_advancing", "is_busy", "queue", "unpaid")
    what = "streams"

    def opened(self) -> None:
        """Wait for messages."""
        self.queue: deque[Message] = deque()
        self.unpaid = 0
        self.has_all = self.is_advancing = self.is_busy = False
        super().opened()

    def received(self, message: Message) -> None:
        """Queue it."""
        self.queue.append(message)
        self.advance()

    def ended(self) -> None:
        """Finish once all is answered."""
        self.has_all = True
        self.advance()

    def paid(self, size: int) -> None:
        """Let the peer send no more than can be held."""
        if len(self.queue) > QUEUED_MESSAGES:
            self.unpaid += size
        else:
            super().paid(size + self.unpaid)
            self.unpaid = 0

    def drained(self) -> None:
        """The peer has taken its answers: go on with its requests."""
        self.advance()

    def release(self) -> None:
        """Forget what waits."""
        super().release()
        self.queue.clear()

    def advance(self) -> None:
        """Answer the next messages."""
        if self.is_advancing:
            return
        self.is_advancing = True
        for _ in range(MESSAGES_A_TURN):
            if self.is_busy or self.is_done or not self.queue or self.queued_bytes > QUEUED_BYTES:
                break
            message = self.queue.popleft()
            self.is_busy = True
            self.keep(-len(message.content))
            self.start(message)
            self.paid(0)
        else:
            self.calls.loop.call_soon(self.advance)
        self.is_advancing = False
        if self.has_all and not self.queue and not self.is_busy:
            self.finish()

    def start(self, message: Message) -> None:
        """Answer a message; `answered` hears the answer."""

    def answered(self, found: bytes | Exception) -> None:
        """An answer is there, or a reason why the stream cannot go on."""
        if isinstance(found, Exception):
            self.fail(found)
            return
        self.is_busy = False
        self.send(found)
        self.advance()


class StreamCall(QueueCall):
    """ModelStreamInfer; what is wrong with a request is an answer and does not end the stream."""

    __slots__ = ("content",)

    def start(self, message: Message) -> None:
        """Ask the model."""
        if message.is_compressed or len(message.content) > INLINE_BYTES:
            self.calls.work(self, partial(self._whole, message), self.answered)
            return
        self.content = message.content
        self.calls.infer(self, message.content, self._found)

    def _whole(self, message: Message) -> bytes:
        """The answer of a message, on another thread."""
        content = self.content_of(message)
        try:
            return stream_answer(content, self.route.handler(content, self))
        except Exception as error:
            return stream_answer(content, error)

    def _found(self, found: bytes | Exception) -> None:
        self.pending = None
        content, self.content = self.content, b""
        work = partial(stream_answer, content, found)
        if isinstance(found, bytes) and len(found) > INLINE_BYTES:
            self.calls.work(self, work, self.answered)
        else:
            self.answered(work())


class EachCall(QueueCall):
    """A stream whose messages are answered at once: reflection."""

    __slots__ = ()

    def start(self, message: Message) -> None:
        """Answer it."""
        try:
            self.answered(self.route.handler(self.content_of(message), self))
        except Exception as error:
            self.answered(error)


class WatchCall(LongCall):
    """Watch of the health service: the state whenever it changes."""

    __slots__ = ("last", "service", "watch")
    what = "watches"

    def opened(self) -> None:
        """Wait for the message."""
        self.last: object = None
        self.service: str | None = None
        self.watch: asyncio.TimerHandle | None = None
        super().opened()

    def received(self, message: Message) -> None:
        """Begin."""
        if self.service is not None:
            raise Unimplemented("the call has more than one message; one is allowed")
        self.service = health_pb2.HealthCheckRequest.FromString(self.content_of(message)).service
        self.look()

    def ended(self) -> None:
        """The request is complete."""
        if self.service is None:
            raise Unimplemented("the call has no message; one is needed")

    def look(self) -> None:
        """Say what has changed, and look again later."""
        found = health_of(self.calls.dataplane, self.service or "")
        if found != self.last:
            self.last = found
            self.send(found.SerializeToString())
        self.watch = self.calls.loop.call_later(WATCH_SECONDS, self.look)

    def release(self) -> None:
        """Look no more."""
        super().release()
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
