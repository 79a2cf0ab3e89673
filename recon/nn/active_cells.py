"""Convolutions on the few cells of an image that hold anything.

An image of an event is empty but for a few hundred pixels. Cut into patches of 4 x 4, 95 of 100 are empty: what
follows keeps a list of the others, and convolves only there and only from there (submanifold sparse convolutions,
Graham and van der Maaten, arXiv:1706.01307). One list serves all images of a batch; its length is a capacity, and a
flag says when it was too short.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

TAPS = 9
"""Of a 3 x 3 kernel, row by row; tap 8 - k sees the cell that tap k is seen from."""
CHILDREN = 4
"""Cells that become one in the next coarser image."""


class ActiveCells(NamedTuple):
    """The cells that hold something, of all images of a batch.

    Attributes:
        cell: image * rows * columns + row * columns + column; one past the last for padding.
        neighbors: rows of this list, the 3 x 3 around every cell; the length of the list where nothing is.
        valid: false for padding.
        overflow: true when there are more cells than the list holds: what follows must not be used.
        grid: images, rows and columns; static.
    """

    cell: Int32[Array, " t"]
    neighbors: Int32[Array, "t 9"]
    valid: Bool[Array, " t"]
    overflow: Bool[Array, ""]
    grid: tuple[int, int, int]


def active_cells(occupied: Bool[Array, "n h w"], capacity: int) -> ActiveCells:
    """List the cells that hold something, by image, row and column.

    Args:
        occupied: which do.
        capacity: length of the list.
    """
    n, h, w = occupied.shape
    total = n * h * w
    (cell,) = jnp.nonzero(occupied.reshape(-1), size=capacity, fill_value=total)
    cell = cell.astype(jnp.int32)
    valid = cell < total
    image, place = cell // (h * w), cell % (h * w)
    # With a frame of nothing around every image there are no borders to look after.
    width, size = w + 2, n * (h + 2) * (w + 2)
    framed = (image * (h + 2) + place // w + 1) * width + place % w + 1
    framed = jnp.where(valid, framed, size)
    row_of = jnp.full(size + 1, capacity, jnp.int32).at[framed].set(jnp.arange(capacity, dtype=jnp.int32))
    row_of = row_of.at[size].set(capacity)
    steps = jnp.array([down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1)], jnp.int32)
    around = row_of[jnp.clip(framed[:, None] + steps, 0, size)]
    neighbors = jnp.where(valid[:, None], around, capacity)
    return ActiveCells(cell, neighbors, valid, occupied.sum() > capacity, (n, h, w))


def with_zero_row(rows: Float32[Array, t * c]) -> Float32[Array, t1 * c]:
    """A last row of zeros, for what points nowhere."""
    return jnp.concatenate([rows, jnp.zeros((1, *rows.shape[1:]), rows.dtype)])


@jax.custom_vjp
def gather_neighbors(
    features: Float32[Array, "t c"], neighbors: Int32[Array, "t 9"]
) -> Float32[Array, "t k"]:
    """Features of the 3 x 3 cells around every cell, side by side; 0 where nothing is.

    The slope is gathered, not scattered: whom a cell sees at tap k sees it at tap 8 - k.
    """
    return with_zero_row(features)[neighbors].reshape(len(neighbors), -1)


def _gather_forward(features: Array, neighbors: Array) -> tuple[Array, Array]:
    return gather_neighbors(features, neighbors), neighbors


def _gather_backward(neighbors: Array, slope: Array) -> tuple[Array, None]:
    slopes = with_zero_row(slope.reshape(len(neighbors), TAPS, -1))
    total = slopes[neighbors[:, 0], TAPS - 1]
    for tap in range(1, TAPS):
        total = total + slopes[neighbors[:, tap], TAPS - 1 - tap]
    return total, None


gather_neighbors.defvjp(_gather_forward, _gather_backward)


class Merging(NamedTuple):
    """How cells become those of the next coarser image, 2 x 2 to one.

    Attributes:
        children: rows of the finer list, of every coarser cell; the length of that list where nothing is.
        parent: row of the coarser list, of every finer cell; the length of that list for padding.
        place: which child it is.
    """

    children: Int32[Array, "u 4"]
    parent: Int32[Array, " t"]
    place: Int32[Array, " t"]


def coarser(occupied: Bool[Array, "n h w"]) -> Bool[Array, "n H W"]:
    """Which cells of twice the size hold something; an odd row or column stands alone."""
    n, h, w = occupied.shape
    even = jnp.pad(occupied, ((0, 0), (0, h % 2), (0, w % 2)))
    return even.reshape(n, (h + 1) // 2, 2, (w + 1) // 2, 2).any((2, 4))


def merging(fine: ActiveCells, coarse: ActiveCells) -> Merging:
    """Which cells of one list are in which of the other."""
    _, h, w = fine.grid
    n, rows, columns = coarse.grid
    total, missing = n * rows * columns, len(coarse.cell)
    image, place = fine.cell // (h * w), fine.cell % (h * w)
    row, column = place // w, place % w
    above = (image * rows + row // 2) * columns + column // 2
    row_of = jnp.full(total + 1, missing, jnp.int32).at[coarse.cell].set(jnp.arange(missing, dtype=jnp.int32))
    row_of = row_of.at[total].set(missing)
    parent = jnp.where(fine.valid, row_of[jnp.clip(above, 0, total)], missing)
    child = 2 * (row % 2) + column % 2
    children = jnp.full((missing + 1, CHILDREN), len(fine.cell), jnp.int32)
    children = children.at[parent, child].set(jnp.arange(len(fine.cell), dtype=jnp.int32))[:-1]
    return Merging(children, parent, child)


@jax.custom_vjp
def gather_children(features: Float32[Array, "t c"], merge: Merging) -> Float32[Array, "u k"]:
    """Features of the four cells that become one, side by side; 0 where nothing is."""
    return with_zero_row(features)[merge.children].reshape(len(merge.children), -1)


def _children_forward(features: Array, merge: Merging) -> tuple[Array, Merging]:
    return gather_children(features, merge), merge


def _children_backward(merge: Merging, slope: Array) -> tuple[Array, None]:
    slopes = with_zero_row(slope.reshape(len(merge.children), CHILDREN, -1))
    return slopes[merge.parent, merge.place], None


gather_children.defvjp(_children_forward, _children_backward)


def dense_cells(features: Float32[Array, "t c"], active: ActiveCells) -> Float32[Array, "n h w c"]:
    """The image again: features in their cells, 0 elsewhere."""
    n, h, w = active.grid
    image = jnp.zeros((n * h * w + 1, features.shape[1]), features.dtype)
    return image.at[active.cell].add(features)[:-1].reshape(n, h, w, -1)
