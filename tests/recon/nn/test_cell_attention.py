"""Attention among active cells: against its twin, and what must not change its answer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn.active_cells import active_cells
from recon.nn.cell_attention import CellAttention, CellMeeting, attend, occupied_cells, place_in_event
from tests.reference import patches as twin

VIEWS, ROWS, COLUMNS, CHANNELS = 2, 3, 2, 6
PLACES = VIEWS * ROWS * COLUMNS


@pytest.fixture(scope="module")
def meeting():
    """With weights everywhere: fresh blocks are the identity, which would hide mistakes."""
    made = CellMeeting(CHANNELS, PLACES, 2, 3, VIEWS, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    params = nnx.state(made, nnx.Param)
    nnx.update(made, jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.4, x.shape), jnp.float32), params))
    return made


@pytest.fixture(scope="module")
def run(meeting):
    """The compiled meeting: images of occupied cells and their features in, summaries out."""
    definition, state = nnx.split(meeting)

    @jax.jit
    def program(occupied, cells):
        active = active_cells(occupied, 40)
        rows = jnp.concatenate([cells.reshape(-1, CHANNELS), jnp.zeros((1, CHANNELS))])
        return nnx.merge(definition, state, copy=True)(rows[jnp.minimum(active.cell, len(rows) - 1)], active)

    return program


def events(n=4, seed=0):
    """Occupied cells and features of events; the first is empty, the second has one cell only."""
    rng = np.random.default_rng(seed)
    occupied = rng.random((n, VIEWS, ROWS, COLUMNS)) < 0.5
    occupied[:2] = False
    occupied[1, 1, 2, 0] = True
    cells = rng.normal(0, 1, (*occupied.shape, CHANNELS)).astype(np.float32)
    return occupied, cells


def flat(array):
    return jnp.asarray(array.reshape(-1, *array.shape[2:]))


def test_equal_queries_make_a_mean_by_hand():
    """No query prefers a key: every cell receives the mean of the values of its event."""
    occupied = np.zeros((2, 1, 1, 3), bool)
    occupied[0, 0, 0, :2] = occupied[1, 0, 0, 2] = True
    active = active_cells(flat(occupied), 4)
    asked = jnp.asarray([[0, 0, 1.0], [0, 0, 3.0], [0, 0, 10.0], [0, 0, 99.0]])
    np.testing.assert_allclose(attend(asked, active, 1, 1)[:, 0], [2, 2, 10, 0], rtol=1e-6)


def test_views_see_each_other_only_as_views_of_one_event():
    occupied = np.ones((1, 2, 1, 1), bool)
    active = active_cells(flat(occupied), 2)
    asked = jnp.asarray([[0, 0, 1.0], [0, 0, 3.0]])
    assert attend(asked, active, 2, 1)[:, 0].tolist() == [2, 2]
    assert attend(asked, active, 1, 1)[:, 0].tolist() == [1, 3]


def test_places_and_flags():
    occupied, _ = events()
    active = active_cells(flat(occupied), 40)
    np.testing.assert_array_equal(occupied_cells(active, VIEWS), occupied.reshape(len(occupied), -1))
    count = int(occupied.sum())
    expected = np.nonzero(occupied.reshape(len(occupied), -1))[1]
    np.testing.assert_array_equal(place_in_event(active, VIEWS)[:count], expected)
    assert int(place_in_event(active, VIEWS).max()) < PLACES


def test_as_the_twin(meeting, run):
    occupied, cells = events()
    found = run(flat(occupied), flat(cells))
    for row in range(len(occupied)):
        expected = twin.meet(meeting, cells[row].astype(np.float64), occupied[row])
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_events_do_not_see_each_other(run):
    occupied, cells = events(seed=1)
    found = run(flat(occupied), flat(cells))
    others, theirs = events(seed=2)
    for row in range(2, len(occupied)):
        changed, values = others.copy(), theirs.copy()
        changed[row], values[row] = occupied[row], cells[row]
        again = run(flat(changed), flat(values))
        np.testing.assert_allclose(again[row], found[row], rtol=1e-5, atol=1e-6)
        assert not np.allclose(again[5 - row], found[5 - row], atol=1e-3)


def test_every_cell_of_an_event_counts(run):
    """A change in one view is seen by all cells of the other, however far."""
    occupied = np.ones((1, VIEWS, ROWS, COLUMNS), bool)
    cells = events(seed=3)[1][:1]
    moved = cells.copy()
    moved[0, 1, 2, 1] += np.eye(CHANNELS, dtype=np.float32)[0]
    before, after = run(flat(occupied), flat(cells)), run(flat(occupied), flat(moved))
    assert float(jnp.abs(after[:, :CHANNELS] - before[:, :CHANNELS]).min()) > 0


def test_slopes_of_empty_events_are_finite(meeting):
    definition, params = nnx.split(meeting)

    @jax.jit
    def slope(params, occupied, cells):
        active = active_cells(occupied, 10)
        features = cells.reshape(-1, CHANNELS)[jnp.minimum(active.cell, cells.size // CHANNELS - 1)]
        return jax.grad(lambda p: jnp.square(nnx.merge(definition, p, copy=True)(features, active)).sum())(
            params
        )

    occupied, cells = events(2)
    for chosen in (occupied, np.zeros_like(occupied)):
        slopes = slope(nnx.as_pure(params), flat(chosen), flat(cells))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))


def test_fresh_blocks_change_nothing():
    """Training begins with what the convolutions found."""
    block = CellAttention(CHANNELS, 2, rngs=nnx.Rngs(1))
    occupied, _ = events()
    active = active_cells(flat(occupied), 40)
    features = jnp.asarray(np.random.default_rng(4).normal(size=(40, CHANNELS)), jnp.float32)
    np.testing.assert_array_equal(block(features, active, VIEWS), features)


@pytest.mark.parametrize("heads", [0, 4])
def test_channels_that_cannot_be_shared_out(heads):
    with pytest.raises(ConfigError, match=f"6 channels and {heads} heads"):
        CellAttention(6, heads, rngs=nnx.Rngs(0))


def test_one_program_a_shape(run):
    counts = []
    for seed in (5, 6, 7):
        occupied, cells = events(seed=seed)
        run(flat(occupied), flat(cells))
        counts.append(run._cache_size())
    assert counts[1:] == counts[:1] * 2
