"""Deadlines of requests that no thread waits for: one clock a queue, asleep until the earliest of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Clock:
    """Calls a function when a deadline is over.

    Its thread begins with the first deadline: a queue whose callers all wait themselves never has one.

    Args:
        expire: ends what is late; returns the next deadline, on the clock of `time.monotonic`, or `None`.
        name: of the thread.
    """

    def __init__(self, expire: Callable[[], float | None], name: str) -> None:
        self._expire, self._name = expire, name
        self._changed = threading.Condition(threading.Lock())
        self._next: float | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def expect(self, deadline: float) -> None:
        """There is a request with this deadline."""
        with self._changed:
            if self._closed or (self._next is not None and self._next <= deadline):
                return
            self._next = deadline
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (self._next is None or self._next > time.monotonic()):
                    self._changed.wait(None if self._next is None else self._next - time.monotonic())
                if self._closed:
                    return
                self._next = None
            # Without the lock: it answers requests, and their callbacks may bring new ones with deadlines of their own.
            following = self._expire()
            if following is not None:
                self.expect(following)
