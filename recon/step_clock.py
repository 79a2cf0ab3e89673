"""CPU time of the steps of a chain."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax


class StepClock:
    """CPU seconds of the steps of one event; waits for each step, so that its time is its own.

    Attributes:
        seconds: by step, of the last event.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin an event."""
        self.seconds = {}
        self._last = time.process_time()

    def __call__(self, step: str, result: Any) -> None:
        """Book the time since the last step."""
        jax.block_until_ready(result)
        now = time.process_time()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now


def mean_seconds(events: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean time of every step over events; a step that an event lacks took none."""
    total: dict[str, float] = defaultdict(float)
    for event in events:
        for step, cpu in event.items():
            total[step] += cpu / len(events)
    return dict(total)


class Compilations:
    """Counts what JAX traces and compiles, so that a time can be told from that of a first call.

    Example:
        >>> import jax
        >>> with Compilations() as compilations:
        ...     _ = jax.jit(lambda x: 3 * x + 1)(2.0)
        >>> compilations.count > 0
        True
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: Any) -> None:
        self.count += event.startswith("/jax/core/compile/")
