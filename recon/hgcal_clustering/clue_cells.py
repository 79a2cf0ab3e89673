"""CLUE on the cells of a calorimeter: the clustering of `recon.hgcal_clustering.clue` without a search.

The neighbours of a cell are known (`CellGraph`), so the density of a hit is a sum over at most six look-ups and its
nearest higher hit the first of them that is higher. A few hits need more: those in cells with more neighbours, and
those that are not dense and have found nothing, which look on up to the outlier radius. They are collected in lists
of fixed capacity; what does not fit sets the overflow flag, and on the host the event is repeated with longer lists.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from recon.errors import DataError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.cell_program import CellCapacity, NeededCapacity, cluster_cells
from recon.hgcal_clustering.clue import no_clusters
from recon.hgcal_clustering.points import check_weights
from recon.padding import bucket_size
from recon.types import NOISE, Array, DensityClusters

KAPPA = 9.0
"""Least density of a seed in units of the noise of its cell, `kappa` of hgcalLayerClusters_cfi."""

FEW = 16_384
"""Hits from which on events are padded in finer steps: padding is work here."""


def clue_cells(
    graph: CellGraph,
    cell: Int32[np.ndarray, " n"],
    energy: Float32[np.ndarray, " n"],
    rho_c: Float32[np.ndarray, " n"],
    *,
    backward: Bool[np.ndarray, " n"] | None = None,
    valid: Bool[np.ndarray, " n"] | None = None,
    known: dict[int, CellCapacity] | None = None,
) -> DensityClusters:
    """Cluster the hits of an event within their layers.

    Of hits of equal density the one in the cell with the highest number counts as densest, of hits at equal distance
    the one in the cell with the lowest as nearest: the clusters do not depend on the order of the hits.

    Args:
        graph: of the calorimeter.
        cell: of every hit, no two alike in one endcap.
        energy: GeV.
        rho_c: least density of a seed, GeV: `KAPPA` times the noise of the cell.
        backward: hits of the other endcap, which has the same cells; none by default.
        valid: false for padding.
        known: capacities that were enough for former events, by number of hits; it is kept up to date.

    Returns:
        Host arrays; the numbers of clusters follow the rows of their seeds. Never overflows.

    Raises:
        DataError: energies that are negative or not finite, a cell that does not exist or has two hits.
    """
    n_rows = len(cell)
    used = None if valid is None or np.all(valid) else np.asarray(valid)
    side = None if backward is None or not np.any(backward) else np.asarray(backward)
    order = _cell_order(graph, cell, side, used)
    for name, column in (("energy", energy), ("rho_c", rho_c)):
        check_weights(name, column if used is None else np.where(used, column, 0))
    if not n_rows:
        return no_clusters()
    n = n_rows if order is None else len(order)
    size = bucket_size(n, 256, 2 if n < FEW else 16)
    inputs = [
        None if column is None else _padded(column, order, size) for column in (cell, energy, rho_c, side)
    ]
    found = _cluster_all(graph, inputs, size, n, {} if known is None else known)
    if order is None:
        # In the order of the cells already, and so are the numbers of the clusters.
        return DensityClusters(*(column[:n] if column.ndim else column for column in found))
    return _in_order(found, order, n_rows)


def _cluster_all(
    graph: CellGraph, inputs: list[np.ndarray | None], size: int, n: int, known: dict[int, CellCapacity]
) -> DensityClusters:
    """The clusters of padded hits on the host, found again with longer lists where those of before are too short."""
    capacity = known.setdefault(size, CellCapacity(bucket_size(n // 32, 64, 2), bucket_size(n // 8, 64, 2)))
    result, needed = _cluster(graph, *inputs, n, capacity=capacity)
    if result.overflow:
        longer = CellCapacity(*(bucket_size(int(count), 64, 2) for count in needed))
        known[size] = CellCapacity(*map(max, zip(known[size], longer, strict=True)))
        result, _ = _cluster(graph, *inputs, n, capacity=known[size])
    return DensityClusters(*map(np.asarray, result))


@partial(jax.jit, static_argnames="capacity")
def _cluster(
    graph: CellGraph,
    cell: Int32[Array, " s"],
    energy: Float32[Array, " s"],
    rho_c: Float32[Array, " s"],
    backward: Bool[Array, " s"] | None,
    n_hits: Int32[Array, ""] | int,
    *,
    capacity: CellCapacity,
) -> tuple[DensityClusters, NeededCapacity]:
    """The program of the first hits of padded arrays."""
    valid = jnp.arange(len(cell)) < n_hits
    side = jnp.zeros(len(cell), bool) if backward is None else backward
    return cluster_cells(
        graph, cell, energy, rho_c, side, valid, capacity=capacity, both=backward is not None, ordered=True
    )


def _cell_order(
    graph: CellGraph, cell: np.ndarray, side: np.ndarray | None, used: np.ndarray | None
) -> Int64[np.ndarray, " n"] | None:
    """Rows of the valid hits by endcap and cell, every cell checked; `None` for all rows as they are."""
    if side is None and used is None and (cell[1:] > cell[:-1]).all():
        _check_cells(graph, cell, np.array([0, -1])[: len(cell)])
        return None
    rows = np.arange(len(cell)) if used is None else np.flatnonzero(used)
    _check_cells(graph, cell, rows)
    key = cell.astype(np.int64) if side is None else np.where(side, graph.n_cells, 0) + cell.astype(np.int64)
    if (np.diff(key[rows]) > 0).all():
        return rows
    bits = max(len(cell) - 1, 1).bit_length()
    packed = np.sort((key[rows] << bits) | rows)
    order: np.ndarray = packed & ((1 << bits) - 1)
    twice = np.flatnonzero(packed[1:] >> bits == packed[:-1] >> bits)
    if twice.size:
        one, other = order[twice[0]], order[twice[0] + 1]
        raise DataError(
            f"rows {one} and {other} are two hits in cell {cell[one]}: allowed is one a cell; add them up"
        )
    return order


def _check_cells(graph: CellGraph, cell: np.ndarray, rows: np.ndarray) -> None:
    bad = np.flatnonzero((cell[rows] < 0) | (cell[rows] >= graph.n_cells))
    if bad.size:
        row = rows[bad[0]] % len(cell)
        raise DataError(f"cell is {cell[row]} in row {row}: allowed are 0 to {graph.n_cells - 1}")


def _padded(column: np.ndarray, order: np.ndarray | None, size: int) -> np.ndarray:
    """The column in another order, and zeros behind it."""
    out = np.empty(size, column.dtype)
    n = len(column) if order is None else len(order)
    out[:n] = column if order is None else column[order]
    out[n:] = 0
    return out


def _in_order(found: DensityClusters, order: np.ndarray, n: int) -> DensityClusters:
    """Bring hits back into the order of the input, and number the clusters in it."""
    n_used = len(order)

    def spread(column: np.ndarray, empty: float | int) -> np.ndarray:
        out = np.full(n, empty, column.dtype)
        out[order] = column[:n_used]
        return out

    is_seed = spread(found.is_seed, False)
    number = (np.cumsum(is_seed) - 1).astype(np.int32)
    # Clusters were numbered in the order of the cells.
    renumbered = np.append(number[order[np.flatnonzero(found.is_seed[:n_used])]], np.int32(NOISE))
    nearest = found.nearest_higher[:n_used]
    nearest = np.where(nearest < 0, NOISE, order[nearest]).astype(np.int32)
    return DensityClusters(
        spread(renumbered[found.ids[:n_used]], NOISE),
        spread(found.rho, 0),
        spread(found.delta, np.inf),
        spread(nearest, NOISE),
        is_seed,
        found.n_clusters,
        found.overflow,
    )
