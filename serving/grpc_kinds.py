"""Kinds of gRPC calls: one message or several, answered at once, by a model, or whenever something changes."""

from __future__ import annotations

import asyncio
from functools import partial

from grpc_health.v1 import health_pb2

from serving.grpc_call import Call
from serving.grpc_framing import PREFIX, Message
from serving.grpc_handlers import stream_answer
from serving.grpc_services import WATCH_SECONDS, health_of
from serving.protocol.tensors import parse

INLINE_BYTES = 1 << 16
"""Longer messages are read and written off the event loop: others would wait for milliseconds and more."""

QUEUED_BYTES = 1 << 20
"""Answers of a stream that wait for the peer, beyond which no more of its requests are looked at."""

MESSAGES_A_TURN = 32
"""Of a stream, before others have their turn."""


class UnaryCall(Call):
    """A request and an answer."""

    __slots__ = ()

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

    def proceed(self) -> None:
        """Answer the message once all is here."""
        message = self.only_message()
        if message is None:
            return
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
        self.settle()
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
        self.calls.arm(self)

    def release(self) -> None:
        """Count it no more."""
        super().release()
        if self.is_counted:
            self.is_counted = False
            self.calls.leave(self)


class QueueCall(LongCall):
    """Several messages, each answered after the one before it, and only while the peer takes the answers."""

    __slots__ = ("is_advancing", "is_busy", "unpaid")
    what = "streams"

    def opened(self) -> None:
        """Wait for messages."""
        self.unpaid = 0
        self.is_advancing = self.is_busy = False
        super().opened()

    def paid(self, size: int) -> None:
        """Let the peer send more while no whole message waits."""
        self.unpaid += size
        if self.deframer is None or not self.deframer.is_ready():
            super().paid(self.unpaid)
            self.unpaid = 0

    def drained(self) -> None:
        """The peer has taken its answers: go on with its requests."""
        self.advance()

    def proceed(self) -> None:
        """Answer the next messages."""
        if self.is_advancing:
            return
        self.is_advancing = True
        try:
            for _ in range(MESSAGES_A_TURN):
                if self.is_busy or self.is_done or self.queued_bytes > QUEUED_BYTES:
                    return
                message = self.next_message()
                if message is None:
                    break
                self.is_busy = True
                self.keep(-len(message.content) - PREFIX.size)
                self.start(message)
            else:
                self.calls.loop.call_soon(self.advance)
                return
        finally:
            self.is_advancing = False
        if self.has_ended:
            self.finish()

    def advance(self) -> None:
        """Go on after an answer."""
        try:
            self.proceed()
            if not self.is_done:
                self.paid(0)
        except Exception as error:
            self.fail(error)

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
        self.settle()
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
        self.service = ""
        self.watch: asyncio.TimerHandle | None = None
        super().opened()

    def proceed(self) -> None:
        """Begin once the message is here."""
        message = None if self.watch is not None else self.only_message()
        if message is not None:
            request = parse(health_pb2.HealthCheckRequest, self.content_of(message), "the request")
            self.service = request.service
            self.look()

    def look(self) -> None:
        """Say what has changed, and look again later."""
        found = health_of(self.calls.dataplane, self.service)
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
