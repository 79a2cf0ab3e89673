"""The clock of deadlines: in order, once each, and only while somebody needs it."""

import threading
import time

from serving.deadlines import Clock


class Timed:
    """Deadlines that are due, and when each was found late."""

    def __init__(self):
        self.waiting, self.ended = [], []
        self.clock = Clock(self.expire, "deadlines-test")

    def add(self, seconds):
        self.waiting.append(time.monotonic() + seconds)
        self.clock.expect(self.waiting[-1])
        return self.waiting[-1]

    def expire(self):
        now = time.monotonic()
        self.ended += sorted((deadline, now) for deadline in self.waiting if deadline <= now)
        self.waiting = [deadline for deadline in self.waiting if deadline > now]
        return min(self.waiting, default=None)

    def until_ended(self, n):
        until = time.monotonic() + 10
        while len(self.ended) < n and time.monotonic() < until:
            time.sleep(0.005)


def test_deadlines_end_in_order_and_never_early():
    timed = Timed()
    deadlines = [timed.add(seconds) for seconds in (0.15, 0.05, 0.1)]
    timed.until_ended(3)
    timed.clock.close()
    assert [deadline for deadline, _ in timed.ended] == sorted(deadlines)
    assert all(now >= deadline for deadline, now in timed.ended)


def test_an_idle_clock_wakes_up_again():
    timed = Timed()
    timed.add(0.01)
    timed.until_ended(1)
    timed.add(0.01)
    timed.until_ended(2)
    timed.clock.close()
    assert len(timed.ended) == 2


def test_no_thread_before_the_first_deadline_and_none_after_the_end():
    before = threading.active_count()
    timed = Timed()
    assert threading.active_count() == before
    timed.add(30.0)
    assert threading.active_count() == before + 1
    timed.clock.close()
    assert threading.active_count() == before
    timed.add(0.0)
    time.sleep(0.05)
    assert timed.ended == []


def test_it_may_be_closed_by_what_it_calls():
    done = threading.Event()

    def expire():
        clock.close()
        done.set()

    clock = Clock(expire, "deadlines-test")
    clock.expect(time.monotonic())
    assert done.wait(10)
