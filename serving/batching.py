"""The queue in front of a model: bounded, by priority, batched greedily.

Nobody waits for a batch to fill: whoever finds an instance free takes what is queued, up to the largest bucket, and
runs it. The thread that brought a request is that somebody where it can be, so a lone request crosses no threads;
when its own answer is there it hands the instance on to a waiting thread, or to the pool for requests that came
without one. An event loop queues what one turn brings and then lets it run (`enqueue`, `kick`): at once if that takes
no time to speak of, else in the pool.
"""

from __future__ import annotations

import copy
import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from serving.deadlines import Clock
from serving.errors import Cancelled, DeadlineExceeded, ModelNotReady, Overloaded
from serving.pace import Pace, preemptions
from serving.pending import End, Outputs, Pending, State
from serving.runner import Inputs, Run, Runner, Sizes
from serving.statistics import StatisticsRecorder

DEFAULT_PRIORITY = 100
"""Level of a request that names none; 1 is the most urgent."""

SPARE = 64
"""Requests that were given up and may lie in the queue beside those that wait."""


class Scheduler:
    """Runs the requests of one version of a model.

    Args:
        runner: of the model.
        instances: executions at the same time.
        queue: most requests that wait.
        statistics: told of everything.
    """

    def __init__(
        self, runner: Runner, *, instances: int = 1, queue: int = 256, statistics: StatisticsRecorder
    ) -> None:
        self.runner, self.statistics, self.limit, self.instances = runner, statistics, queue, instances
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._free, self._waiting, self._number = instances, 0, 0
        self._queue: list[tuple[int, int, Pending]] = []
        self._closed = False
        self._paces: defaultdict[int, Pace] = defaultdict(Pace)
        self._pool = ThreadPoolExecutor(instances, thread_name_prefix=f"run-{runner.manifest.name}")
        self._clock = Clock(self._expire, f"deadlines-{runner.manifest.name}")

    @property
    def pending(self) -> int:
        """Requests that wait now."""
        return self._waiting

    def infer(
        self,
        inputs: Inputs,
        priority: int = 0,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Outputs:
        """Answer a request on the calling thread.

        Raises:
            InvalidInput: see `Runner.check`.
            Overloaded: the queue is full.
            DeadlineExceeded: before the request ran.
            Cancelled: `is_wanted` said no when its turn came.
            ModelNotReady: the model is being unloaded.
        """
        arrived = time.perf_counter_ns()
        sizes = self._sizes(inputs)
        if self._claim(deadline, is_wanted):
            return self._run_alone(inputs, sizes, arrived)
        request = Pending(inputs, sizes, deadline, is_wanted=is_wanted)
        self._enter(request, priority)
        self._wait(request)
        if request.error is not None:
            raise request.error
        return request.outputs

    def _claim(self, deadline: float | None, is_wanted: Callable[[], bool] | None) -> bool:
        """Take a free instance for a request that nobody waits before; false if it has to go through the queue."""
        if deadline is not None and time.monotonic() >= deadline:
            return False
        if is_wanted is not None and not is_wanted():
            return False
        with self._lock:
            if self._closed or self._waiting or not self._free:
                return False
            self._free -= 1
        return True

    def _run_alone(self, inputs: Inputs, sizes: Sizes, arrived: int) -> Outputs:
        """Run a request that has claimed an instance, and hand that on: the shortest way of all."""
        started = time.perf_counter_ns()
        try:
            run = self.runner.run((inputs,), (sizes,))
            self._note(run, 1, sizes, started, arrived)
            return run.outputs[0]
        except Exception as error:
            self.statistics.failed(error, time.perf_counter_ns() - arrived)
            raise
        finally:
            with self._lock:
                if not self._hand_on():
                    self._release()

    def _wait(self, request: Pending) -> None:
        """Until a queued request has its end; its thread runs batches where it is told to lead."""
        deadline, wake = request.deadline, request.wake or threading.Lock()
        while True:
            # In this order: once it is done nobody makes it lead any more, so that a lead is not overlooked.
            is_done = request.done
            if request.leads:
                request.leads = False
                self._lead(request)
                continue
            if is_done:
                return
            left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
            if not wake.acquire(timeout=left):
                self.withdraw(request, too_late())
                # It runs already, or has been told to lead: either way the next wake-up comes.
                deadline = None

    def submit(self, inputs: Inputs, priority: int = 0, deadline: float | None = None) -> Future[Outputs]:
        """Answer a request later; cancelling the future takes it out of the queue. Raises as `infer`.

        A request whose deadline passes while it waits ends then, whether an instance is free or not.
        """
        future: Future[Outputs] = Future()
        request = self._request(inputs, deadline, future=future)
        if self._enter(request, priority):
            self._pool.submit(self._lead, None)
        future.add_done_callback(
            lambda done: self.withdraw(request, given_up()) if done.cancelled() else None
        )
        if deadline is not None and not request.done:
            self._clock.expect(deadline)
        return future

    def enqueue(
        self,
        inputs: Inputs,
        end: End,
        priority: int = 0,
        deadline: float | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Pending:
        """Queue a request of an event loop, which calls `kick` once it has queued what it has.

        Args:
            inputs: of the request.
            end: called once with the outputs or the error, on any thread, also within `kick` and `withdraw`.
            priority: 1 is the most urgent; 0 is the default level.
            deadline: on the clock of `time.monotonic`; looked at when its turn comes. See `withdraw`.
            is_wanted: asked when its turn comes.

        Raises:
            InvalidInput: see `Runner.check`.
            Overloaded: the queue is full.
            ModelNotReady: the model is being unloaded.
        """
        request = self._request(inputs, deadline, end=end, is_wanted=is_wanted)
        self._enter(request, priority, hold=False)
        return request

    def kick(self) -> bool:
        """Let what is queued run: a batch that is swift here and now, any other on a thread of the pool.

        Returns:
            Whether more waits and an instance is free for it: call again.
        """
        late: list[Pending] = []
        unwanted: list[Pending] = []
        with self._lock:
            if not self._free or not self._waiting:
                return False
            batch = self._take(late, unwanted)
            self._free -= bool(batch)
        self._refuse(late, too_late())
        self._refuse(unwanted, given_up())
        if not batch:
            return False
        if not self._paces[self._bucket(batch)].is_swift():
            self._pool.submit(self._lead, None, batch)
            return self._waiting > 0
        try:
            self._run(batch, here=True)
        finally:
            with self._lock:
                self._release()
        return self._waiting > 0

    def _bucket(self, batch: list[Pending]) -> int:
        sizes = [request.sizes for request in batch]
        return self.runner.bucket_of({axis: sum(size[axis] for size in sizes) for axis in sizes[0]})

    def close(self, timeout: float | None = None) -> bool:
        """Take no more requests and wait for those that are here; those that wait too long are refused.

        Returns:
            Whether all were answered.
        """
        with self._idle:
            self._closed = True
            emptied = self._idle.wait_for(lambda: not self._waiting and self._free == self.instances, timeout)
            left = [] if emptied else [request for _, _, request in self._queue if self._leave(request)]
        self._clock.close()
        self._refuse(left, ModelNotReady(f"model {self.runner.manifest.name!r} was unloaded"))
        self._pool.shutdown(wait=emptied)
        return emptied

    def _request(
        self,
        inputs: Inputs,
        deadline: float | None,
        future: Future[Outputs] | None = None,
        end: End | None = None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Pending:
        return Pending(inputs, self._sizes(inputs), deadline, future, end, is_wanted)

    def _sizes(self, inputs: Inputs) -> Sizes:
        """Check a request and measure it."""
        started = time.perf_counter_ns()
        try:
            return self.runner.check(inputs)
        except Exception as error:
            self.statistics.failed(error, time.perf_counter_ns() - started)
            raise

    def _enter(self, request: Pending, priority: int, *, hold: bool = True) -> bool:
        """Queue a request; whether the caller now holds an instance, as it does if it may and one is free."""
        name = self.runner.manifest.name
        refusal: Exception
        with self._lock:
            if self._closed:
                refusal = ModelNotReady(f"model {name!r} is being unloaded")
            elif self._waiting >= self.limit:
                message = f"the queue of model {name!r} is full: {self.limit} requests wait"
                refusal = Overloaded(message, self._retry_after())
            else:
                self._number += 1
                if len(self._queue) > 2 * self._waiting + SPARE:
                    # Whoever gives up leaves its place and its inputs behind: a slow model would fill the memory.
                    self._queue = [entry for entry in self._queue if entry[2].state is State.WAITING]
                    heapq.heapify(self._queue)
                heapq.heappush(self._queue, (priority or DEFAULT_PRIORITY, self._number, request))
                self._waiting += 1
                holds = hold and self._free > 0
                self._free -= holds
                # Under the lock: the next moment another thread may hand its instance to this request.
                request.leads = holds and request.wake is not None
                return holds
        self.statistics.failed(refusal, 0)
        raise refusal

    def _retry_after(self) -> float:
        """Seconds in which half of the queue should be gone."""
        seconds = self.statistics.seconds_a_request() * self.limit / (2 * self.instances)
        return min(10.0, max(0.01, seconds))

    def _lead(self, own: Pending | None, first: list[Pending] | None = None) -> None:
        """Hold an instance: run batches until the own request is answered, then hand it on."""
        if first:
            self._run(first)
        while True:
            late: list[Pending] = []
            unwanted: list[Pending] = []
            with self._lock:
                if own is not None and own.done:
                    if not self._hand_on():
                        self._release()
                    return
                batch = self._take(late, unwanted)
                if not batch:
                    self._release()
            self._refuse(late, too_late())
            self._refuse(unwanted, given_up())
            if not batch:
                return
            self._run(batch)

    def _release(self) -> None:
        self._free += 1
        self._tell_close()

    def _tell_close(self) -> None:
        """Under the lock, when something ended: only `close` waits for that."""
        if self._closed:
            self._idle.notify_all()

    def _take(self, late: list[Pending], unwanted: list[Pending]) -> list[Pending]:
        """The next batch, under the lock; `late` gets those whose time is over, `unwanted` those given up."""
        batch: list[Pending] = []
        total: Sizes | None = None
        while self._queue:
            request = self._queue[0][2]
            joined = request.sizes if total is None else self.runner.joined(total, request.sizes)
            if request.state is State.WAITING and joined is None:
                break
            heapq.heappop(self._queue)
            if not self._leave(request):
                continue
            if request.deadline is not None and time.monotonic() >= request.deadline:
                late.append(request)
            elif request.is_wanted is not None and not request.is_wanted():
                unwanted.append(request)
            elif request.future is None or request.future.set_running_or_notify_cancel():
                request.state = State.RUNNING
                total = joined
                batch.append(request)
        return batch

    def _leave(self, request: Pending) -> bool:
        """Take a request out of the count of those that wait, under the lock; false if it was not among them."""
        if request.state is not State.WAITING:
            return False
        request.state = State.DROPPED
        self._waiting -= 1
        self._tell_close()
        return True

    def _hand_on(self) -> bool:
        """Give the instance to a request that waits, under the lock; false if none needs it."""
        if not self._waiting:
            return False
        waiting = (
            request for _, _, request in self._queue if request.state is State.WAITING and not request.leads
        )
        first = next(waiting, None)
        if first is None:
            return False
        if first.wake is None:
            self._pool.submit(self._lead, None)
        else:
            first.leads = True
            first.rouse()
        return True

    def _run(self, batch: list[Pending], *, here: bool = False) -> None:
        switches = preemptions() if here else 0
        started = time.perf_counter_ns()
        try:
            run = self.runner.run([request.inputs for request in batch], [request.sizes for request in batch])
        except Exception as error:
            if len(batch) > 1:
                # One request's trouble is not its neighbours': each gets a run of its own.
                for request in batch:
                    self._run([request], here=here)
            else:
                self._refuse(batch, error)
            return
        preempted = here and preemptions() != switches
        took = time.perf_counter_ns() - started
        self._paces[run.bucket].note(took, here=here, preempted=preempted)
        self._count(run, batch, started)
        for request, outputs in zip(batch, run.outputs, strict=True):
            request.answer(outputs, None)

    def _count(self, run: Run, batch: list[Pending], started: int) -> None:
        sizes, arrived = batch[0].sizes, 0
        if len(batch) > 1 and self.runner.batch_axis is not None:
            sizes = {self.runner.batch_axis: sum(request.sizes[self.runner.batch_axis] for request in batch)}
        for request in batch:
            arrived += request.arrived
        self._note(run, len(batch), sizes, started, arrived)

    def _note(self, run: Run, requests: int, sizes: Sizes, started: int, arrived: int) -> None:
        """Tell the statistics of a run of so many requests, whose moments of arrival are summed in `arrived`."""
        now, axis = time.perf_counter_ns(), self.runner.batch_axis
        rows = requests if axis is None else sizes[axis]
        self.statistics.executed(run, rows, requests * started - arrived, requests * now - arrived)

    def withdraw(self, request: Pending, error: Exception) -> None:
        """Take a request out of the queue, unless it runs or ran already."""
        with self._lock:
            waited = self._leave(request)
        if waited:
            self._refuse([request], error)

    def _expire(self) -> float | None:
        """End the requests without a thread that are late; the earliest deadline of those that are left."""
        now = time.monotonic()
        with self._idle:
            timed = [
                (request.deadline, request)
                for _, _, request in self._queue
                if request.state is State.WAITING
                and request.future is not None
                and request.deadline is not None
            ]
            late = [request for deadline, request in timed if deadline <= now and self._leave(request)]
        self._refuse(late, too_late())
        return min((deadline for deadline, _ in timed if deadline > now), default=None)

    def _refuse(self, requests: Sequence[Pending], error: Exception) -> None:
        # Not the same object for all: every thread that raises one writes its traceback into it.
        for request in requests:
            self.statistics.failed(error, time.perf_counter_ns() - request.arrived)
            request.answer({}, copy.copy(error))


def too_late() -> DeadlineExceeded:
    """The error of a request that waited too long."""
    return DeadlineExceeded("the deadline was over before the model ran")


def given_up() -> Cancelled:
    """The error of a request whose caller is gone."""
    return Cancelled("the caller cancelled the request")
