"""The table from cells to hits: by hand, against a dictionary, and what two hits in a cell do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.hgcal_clustering.cell_table import cell_table

pytestmark = pytest.mark.usefixtures("quick_programs")

make = jax.jit(cell_table, static_argnums=2, static_argnames="ordered")
find = jax.jit(lambda table, cells: table.find(cells, -1))


def test_by_hand():
    # Cells 8 and 15 share a word with each other, 7 and 16 are in the words beside it.
    table = make(np.array([7, 8, 15, 16], np.int32), np.ones(4, bool), 24, ordered=True)
    words = np.asarray(table.words)
    assert (words & 0xFFFFFF).tolist() == [0, 1, 3, 0]
    assert (words >> 24 & 0xFF).tolist() == [0b10000000, 0b10000001, 0b1, 0]
    assert find(table, np.array([6, 7, 8, 9, 15, 16, 23])).tolist() == [-1, 0, 1, -1, 2, 3, -1]


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
    found = find(table, np.arange(n_cells))
    assert found.tolist() == [hits.get(place, -1) for place in range(n_cells)]


def test_nothing():
    for ordered in (True, False):
        table = make(np.zeros(0, np.int32), np.zeros(0, bool), 20, ordered=ordered)
        assert table.words.tolist() == [0, 0, 0]
        padding = make(np.array([3, 4], np.int32), np.zeros(2, bool), 20, ordered=ordered)
        assert (np.asarray(find(padding, np.arange(20))) == -1).all()


@pytest.mark.parametrize("times", [2, 3, 4])
def test_of_hits_in_one_cell_one_at_most_finds_itself(times):
    rng = np.random.default_rng(times)

    def event(cell):
        others = rng.choice(np.setdiff1d(np.arange(20), [cell]), 6, replace=False)
        return rng.permutation(np.r_[others, np.full(times, cell)])

    shared = rng.integers(0, 20, 60)
    cells = np.stack([event(cell) for cell in shared]).astype(np.int32)

    def found(cells):
        return cell_table(cells, jnp.ones(len(cells), bool), 20).find(cells, -1)

    itself = np.asarray(jax.jit(jax.vmap(found))(cells)) == np.arange(cells.shape[1])
    assert (((cells == shared[:, None]) & itself).sum(1) <= 1).all()


def test_in_a_batch():
    cells = np.array([[5, 2, 9], [1, 0, 3]], np.int32)

    @jax.jit
    @jax.vmap
    def rows(cell):
        return cell_table(cell, jnp.ones(3, bool), 10).find(jnp.array([2, 3]), -1)

    found = rows(cells)
    assert found.tolist() == [[1, -1], [-1, 2]]
