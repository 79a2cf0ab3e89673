"""Tiles on the host: a sort of points such that all neighbours of a point lie in a few contiguous ranges.

Up to three axes are cut into tiles as wide as the search reaches; the first of them, along which points of a row of
tiles lie in order, into quarters of that. A point finds its neighbours in the rows beside its own, each a window of
slots (`recon.hgcal_clustering.windows`). The tiles only limit the search: which points are close enough is decided
by their distance, so the result does not depend on them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32

from recon.errors import DataError
from recon.hgcal_clustering.windows import Windows

QUARTERS = 4
"""Cuts of a tile along the first axis: finer windows hold fewer points that are too far away."""

_TILED_AXES = 3
_LIMITS = (1 << 20, 1 << 12, 1 << 8)
"""Tiles an axis is cut into at most; the next smaller number where the product would be too large."""

_MOST_BATCHES = 1 << 24
_NEAR_IN_MEMORY = 1 << 14
_MARGIN = 1 + 1e-5
"""Distances are computed in single precision: a tile is wider than the reach by more than their rounding."""


class Tiles(NamedTuple):
    """Sorted points and their windows.

    Attributes:
        order: row of every point in the order of the tiles.
        windows: ranges of places in that order; `query` are places, too.
    """

    order: Int32[np.ndarray, " n"]
    windows: Windows


class _Axis(NamedTuple):
    """One axis cut into tiles.

    Attributes:
        tile: of every point, 0 to n_tiles - 1.
        n_tiles: number of tiles; the last one is followed by the first.
        offsets: where neighbours lie, in tiles.
        wraps: whether the first tile has a neighbour in the last; else that one is empty.
    """

    tile: Int[np.ndarray, " n"]
    n_tiles: int
    offsets: tuple[int, ...]
    wraps: bool


class _Grid(NamedTuple):
    """The axes that are cut, the contiguous one apart."""

    rows: list[_Axis]
    fine: _Axis
    periodic: bool

    @property
    def n_tiles(self) -> int:
        return math.prod(axis.n_tiles for axis in self.rows) * self.fine.n_tiles


def search_tiles(
    points: Float[np.ndarray, "n d"],
    reach: float | Sequence[float] | Float[np.ndarray, " d"],
    *,
    rank: Int[np.ndarray, " n"],
    batch: Int[np.ndarray, " n"] | None = None,
    batch_reach: int = 0,
    periods: Float[np.ndarray, " d"] | None = None,
    query: Int[np.ndarray, " q"] | None = None,
) -> Tiles:
    """Sort points into tiles and find the windows of those that search.

    Args:
        points: coordinates, finite.
        reach: how far apart neighbours are along each coordinate at most.
        rank: unique numbers from 0 to n - 1, the order of points within a tile.
        batch: number of the layer or event of every point; windows hold points of the own batch only.
        batch_reach: how many batches before and after the own one are searched, too (layers of a shower).
        periods: after which a coordinate comes back to itself; infinite where it does not.
        query: rows of the points that search; all by default.

    Raises:
        DataError: batches too far apart to search from one to the next.

    Example:
        All layer clusters within 40 mm in (x, y) on the same or one of five layers on either side:

        >>> import numpy as np
        >>> xy, layer = np.array([[0.0, 0.0], [30.0, 0.0], [90.0, 0.0]]), np.array([3, 5, 3])
        >>> tiles = search_tiles(xy, 40.0, rank=np.arange(3), batch=layer, batch_reach=5)
        >>> low, high = tiles.windows.low[:, 0], tiles.windows.high[:, 0]
        >>> sorted({int(tiles.order[slot]) for a, b in zip(low, high) for slot in range(a, b)})
        [0, 1]
    """
    n, n_axes = points.shape
    reach = np.broadcast_to(np.asarray(reach, float), (n_axes,)) * _MARGIN
    periods = np.full(n_axes, np.inf) if periods is None else np.asarray(periods, float)
    bits = max(n, 1).bit_length()
    grid = _grid(points, reach, periods, batch, batch_reach, bits)
    row = np.zeros(n, np.int64)
    for axis in grid.rows:
        row = row * axis.n_tiles + axis.tile
    key = row * grid.fine.n_tiles + grid.fine.tile
    packed = np.sort((key << bits) | rank)
    row_of = np.empty(n, np.int32)
    row_of[rank] = np.arange(n, dtype=np.int32)
    order = row_of[packed & ((1 << bits) - 1)]
    low, high = _windows(packed >> bits, grid, order if query is None else query)
    return Tiles(order, _longest_first(low, high, order, query))


def pad_windows(windows: Windows, capacity: int, n_points: int) -> Windows:
    """Add queries without windows, up to a capacity."""
    spare = capacity - len(windows.query)
    return Windows(
        np.pad(windows.query, (0, spare), constant_values=n_points),
        np.pad(windows.low, ((0, 0), (0, spare))),
        np.pad(windows.high, ((0, 0), (0, spare))),
    )


def _grid(
    points: np.ndarray,
    reach: np.ndarray,
    periods: np.ndarray,
    batch: np.ndarray | None,
    batch_reach: int,
    bits: int,
) -> _Grid:
    """Cuts the axes; what is sorted later is one integer of 62 bits, the tile and `bits` for the rank."""
    first, *others = _tiled_axes(points, reach, periods)
    for limit in _LIMITS:
        rows = [_batch_axis(batch, batch_reach)] if batch is not None else []
        rows += [_row_axis(points[:, axis], reach[axis], periods[axis], limit) for axis in others]
        fine = _fine_axis(points[:, first], reach[first], periods[first], limit)
        grid = _Grid(rows, fine, bool(np.isfinite(periods[first])))
        if grid.n_tiles.bit_length() + bits <= 62:
            return grid
    raise DataError(f"{rows[0].n_tiles} batches with {len(points)} points are too many to sort into tiles")


def _tiled_axes(points: np.ndarray, reach: np.ndarray, periods: np.ndarray) -> list[int]:
    """The axes with most tiles, at most three; the first one is not periodic, if there is such a one."""
    extent = np.array([np.ptp(x) if len(x) else 0.0 for x in points.T], float)
    n_tiles = np.minimum(extent, periods) / reach
    chosen = np.argsort(-n_tiles, kind="stable")[:_TILED_AXES].tolist()
    return sorted(chosen, key=lambda axis: (np.isfinite(periods[axis]), -n_tiles[axis], axis))


def _row_axis(x: np.ndarray, reach: float, period: float, limit: int) -> _Axis:
    if np.isfinite(period):
        count = int(np.clip(period // reach, 1, limit))
        tile, wraps = _periodic_tile(x, period, count), True
    else:
        place = np.floor((x.astype(float) - x.min(initial=np.inf)) / reach)
        n_tiles = place.max(initial=0) + 2
        # Where there are more tiles than the limit, distant ones share a row, which costs time only.
        count, wraps = int(min(n_tiles, limit)), bool(n_tiles > limit)
        tile = (np.mod(place, count) if wraps else place).astype(np.int64)
    return _Axis(tile, count, {1: (0,), 2: (0, 1)}.get(count, (-1, 0, 1)), wraps)


def _periodic_tile(x: np.ndarray, period: float, count: int) -> np.ndarray:
    return np.minimum((np.mod(x.astype(float), period) * (count / period)).astype(np.int64), count - 1)


def _batch_axis(batch: np.ndarray, batch_reach: int) -> _Axis:
    batch = np.asarray(batch, np.int64)
    tile = batch - batch.min(initial=np.iinfo(np.int64).max)
    if batch_reach == 0:
        if tile.max(initial=0) >= _MOST_BATCHES:
            tile = np.unique(batch, return_inverse=True)[1]
        return _Axis(tile, int(tile.max(initial=0)) + 1, (0,), False)
    count = int(tile.max(initial=0)) + 1 + batch_reach
    if count > _MOST_BATCHES:
        raise DataError(
            f"the batches span {count} numbers: allowed are {_MOST_BATCHES} to search from one to another"
        )
    offsets = tuple(range(-batch_reach, batch_reach + 1))
    if count < len(offsets):
        return _Axis(tile, count, tuple(range(count)), True)
    return _Axis(tile, count, offsets, False)


def _fine_axis(x: np.ndarray, reach: float, period: float, limit: int) -> _Axis:
    """Along this axis windows are ranges of tiles: `offsets` are the first and the last."""
    width = reach / QUARTERS
    if np.isfinite(period):
        count = int(np.clip(period // width, 1, limit))
        wide = QUARTERS if count > 2 * QUARTERS + 1 else count
        return _Axis(_periodic_tile(x, period, count), count, (-wide, wide), wide < count)
    place = x.astype(float) - x.min(initial=np.inf)
    width = max(width, place.max(initial=0) / (limit - 2 * QUARTERS - 1))
    tile = (place / width).astype(np.int64) + QUARTERS
    return _Axis(tile, int(tile.max(initial=0)) + QUARTERS + 1, (-QUARTERS, QUARTERS), False)


def _windows(keys: np.ndarray, grid: _Grid, searching: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of every window of the points that search."""
    find = _finder(keys, grid.n_tiles)
    spans = _spans(grid.fine, grid.fine.tile[searching])
    low, high = [], []
    for row in _neighbour_rows(grid.rows, searching):
        first = row * grid.fine.n_tiles
        for begin, end in spans:
            low.append(find(first + begin))
            high.append(find(first + end))
    return np.stack(low), np.stack(high)


