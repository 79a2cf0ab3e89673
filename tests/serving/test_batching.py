"""The queue: order, bounds, deadlines, cancellation, and what happens to strangers in one batch."""

import threading
import time

import numpy as np
import pytest

from serving.artifact import Artifact
from serving.batching import SPARE, Scheduler
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InferenceFailed,
    InvalidInput,
    ModelNotReady,
    Overloaded,
)
from serving.runner import Runner
from serving.statistics import StatisticsRecorder
from tests.serving import artifacts


@pytest.fixture(scope="module")
def artifact(models, executables):
    return Artifact(models / "mlp" / "1")


class HeldRunner(Runner):
    """A real runner whose executions wait for a sign, so that a queue can form behind them."""

    def __init__(self, artifact):
        super().__init__(artifact)
        self.go, self.runs, self.poison = threading.Event(), [], None

    def run(self, requests, sizes):
        assert self.go.wait(20)
        self.runs.append([float(request["x"][0, 0]) for request in requests])
        if self.poison is not None and self.poison in self.runs[-1]:
            raise InferenceFailed("poison")
        return super().run(requests, sizes)


@pytest.fixture
def held(artifact):
    runner = HeldRunner(artifact)
    made = []

    def make(**options):
        made.append(Scheduler(runner, statistics=StatisticsRecorder(), **options))
        return runner, made[-1]

    yield make
    runner.go.set()
    for scheduler in made:
        scheduler.close(10)


def row(value, n=1):
    return {"x": np.full((n, 8), value, np.float32)}


def expected(inputs):
    weights = artifacts.mlp_weights()
    return np.tanh(inputs["x"] @ weights["first"]) @ weights["second"]


