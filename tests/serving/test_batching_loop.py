"""The scheduler under an event loop: what one turn brings runs together, here if it is swift and in the pool if not."""

import threading
import time

import numpy as np
import pytest

from serving.artifact import Artifact
from serving.batching import Scheduler, given_up
from serving.errors import Cancelled, DeadlineExceeded, InvalidInput, ModelNotReady, Overloaded
from serving.pace import FIRST_TRY, SWIFT_NS, Pace
from serving.runner import Runner
from serving.statistics import StatisticsRecorder
from tests.serving.planes import expected, rows


@pytest.fixture(scope="module")
def runner(models, executables):
    runner = Runner(Artifact(models / "mlp" / "1"))
    runner.warm()
    return runner


@pytest.fixture
def scheduler(runner):
    scheduler = Scheduler(runner, queue=8, statistics=StatisticsRecorder())
    yield scheduler
    scheduler.close(5.0)


class Ends:
    """What became of requests, and on which thread."""

    def __init__(self):
        self.found = {}

    def of(self, number):
        return lambda outputs, error: self.found.setdefault(number, (outputs, error, threading.get_ident()))

    def wait(self, count):
        until = time.monotonic() + 10
        while len(self.found) < count and time.monotonic() < until:
            time.sleep(0.001)
        assert len(self.found) == count
        return self.found


def run(scheduler, ends, *numbers):
    before = len(ends.found)
    for number in numbers:
        scheduler.enqueue({"x": rows(1, number)}, ends.of(number))
    assert len(ends.found) == before
    while scheduler.kick():
        pass
    return ends.wait(before + len(numbers))


def test_a_turn_is_one_execution(scheduler):
    found = run(scheduler, Ends(), *range(5))
    for number, (outputs, error, _) in found.items():
        assert error is None
        np.testing.assert_allclose(outputs["logits"], expected(rows(1, number)), rtol=1e-5, atol=1e-5)
    assert scheduler.statistics.snapshot("mlp", "1", 0).execution_count == 1


def test_swift_models_run_on_the_loop_once_they_are_known_to_be(scheduler):
    ends = Ends()
    run(scheduler, ends, 0)
    assert ends.found[0][2] != threading.get_ident()
    # Whatever the machine does meanwhile: one that looked slow is tried again.
    for number in range(1, 200):
        run(scheduler, ends, number)
    assert sum(thread == threading.get_ident() for _, _, thread in ends.found.values()) > 100


def test_slow_models_run_in_the_pool(scheduler, runner, monkeypatch):
    execute = runner._execute
    monkeypatch.setattr(runner, "_execute", lambda *a: (time.sleep(0.06), execute(*a))[1])
    ends = Ends()
    for number in range(2 * FIRST_TRY):
        run(scheduler, ends, number)
    assert all(thread != threading.get_ident() for _, _, thread in ends.found.values())


def test_the_pace_of_a_size():
    pace = Pace()
    assert not pace.is_swift()
    # In a pool a swift model looks slow: it is tried here now and then, and stays.
    pace.note(6 * SWIFT_NS, here=False)
    tries = [pace.is_swift() for _ in range(FIRST_TRY)]
    assert tries == [False] * (FIRST_TRY - 1) + [True]
    pace.note(SWIFT_NS // 10, here=True)
    assert pace.is_swift()
    # A busy machine makes some look slow.
    for _ in range(10):
        pace.note(10 * SWIFT_NS, here=True, preempted=True)
        for _ in range(9):
            pace.note(SWIFT_NS // 10, here=True)
        assert pace.is_swift()
    # One that is slow is found out all the same.
    pace.note(60 * SWIFT_NS, here=True, preempted=True)
    assert not pace.is_swift()
    # One that is slow here is tried ever more seldom.
    for _ in range(20):
        pace.note(6 * SWIFT_NS, here=True)
    assert sum(pace.is_swift() for _ in range(20 * FIRST_TRY)) <= 5
    # And never if it takes so long.
    for _ in range(40):
        pace.note(100 * SWIFT_NS, here=False)
    assert not any(pace.is_swift() for _ in range(10_000))


def test_requests_of_loops_and_threads_share_the_queue(scheduler):
    ends, answers = Ends(), []

    def ask(number):
        answers.append((number, scheduler.infer({"x": rows(1, number)})))

    threads = [threading.Thread(target=ask, args=(1000 + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        run(scheduler, ends, number)
    for thread in threads:
        thread.join(10)
    assert len(answers) == 4
    for number, outputs in answers + [(n, outputs) for n, (outputs, _, _) in ends.found.items()]:
        np.testing.assert_allclose(outputs["logits"], expected(rows(1, number)), rtol=1e-5, atol=1e-5)


def test_what_does_not_run(scheduler):
    ends = Ends()
    with pytest.raises(InvalidInput, match="missing input"):
        scheduler.enqueue({}, ends.of(0))
    scheduler.enqueue({"x": rows(1)}, ends.of("late"), 0, time.monotonic() - 1)
    scheduler.enqueue({"x": rows(1)}, ends.of("unwanted"), 0, None, lambda: False)
    withdrawn = scheduler.enqueue({"x": rows(1)}, ends.of("withdrawn"))
    scheduler.withdraw(withdrawn, given_up())
    for number in range(6):
        scheduler.enqueue({"x": rows(1)}, ends.of(number))
    with pytest.raises(Overloaded, match="8 requests wait"):
        scheduler.enqueue({"x": rows(1)}, ends.of(6))
    while scheduler.kick():
        pass
    found = ends.wait(9)
    kinds = {name: type(found[name][1]) for name in ("late", "unwanted", "withdrawn")}
    assert kinds == {"late": DeadlineExceeded, "unwanted": Cancelled, "withdrawn": Cancelled}
    assert all(found[number][1] is None for number in range(6))
    scheduler.withdraw(withdrawn, given_up())
    assert scheduler.close(5.0)
    with pytest.raises(ModelNotReady):
        scheduler.enqueue({"x": rows(1)}, ends.of(7))
