"""Hexagonal lattices: which cell of which wafer a point lies in."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

SQRT3 = math.sqrt(3.0)

NEIGHBOURS = np.array(
    [(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i, j) != (0, 0) and -2 <= i + j <= 2]
)
"""Steps to the cells of the two rings around a cell."""


def wafer_of(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], size: float
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Return the centre of the wafer that each point lies in.

    Args:
        x: mm.
        y: mm.
        size: distance between the centres of neighbouring wafers, along x among others, mm.

    Returns:
        x and y of the centre, mm.
    """
    # Turned by 90 degrees, a wafer is a cell with its neighbours at 90 and 30 degrees.
    i, j = _rounded(y / size, -x / size)
    turned_x, turned_y = _centre(i, j)
    return -turned_y * size, turned_x * size


def cell_of(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], pitch: float
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return the lattice coordinates of the hexagonal cell that each point lies in.

    The cells have their neighbours at 30, 90, 150, ... degrees, and a corner at the origin, as in CMS: no cell has its
    centre on the border between two wafers.

    Args:
        x: mm.
        y: mm.
        pitch: distance between the centres of neighbouring cells, mm.

    Returns:
        Coordinates (i, j), which `cell_centre` turns back.
    """
    return _rounded(x / pitch - 1.0 / SQRT3, y / pitch)


def cell_centre(
    i: Int[np.ndarray, "*n"], j: Int[np.ndarray, "*n"], pitch: float
) -> tuple[Float64[np.ndarray, "*n"], Float64[np.ndarray, "*n"]]:
    """Return x and y of the centre of cells of `cell_of`, mm."""
    x, y = _centre(i, j)
    return (x + 1.0 / SQRT3) * pitch, y * pitch


def morton_code(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], step: float
) -> Int64[np.ndarray, " n"]:
    """Interleave the bits of quantised coordinates: points that are close have codes that mostly are.

    Args:
        x: mm, from -2^15 to 2^15 steps.
        y: the same.
        step: of the quantisation, mm.
    """
    code = np.zeros(len(x), np.int64)
    for shift, values in enumerate((x, y)):
        bits = (np.floor(values / step).astype(np.int64) + 2**15) & 0xFFFF
        for width, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
            bits = (bits | (bits << width)) & mask
        code |= bits << shift
    return code


def _centre(i: Int[np.ndarray, "*n"], j: Int[np.ndarray, "*n"]) -> tuple[np.ndarray, np.ndarray]:
    """Unit lattice spanned by steps of length 1 at -30 and 30 degrees."""
    return (i + j) * (0.5 * SQRT3), (j - i) * 0.5


def _rounded(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point of the unit lattice: round all three redundant coordinates, repair the one that moved most."""
    i, j = x / SQRT3 - y, x / SQRT3 + y
    k = -i - j
    ri, rj, rk = np.rint(i), np.rint(j), np.rint(k)
    di, dj, dk = np.abs(ri - i), np.abs(rj - j), np.abs(rk - k)
    worst_i = (di > dj) & (di > dk)
    worst_j = ~worst_i & (dj > dk)
    ri, rj = np.where(worst_i, -rj - rk, ri), np.where(worst_j, -ri - rk, rj)
    return ri.astype(np.int64), rj.astype(np.int64)
