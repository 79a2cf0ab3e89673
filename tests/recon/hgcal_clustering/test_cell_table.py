"""The table from cells to hits: by hand, against a dictionary, and what two hits in a cell do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.hgcal_clustering.cell_table import cell_table

pytestmark = pytest.mark.usefixtures("quick_programs")

make = jax.jit(cell_table, static_argnums=2, static_argnames="ordered")


def test_by_hand():
    # Cells 8 and 15 share a word with each other, 7 and 16 are in the words beside it.
    table = cell_table(jnp.array([7, 8, 15, 16]), jnp.ones(4, bool), 24, ordered=True)
    assert [int(word) & 0xFFFFFF for word in table.words] == [0, 1, 3, 0]
    assert [int(word) >> 24 & 0xFF for word in table.words] == [0b10000000, 0b10000001, 0b1, 0]
    assert table.find(jnp.array([6, 7, 8, 9, 15, 16, 23]), 99).tolist() == [99, 0, 1, 99, 2, 3, 99]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("n", "n_cells"), [(1, 1), (8, 8), (60, 64), (500, 40_001)])
def test_against_a_dictionary(n, n_cells, ordered):
    rng = np.random.default_rng(n)
    cell = rng.choice(n_cells, n, replace=False)
    cell = np.sort(cell) if ordered else cell
    # Padding behind, with anything in it; without an order also in between.
    cell = np.r_[cell, rng.integers(0, n_cells, 5)].astype(np.int32)
    valid = np.arange(n + 5) < n
    if not ordered:
        shuffle = rng.permutation(n + 5)
        cell, valid = cell[shuffle], valid[shuffle]
    table = make(cell, valid, n_cells, ordered=ordered)
    hits = {int(cell[row]): row for row in np.flatnonzero(valid)}
    found = table.find(jnp.arange(n_cells), -1)
    assert found.tolist() == [hits.get(place, -1) for place in range(n_cells)]


def test_nothing():
    for ordered in (True, False):
        table = make(jnp.zeros(0, jnp.int32), jnp.zeros(0, bool), 20, ordered=ordered)
        assert table.words.tolist() == [0, 0, 0]
        if ordered:
            assert (np.asarray(table.find(jnp.arange(20), -1)) == -1).all()
    padding = make(jnp.array([3, 4]), jnp.zeros(2, bool), 20)
    assert (np.asarray(padding.find(jnp.arange(20), -1)) == -1).all()


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("cell", [0, 5, 7, 8])
def test_of_hits_in_one_cell_one_at_most_finds_itself(cell, times):
    rng = np.random.default_rng(times)
    for _ in range(20):
        others = rng.choice(np.setdiff1d(np.arange(20), [cell]), 6, replace=False)
        cells = rng.permutation(np.r_[others, np.full(times, cell)]).astype(np.int32)
        found = make(cells, jnp.ones(len(cells), bool), 20).find(jnp.asarray(cells), -1)
        assert (np.asarray(found) == np.arange(len(cells)))[cells == cell].sum() <= 1


def test_in_a_batch():
    cells = np.array([[5, 2, 9], [1, 0, 3]], np.int32)
    found = jax.vmap(lambda cell: cell_table(cell, jnp.ones(3, bool), 10).find(jnp.array([2, 3]), -1))(cells)
    assert found.tolist() == [[1, -1], [-1, 2]]
