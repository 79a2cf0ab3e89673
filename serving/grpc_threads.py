"""Calls on grpcio's threaded server: errors as its status codes, and threads of their own for calls that stay open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc

from serving.errors import Overloaded
from serving.grpc_calls import ending_of, too_many

Context = grpc.ServicerContext

REFUSING = 4
"""Threads that are kept for saying no to calls over the limit."""

SMOOTHING = 32
"""Calls over which the time of one is averaged."""


def guarded(method: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
    """Turn errors into status codes."""

    def call(request: Any, context: Context) -> Any:
        try:
            return method(request, context)
        except Exception as error:
            abort(error, context)

    return call


def abort(error: Exception, context: Context) -> None:
    """End a call with the status of an error; raises."""
    ending = ending_of(error)
    context.set_trailing_metadata(ending.trailers)
    context.abort(getattr(grpc.StatusCode, ending.code), ending.text)


class CountedThreads(ThreadPoolExecutor):
    """Threads that know how many calls wait for them, and how long a call takes."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="grpc")
        self.size, self.waiting, self._seconds = threads, 0, 0.0
        self._count = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call on the next free thread."""
        with self._count:
            self.waiting += 1
        return super().submit(self._run, fn, *args, **kwargs)

    def retry_after(self) -> float:
        """Seconds in which half of the calls that wait should be gone."""
        return min(10.0, max(0.01, self._seconds * self.waiting / (2 * self.size)))

    def _run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._count:
            self.waiting -= 1
        started = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            # Threads may overwrite each other's sum: it is a hint.
            self._seconds += (time.perf_counter() - started - self._seconds) / SMOOTHING


class BoundedCalls(grpc.GenericRpcHandler):
    """Refuses calls while too many wait for a thread, and says when to come back; grpcio's own limit cannot.

    Args:
        calls: the service.
        threads: that run its calls with one answer.
        limit: of those that wait.
    """

    def __init__(self, calls: grpc.GenericRpcHandler, threads: CountedThreads, limit: int) -> None:
        self._calls, self._threads, self._limit = calls, threads, limit
        self._pool = ThreadPoolExecutor(REFUSING, thread_name_prefix="grpc-refusing")

        def refuse(request: Any, context: Context) -> None:
            text = f"the queue of calls is full: {limit} wait for one of {threads.size} threads"
            abort(Overloaded(text, threads.retry_after()), context)

        # grpcio looks for this name on the function.
        refuse.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        self._refusal: grpc.RpcMethodHandler = grpc.unary_unary_rpc_method_handler(refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The method, or a refusal in its place; called on the thread that takes calls from the network."""
        handler = self._calls.service(handler_call_details)
        if handler is None or handler.response_streaming or self._threads.waiting < self._limit:
            return handler
        return self._refusal

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False)


class LongCalls:
    """Threads for calls that stay open, such as streams: idle ones must not take those of the other calls.

    Args:
        limit: calls at the same time; more are refused.
        what: they are, for the error.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self._what = what
        self._open = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(limit + REFUSING, thread_name_prefix=f"grpc-{what}")

    def run(self, method: Callable[[Any, Context], Iterator[Any]]) -> Callable[[Any, Context], Iterator[Any]]:
        """The method on threads of its own."""

        def call(request: Any, context: Context) -> Iterator[Any]:
            with self._lock:
                self._open += 1
                is_over = self._open > self.limit
            try:
                if is_over:
                    abort(too_many(self.limit, self._what), context)
                yield from method(request, context)
            finally:
                with self._lock:
                    self._open -= 1

        # grpcio looks for this name on the function.
        call.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        return call

    def close(self) -> None:
        """Let the threads go once their calls have ended."""
        self._pool.shutdown(wait=False)
