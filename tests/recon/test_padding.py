"""The ladder of sizes, padding by shape annotation, stacking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recon.errors import CapacityError, ConfigError, DataError
from recon.padding import bucket_size, pad_event, stack_events
from recon.types import NOISE, EdgeList, Hits, Particles


def hits(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return Hits(
        position=rng.normal(size=(n, 3)).astype(np.float32),
        layer=np.arange(n, dtype=np.int32),
        module=np.arange(n, dtype=np.int32),
        local=rng.normal(size=(n, 2)).astype(np.float32),
        variance=np.full((n, 2), 0.25, np.float32),
        features=rng.normal(size=(n, 4)).astype(np.float32),
        valid=np.ones(n, bool),
    )


def particles(p=2, n=3):
    return Particles(
        momentum=np.ones((p, 3), np.float32),
        vertex=np.zeros((p, 3), np.float32),
        charge=np.ones(p, np.int32),
        pdg=np.full(p, 211, np.int32),
        primary=np.ones(p, bool),
        valid=np.ones(p, bool),
        hit_particle=np.zeros(n, np.int32),
    )


def edges(receivers):
    receivers = np.array(receivers, np.int32)
    return EdgeList(
        senders=np.zeros_like(receivers),
        receivers=receivers,
        valid=np.ones(len(receivers), bool),
        overflow=np.array(False),
    )


@given(st.integers(0, 10**7))
def test_bucket_holds_and_wastes_little(n):
    size = bucket_size(n)
    assert size >= n
    assert size <= max(n * 2**0.25, 8) + 8
    assert bucket_size(size) == size


def test_bucket_ladder_has_few_steps():
    sizes = {bucket_size(n) for n in range(1000, 10001)}
    assert len(sizes) <= 15
    assert [bucket_size(n) for n in (0, 1, 8, 9)] == [8, 8, 8, 16]
    assert bucket_size(3, smallest=64) == 64


def test_bucket_grows_with_n():
    sizes = [bucket_size(n) for n in range(3000)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("arguments", [(-1,), (5, 0), (5, 8, 0)])
def test_bucket_refuses(arguments):
    with pytest.raises(ConfigError, match="allowed are n >= 0"):
        bucket_size(*arguments)


def test_pad_hits():
    event = hits()
    padded = pad_event(event, {"n": 5})
    for name, column in event._asdict().items():
        np.testing.assert_array_equal(getattr(padded, name)[:3], column)
        assert getattr(padded, name).dtype == column.dtype
        assert len(getattr(padded, name)) == 5
    np.testing.assert_array_equal(padded.layer[3:], [-1, -1])
    np.testing.assert_array_equal(padded.module[3:], [-1, -1])
    assert (padded.variance[3:] == 1).all()
    assert not padded.valid[3:].any()


def test_axes_are_told_apart():
    padded = pad_event(particles(), {"p": 4, "n": 6})
    assert padded.momentum.shape == (4, 3)
    np.testing.assert_array_equal(padded.hit_particle, [0, 0, 0, NOISE, NOISE, NOISE])
    assert pad_event(particles(), {"p": 4}).hit_particle.shape == (3,)


def test_padded_edges_stay_sorted():
    padded = pad_event(edges([1, 4, 9]), {"e": 6})
    np.testing.assert_array_equal(padded.receivers, [1, 4, 9, 9, 9, 9])
    np.testing.assert_array_equal(padded.valid, [True] * 3 + [False] * 3)
    assert padded.overflow.shape == ()
    np.testing.assert_array_equal(pad_event(edges([]), {"e": 2}).receivers, [0, 0])


def test_capacity_one_too_small_names_axis_and_sizes():
    with pytest.raises(
        CapacityError, match=r"3 rows of position .* capacity of 2; raise .* axis n to at least 3"
    ):
        pad_event(hits(), {"n": 2})
    pad_event(hits(), {"n": 3})


def test_unknown_axis():
    with pytest.raises(ConfigError, match="Hits has no axis edges"):
        pad_event(hits(), {"edges": 9})


def test_stack():
    batch = stack_events([hits(seed=1), hits(seed=2)])
    assert isinstance(batch, Hits)
    assert batch.position.shape == (2, 3, 3)
    np.testing.assert_array_equal(batch.position[1], hits(seed=2).position)


def test_stack_refuses():
    with pytest.raises(DataError, match="no event"):
        stack_events([])
    with pytest.raises(DataError, match=r"position has the shapes \[\(2, 3\), \(3, 3\)\]; pad"):
        stack_events([hits(2), hits(3)])
