"""A future that follows another one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def mapped(inner: Future[Given], function: Callable[[Given], Result]) -> Future[Result]:
    """A future of `function(result)`; cancelling it cancels the one it follows.

    Args:
        inner: the future to follow; its error is the error of both.
        function: called on the thread that ends `inner`.
    """
    outer: Future[Result] = Future()

    def finish(done: Future[Given]) -> None:
        if not outer.set_running_or_notify_cancel():
            return
        try:
            outer.set_result(function(done.result()))
        except BaseException as error:  # whatever it was, the waiting side must hear of it
            outer.set_exception(error)

    outer.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
    inner.add_done_callback(finish)
    return outer
