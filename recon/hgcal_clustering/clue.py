"""CLUE on free points: density, nearest higher point, seeds and clusters in 1 to 10 dimensions.

Every point gets a density rho, the weights within `d_c`, and looks for the nearest point of higher density. Dense
points (rho >= rho_c) that find none within the seeding distance are seeds, other points that find none within
`outlier_delta_factor * d_c` are outliers, and all others belong to the cluster of the point they found (M. Rovere,
Z. Chen, A. Di Pilato, F. Pantaleo, C. Seez, Front. Big Data 3:591315, 2020, arXiv:2001.09761).

On the host, NumPy sorts the points into tiles and finds windows, and a compiled program searches them. The result
is that of the definitions above for every pair of points: it depends neither on the tiles nor on the order of the
input. `recon.hgcal_clustering.program` has the same as one traceable function.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from recon.errors import ConfigError
from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.density import Measure, SortedPoints, densities, nearest_higher
from recon.hgcal_clustering.distances import Kernel, Metric, as_kernel, as_metric
from recon.hgcal_clustering.points import PointCloud, position_rank, read_points
from recon.hgcal_clustering.tiles import Tiles, pad_windows, search_tiles
from recon.hgcal_clustering.windows import Windows, by_row
from recon.padding import bucket_size
from recon.types import NOISE, Array, DensityClusters

COMPATIBILITY = ("paper", "cluestering-2.11")


class Radii(NamedTuple):
    """The distances of CLUE, in the unit of the metric.

    Attributes:
        density: points within this distance count for the density (d_c).
        seeding: how far dense points look for a denser one.
        outlier: how far other points look.
    """

    density: float | Array
    seeding: float | Array
    outlier: float | Array


def clue(
    points: Any,
    weights: Any = None,
    *,
    d_c: float,
    rho_c: Any,
    outlier_delta_factor: float = 2.0,
    seeding_distance: float | None = None,
    batch: Any = None,
    metric: str | Metric = "euclidean",
    kernel: str | Kernel = "flat",
    compat: str = "paper",
) -> DensityClusters:
    """Cluster points of any distribution.

    Ties are broken by rank: of points of equal density the one of highest rank counts as densest, of points at equal
    distance the one of lowest rank as nearest. The rank is the place in a sort by position and weight, so clusters
    do not depend on the order of the points; with "cluestering-2.11" it is the row.

    Args:
        points: coordinates, one row a point, (n, 1 to 10).
        weights: 1 by default.
        d_c: radius of the density.
        rho_c: least density of a seed, one number or one a point (for example a multiple of its noise).
        outlier_delta_factor: in units of `d_c`, how far points below `rho_c` look for a denser one.
        seeding_distance: how far points above do; `d_c` by default.
        batch: integers; points of different batches (layers, events) do not see each other.
        metric: a name, or a `Metric` where it has parameters.
        kernel: a name, or a `Kernel` where it has parameters.
        compat: "paper", or "cluestering-2.11" for what that version does: no point looks farther than the seeding
            distance, however large the outlier distance, and points without any density do not follow each other.

    Returns:
        Host arrays; the numbers of clusters follow the rows of their seeds. Never overflows.

    Raises:
        ConfigError: settings out of range.
        DataError: values that are not finite, negative weights, shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
        >>> clue(points, d_c=1.5, rho_c=1.5).ids.tolist()
        [0, 0, 0, 1, 1]
    """
    cloud = read_points(points, weights, batch)
    n, n_axes = cloud.points.shape
    metric, kernel = as_metric(metric), as_kernel(kernel)
    metric.on_axes(n_axes)
    radii = read_radii(d_c, outlier_delta_factor, seeding_distance, compat)
    threshold = _read_threshold(rho_c, n)
    if n == 0:
        return no_clusters()
    rank = position_rank(cloud.points, cloud.weights) if compat == "paper" else np.arange(n)
    names = {"metric": metric.name, "ties_at_zero": compat == "paper"}
    first = _sorted(cloud, rank, metric, kernel, radii.density)
    numbers = (np.asarray(radii, np.float32), _padded(threshold[first.tiles.order], first.capacity))
    found = _first_search(first.inputs, *numbers, **names, kernel=kernel.name)
    missing = _missing(found, threshold, radii)
    if missing.size:
        reach = _reach(np.asarray(found[0])[:n], threshold, radii)
        second = _sorted(cloud, rank, metric, kernel, float(reach[missing].max()), missing)
        rows = (_padded(reach[second.tiles.order], second.capacity), *found)
        found = _second_search(second.inputs, *rows, **names)
    valid = np.arange(first.capacity) < n
    clusters = _assign(*found, _padded(threshold, first.capacity), valid)
    return trimmed(clusters, n)


def read_radii(d_c: float, outlier_delta_factor: float, seeding_distance: float | None, compat: str) -> Radii:
    """Check the distances of CLUE; with "cluestering-2.11" no reach is above the seeding distance.

    Raises:
        ConfigError: values that are not positive and finite, an unknown compatibility.
    """
    if compat not in COMPATIBILITY:
        raise ConfigError(f"compat {compat!r}: allowed are {', '.join(COMPATIBILITY)}")
    seeding = d_c if seeding_distance is None else seeding_distance
    named = {"d_c": d_c, "outlier_delta_factor": outlier_delta_factor, "seeding_distance": seeding}
    for name, value in named.items():
        if not (np.isfinite(value) and value > 0):
            raise ConfigError(f"{name} = {value}: allowed are finite values above 0")
    outlier = outlier_delta_factor * d_c
    if compat == "cluestering-2.11":
        seeding = outlier = min(outlier, seeding)
    return Radii(float(d_c), float(seeding), float(outlier))


def no_clusters() -> DensityClusters:
    """The result for an empty event."""
    none, number = np.zeros(0, np.int32), np.asarray(0, np.int32)
    real = np.zeros(0, np.float32)
    return DensityClusters(none, real, real, none, np.zeros(0, bool), number, np.asarray(False))


def trimmed(clusters: DensityClusters, n: int) -> DensityClusters:
    """Host arrays without the padding of the points."""
    columns = (np.asarray(column) for column in clusters)
    return DensityClusters(*(column[:n] if column.ndim else column for column in columns))


class _Prepared(NamedTuple):
    """Points sorted for one search."""

    tiles: Tiles
    capacity: int
    inputs: _Inputs


class _Inputs(NamedTuple):
    """What a compiled search takes, padded."""

    points: SortedPoints
    windows: Windows
    order: Int32[Array, " n"]
    measure: Measure


def _sorted(
    cloud: PointCloud,
    rank: np.ndarray,
    metric: Metric,
    kernel: Kernel,
    radius: float,
    query: np.ndarray | None = None,
) -> _Prepared:
    n, n_axes = cloud.points.shape
    reach, periods = metric.reach(radius, n_axes), metric.periods(n_axes)
    tiles = search_tiles(cloud.points, reach, rank=rank, batch=cloud.batch, periods=periods, query=query)
    # Padding has no windows and costs next to nothing: few sizes, few programs.
    capacity = bucket_size(n, 256, 2)
    order = tiles.order
    places = np.arange(n, capacity, dtype=np.int32)
    points = SortedPoints(
        tuple(_padded(cloud.points[order, axis], capacity) for axis in range(n_axes)),
        _padded(cloud.weights[order], capacity),
        np.concatenate([rank[order].astype(np.int32), places]),
    )
    n_queries = capacity if query is None else bucket_size(len(query), 256, 2)
    windows = pad_windows(tiles.windows, n_queries, capacity)
    measure = Measure(metric.on_axes(n_axes), np.asarray(kernel.parameters, np.float32))
    return _Prepared(tiles, capacity, _Inputs(points, windows, np.concatenate([order, places]), measure))


@partial(jax.jit, static_argnames=("metric", "kernel", "ties_at_zero"))
def _first_search(
    inputs: _Inputs,
    radii: Float32[Array, 3],
    rho_c: Float32[Array, " n"],
    *,
    metric: str,
    kernel: str,
    ties_at_zero: bool,
) -> tuple[Array, Array, Array]:
    """(rho, distance, nearest higher point) in the order of the input, with no reach above `d_c`."""
    points, windows, order, measure = inputs
    d_c, seeding, outlier = radii
    found = densities(points, windows, d_c, measure, metric=metric, kernel=kernel)
    rho = jnp.zeros_like(points.weight).at[windows.query].set(found, mode="drop")
    reach = jnp.minimum(jnp.where(rho >= rho_c, seeding, outlier), d_c)
    place, apart = nearest_higher(
        points, rho, windows, reach, measure, metric=metric, ties_at_zero=ties_at_zero
    )
    none = jnp.full_like(order, NOISE), jnp.full_like(rho, jnp.inf)
    nearest, delta = _to_rows(inputs, place, apart, *none)
    return jnp.zeros_like(rho).at[order].set(rho), delta, nearest


@partial(jax.jit, static_argnames=("metric", "ties_at_zero"))
def _second_search(
    inputs: _Inputs,
    reach: Float32[Array, " n"],
    rho: Float32[Array, " n"],
    delta: Float32[Array, " n"],
    nearest: Int32[Array, " n"],
    *,
    metric: str,
    ties_at_zero: bool,
) -> tuple[Array, Array, Array]:
    """The same, looked up farther away for the queries of `inputs`."""
    place, apart = nearest_higher(
        inputs.points,
        rho[inputs.order],
        inputs.windows,
        reach,
        inputs.measure,
        metric=metric,
        ties_at_zero=ties_at_zero,
    )
    nearest, delta = _to_rows(inputs, place, apart, nearest, delta)
    return rho, delta, nearest


def _to_rows(
    inputs: _Inputs, place: Array, apart: Array, nearest: Array, delta: Array
) -> tuple[Array, Array]:
    """Puts what queries found, places in the order of the tiles, into arrays in the order of the input."""
    order, query = inputs.order, inputs.windows.query
    found = jnp.where(place < 0, NOISE, order[place])
    return by_row(nearest, order, query, found), by_row(delta, order, query, apart)


@jax.jit
def _assign(
    rho: Float32[Array, " n"],
    delta: Float32[Array, " n"],
    nearest: Int32[Array, " n"],
    rho_c: Float32[Array, " n"],
    valid: Array,
) -> DensityClusters:
    return assign(rho, delta, nearest, rho_c, valid)


def _reach(rho: np.ndarray, rho_c: np.ndarray, radii: Radii) -> np.ndarray:
    return np.where(rho >= rho_c, np.float32(radii.seeding), np.float32(radii.outlier))


def _missing(found: tuple[Array, Array, Array], rho_c: np.ndarray, radii: Radii) -> np.ndarray:
    """Rows that have found nothing yet and look farther than `d_c`."""
    if max(radii.seeding, radii.outlier) <= radii.density:
        return np.zeros(0, np.int64)
    n = len(rho_c)
    rho, nearest = np.asarray(found[0])[:n], np.asarray(found[2])[:n]
    return np.flatnonzero((nearest < 0) & (_reach(rho, rho_c, radii) > np.float32(radii.density)))


def _read_threshold(rho_c: Any, n: int) -> np.ndarray:
    threshold = np.asarray(rho_c, np.float32)
    if threshold.shape not in ((), (n,)):
        raise ConfigError(
            f"rho_c has the shape {threshold.shape}: allowed is one number, or one for each of {n}"
        )
    if np.isnan(threshold).any() or (threshold < 0).any():
        raise ConfigError("rho_c has values that are negative or no numbers: allowed are 0 and more")
    return np.broadcast_to(threshold, n)


def _padded(column: np.ndarray, capacity: int) -> np.ndarray:
    return np.pad(column, (0, capacity - len(column)))