def _spans(fine: _Axis, place: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ranges of tiles along the contiguous axis that hold all neighbours: one, or two where it is periodic."""
    begin, end = place + fine.offsets[0], place + fine.offsets[1] + 1
    if not fine.wraps:
        return [(np.maximum(begin, 0), np.minimum(end, fine.n_tiles))]
    # What sticks out at one end comes in at the other; both ends cannot happen at once.
    below, over = begin < 0, np.maximum(end - fine.n_tiles, 0)
    around = np.where(below, begin + fine.n_tiles, 0), np.where(below, fine.n_tiles, over)
    return [(np.maximum(begin, 0), np.minimum(end, fine.n_tiles)), around]


def _neighbour_rows(rows: Sequence[_Axis], searching: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the rows of tiles beside those of the points that search, the own ones included."""
    tiles = [axis.tile[searching] for axis in rows]
    for offsets in itertools.product(*(axis.offsets for axis in rows)):
        number = np.zeros(len(searching), np.int64)
        for axis, tile, offset in zip(rows, tiles, offsets, strict=True):
            moved = tile + offset
            if axis.wraps and offset:
                moved += np.where(moved < 0, axis.n_tiles, 0) - np.where(
                    moved >= axis.n_tiles, axis.n_tiles, 0
                )
            number *= axis.n_tiles
            number += moved
        # One step before the very first row is outside of the table, and as empty.
        yield np.maximum(number, -1)


def _finder(keys: np.ndarray, n_keys: int) -> Callable[[np.ndarray], np.ndarray]:
    """Function (key) -> number of points with smaller keys: a table where it is small, else a binary search."""
    if n_keys > 16 * len(keys) + (1 << 16):
        return lambda key: np.searchsorted(keys, key).astype(np.int32)
    start = np.zeros(n_keys + 1, np.int32)
    np.cumsum(np.bincount(keys, minlength=n_keys), out=start[1:])
    return lambda key: start[np.maximum(key, 0)]


def _longest_first(low: np.ndarray, high: np.ndarray, order: np.ndarray, query: np.ndarray | None) -> Windows:
    """Puts queries with windows of similar length beside each other, but none far from its neighbours in memory."""
    n = len(order)
    if query is None:
        place = np.arange(n, dtype=np.int32)
    else:
        place_of = np.empty(n, np.int32)
        place_of[order] = np.arange(n, dtype=np.int32)
        place = place_of[query]
    length = np.zeros(low.shape[1], np.int32)
    for begin, end in zip(low, high, strict=True):
        length += np.maximum(end - begin, 0)
    length = np.minimum(length, 0xFFFF).astype(np.uint16)
    turns = [
        begin + np.argsort(~length[begin : begin + _NEAR_IN_MEMORY], kind="stable")
        for begin in range(0, len(length), _NEAR_IN_MEMORY)
    ]
    turn = np.concatenate([np.zeros(0, np.int64), *turns])
    return Windows(place[turn], np.take(low, turn, 1, mode="clip"), np.take(high, turn, 1, mode="clip"))
