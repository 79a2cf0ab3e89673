"""All calls of the gRPC front on asyncio: which there are, what they may hold, and how other threads help them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from serving.batching import Scheduler
from serving.dataplane import Dataplane
from serving.errors import MessageTooLarge, Overloaded, ServingError, Unimplemented
from serving.grpc_call import Call, Head
from serving.grpc_calls import Context, ending_of, too_many
from serving.grpc_framing import CODINGS, timeout_of, trailers
from serving.grpc_handlers import Handlers
from serving.grpc_kinds import INLINE_BYTES, LongCall, UnaryCall
from serving.grpc_services import OPEN
from serving.http2.connection import Connection
from serving.http2.headers import Headers, block
from serving.http2.limits import Limits
from serving.http2.sending import Turn
from serving.http2.session import Session
from serving.protocol.codec import build_response
from serving.security import check_token
from serving.types import InferResponse

log = logging.getLogger(__name__)

Found = bytes | Exception
End = Callable[[Found], None]


class Route(NamedTuple):
    """A method of a service.

    Attributes:
        kind: of its calls.
        handler: answers a message.
        is_quick: it takes no time to speak of, so that the event loop may wait for it.
    """

    kind: type[Call]
    handler: Callable[[bytes, Context], bytes]
    is_quick: bool = False


class Calls:
    """The server, as connections and calls see it; on the event loop where nothing else is said.

    Args:
        loop: the event loop.
        dataplane: that answers.
        routes: methods by path.
        limits: of a connection.
        threads: for what takes time.
        waiting: calls that may wait for such a thread; the rest is refused.
        open_calls: most calls that stay open, by what they are.
        token: that callers must send; `None` for none.
        max_message_bytes: longest request.
        max_held_bytes: of requests that are arriving or wait, all together.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dataplane: Dataplane,
        routes: dict[bytes, Route],
        *,
        limits: Limits,
        threads: int,
        waiting: int,
        open_calls: dict[str, int],
        token: str | None,
        max_message_bytes: int,
        max_held_bytes: int,
    ) -> None:
        self.loop, self.dataplane, self.routes, self.limits = loop, dataplane, routes, limits
        self.turn = Turn(loop)
        self.connections: set[Session] = set()
        self.max_message_bytes = max_message_bytes
        self.handlers = Handlers(dataplane)
        self.thread = 0
        self._token, self._max_held_bytes, self._held = token, max_held_bytes, 0
        self._limits, self._open = open_calls, Counter[str]()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._working, self._most_working = 0, threads + waiting
        self._touched: dict[Scheduler, None] = {}
        self._fresh: list[Call] = []
        self._done: deque[tuple[End, Found]] = deque()
        self._is_woken = False

    def connection(self) -> Connection:
        """A new connection."""
        return Connection(self)

    # What the connections ask.

    def head(self, headers: Headers, size: int) -> Head:
        """What the headers of a call say."""
        values = dict(headers)
        if values[b":method"] != b"POST":
            return Head(None, refusal=block([(b":status", b"405"), (b"allow", b"POST")], ends=True))
        if not values.get(b"content-type", b"").startswith(b"application/grpc"):
            return Head(None, refusal=block([(b":status", b"415")], ends=True))
        try:
            return self._head(values, size)
        except ServingError as error:
            return Head(None, refusal=trailers(ending_of(error), alone=True))

    def _head(self, values: dict[bytes, bytes], size: int) -> Head:
        if size > self.limits.header_bytes:
            raise MessageTooLarge(f"headers of {size} bytes; {self.limits.header_bytes} are allowed")
        path = values[b":path"]
        route = self.routes.get(path)
        if route is None:
            raise Unimplemented(f"there is no method {path.decode(errors='replace')[:200]!r}")
        if not path.decode().startswith(OPEN):
            header = values.get(b"authorization")
            check_token(self._token, None if header is None else header.decode(errors="replace"))
        coding = values.get(b"grpc-encoding", b"identity")
        if coding not in CODINGS:
            allowed = ", ".join(known.decode() for known in CODINGS)
            raise Unimplemented(f"grpc-encoding is {coding.decode('latin-1')!r}; {allowed} are allowed")
        return Head(route, timeout_of(values.get(b"grpc-timeout")), coding)

    def stream(self, connection: Session, number: int, head: Head) -> Call:
        """A new call."""
        kind = UnaryCall if head.route is None else head.route.kind
        return kind(connection, number, head, self)

    # What the calls ask.

    def hold(self, size: int) -> None:
        """Count bytes of requests that are arriving or wait, other than those that came whole and small.

        Raises:
            Overloaded: all of them together are too many.
        """
        self._held += size
        if size > 0 and self._held > self._max_held_bytes:
            raise Overloaded(f"requests hold the {self._max_held_bytes} bytes already that are allowed")

    def enter(self, call: LongCall) -> None:
        """Count a call that stays open.

        Raises:
            Overloaded: there are enough of them.
        """
        if self._open[call.what] >= self._limits[call.what]:
            raise too_many(self._limits[call.what], call.what)
        self._open[call.what] += 1

    def leave(self, call: LongCall) -> None:
        """A call that stayed open has ended."""
        self._open[call.what] -= 1

    def arm(self, call: Call) -> None:
        """End a call when its time is over."""
        if call.deadline is not None and call.timer is None and not call.is_done:
            call.timer = self._at(call.deadline, call.expire)

    def _arm_waiting(self, call: Call) -> None:
        """The same for a request that has not run at once."""
        pending = call.pending
        if pending is None or pending.deadline is None or call.waiting is not None:
            return
        self.arm(call)
        if call.deadline is None or pending.deadline < call.deadline:
            call.waiting = self._at(pending.deadline, call.expire_waiting)

    def _at(self, when: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        # The clock of the loops is that of `time.monotonic`.
        return self.loop.call_later(max(0.0, when - self.loop.time()), function)

    def infer(self, call: Call, content: bytes, end: End) -> None:
        """Ask a model; what one turn of the loop brings is run together.

        Args:
            call: that asks.
            content: a ModelInferRequest.
            end: hears a ModelInferResponse or an error, on the loop.
        """
        if len(content) > INLINE_BYTES:
            self.work(call, partial(self.handlers.infer, content, call), end)
            return
        try:
            request = self.handlers.request(content, call)
            scheduler, pending = self.dataplane.enqueue(request, partial(self._inferred, end))
        except Exception as error:
            end(error)
            return
        call.scheduler, call.pending = scheduler, pending
        if request.deadline is not None:
            self._fresh.append(call)
        self._touch(scheduler)

    def _inferred(self, end: End, found: InferResponse | Exception) -> None:
        """On whatever thread ran the model: turn its answer into bytes, and end the call on the loop."""
        answer: Found
        try:
            answer = found if isinstance(found, Exception) else build_response(found)
        except Exception as error:
            answer = error
        if threading.get_ident() == self.thread:
            end(answer)
        else:
            self._deliver(end, answer)

    def _touch(self, scheduler: Scheduler) -> None:
        if not self._touched:
            self.loop.call_soon(self._kick)
        self._touched[scheduler] = None

    def _kick(self) -> None:
        """Run what the turn brought."""
        self.turn.hold()
        try:
            touched, self._touched = self._touched, {}
            for scheduler in touched:
                self._kick_one(scheduler)
            fresh, self._fresh = self._fresh, []
            for call in fresh:
                self._arm_waiting(call)
        finally:
            self.turn.end()

    def _kick_one(self, scheduler: Scheduler) -> None:
        try:
            if scheduler.kick():
                self._touch(scheduler)
        except Exception:
            log.exception("unexpected error while a model ran; other models go on")

    def work(self, call: Call, function: Callable[[], bytes], end: End) -> None:
        """Call a function on another thread.

        Args:
            call: that needs it.
            function: what takes time.
            end: hears its answer or its error, on the loop.
        """
        if self._working >= self._most_working:
            end(Overloaded(f"{self._working} calls run or wait for a thread already, no more are allowed"))
            return
        self._working += 1
        self.arm(call)
        self._pool.submit(self._work, function, end)

    def _work(self, function: Callable[[], bytes], end: End) -> None:
        answer: Found
        try:
            answer = function()
        except Exception as error:
            answer = error
        self._deliver(partial(self._worked, end), answer)

    def _worked(self, end: End, found: Found) -> None:
        self._working -= 1
        end(found)

    def _deliver(self, end: End, found: Found) -> None:
        """On any thread: end a call on the loop, which is woken once for all that are there."""
        self._done.append((end, found))
        if not self._is_woken:
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                log.debug("an answer came after the end of the event loop")

    def _collect(self) -> None:
        # In this order: who comes after the last look wakes the loop again.
        self._is_woken = False
        self.turn.hold()
        try:
            while self._done:
                end, found = self._done.popleft()
                end(found)
        finally:
            self.turn.end()

    # The end.

    def fail_all(self, error: Exception, *, what: str | None = None) -> None:
        """End all calls, or those that stay open and are called so."""
        for connection in list(self.connections):
            for call in list(connection.streams.values()):
                if isinstance(call, Call) and what in (None, getattr(call, "what", "")):
                    call.fail(error)

    def close(self) -> None:
        """Start no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
