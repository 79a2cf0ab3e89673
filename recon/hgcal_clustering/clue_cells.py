"""CLUE on the cells of a calorimeter: the clustering of `recon.hgcal_clustering.clue` without a search.

The neighbours of a cell are known (`CellGraph`), so the density of a hit is a sum over at most six look-ups and its
nearest higher hit the first of them that is higher. A few hits need more: those in cells with more neighbours, and
those that are not dense and have found nothing, which look on up to the outlier radius. They are collected in lists
of fixed capacity; what does not fit sets the overflow flag, and on the host the event is repeated with longer lists.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.errors import DataError
from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.clue import no_clusters
from recon.hgcal_clustering.points import check_weights
from recon.padding import bucket_size
from recon.ranges import compact
from recon.types import NOISE, Array, DensityClusters

KAPPA = 9.0
"""Least density of a seed in units of the noise of its cell, `kappa` of hgcalLayerClusters_cfi."""

FEW = 16_384
"""Hits from which on events are padded in finer steps."""

BLOCK = 1024

OTHER_WEIGHT = 0.5
"""What a neighbour adds to the density, as a factor on its energy."""


class CellCapacity(NamedTuple):
    """Lengths of the lists of hits that need more than the six nearest neighbours.

    Attributes:
        more: hits in cells with more neighbours.
        far: hits that look on up to the outlier radius.
    """

    more: int
    far: int


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
    used = np.ones(len(cell), bool) if valid is None else np.asarray(valid)
    side = np.zeros(len(cell), bool) if backward is None else np.asarray(backward)
    order = _cell_order(graph, cell, side, used)
    _check_hits(energy, rho_c, used)
    if not len(cell):
        return no_clusters()
    n, both = len(order), bool(side[order].any())
    # Padding is work here: fine steps for large events.
    size = bucket_size(n, 256, 2 if n < FEW else 8)
    known = {} if known is None else known
    capacity = known.setdefault(size, CellCapacity(bucket_size(n // 16, 64, 2), bucket_size(n // 8, 64, 2)))
    columns = (_padded(column[order], size) for column in (cell, energy, rho_c))
    inputs = (*columns, _padded(side[order], size), np.arange(size) < n)
    result, needed = _cluster(graph, *inputs, capacity=capacity, both=both)
    if result.overflow:
        capacity = CellCapacity(*(bucket_size(int(count), 64, 2) for count in needed))
        known[size] = CellCapacity(*map(max, zip(known[size], capacity, strict=True)))
        result, _ = _cluster(graph, *inputs, capacity=known[size], both=both)
    return _in_order(result, order, len(cell))


def clue_cells_padded(
    graph: CellGraph,
    cell: Int32[Array, " n"],
    energy: Float32[Array, " n"],
    rho_c: Float32[Array, " n"],
    backward: Bool[Array, " n"],
    valid: Bool[Array, " n"],
    *,
    capacity: CellCapacity,
    both: bool = True,
) -> DensityClusters:
    """The same inside a program: fixed capacities, no checks, an overflow flag.

    Args:
        graph: of the calorimeter.
        cell: of every hit, best in the order of endcap and cell: ties follow the rows here, and neighbours are near
            each other in memory. Cells of valid hits exist and are different; `clue_cells` checks that.
        energy: GeV.
        rho_c: least density of a seed, GeV.
        backward: hits of the other endcap.
        valid: false for padding, whose other fields may be anything.
        capacity: lengths of the lists of special hits, at least 1.
        both: whether there may be hits in both endcaps; else `backward` is not looked at.

    Returns:
        Clusters by row of the hits; a row that is not valid belongs to none.
    """
    hits = (jnp.asarray(column) for column in (cell, energy, rho_c, backward, valid))
    return _cluster_program(jax.tree.map(jnp.asarray, graph), *hits, capacity=capacity, both=both)[0]


class _Hits(NamedTuple):
    """Hits with a last row that stands for no hit: its density is below any."""

    cell: Int32[Array, " n"]
    base: Int32[Array, " n"]
    hit_of: Int32[Array, " s"]
    weight: Float32[Array, " n1"]
    valid: Bool[Array, " n"]

    def at(self, rows: Array, cells: Array) -> Array:
        """Hits in cells of the endcap of the hits `rows`; the number of hits where there is none."""
        return self.hit_of[self.base[rows] + cells]


def _cluster_program(
    graph: CellGraph,
    cell: Int32[Array, " n"],
    energy: Float32[Array, " n"],
    rho_c: Float32[Array, " n"],
    backward: Bool[Array, " n"],
    valid: Bool[Array, " n"],
    *,
    capacity: CellCapacity,
    both: bool,
) -> tuple[DensityClusters, tuple[Array, Array]]:
    """Clusters, and the lengths that the lists should have had."""
    n = cell.shape[0]
    hits = _index(graph, cell, energy, backward, valid, both)
    own = graph.near[hits.cell]
    special = valid & (own[:, -1] < 0)
    # Neighbours by slot, a row of hits a slot: one gather each instead of one for all.
    around = hits.hit_of[hits.base + jnp.where(own < 0, graph.n_cells, own).T]
    more_hit, n_more = compact(special, capacity.more)
    more = _more_neighbours(graph, hits, own, more_hit)

    rho = _densities(hits, around, more_hit, more)
    nearest = _first_higher(rho, around, jnp.arange(n, dtype=jnp.int32), rho[:-1])
    further = _first_higher(rho, more, more_hit, rho[more_hit])
    missing = nearest.at[more_hit].get(mode="fill", fill_value=0) < 0
    nearest = nearest.at[jnp.where(missing, more_hit, n)].set(further, mode="drop")

    far_hit, n_far = compact(valid & (nearest < 0) & (rho[:-1] < rho_c), capacity.far)
    nearest = nearest.at[far_hit].set(_far_higher(graph, hits, rho, far_hit), mode="drop")
    delta = _distance(graph, cell, nearest)
    overflow = (n_more > capacity.more) | (n_far > capacity.far)
    clusters = assign(jnp.where(valid, rho[:-1], 0), delta, nearest, rho_c, valid, overflow)
    return clusters, (n_more, n_far)


_cluster = partial(jax.jit, static_argnames=("capacity", "both"))(_cluster_program)


def _index(graph: CellGraph, cell: Array, energy: Array, backward: Array, valid: Array, both: bool) -> _Hits:
    """The table from cells to hits."""
    n, n_slots = cell.shape[0], graph.n_cells + 1
    base = jnp.where(backward, n_slots, 0) if both else jnp.zeros(n, jnp.int32)
    place = jnp.where(valid, base + cell, n_slots * (1 + both))
    empty = jnp.full(n_slots * (1 + both), n, jnp.int32)
    hit_of = empty.at[place].set(jnp.arange(n, dtype=jnp.int32), mode="drop", unique_indices=True)
    weight = jnp.append(jnp.where(valid, energy, 0), 0)
    return _Hits(jnp.where(valid, cell, 0), base, hit_of, weight, valid)


def _more_neighbours(graph: CellGraph, hits: _Hits, own: Array, rows: Array) -> Int32[Array, "m k"]:
    """Hits in the sixth and further neighbours of the hits `rows`."""
    there = rows < hits.cell.shape[0]
    row = -1 - own.at[rows, -1].get(mode="fill", fill_value=-1)
    cells = jnp.where(there[:, None], graph.more[jnp.maximum(row, 0)], graph.n_cells)
    return hits.at(jnp.minimum(rows, hits.cell.shape[0] - 1)[:, None], cells).T


def _densities(hits: _Hits, around: Array, more_hit: Array, more: Array) -> Float32[Array, " n1"]:
    """Density of every hit, and -1 for none."""

    def add(table: Array, start: Array) -> Array:
        return jax.lax.fori_loop(
            0, table.shape[0], lambda slot, total: total + hits.weight[table[slot]], start
        )

    near = add(around, jnp.zeros(hits.cell.shape[0]))
    extra = add(more, jnp.zeros(more.shape[1]))
    neighbours = near.at[more_hit].add(extra, mode="drop", unique_indices=True)
    return jnp.append(hits.weight[:-1] + OTHER_WEIGHT * neighbours, -1.0)


def _higher(rho: Array, candidate: Array, row: Array, here: Array) -> Array:
    """Whether candidates (or no hit: a row too many) are of higher density than hits with these rows and densities."""
    there = rho[candidate]
    # No hit has the highest row but a density below any.
    return (there > here) | ((there == here) & (candidate > row))


def _first_higher(rho: Array, table: Array, row: Array, here: Array) -> Int32[Array, " k"]:
    """The first of the candidates, one line a slot, that is of higher density than hits; -1 where there is none."""
    n_slots = table.shape[0]

    def visit(turn: Array, best: Array) -> Array:
        candidate = table[n_slots - 1 - turn]
        return jnp.where(_higher(rho, candidate, row, here), candidate, best)

    return jax.lax.fori_loop(0, n_slots, visit, jnp.full(row.shape[0], NOISE, jnp.int32))


def _far_higher(graph: CellGraph, hits: _Hits, rho: Array, rows: Array) -> Int32[Array, " k"]:
    """The same among the neighbours up to the outlier radius."""

    def find(rows: Array) -> Array:
        return _far_of(graph, hits, rho, rows)

    def by_blocks(rows: Array) -> Array:
        n = rows.shape[0]
        padded = jnp.pad(rows, (0, -n % BLOCK), constant_values=hits.cell.shape[0])
        return jax.lax.map(find, padded.reshape(-1, BLOCK)).reshape(-1)[:n]

    # A block of lists stays in the cache of a processor, and is as long as its own longest list only.
    return jax.lax.platform_dependent(rows, cpu=by_blocks, default=find)


def _far_of(graph: CellGraph, hits: _Hits, rho: Array, rows: Array) -> Int32[Array, " k"]:
    n = hits.cell.shape[0]
    row = jnp.minimum(rows, n - 1)
    start = graph.far_start[hits.cell[row]]
    count = jnp.where(rows < n, graph.far_start[hits.cell[row] + 1] - start, 0)
    longest = jnp.max(count, initial=0)
    here = rho[row]

    def visit(turn: Array, best: Array) -> Array:
        slot = longest - 1 - turn
        neighbour = graph.far[jnp.where(slot < count, start + slot, 0)]
        candidate = hits.at(row, jnp.where(slot < count, neighbour, graph.n_cells))
        return jnp.where(_higher(rho, candidate, row, here), candidate, best)

    return jax.lax.fori_loop(0, longest, visit, jnp.full(rows.shape[0], NOISE, jnp.int32))


def _distance(graph: CellGraph, cell: Array, nearest: Array) -> Float32[Array, " n"]:
    """From every hit to its nearest higher one; mm in silicon, in (eta, phi) in scintillator."""
    x, y = graph.place[0][cell], graph.place[1][cell]
    apart = jnp.abs(y[nearest] - y)
    apart = jnp.where(graph.is_tile[cell], jnp.minimum(apart, 2 * jnp.pi - apart), apart)
    return jnp.where(nearest < 0, jnp.inf, jnp.sqrt((x[nearest] - x) ** 2 + apart**2))


def _cell_order(graph: CellGraph, cell: np.ndarray, side: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Rows of the valid hits by endcap and cell, every cell checked."""
    bad = used & ((cell < 0) | (cell >= graph.n_cells))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"cell is {cell[row]} in row {row}: allowed are 0 to {graph.n_cells - 1}")
    rows = np.flatnonzero(used)
    key = np.where(side, graph.n_cells, 0).astype(np.int64) + cell
    if (np.diff(key[rows]) > 0).all():
        return rows
    bits = max(len(cell) - 1, 1).bit_length()
    packed = np.sort((key[rows] << bits) | rows)
    order = packed & ((1 << bits) - 1)
    twice = np.flatnonzero(packed[1:] >> bits == packed[:-1] >> bits)
    if twice.size:
        one, other = order[twice[0]], order[twice[0] + 1]
        raise DataError(
            f"rows {one} and {other} are two hits in cell {cell[one]}: allowed is one a cell; add them up"
        )
    return order


def _check_hits(energy: np.ndarray, rho_c: np.ndarray, used: np.ndarray) -> None:
    check_weights("energy", np.where(used, energy, 0))
    check_weights("rho_c", np.where(used, rho_c, 0))


def _in_order(clusters: DensityClusters, order: np.ndarray, n: int) -> DensityClusters:
    """Bring hits back into the order of the input, and number the clusters in it."""
    found = DensityClusters(*(np.asarray(column) for column in clusters))
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


def _padded(column: np.ndarray, size: int) -> np.ndarray:
    return np.pad(column, (0, size - len(column)))
