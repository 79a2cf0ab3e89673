"""Ragged ranges in static shapes, against loops over Python lists."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import ranges
from recon.ranges import Chunks

# Compiled as in use: operation by operation they would take longer to compile than to run.
cumulative = jax.jit(ranges.cumulative, static_argnums=1)
chunk_ranges = jax.jit(ranges.chunk_ranges, static_argnums=(1, 2))
compact = jax.jit(ranges.compact, static_argnums=1)
compact_slots = jax.jit(ranges.compact_slots, static_argnums=1)


def slow_chunks(count, width):
    """[(query, offset)] of all chunks."""
    return [(query, offset) for query, length in enumerate(count) for offset in range(0, length, width)]


def as_list(chunks):
    used = int(chunks.needed)
    pairs = zip(np.asarray(chunks.row)[:used], np.asarray(chunks.offset)[:used], strict=True)
    return [(int(row), int(offset)) for row, offset in pairs]


def ints(values):
    return jnp.asarray(values, jnp.int32)


# Below, at and above the length where the long form begins, and with a last column that is partly empty.
@pytest.mark.parametrize("n", [0, 1, 512, 513, 5000])
@pytest.mark.parametrize(("kind", "slow"), [("sum", np.cumsum), ("max", np.maximum.accumulate)])
def test_cumulative_agrees_with_numpy(n, kind, slow):
    x = np.random.default_rng(n).integers(0, 50, n).astype(np.int32)
    np.testing.assert_array_equal(cumulative(jnp.asarray(x), kind), slow(x))


def test_the_sum_may_fall():
    x = np.random.default_rng(0).integers(-50, 50, 5000).astype(np.int32)
    np.testing.assert_array_equal(cumulative(jnp.asarray(x), "sum"), np.cumsum(x))


def test_chunks_by_hand():
    # Ranges of 5, 0 and 3 in chunks of two: three, none and two chunks.
    chunks = chunk_ranges(ints([5, 0, 3]), 2, 8)
    assert as_list(chunks) == [(0, 0), (0, 2), (0, 4), (2, 0), (2, 2)]
    assert int(chunks.needed) == 5
    np.testing.assert_array_equal(chunks.row[5:], 2)
    # What the padding names lies past the end of its range, so a mask on the range hides it as well.
    assert (np.asarray(chunks.offset[5:]) >= 3).all()


@pytest.mark.parametrize("width", [1, 3])
def test_chunks_agree_with_loops(width):
    rng = np.random.default_rng(width)
    count = rng.poisson(2.0, 700) * rng.integers(0, 2, 700)
    slow = slow_chunks(count, width)
    chunks = chunk_ranges(ints(count), width, 1200)
    assert int(chunks.needed) == len(slow)
    assert as_list(chunks) == slow


def test_capacity_changes_neither_what_fits_nor_what_is_needed():
    count = np.random.default_rng(1).poisson(3.0, 60)
    slow = slow_chunks(count, 2)
    for capacity in (len(slow), len(slow) - 1, 8):
        chunks = chunk_ranges(ints(count), 2, capacity)
        assert int(chunks.needed) == len(slow)
        kept = list(zip(np.asarray(chunks.row).tolist(), np.asarray(chunks.offset).tolist(), strict=True))
        assert kept == slow[:capacity]


def test_empty_ranges_need_nothing():
    chunks = chunk_ranges(ints([0, 0, 0]), 2, 8)
    assert int(chunks.needed) == 0
    assert (np.asarray(chunks.offset) >= 0).all()


def test_empty_queries_at_both_ends_change_nothing_else():
    inside = as_list(chunk_ranges(ints([2, 0, 4]), 2, 16))
    padded = as_list(chunk_ranges(ints([0, 0, 2, 0, 4, 0]), 2, 16))
    assert padded == [(row + 2, offset) for row, offset in inside]


def test_compact_by_hand():
    where, needed = compact(jnp.asarray([False, True, False, True, True]), 4)
    np.testing.assert_array_equal(where, [1, 3, 4, 5])
    assert int(needed) == 3


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 8, 1003])
def test_compact_agrees_with_flatnonzero(n, share):
    keep = np.random.default_rng(n).uniform(size=n) < share
    slow = np.flatnonzero(keep)
    where, needed = compact(jnp.asarray(keep), n + 5)
    assert int(needed) == len(slow)
    np.testing.assert_array_equal(where[: len(slow)], slow)
    np.testing.assert_array_equal(where[len(slow) :], n)


def test_compact_reports_the_need_past_its_capacity():
    keep = np.ones(20, bool)
    where, needed = compact(jnp.asarray(keep), 6)
    np.testing.assert_array_equal(where, np.arange(6))
    assert int(needed) == 20


def test_every_pattern_of_eight_slots():
    patterns = np.arange(256)
    keep = (patterns[:, None] >> np.arange(8) & 1).astype(bool)
    chunk, slot, needed = compact_slots(jnp.asarray(keep), 1100)
    slow = np.argwhere(keep)
    assert int(needed) == len(slow) == 1024
    np.testing.assert_array_equal(np.stack([chunk, slot], 1)[:1024], slow)
    np.testing.assert_array_equal(chunk[1024:], 255)
    assert ((np.asarray(slot) >= 0) & (np.asarray(slot) < 8)).all()


def test_one_program_serves_all_ranges_of_a_shape():
    traces = []

    @jax.jit
    def count_in(count) -> Chunks:
        traces.append(count.shape)
        return ranges.chunk_ranges(count, 4, 64)

    for seed in range(3):
        count_in(ints(np.random.default_rng(seed).integers(0, 9, 20)))
    assert traces == [(20,)]
    count_in(ints([1, 2]))
    assert len(traces) == 2
