"""A request in a model's queue: who waits for it, and what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from enum import Enum

import numpy as np

from serving.runner import Inputs, Sizes

Outputs = dict[str, np.ndarray]
End = Callable[[Outputs, Exception | None], None]
"""Hears a request's outputs or its error, on whatever thread ran it."""


class State(Enum):
    """Of a request; it changes under the scheduler's lock."""

    WAITING = 0
    RUNNING = 1
    DROPPED = 2


class Pending:
    """A request in the scheduler.

    Attributes:
        state: WAITING while it is in the queue.
        done: its outputs or its error are there.
        leads: its thread holds an instance and must run or free it.
        wake: held while the thread of the request sleeps; `None` if no thread waits for it.
    """

    __slots__ = (
        "arrived", "deadline", "done", "end", "error", "future", "inputs", "is_wanted", "leads", "outputs", "sizes",
        "state", "wake",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Inputs,
        sizes: Sizes,
        deadline: float | None,
        future: Future[Outputs] | None = None,
        end: End | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        self.inputs, self.sizes, self.deadline, self.future = inputs, sizes, deadline, future
        self.end, self.is_wanted = end, is_wanted
        self.arrived = time.perf_counter_ns()
        self.state = State.WAITING
        self.done = self.leads = False
        self.outputs: Outputs = {}
        self.error: Exception | None = None
        self.wake: threading.Lock | None = None
        if future is None and end is None:
            self.wake = threading.Lock()
            self.wake.acquire()

    def answer(self, outputs: Outputs, error: Exception | None) -> None:
        """Give the request its end; never under the scheduler's lock, a future runs its callbacks here."""
        self.outputs, self.error = outputs, error
        self.done = True
        if self.end is not None:
            self.end(outputs, error)
        elif self.future is None:
            self.rouse()
        else:
            # Cancelled, even in this moment: the caller has its end already.
            with suppress(InvalidStateError):
                self.future.set_result(outputs) if error is None else self.future.set_exception(error)

    def rouse(self) -> None:
        """Wake the thread, once for however many reasons."""
        if self.wake is not None:
            # Released already: two threads had a reason at the same time.
            with suppress(RuntimeError):
                self.wake.release()
