"""Calls on grpcio's threaded server: errors as its status codes, and threads of their own for calls that stay open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving.grpc_calls import ending_of, too_many

Context = grpc.ServicerContext

REFUSING = 4
"""Threads that are kept for saying no to calls over the limit."""


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
