"""What a model has done: the numbers behind ModelStatistics and /metrics."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from serving.errors import status_of
from serving.runner import Run
from serving.types import BatchStatistics, Duration, ModelStatistics

Tally = list[int]
"""[count, ns]"""


def _tally() -> Tally:
    return [0, 0]


def _phases() -> tuple[Tally, ...]:
    """Of input, inference and output."""
    return _tally(), _tally(), _tally()


def _add(tally: Tally, ns: int, count: int = 1) -> None:
    tally[0] += count
    tally[1] += ns


def _add_phases(tallies: Sequence[Tally], run: Run, count: int) -> None:
    given, inferred, taken = tallies
    given[0] += count
    given[1] += run.input_ns
    inferred[0] += count
    inferred[1] += run.infer_ns
    taken[0] += count
    taken[1] += run.output_ns


class StatisticsRecorder:
    """Counts what happens to the requests of one version of a model; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = self._inferences = self._executions = 0
        self._success, self._queue = _tally(), _tally()
        self._phases = _phases()
        self._fail: dict[str, Tally] = {}
        self._batches: defaultdict[int, tuple[Tally, Tally, Tally]] = defaultdict(
            lambda: (_tally(), _tally(), _tally())
        )

    def executed(self, run: Run, rows: int, queued_ns: int, total_ns: int) -> None:
        """One execution was answered.

        Args:
            run: its phases.
            rows: inferences in it.
            queued_ns: waiting time of its requests, summed.
            total_ns: time from arrival to answer of its requests, summed.
        """
        requests = len(run.outputs)
        with self._lock:
            self._last = time.time_ns()
            self._inferences += rows
            self._executions += 1
            _add(self._success, total_ns, requests)
            _add(self._queue, queued_ns, requests)
            _add_phases(self._phases, run, requests)
            _add_phases(self._batches[rows], run, 1)

    def failed(self, error: BaseException, ns: int) -> None:
        """A request was refused or failed after a time."""
        with self._lock:
            _add(self._fail.setdefault(status_of(error).reason, _tally()), ns)

    def seconds_a_request(self) -> float:
        """Time in the compiled program, a request."""
        count, ns = self._phases[1]
        return ns / max(1, count) / 1e9

    def snapshot(self, name: str, version: str, pending: int) -> ModelStatistics:
        """The numbers now."""
        with self._lock:
            return ModelStatistics(
                name=name,
                version=version,
                last_inference=self._last // 1_000_000,
                inference_count=self._inferences,
                execution_count=self._executions,
                success=Duration(*self._success),
                fail={reason: Duration(*tally) for reason, tally in self._fail.items()},
                queue=Duration(*self._queue),
                compute_input=Duration(*self._phases[0]),
                compute_infer=Duration(*self._phases[1]),
                compute_output=Duration(*self._phases[2]),
                batches=tuple(
                    BatchStatistics(
                        batch_size=size,
                        compute_input=Duration(*phases[0]),
                        compute_infer=Duration(*phases[1]),
                        compute_output=Duration(*phases[2]),
                    )
                    for size, phases in sorted(self._batches.items())
                ),
                pending=pending,
            )
