"""The chain from hits to showers as one traceable function, for export.

`recon.hgcal_clustering.pipeline` sorts and cuts on the host; here everything happens inside one program of static
shapes. Both run the same loops over the same neighbours. Sums over neighbours are taken in another order, so a density
may differ in its last bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.clue3d import (
    Clue3dConfig,
    far_reach,
    near_reach,
    search_far,
    search_near,
)
from recon.hgcal_clustering.clue_cells import CellCapacity, clue_cells_padded
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.layer_clusters import layer_clusters
from recon.hgcal_clustering.program import sort_into_tiles
from recon.hgcal_clustering.projective import line_points
from recon.hgcal_clustering.tiles import Tiles
from recon.hgcal_clustering.tracksters import make_tracksters
from recon.ranges import compact
from recon.types import Array, Clusters, DensityClusters, RecHits, Tracksters


class ChainCapacity(NamedTuple):
    """Lengths of the arrays inside.

    Attributes:
        cells: lists of hits that need more than six neighbours.
        layer_clusters: most layer clusters.
        tracksters: most tracksters.
    """

    cells: CellCapacity
    layer_clusters: int
    tracksters: int


def capacity_for(n_hits: int) -> ChainCapacity:
    """Lengths for events of the HGCAL of so many hits.

    All hits may look on beyond their neighbours, as noise does where there is nothing else. A quarter of them may lie
    in cells with more than six neighbours, half of them may be layer clusters, every sixteenth a trackster.
    """
    least = min(n_hits, 256)
    more, clusters, tracksters = (max(n_hits // part, least) for part in (4, 2, 16))
    return ChainCapacity(CellCapacity(more, n_hits), clusters, tracksters)


def layer_chain(
    graph: CellGraph, hits: RecHits, config: HgcalConfig, capacity: ChainCapacity
) -> tuple[Clusters, Bool[Array, ""]]:
    """Hits to layer clusters, both endcaps at once.

    Args:
        graph: of the calorimeter.
        hits: padded; cells of valid hits exist. Negative energies count as 0.
        config: settings.
        capacity: lengths of the arrays inside.

    Returns:
        The layer clusters, valid ones first, in the order of the rows of their seeds; and whether they are incomplete,
        for want of capacity or because two hits share a cell.
    """
    hits = hits._replace(energy=jnp.maximum(hits.energy, 0))
    backward = hits.position[:, 2] < 0
    density = clue_cells_padded(
        graph,
        hits.cell,
        hits.energy,
        config.layers.kappa * hits.sigma_noise,
        backward,
        hits.valid,
        capacity=capacity.cells,
    )
    tile = hits.valid & graph.is_tile[jnp.where(hits.valid, hits.cell, 0)]
    clusters, overflow = layer_clusters(
        hits, density, config.layer_clusters, capacity=capacity.layer_clusters, scintillator=tile
    )
    return clusters, overflow | _cell_twice(graph.n_cells, hits, backward)


def _cell_twice(n_cells: int, hits: RecHits, backward: Bool[Array, " n"]) -> Bool[Array, ""]:
    """Whether two hits share a cell: one of them finds another number than its own there."""
    row = jnp.arange(len(hits.cell), dtype=jnp.int32)
    place = jnp.where(hits.valid, hits.cell + backward * n_cells, 2 * n_cells)
    owner = jnp.zeros(2 * n_cells, jnp.int32).at[place].set(row, mode="drop")
    return (hits.valid & (owner.at[place].get(mode="fill", fill_value=0) != row)).any()


def shower_chain(
    graph: CellGraph, hits: RecHits, config: HgcalConfig, capacity: ChainCapacity
) -> tuple[Clusters, Tracksters, Bool[Array, ""]]:
    """Hits to layer clusters and tracksters; arguments and flag as for `layer_chain`."""
    clusters, overflow = layer_chain(graph, hits, config, capacity)
    density = clue3d_padded(clusters, config.clue3d, min_size=config.layer_clusters.min_size)
    tracksters, too_many = make_tracksters(
        clusters.position,
        clusters.energy,
        clusters.layer,
        density,
        config.calibration,
        capacity=capacity.tracksters,
    )
    return clusters, tracksters, overflow | too_many


def clue3d_padded(clusters: Clusters, config: Clue3dConfig, *, min_size: int = 2) -> DensityClusters:
    """CLUE3D inside a program, both endcaps at once; see `recon.hgcal_clustering.clue3d.clue3d`.

    Args:
        clusters: padded, none of the valid ones in the plane z = 0.
        config: parameters.
        min_size: least number of hits of a layer cluster.

    Returns:
        One row a layer cluster. Nothing can overflow.
    """
    valid = clusters.valid & (clusters.size >= min_size)
    position = jnp.where(valid[:, None], clusters.position, 0)
    points = line_points(position, clusters.energy, jnp.where(valid, clusters.layer, 0))
    near = search_near(
        points, valid, _line_tiles(position, points.layer, valid, near_reach(config), config), config
    )
    far = _line_tiles(position, points.layer, valid, far_reach(config), config)
    return search_far(points, valid, near, _of_rows(far, valid & ~near.settled), config)


def _line_tiles(
    position: Float32[Array, "n 3"],
    layer: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    reach: float,
    config: Clue3dConfig,
) -> Tiles:
    """The counterpart of `recon.hgcal_clustering.projective.find_tiles`."""
    n = len(layer)
    depth = jnp.where(valid, jnp.abs(position[:, 2]), 1)
    across = position[:, :2] / depth[:, None]
    plane = jnp.min(jnp.where(valid, depth, jnp.inf), initial=jnp.inf)
    radius = plane * jnp.min(
        jnp.where(valid, jnp.hypot(across[:, 0], across[:, 1]), jnp.inf), initial=jnp.inf
    )
    # How much longer a straight line can be than CMS's transverse distance: see `projective`.
    stretch = jnp.sqrt(1 + jnp.minimum(0.385 * reach / radius, math.pi / 2))
    limit = jnp.where(valid.any(), reach * stretch / plane, 1.0)
    limits = jnp.stack([limit, limit, jnp.full_like(limit, config.sibling_layers + 0.5)])
    projected = jnp.concatenate([across, layer[:, None].astype(jnp.float32)], 1)
    side = (position[:, 2] > 0).astype(jnp.int32)
    order, windows = sort_into_tiles(projected, valid, side, jnp.arange(n, dtype=jnp.int32), limits)
    return Tiles(order, windows)


def _of_rows(tiles: Tiles, searching: Bool[Array, " n"]) -> Tiles:
    """Only some rows search: theirs are the first windows, and all others are empty."""
    n = searching.shape[0]
    query, _ = compact(searching[tiles.order], n)
    there = query < n
    place = jnp.minimum(query, n - 1)
    low, high = tiles.windows.low[:, place], tiles.windows.high[:, place]
    return Tiles(tiles.order, tiles.windows._replace(query=query, low=low, high=jnp.where(there, high, low)))