def wait_for(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def blocked(scheduler):
    """A first request that occupies the instance."""
    future = scheduler.submit(row(0))
    wait_for(lambda: scheduler.pending == 0)
    return future


def test_what_waits_runs_together_and_is_kept_apart(held):
    runner, scheduler = held()
    first = blocked(scheduler)
    futures = [scheduler.submit(row(n, 1 + n % 3)) for n in range(1, 9)]
    runner.go.set()
    for n, future in enumerate(futures, 1):
        given = row(n, 1 + n % 3)
        np.testing.assert_allclose(future.result(10)["logits"], expected(given), rtol=1e-5, atol=1e-5)
    assert first.result(10)["logits"].shape == (1, 3)
    # 16 rows at most: 2 + 3 + 1 + 2 + 3 + 1 + 2 = 14, and 3 more do not fit.
    assert runner.runs == [[0.0], [1, 2, 3, 4, 5, 6, 7], [8]]


def test_urgent_requests_overtake(held):
    runner, scheduler = held()
    blocked(scheduler)
    futures = [scheduler.submit(row(n, 16), priority=p) for n, p in ((1, 0), (2, 5), (3, 1), (4, 5))]
    runner.go.set()
    for future in futures:
        future.result(10)
    assert runner.runs == [[0.0], [3], [2], [4], [1]]


def test_a_full_queue_refuses_and_recovers(held):
    runner, scheduler = held(queue=3)
    blocked(scheduler)
    futures = [scheduler.submit(row(n)) for n in range(3)]
    with pytest.raises(Overloaded, match="3 requests wait") as caught:
        scheduler.submit(row(9))
    assert 0 < caught.value.retry_after <= 10
    with pytest.raises(Overloaded):
        scheduler.infer(row(9))
    runner.go.set()
    for future in futures:
        future.result(10)
    assert scheduler.infer(row(1))["logits"].shape == (1, 3)
    found = scheduler.statistics.snapshot("m", "1", scheduler.pending)
    assert found.fail["REJECTED"].count == 2
    assert found.success.count == 5


def test_a_deadline_ends_the_wait(held):
    runner, scheduler = held()
    blocked(scheduler)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        scheduler.infer(row(1), deadline=started + 0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert scheduler.pending == 0
    # Nobody waits for these: they end while the instance is still busy, each at its own time.
    second = scheduler.submit(row(3), deadline=time.monotonic() + 0.2)
    first = scheduler.submit(row(2), deadline=time.monotonic() + 0.01)
    with pytest.raises(DeadlineExceeded):
        first.result(10)
    assert not second.done()
    with pytest.raises(DeadlineExceeded):
        second.result(10)
    assert scheduler.pending == 0
    runner.go.set()
    assert scheduler.close(10)
    assert runner.runs == [[0.0]]


def test_a_deadline_that_is_kept_ends_nothing(held):
    runner, scheduler = held()
    blocked(scheduler)
    kept = scheduler.submit(row(1), deadline=time.monotonic() + 20)
    runner.go.set()
    assert set(kept.result(10)) == {"logits"}
    assert scheduler.close(10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deadlines-")]


def test_requests_that_give_up_leave_nothing_behind(held):
    """While an instance is busy for long, callers with short deadlines come and go."""
    _, scheduler = held()
    blocked(scheduler)
    for number in range(500):
        assert scheduler.submit(row(number)).cancel()
    assert scheduler.pending == 0
    assert len(scheduler._queue) <= 2 * SPARE


def test_cancelled_requests_do_not_run(held):
    runner, scheduler = held()
    blocked(scheduler)
    future = scheduler.submit(row(1))
    assert future.cancel()
    assert scheduler.pending == 0
    caught = []

    def unwanted():
        try:
            scheduler.infer(row(2), is_wanted=lambda: False)
        except Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=unwanted)
    thread.start()
    wait_for(lambda: scheduler.pending == 1)
    kept = scheduler.submit(row(3))
    runner.go.set()
    kept.result(10)
    thread.join(10)
    assert len(caught) == 1
    assert runner.runs == [[0.0], [3]]


def test_one_bad_request_does_not_harm_its_neighbours(held):
    runner, scheduler = held()
    runner.poison = 2.0
    blocked(scheduler)
    futures = [scheduler.submit(row(n)) for n in (1, 2, 3)]
    runner.go.set()
    with pytest.raises(InferenceFailed, match="poison"):
        futures[1].result(10)
    for n, future in ((1, futures[0]), (3, futures[2])):
        np.testing.assert_allclose(future.result(10)["logits"], expected(row(n)), rtol=1e-5, atol=1e-5)


def test_invalid_requests_never_enter_the_queue(held):
    _, scheduler = held()
    with pytest.raises(InvalidInput):
        scheduler.infer({"x": np.zeros((1, 7), np.float32)})
    assert scheduler.statistics.snapshot("m", "1", 0).fail["OTHER"].count == 1


def test_a_lone_request_keeps_the_rules_of_the_queue(held):
    runner, scheduler = held()
    runner.go.set()
    with pytest.raises(DeadlineExceeded):
        scheduler.infer(row(1), deadline=time.monotonic() - 1)
    with pytest.raises(Cancelled):
        scheduler.infer(row(2), is_wanted=lambda: False)
    runner.poison = 3.0
    with pytest.raises(InferenceFailed, match="poison"):
        scheduler.infer(row(3))
    assert runner.runs == [[3.0]]
    np.testing.assert_allclose(next(iter(scheduler.infer(row(4)).values())), expected(row(4)), atol=1e-6)
    found = scheduler.statistics.snapshot("mlp", "1", scheduler.pending)
    assert (found.success.count, found.failed.count, found.queue.count, found.pending) == (1, 3, 1, 0)


def test_an_interrupted_request_gives_its_instance_back(held):
    runner, scheduler = held()
    runner.go.set()
    run, runner.run = runner.run, lambda requests, sizes: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        scheduler.infer(row(1))
    runner.run = run
    assert scheduler.infer(row(2), deadline=time.monotonic() + 10)
    assert scheduler.close(10)


def test_who_comes_while_a_lone_request_runs_gets_the_instance_next(held):
    runner, scheduler = held()
    answers = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.update({n: scheduler.infer(row(n))})) for n in range(4)
    ]
    threads[0].start()
    wait_for(lambda: scheduler._free == 0)
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: scheduler.pending == 3)
    runner.go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [0, 1, 2, 3]
    assert runner.runs[0] == [0.0]
    assert len(runner.runs) == 2
    assert scheduler._free == 1


def test_closing_answers_what_is_queued(held):
    runner, scheduler = held()
    futures = [blocked(scheduler), scheduler.submit(row(1))]
    closing = threading.Thread(target=scheduler.close, args=(10,))
    closing.start()
    wait_for(lambda: scheduler._closed)
    with pytest.raises(ModelNotReady, match="unloaded"):
        scheduler.infer(row(2))
    runner.go.set()
    closing.join(10)
    assert all(future.result(0)["logits"].shape == (1, 3) for future in futures)


def test_closing_in_a_hurry_refuses_what_is_queued(held):
    runner, scheduler = held()
    running, waiting = blocked(scheduler), scheduler.submit(row(1))
    assert not scheduler.close(0.05)
    with pytest.raises(ModelNotReady):
        waiting.result(1)
    runner.go.set()
    assert running.result(10)["logits"].shape == (1, 3)


@pytest.mark.parametrize("instances", [1, 3])
def test_many_threads_lose_nothing(artifact, instances):
    runner = Runner(artifact)
    runner.warm()
    scheduler = Scheduler(runner, instances=instances, queue=1000, statistics=StatisticsRecorder())
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            given = {"x": rng.normal(size=(rng.integers(1, 5), 8)).astype(np.float32)}
            found = scheduler.infer(given) if rng.random() < 0.7 else scheduler.submit(given).result(20)
            if not np.allclose(found["logits"], expected(given), rtol=1e-4, atol=1e-4):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    found = scheduler.statistics.snapshot("m", "1", scheduler.pending)
    assert found.success.count == 16 * 60
    assert found.execution_count < found.success.count
    assert found.pending == 0
    assert scheduler.close(5)
