"""CLUE on free points as one traceable function: it can be jitted, mapped over events and exported.

`recon.hgcal_clustering.clue` sorts on the host, which on a CPU is several times as fast as a sort inside a program.
Here the device sorts, and finds the windows by binary search. Both then run the same loops and give the same
clusters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.clue import Radii, read_radii
from recon.hgcal_clustering.density import Measure, SortedPoints, densities, nearest_higher
from recon.hgcal_clustering.distances import Kernel, Metric, as_kernel, as_metric
from recon.hgcal_clustering.tiles import Tiles
from recon.hgcal_clustering.windows import Windows
from recon.types import NOISE, Array, DensityClusters

_TILED_AXES = 3
_LAST = np.iinfo(np.int32).max


def clue_padded(
    points: Float32[Array, "n d"],
    weights: Float32[Array, " n"],
    valid: Bool[Array, " n"],
    batch: Int32[Array, " n"] | None = None,
    *,
    rho_c: float | Array,
    radii: Radii,
    metric: str | Metric = "euclidean",
    kernel: str | Kernel = "flat",
    compat: str = "paper",
) -> DensityClusters:
    """Cluster points inside a program; see `recon.hgcal_clustering.clue.clue` for what is computed.

    Args:
        points: coordinates. Those of valid points are finite; the host's `clue` checks that.
        weights: not negative.
        valid: false for padding, whose other fields may be anything.
        batch: points of different batches do not see each other.
        rho_c: least density of a seed, one number or one a point.
        radii: of `radii_of`, or numbers that are traced.
        metric: a name or a `Metric`.
        kernel: a name or a `Kernel`.
        compat: which rank breaks ties: "paper" for the place in a sort by position and weight,
            "cluestering-2.11" for the row. The radii are taken as they are.

    Returns:
        Clusters by row; a row that is not valid belongs to none. Nothing can overflow.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> points = jnp.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 0.0]])
        >>> valid = jnp.array([True, True, True, False])
        >>> find = lambda *event: clue_padded(*event, rho_c=1.2, radii=radii_of(1.5))
        >>> jax.jit(find)(points, jnp.ones(4), valid).ids.tolist()
        [0, 0, -1, -1]
    """
    metric, kernel = as_metric(metric), as_kernel(kernel)
    n, n_axes = points.shape
    points = jnp.where(valid[:, None], points, 0)
    weights = jnp.where(valid, weights, 0)
    own = jnp.zeros(n, jnp.int32) if batch is None else batch
    # Padding comes after everything else, in a batch of its own.
    key = jnp.where(valid, 0, _LAST)
    rank = position_rank_padded(key, points, weights) if compat == "paper" else jnp.arange(n, dtype=jnp.int32)
    order, windows = _tiles(points, key, own, rank, jnp.max(jnp.stack([*map(jnp.asarray, radii)])), metric)
    measure = Measure(jnp.asarray(metric.on_axes(n_axes)), jnp.asarray(kernel.parameters, jnp.float32))
    in_order = SortedPoints(tuple(points[order].T), weights[order], rank[order])
    threshold = jnp.broadcast_to(jnp.asarray(rho_c, jnp.float32), (n,))
    rho = densities(
        in_order, windows, jnp.asarray(radii.density), measure, metric=metric.name, kernel=kernel.name
    )
    reach = jnp.where(rho >= threshold[order], radii.seeding, radii.outlier)
    place, apart = nearest_higher(
        in_order, rho, windows, reach, measure, metric=metric.name, ties_at_zero=compat == "paper"
    )
    back = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32), unique_indices=True)
    nearest = jnp.where(place < 0, NOISE, order[place])
    return assign(rho[back], apart[back], nearest[back], threshold, valid)


def radii_of(
    d_c: float,
    outlier_delta_factor: float = 2.0,
    seeding_distance: float | None = None,
    compat: str = "paper",
) -> Radii:
    """The radii of `clue_padded` from the settings of `clue`.

    Raises:
        ConfigError: settings out of range.
    """
    return read_radii(d_c, outlier_delta_factor, seeding_distance, compat)


def tiles_padded(
    points: Float32[Array, "n d"], valid: Bool[Array, " n"], batch: Int32[Array, " n"] | None = None
) -> Tiles:
    """Do what `recon.hgcal_clustering.tiles.search_tiles` does inside a program.

    The windows of a point hold all that are within 1 along every axis.

    Args:
        points: coordinates in units of the reach; those of padding may be anything.
        valid: false for padding, which has no windows and lies in none.
        batch: windows hold points of the own batch only.
    """
    points = jnp.where(valid[:, None], points, 0)
    row = jnp.arange(points.shape[0], dtype=jnp.int32)
    own = jnp.zeros_like(row) if batch is None else batch
    return Tiles(*_tiles(points, jnp.where(valid, 0, _LAST), own, row, jnp.float32(1), Metric()))


def position_rank_padded(
    key: Int32[Array, " n"], points: Float32[Array, "n d"], weights: Float32[Array, " n"]
) -> Int32[Array, " n"]:
    """Do what `recon.hgcal_clustering.points.position_rank` does inside a program, by a key before all else."""
    n = points.shape[0]
    row = jnp.arange(n, dtype=jnp.int32)
    columns = (key, *points.T, weights, row)
    order = jax.lax.sort(columns, num_keys=len(columns))[-1]
    return jnp.zeros(n, jnp.int32).at[order].set(row, unique_indices=True)


class _Rows(NamedTuple):
    """Rows of tiles and the axis along which points of a row are sorted.

    Attributes:
        keys: what points are sorted by before that axis: padding, batch, tiles of the other axes.
        steps: for each neighbouring row, how the keys differ from the own; by tile axis.
        counts: number of tiles of each tile axis, 0 where there is no end.
        x: the last key.
        period: of that axis, infinite for none.
    """

    keys: tuple[Array, ...]
    steps: list[tuple[int, ...]]
    counts: tuple[Array, ...]
    x: Array
    period: float


def _tiles(
    points: Array, key: Array, batch: Array, rank: Array, radius: Array, metric: Metric
) -> tuple[Int32[Array, " n"], Windows]:
    n, n_axes = points.shape
    periods = metric.periods(n_axes)
    # The reach of a metric grows with the radius.
    reach = radius * jnp.asarray(metric.reach(1.0, n_axes), jnp.float32) * (1 + 1e-5)
    tiled = sorted(range(n_axes), key=lambda axis: (bool(np.isfinite(periods[axis])), axis))[:_TILED_AXES]
    first, *others = tiled
    tiles = [_tile(points[:, axis], key == 0, reach[axis], periods[axis]) for axis in others]
    x = points[:, first]
    x = jnp.mod(x, periods[first]) if np.isfinite(periods[first]) else x
    keys = (key, batch, *(tile for tile, _ in tiles))
    columns = (*keys, x, rank, jnp.arange(n, dtype=jnp.int32))
    *sorted_keys, sorted_x, _, order = jax.lax.sort(columns, num_keys=len(columns) - 1)
    steps = list(itertools.product((-1, 0, 1), repeat=len(others)))
    rows = _Rows(tuple(sorted_keys), steps, tuple(count for _, count in tiles), sorted_x, periods[first])
    low, high = _windows(rows, reach[first])
    return order, Windows(jnp.arange(n, dtype=jnp.int32), low, high)


def _tile(x: Array, valid: Array, reach: Array, period: float) -> tuple[Array, Array]:
    """Tile of every point along an axis, and the number of tiles for a periodic axis (else 0)."""
    if np.isfinite(period):
        count = jnp.maximum(jnp.floor(period / reach), 1)
        tile = jnp.minimum(jnp.floor(jnp.mod(x, period) * (count / period)), count - 1)
        return tile.astype(jnp.int32), count.astype(jnp.int32)
    low = jnp.min(jnp.where(valid, x, jnp.inf))
    extent = jnp.max(jnp.where(valid, x - low, 0))
    # Wider than the reach by more than the rounding of the tile's number.
    tile = jnp.floor((x - low) / (reach + 4e-7 * extent))
    return jnp.where(valid, jnp.clip(tile, 0, 2.0**30), 0).astype(jnp.int32), jnp.asarray(0, jnp.int32)


def _windows(rows: _Rows, reach: Array) -> tuple[Int32[Array, "r n"], Int32[Array, "r n"]]:
    """Windows of all points, in the order of the tiles."""
    here = rows.keys[0] == 0
    wanted, begins, ends, exist = [], [], [], []
    for step in rows.steps:
        keys, exists = list(rows.keys), here
        for axis, (offset, count) in enumerate(zip(step, rows.counts, strict=True), start=2):
            if offset:
                # Around a periodic axis, two tiles have one neighbour each and a single one has none.
                exists = exists & ((count == 0) | (count > 2) | ((count == 2) & (offset == 1)))
                moved = keys[axis] + offset
                keys[axis] = jnp.where(count == 0, moved, jnp.mod(moved, jnp.maximum(count, 1)))
        for begin, end in _spans(rows.x, reach, rows.period):
            wanted.append(keys)
            begins.append(begin)
            ends.append(end)
            exist.append(exists)
    # All windows in one loop: a loop each would take most of a minute to compile.
    keys = [jnp.stack(column) for column in zip(*wanted, strict=True)]
    low = _count_below(rows, keys, jnp.stack(begins), inclusive=False)
    high = _count_below(rows, keys, jnp.stack(ends), inclusive=True)
    return low, jnp.where(jnp.stack(exist), high, low)


def _spans(x: Array, reach: Array, period: float) -> list[tuple[Array, Array]]:
    """Ranges of the coordinate that are searched; on a periodic axis there is one around its end, too."""
    if not np.isfinite(period):
        return [(x - reach, x + reach)]
    everything = 2 * reach >= period
    below, above = x - reach < 0, x + reach > period
    begin = jnp.where(below, x - reach + period, 0.0)
    end = jnp.where(below, period, x + reach - period)
    # An empty range where nothing sticks out.
    around = ~everything & (below | above)
    return [
        (jnp.where(everything, 0.0, x - reach), jnp.where(everything, period, x + reach)),
        (jnp.where(around, begin, 2 * period), jnp.where(around, end, -period)),
    ]


def _count_below(
    rows: _Rows, keys: Sequence[Int32[Array, "r n"]], x: Float32[Array, "r n"], *, inclusive: bool
) -> Int32[Array, "r n"]:
    """Number of points before places in the sort by (keys, x), those at the place counted or not."""
    n = x.shape[1]

    def is_below(at: Array) -> Array:
        there = rows.x[at]
        below = (there <= x) if inclusive else (there < x)
        for column, key in zip(reversed(rows.keys), reversed(keys), strict=True):
            other = column[at]
            below = (other < key) | ((other == key) & below)
        return below

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // 2
        below = is_below(jnp.minimum(middle, n - 1)) & (low < high)
        return jnp.where(below, middle + 1, low), jnp.where(below | (low >= high), high, middle)

    start = jnp.zeros(x.shape, jnp.int32), jnp.full(x.shape, n, jnp.int32)
    return jax.lax.fori_loop(0, n.bit_length(), halve, start)[0] if n else start[0]
