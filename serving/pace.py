"""Whether a model is so swift that an event loop may wait for it."""

from __future__ import annotations

import resource

SWIFT_NS = 1_000_000
"""Longest execution that may hold up an event loop, on average."""

HOPELESS_NS = 50 * SWIFT_NS
"""An execution in the pool that took longer was not only held up by other threads."""

FIRST_TRY, LAST_TRY = 16, 4096
"""Executions in the pool before one is tried on the loop, at first and after many failed tries."""


def preemptions() -> int:
    """How often the machine took this thread off its core so far, where it can tell."""
    who = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if who is None else resource.getrusage(who).ru_nivcsw


class Pace:
    """How long executions of one size take.

    In a pool a thread waits for Python's interpreter, which the event loop holds: what is measured there is too long
    by several milliseconds. So from time to time one that looks slow is tried on the loop, where nothing is in its way.
    """

    __slots__ = ("_ns", "_patience", "_until_try")

    def __init__(self) -> None:
        self._ns = 0.0
        self._patience = self._until_try = FIRST_TRY

    def is_swift(self) -> bool:
        """Whether the next execution should be on the loop; the first never is."""
        if 0 < self._ns < SWIFT_NS:
            return True
        if not 0 < self._ns < HOPELESS_NS:
            return False
        self._until_try -= 1
        if self._until_try > 0:
            return False
        self._until_try = self._patience = min(2 * self._patience, LAST_TRY)
        return True

    def note(self, ns: int, *, here: bool, preempted: bool = False) -> None:
        """An execution took so long.

        Args:
            ns: from its start to its end.
            here: on the loop, not in the pool.
            preempted: another process had the core meanwhile, so that the time says little.
        """
        is_relief = here and ns < SWIFT_NS <= self._ns
        # Four runs forget a hiccup; on a busy machine hiccups are the rule, and must not drive a swift model away.
        weight = 1 / 32 if preempted else 1 / 4
        self._ns = ns if is_relief or not self._ns else self._ns + (ns - self._ns) * weight
        if is_relief:
            self._patience = self._until_try = max(FIRST_TRY, self._patience // 4)
