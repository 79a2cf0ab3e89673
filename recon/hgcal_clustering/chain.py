"""The chain from hits to showers as one traceable function, for export.

`recon.hgcal_clustering.pipeline` sorts and cuts on the host; here everything happens inside one program of static
shapes. Both run the same loops over the same neighbours. Sums over neighbours are taken in another order, so a density
may differ in its last bit.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool

from recon.errors import ConfigError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.cell_program import CellCapacity, clue_cells_padded
from recon.hgcal_clustering.cell_table import cell_table
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.layer_clusters import layer_clusters
from recon.hgcal_clustering.padded import (
    clue3d_padded,
    clue_clusters_padded,
    clue_hits_padded,
    imaging_cores,
    multiclusters_padded,
)
from recon.hgcal_clustering.tracksters import make_tracksters
from recon.types import NOISE, Array, Clusters, DensityClusters, RecHits, Tracksters


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
        config: settings; with the method `imaging` layers are clustered by density peaks, with all others by CLUE.
        capacity: lengths of the arrays inside.

    Returns:
        The layer clusters, valid ones first, in the order of the rows of their seeds; and whether they are incomplete,
        for want of capacity or because two hits share a cell.
    """
    hits = hits._replace(energy=jnp.maximum(hits.energy, 0))
    backward = hits.position[:, 2] < 0
    tile = hits.valid & graph.is_tile[jnp.where(hits.valid, hits.cell, 0)]
    if config.method == "imaging":
        density = imaging_cores(
            hits.position, hits.energy, hits.layer, hits.sigma_noise, hits.valid, tile, config.imaging
        )
    else:
        density = clue_cells_padded(
            graph,
            hits.cell,
            hits.energy,
            config.layers.kappa * hits.sigma_noise,
            backward,
            hits.valid,
            capacity=capacity.cells,
        )
    clusters, overflow = layer_clusters(
        hits, density, config.layer_clusters, capacity=capacity.layer_clusters, scintillator=tile
    )
    return clusters, overflow | _cell_twice(graph.n_cells, hits, backward)


def _cell_twice(n_cells: int, hits: RecHits, backward: Bool[Array, " n"]) -> Bool[Array, ""]:
    """Whether two hits share a cell: one of them finds another number than its own there."""
    row = jnp.arange(len(hits.cell), dtype=jnp.int32)
    place = jnp.where(hits.valid, hits.cell + backward * n_cells, 0)
    found = cell_table(place, hits.valid, 2 * n_cells).find(place, NOISE)
    return (hits.valid & (found != row)).any()


def shower_chain(
    graph: CellGraph, hits: RecHits, config: HgcalConfig, capacity: ChainCapacity
) -> tuple[Clusters, Tracksters, Bool[Array, ""]]:
    """Hits to layer clusters and tracksters; arguments and flag as for `layer_chain`."""
    clusters, overflow = layer_chain(graph, hits, config, capacity)
    density = _associated(clusters, config)
    tracksters, too_many = make_tracksters(
        clusters.position,
        clusters.energy,
        clusters.layer,
        density,
        config.calibration,
        capacity=capacity.tracksters,
    )
    return clusters, tracksters, overflow | too_many


def _associated(clusters: Clusters, config: HgcalConfig) -> DensityClusters:
    """The layer clusters of both endcaps put together.

    Raises:
        ConfigError: a method that is not a single program.
    """
    columns = clusters.position, clusters.energy, clusters.layer
    large = clusters.valid & (clusters.size >= config.layer_clusters.min_size)
    if config.method == "clue3d":
        return clue3d_padded(*columns, large, config.clue3d)
    if config.method == "imaging":
        return multiclusters_padded(*columns, large, config.imaging)
    if config.method == "clusters":
        return clue_clusters_padded(*columns, clusters.valid, config.clusters)
    raise ConfigError(
        f"method {config.method!r} is no single program: allowed are clue3d, clusters and imaging"
    )


def hit_chain(
    hits: RecHits, config: HgcalConfig, capacity: ChainCapacity
) -> tuple[Tracksters, Bool[Array, ""]]:
    """Hits straight to tracksters by CLUE in three dimensions, both endcaps at once.

    Args:
        hits: padded; cells are not looked at. Negative energies count as 0.
        config: settings.
        capacity: of which the number of tracksters counts.

    Returns:
        The tracksters, whose members are hits, and whether they are incomplete.
    """
    energy = jnp.maximum(hits.energy, 0)
    density = clue_hits_padded(hits.position, energy, hits.layer, hits.valid, config.hits)
    return make_tracksters(
        hits.position, energy, hits.layer, density, config.calibration, capacity=capacity.tracksters
    )
