"""The event loop of an experiment: events from a source, several on their way at once, results in order.

    source -> streams, each: acquire of every module -> produce of every module -> results, in the order of the source

A module hands work to somebody else in `acquire` and takes it back in `produce`; the stream that waits there lets
the others run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from recon.engines import Engine, Inputs, Outputs
from recon.errors import ConfigError, PipelineError

E = TypeVar("E")
Results = dict[str, Any]

AHEAD = 4
"""Events per stream that are read or done before their turn: a slow event does not stop the others behind it."""


@runtime_checkable
class Module(Protocol):
    """One step of the processing of an event; it is called from many threads, with one event at a time in each."""

    def acquire(self, event: Any) -> Any:
        """Start the work on an event; what is returned comes back in `produce`."""
        ...

    def produce(self, event: Any, state: Any) -> Any:
        """Wait for the work and return the result."""
        ...


@runtime_checkable
class Cancellable(Protocol):
    """A module whose work can be given up when the job ends early."""

    def cancel(self, state: Any) -> None:
        """Give up what `acquire` started."""


class EngineModule(Generic[E]):
    """A module that asks an engine.

    Args:
        engine: that answers.
        pack: event to inputs.
        unpack: (event, outputs) to result.
    """

    def __init__(
        self, engine: Engine, pack: Callable[[E], Inputs], unpack: Callable[[E, Outputs], Any]
    ) -> None:
        self._engine, self._pack, self._unpack = engine, pack, unpack

    def acquire(self, event: E) -> Any:
        """Send the inputs of an event."""
        return self._engine.acquire(self._pack(event))

    def produce(self, event: E, state: Any) -> Any:
        """Wait for the outputs."""
        return self._unpack(event, self._engine.produce(state))

    def cancel(self, state: Any) -> None:
        """Give the call up."""
        state.cancel()


@dataclass(kw_only=True)
class Report:
    """What a job did.

    Attributes:
        read: events from the source.
        done: events whose results were given out.
        seconds: from the first event to the last result.
        acquire_seconds: in `acquire`, by module, summed over the streams.
        wait_seconds: in `produce`, by module, summed over the streams.
    """

    read: int = 0
    done: int = 0
    seconds: float = 0.0
    acquire_seconds: dict[str, float] = field(default_factory=dict)
    wait_seconds: dict[str, float] = field(default_factory=dict)


class Job(Generic[E]):
    """Events through modules, each event's modules side by side.

    Args:
        source: the events; read on the thread that iterates over `results`.
        modules: by name; independent of each other.
        streams: events on their way at once.

    Raises:
        ConfigError: no modules, or fewer than one stream.

    Example:
        >>> job = Job(read_events("hits.root"), {"tracks": finder}, streams=8)  # doctest: +SKIP
        >>> for event, results in job.results():  # doctest: +SKIP
        ...     print(event.number, results["tracks"])
    """

    def __init__(self, source: Iterable[E], modules: Mapping[str, Module], *, streams: int = 4) -> None:
        if streams < 1 or not modules:
            raise ConfigError(
                f"Job: streams = {streams}, {len(modules)} modules; at least one of each is needed"
            )
        self._source, self._modules, self._streams = source, dict(modules), streams
        self._lock = threading.Lock()
        self._states: dict[int, dict[str, Any]] = {}
        self._stopped = threading.Event()
        self._started = False
        self.report = Report(
            acquire_seconds=dict.fromkeys(self._modules, 0.0), wait_seconds=dict.fromkeys(self._modules, 0.0)
        )

    def run(self, output: Callable[[E, Results], None]) -> Report:
        """Process all events.

        Args:
            output: called with every event and its results, in the order of the source.

        Raises:
            PipelineError: names the event and the module; the events before it have been given out.
        """
        for event, results in self.results():
            output(event, results)
        return self.report

    def results(self) -> Generator[tuple[E, Results], None, None]:
        """Every event with its results by module, in the order of the source; once a job.

        Raises:
            PipelineError: names the event and the module; the events before it have been given out.
            ConfigError: the job has run already.
        """
        if self._started:
            raise ConfigError("Job.results: a job runs once; make another")
        self._started = True
        start = time.perf_counter()
        pool = ThreadPoolExecutor(self._streams, thread_name_prefix="stream")
        waiting: deque[tuple[E, Future[Results]]] = deque()
        failure: list[BaseException] = []
        events = self._read(failure)
        try:
            while True:
                while len(waiting) < self._streams * AHEAD and (entry := next(events, None)) is not None:
                    waiting.append((entry[1], pool.submit(self._process, *entry)))
                if not waiting:
                    break
                event, future = waiting.popleft()
                results = future.result()
                self.report.done += 1
                yield event, results
            if failure:
                raise failure[0]
        finally:
            self._stop(waiting)
            pool.shutdown()
            self.report.seconds = time.perf_counter() - start

    def _read(self, failure: list[BaseException]) -> Iterator[tuple[int, E]]:
        """The source with its places; an error waits until the events before it have been given out."""
        try:
            for index, event in enumerate(self._source):
                self.report.read += 1
                yield index, event
        except Exception as error:
            failure.append(error)

    def _process(self, index: int, event: E) -> Results:
        """One event, on the thread of its stream."""
        states: dict[str, Any] = {}
        with self._lock:
            self._states[index] = states
        name = ""
        try:
            for name, module in self._modules.items():
                states[name] = self._timed(self.report.acquire_seconds, name, module.acquire, event)
            if self._stopped.is_set():
                # The job ended between acquire and here; nobody else may have seen these states.
                self._cancel(states)
            results = {}
            for name, module in self._modules.items():
                results[name] = self._timed(
                    self.report.wait_seconds, name, module.produce, event, states[name]
                )
                del states[name]
            return results
        except Exception as error:
            self._cancel(states)
            number = getattr(event, "number", index)
            raise PipelineError(name, number, index, error) from error
        finally:
            with self._lock:
                del self._states[index]

    def _timed(self, seconds: dict[str, float], name: str, step: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return step(*arguments)
        finally:
            passed = time.perf_counter() - start
            with self._lock:
                seconds[name] += passed

    def _stop(self, waiting: Iterable[tuple[E, Future[Results]]]) -> None:
        """Give up what has no taker any more."""
        for _, future in waiting:
            future.cancel()
        self._stopped.set()
        with self._lock:
            left = list(self._states.values())
        for states in left:
            self._cancel(states)

    def _cancel(self, states: dict[str, Any]) -> None:
        for name, state in list(states.items()):
            module = self._modules[name]
            if isinstance(module, Cancellable):
                module.cancel(state)
