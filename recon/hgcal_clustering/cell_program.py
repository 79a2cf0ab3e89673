"""CLUE on the cells of a calorimeter as a traceable function: to be jitted, mapped over events and exported.

See `recon.hgcal_clustering.clue_cells`, whose program this is.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.cell_graph import SLOTS, CellGraph, places
from recon.hgcal_clustering.cell_table import CellTable, cell_table, take
from recon.ranges import compact
from recon.types import NOISE, Array, DensityClusters

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


class NeededCapacity(NamedTuple):
    """What the lists of `CellCapacity` should have had."""

    more: Int32[Array, ""]
    far: Int32[Array, ""]


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
    """CLUE inside a program: fixed capacities, no checks, an overflow flag.

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
    return cluster_cells(jax.tree.map(jnp.asarray, graph), *hits, capacity=capacity, both=both)[0]


def cluster_cells(
    graph: CellGraph,
    cell: Int32[Array, " n"],
    energy: Float32[Array, " n"],
    rho_c: Float32[Array, " n"],
    backward: Bool[Array, " n"],
    valid: Bool[Array, " n"],
    *,
    capacity: CellCapacity,
    both: bool,
    ordered: bool = False,
) -> tuple[DensityClusters, NeededCapacity]:
    """As `clue_cells_padded`, and the lengths that the lists should have had.

    Args:
        graph: of the calorimeter.
        cell: see `clue_cells_padded`, as all that follow.
        energy: GeV.
        rho_c: GeV.
        backward: hits of the other endcap.
        valid: false for padding.
        capacity: lengths of the lists.
        both: whether there may be hits in both endcaps.
        ordered: whether the valid hits come first, in the order of endcap and cell.
    """
    n = cell.shape[0]
    hits = _index(graph, cell, energy, backward, valid, both, ordered)
    rows = take(graph.cells, hits.cell)
    own, place = rows[:, :SLOTS], places(rows)
    special = valid & (own[:, -1] < 0)
    # Neighbours by slot, a row of hits a slot: one gather each instead of one for all.
    around = hits.table.find(hits.base + jnp.where(own < 0, graph.n_cells, own).T, n)
    more_hit, n_more = compact(special, capacity.more)
    more = _more_neighbours(graph, hits, own, more_hit)

    rho = _densities(hits, around, more_hit, more)
    nearest = _first_higher(rho, around, jnp.arange(n, dtype=jnp.int32), rho[:-1])
    further = _first_higher(rho, more, more_hit, rho[more_hit])
    missing = nearest.at[more_hit].get(mode="fill", fill_value=0) < 0
    nearest = nearest.at[jnp.where(missing, more_hit, n)].set(further, mode="drop")

    n_far = jnp.int32(0)
    # A graph without lists up to the outlier radius has but the one entry that is no cell.
    if graph.far.shape[0] > 1:
        far_hit, n_far = compact(valid & (nearest < 0) & (rho[:-1] < rho_c), capacity.far)
        nearest = nearest.at[far_hit].set(_far_higher(graph, hits, rho, far_hit), mode="drop")
    delta = _distance(place, take(graph.is_tile, hits.cell), nearest)
    overflow = (n_more > capacity.more) | (n_far > capacity.far)
    clusters = assign(jnp.where(valid, rho[:-1], 0), delta, nearest, rho_c, valid, overflow)
    return clusters, NeededCapacity(n_more, n_far)


class _Hits(NamedTuple):
    """Hits with a last row that stands for no hit: its density is below any."""

    cell: Int32[Array, " n"]
    base: Int32[Array, " n"]
    table: CellTable
    weight: Float32[Array, " n1"]

    def at(self, rows: Array, cells: Array) -> Array:
        """Hits in cells of the endcap of the hits `rows`; the number of hits where there is none."""
        return self.table.find(self.base[rows] + cells, self.cell.shape[0])


def _index(
    graph: CellGraph, cell: Array, energy: Array, backward: Array, valid: Array, both: bool, ordered: bool
) -> _Hits:
    """The hits and the table of who is where."""
    n_slots = graph.n_cells + 1
    base = jnp.where(backward, n_slots, 0) if both else jnp.zeros(cell.shape[0], jnp.int32)
    table = cell_table(base + cell, valid, n_slots * (1 + both), ordered=ordered)
    weight = jnp.append(jnp.where(valid, energy, 0), 0)
    return _Hits(jnp.where(valid, cell, 0), base, table, weight)


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
            0, table.shape[0], lambda slot, total: total + take(hits.weight, table[slot]), start
        )

    near = add(around, jnp.zeros(hits.cell.shape[0]))
    extra = add(more, jnp.zeros(more.shape[1]))
    neighbours = near.at[more_hit].add(extra, mode="drop", unique_indices=True)
    return jnp.append(hits.weight[:-1] + OTHER_WEIGHT * neighbours, -1.0)


def _higher(rho: Array, candidate: Array, row: Array, here: Array) -> Array:
    """Whether candidates (or no hit: a row too many) are of higher density than hits with these rows and densities."""
    there = take(rho, candidate)
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


def _distance(place: Array, is_tile: Array, nearest: Array) -> Float32[Array, " n"]:
    """From every hit to its nearest higher one; mm in silicon, in (eta, phi) in scintillator."""
    there = take(place, jnp.maximum(nearest, 0))
    apart = jnp.abs(there - place)
    turn = jnp.where(is_tile, jnp.minimum(apart[:, 1], 2 * jnp.pi - apart[:, 1]), apart[:, 1])
    return jnp.where(nearest < 0, jnp.inf, jnp.sqrt(apart[:, 0] ** 2 + turn**2))
