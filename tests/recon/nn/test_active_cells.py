"""Lists of active cells: by hand, and that slopes are those of the plain gather."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from recon.nn.active_cells import (
    active_cells,
    coarser,
    dense_cells,
    gather_children,
    gather_neighbors,
    merging,
    with_zero_row,
)


def occupancy(shape=(3, 5, 4), seed=0, share=0.3):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < share)


def test_by_hand():
    occupied = jnp.zeros((2, 2, 3), bool).at[0, 0, 2].set(True).at[0, 1, 1].set(True).at[1, 0, 0].set(True)
    active = active_cells(occupied, 5)
    assert active.cell.tolist() == [2, 4, 6, 12, 12]
    assert active.valid.tolist() == [True, True, True, False, False]
    assert not bool(active.overflow)
    # The second is below and to the left of the first; the third is in another image.
    assert active.neighbors[0].tolist() == [5, 5, 5, 5, 0, 5, 1, 5, 5]
    assert active.neighbors[1].tolist() == [5, 5, 0, 5, 1, 5, 5, 5, 5]
    assert active.neighbors[2].tolist() == [5, 5, 5, 5, 2, 5, 5, 5, 5]
    assert (active.neighbors[3:] == 5).all()


def test_borders_are_not_neighbors():
    # The last cell of a row and the first of the next follow each other in memory.
    occupied = jnp.zeros((1, 2, 3), bool).at[0, 0, 2].set(True).at[0, 1, 0].set(True)
    active = active_cells(occupied, 2)
    assert active.neighbors.tolist() == [[2] * 4 + [0] + [2] * 4, [2] * 4 + [1] + [2] * 4]


def test_too_many_cells_are_told():
    occupied = occupancy()
    count = int(occupied.sum())
    assert not bool(active_cells(occupied, count).overflow)
    assert bool(active_cells(occupied, count - 1).overflow)


def test_neighbors_as_shifts_of_the_image():
    occupied = occupancy()
    active = active_cells(occupied, 40)
    image = np.where(occupied[..., None], np.random.default_rng(1).normal(size=(*occupied.shape, 2)), 0)
    rows = with_zero_row(jnp.asarray(image.reshape(-1, 2), jnp.float32))[active.cell]
    found = gather_neighbors(rows, active.neighbors)
    framed = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = occupied.shape[1:]
    around = np.concatenate(
        [framed[:, down : down + h, right : right + w] for down in range(3) for right in range(3)], -1
    )
    count = int(occupied.sum())
    np.testing.assert_allclose(found[:count], around[np.asarray(occupied)], rtol=1e-6)
    assert float(jnp.abs(found[count:]).sum()) == 0


def test_slopes_are_those_of_the_plain_gather():
    fine = active_cells(occupancy(), 40)
    coarse = active_cells(coarser(occupancy()), 30)
    merge = merging(fine, coarse)
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(40, 3)), jnp.float32)
    weights = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((40, 27), (30, 12))]
    # Padding that something reads would make both sides differ: its rows are never pointed at.
    plain = [
        jax.grad(lambda x, index=index, w=w: (with_zero_row(x)[index].reshape(len(index), -1) * w).sum())
        for index, w in zip((fine.neighbors, merge.children), weights, strict=True)
    ]
    ours = [
        jax.grad(lambda x: (gather_neighbors(x, fine.neighbors) * weights[0]).sum()),
        jax.grad(lambda x: (gather_children(x, merge) * weights[1]).sum()),
    ]
    for one, other in zip(plain, ours, strict=True):
        np.testing.assert_allclose(one(features), other(features), rtol=1e-5, atol=1e-6)


def test_merging_by_hand():
    occupied = jnp.zeros((1, 3, 2), bool).at[0, 0, 1].set(True).at[0, 1, 0].set(True).at[0, 2, 1].set(True)
    fine, coarse = active_cells(occupied, 4), active_cells(coarser(occupied), 3)
    assert coarse.cell.tolist() == [0, 1, 2]
    merge = merging(fine, coarse)
    # Cell 1 is the upper right child, cell 2 the lower left; cell 5 is alone in the odd row.
    assert merge.children.tolist() == [[4, 0, 1, 4], [4, 2, 4, 4], [4, 4, 4, 4]]
    assert merge.parent.tolist() == [0, 0, 1, 3]
    assert merge.place.tolist()[:3] == [1, 2, 1]


def test_dense_is_the_way_back():
    occupied = occupancy(seed=3)
    active = active_cells(occupied, 50)
    image = np.where(occupied[..., None], np.random.default_rng(4).normal(size=(*occupied.shape, 3)), 0)
    rows = with_zero_row(jnp.asarray(image.reshape(-1, 3), jnp.float32))[active.cell]
    np.testing.assert_allclose(dense_cells(rows, active), image, rtol=1e-6)


def test_nothing_at_all():
    active = active_cells(jnp.zeros((2, 4, 4), bool), 3)
    assert not active.valid.any()
    assert (active.neighbors == 3).all()
    assert float(jnp.abs(dense_cells(jnp.ones((3, 2)), active)).sum()) == 0
