"""CPU time goes to the step that used it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from recon.step_clock import StepClock, mean_seconds


def spin(seconds):
    """Use the processor for so long."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_clock_books_time_on_the_step_that_ended():
    clock = StepClock()
    clock.start()
    spin(0.05)
    clock("first", np.zeros(3))
    clock("second", ())
    spin(0.1)
    clock("first", ())
    assert list(clock.seconds) == ["first", "second"]
    assert 0.15 <= clock.seconds["first"] < 0.3
    assert clock.seconds["second"] < 0.05


def test_clock_forgets_the_event_before():
    clock = StepClock()
    clock.start()
    clock("first", ())
    spin(0.05)
    clock.start()
    clock("second", ())
    assert list(clock.seconds) == ["second"]
    assert clock.seconds["second"] < 0.05


def test_mean_counts_a_step_that_an_event_lacks_as_none():
    mean = mean_seconds([{"graph": 1.0}, {"graph": 3.0, "fit": 4.0}])
    assert mean == pytest.approx({"graph": 2.0, "fit": 2.0})
    assert mean_seconds([]) == {}
