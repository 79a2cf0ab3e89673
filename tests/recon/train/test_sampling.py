from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.train.sampling import Sampler, take, validation_split


def test_every_row_comes_once_an_epoch_and_in_another_order_the_next():
    sampler = Sampler(10, 4, seed=3)
    rows = np.concatenate([sampler(step) for step in range(5)])
    first, second = rows[:10], rows[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


def test_a_batch_depends_on_seed_and_step_alone():
    forward = [Sampler(100, 7, seed=1)(step) for step in range(40)]
    backward = Sampler(100, 7, seed=1)
    for step in reversed(range(40)):
        assert np.array_equal(backward(step), forward[step])
    assert not np.array_equal(Sampler(100, 7, seed=2)(0), forward[0])


def test_a_batch_larger_than_the_sample_repeats_rows():
    rows = Sampler(3, 8, seed=0)(0)
    assert len(rows) == 8
    assert np.bincount(rows, minlength=3).min() >= 2


def test_chances_are_kept_and_rows_without_one_never_come():
    chance = np.array([0.0, 1.0, 3.0, 0.0])
    sampler = Sampler(4, 1000, seed=5, chance=chance)
    count = np.bincount(np.concatenate([sampler(step) for step in range(20)]), minlength=4)
    assert count[0] == count[3] == 0
    # 20,000 draws: 5 standard deviations are 0.015.
    assert abs(count[2] / count.sum() - 0.75) < 0.015
    assert np.array_equal(sampler(3), Sampler(4, 1000, seed=5, chance=10 * chance)(3))


@pytest.mark.parametrize(
    ("rows", "batch", "chance", "message"),
    [
        (0, 4, None, "0 rows"),
        (4, 0, None, "a batch of 0"),
        (2, 1, [1.0], r"shape \(1,\)"),
        (2, 1, [1.0, -1.0], "sum 0.0"),
        (2, 1, [2.0, -1.0], "none negative"),
        (2, 1, [np.inf, 1.0], "sum inf"),
    ],
)
def test_what_cannot_be_sampled_is_refused(rows, batch, chance, message):
    with pytest.raises(ConfigError, match=message):
        Sampler(rows, batch, 0, None if chance is None else np.array(chance))


def test_take_picks_from_every_array_of_a_tree():
    tree = {"a": np.arange(5), "b": (np.arange(10).reshape(5, 2),)}
    picked = take(tree, np.array([4, 0]))
    assert picked["a"].tolist() == [4, 0]
    assert picked["b"][0].tolist() == [[8, 9], [0, 1]]


@pytest.mark.parametrize(("rows", "fraction", "held"), [(10, 0.2, 2), (100, 0.001, 1), (2, 0.9, 1)])
def test_a_split_keeps_every_row_on_one_side(rows, fraction, held):
    train, validation = validation_split(rows, fraction, seed=7)
    assert len(validation) == held
    assert sorted([*train, *validation]) == list(range(rows))
    again = validation_split(rows, fraction, seed=7)
    assert np.array_equal(train, again[0])


@pytest.mark.parametrize(("rows", "fraction"), [(1, 0.5), (10, 0.0), (10, 1.0)])
def test_a_split_that_leaves_nothing_is_refused(rows, fraction):
    with pytest.raises(ConfigError, match="are to be held out"):
        validation_split(rows, fraction, seed=0)
