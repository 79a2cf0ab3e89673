"""The chain of the calorimeter: hits to showers, top to bottom.

    hits -> CLUE in every layer          -> layer clusters -> CLUE3D         -> tracksters
    hits -> density peaks in every layer -> layer clusters -> lines of sight -> tracksters
    hits -> CLUE in three dimensions                                         -> tracksters
    hits -> CLUE in every layer          -> layer clusters -> CLUE in three dimensions, or seeds and a network -> ...

Searches run as compiled programs on padded arrays; the tiles that limit them are made on the host. `find_showers` is
what users call: it checks the event, pads it, and returns arrays without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, Int32

from recon.errors import CapacityError, DataError
from recon.hgcal_clustering.association import hit_clusters
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.cell_program import CellCapacity
from recon.hgcal_clustering.checks import LEAST_ROWS, check_rechits, pad_rows
from recon.hgcal_clustering.clue3d import clue3d
from recon.hgcal_clustering.clue_cells import clue_cells
from recon.hgcal_clustering.clue_clusters import clue_clusters
from recon.hgcal_clustering.clue_hits import clue_hits
from recon.hgcal_clustering.clue_layers import clue_layers
from recon.hgcal_clustering.cluster_times import ClusterTimes, cluster_times
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.hybrid import condense
from recon.hgcal_clustering.imaging import imaging
from recon.hgcal_clustering.layer_clusters import layer_clusters
from recon.hgcal_clustering.multiclusters import multiclusters
from recon.hgcal_clustering.rows import join_rows
from recon.hgcal_clustering.shipped import load_network
from recon.hgcal_clustering.tracksters import make_tracksters
from recon.padding import bucket_size, pad_event
from recon.types import (
    NOISE,
    CalorimeterEvent,
    Clusters,
    DensityClusters,
    HitTimes,
    RecHits,
    Tracksters,
)

Clock = Callable[[str, Any], None]
"""Called with the name of a step and its result."""


class Showers(NamedTuple):
    """What was found in one event; host arrays without padding.

    Attributes:
        hit_trackster: for every hit the row of its trackster; `NOISE` for none.
        tracksters: showers; their members are the layer clusters, or the hits where there are no layer clusters.
        clusters: layer clusters; `None` where hits were clustered in three dimensions at once.
    """

    hit_trackster: Int32[np.ndarray, " n"]
    tracksters: Tracksters
    clusters: Clusters | None


_layer_clusters = jax.jit(layer_clusters, static_argnames=("config", "capacity"))
_tracksters = jax.jit(make_tracksters, static_argnames=("config", "capacity"))

STEPS = (_layer_clusters, _tracksters)

_cell_capacities: dict[int, CellCapacity] = {}
"""What was enough for former events, so that similar ones are not repeated."""


def find_layer_clusters(
    hits: RecHits,
    density: DensityClusters,
    config: HgcalConfig,
    *,
    scintillator: Bool[np.ndarray, " n"] | None = None,
    capacity: int | None = None,
) -> Clusters:
    """Layer clusters of one event from the groups of its hits, on the host and without padding.

    Args:
        hits: of the event.
        density: what clusters them.
        config: settings.
        scintillator: true for hits in scintillator tiles; none if not given.
        capacity: most layer clusters; what is needed if not given.

    Raises:
        CapacityError: more layer clusters than `capacity`.
    """
    n = len(hits.valid)
    length = bucket_size(n, LEAST_ROWS)
    tile = np.zeros(n, bool) if scintillator is None else scintillator
    room = _room("layer clusters", density, capacity)
    made, _ = jax.device_get(
        _layer_clusters(
            pad_event(hits, {"n": length}),
            _padded(density, length),
            config=config.layer_clusters,
            capacity=room,
            scintillator=pad_rows(tile, length),
        )
    )
    count = int(density.n_clusters)
    return Clusters(made.member_cluster[:n], *(column[:count] for column in made[1:]))


def cluster_layers(
    hits: RecHits, config: HgcalConfig, cells: CellGraph | None = None
) -> tuple[DensityClusters, Bool[np.ndarray, " n"]]:
    """Group the hits of every layer of both endcaps.

    Args:
        hits: on the host.
        config: settings; with a graph of the cells its radii are those of CLUE.
        cells: graph of the calorimeter; hits are searched by their positions, as if all were in silicon, if not given.

    Returns:
        The groups, and which hits lie in scintillator tiles.

    Raises:
        DataError: a cell that the calorimeter does not have, or that has two hits.
    """
    tile = in_scintillator(hits, cells)
    if config.method == "imaging":
        return imaging(hits, config.imaging, scintillator=tile).core(), tile
    if cells is None:
        return clue_layers(hits, config.layers), tile
    threshold = config.layers.kappa * hits.sigma_noise
    found = clue_cells(
        cells,
        hits.cell,
        hits.energy,
        threshold.astype(np.float32),
        backward=hits.position[:, 2] < 0,
        valid=hits.valid,
        known=_cell_capacities,
    )
    return found, tile


def endcaps(clusters: Clusters) -> Iterator[tuple[Clusters, Int[np.ndarray, " k"]]]:
    """The layer clusters of either endcap, and their rows."""
    for side in (-1, 1):
        rows = np.flatnonzero(clusters.valid & (np.sign(clusters.position[:, 2]) == side))
        yield Clusters(clusters.member_cluster, *(column[rows] for column in clusters[1:])), rows


def times_of(clusters: Clusters, times: HitTimes | None, config: HgcalConfig) -> ClusterTimes | None:
    """Times of the layer clusters where the method asks for them; `None` where it does not.

    Raises:
        DataError: it does, and the hits have none.
    """
    if config.method != "hybrid" or not config.hybrid.network.timing:
        return None
    return cluster_times(times, clusters.member_cluster, len(clusters.valid))


def associate_clusters(
    clusters: Clusters, config: HgcalConfig, times: ClusterTimes | None = None
) -> DensityClusters:
    """Put together the layer clusters of both endcaps, one after the other.

    Args:
        clusters: of the event.
        config: settings.
        times: of `times_of`.
    """
    parts = []
    for one, rows in endcaps(clusters):
        if config.method == "imaging":
            found = multiclusters(one, config.imaging, min_size=config.layer_clusters.min_size)
        elif config.method == "clusters":
            found = clue_clusters(one, config.clusters)
        elif config.method == "hybrid":
            network = load_network(config.hybrid.weights, config.hybrid.network)
            found = condense(one, network, config.hybrid, None if times is None else times.at(rows))
        else:
            found = clue3d(one, config.clue3d, min_size=config.layer_clusters.min_size)
        parts.append((found, rows))
    return join_rows(parts, len(clusters.valid))


def find_tracksters(
    members: RecHits | Clusters, density: DensityClusters, config: HgcalConfig, *, capacity: int | None = None
) -> Tracksters:
    """Tracksters of one event from the groups of their members, on the host and without padding.

    Args:
        members: layer clusters, or hits.
        density: what clusters them.
        config: settings.
        capacity: most tracksters; what is needed if not given.

    Raises:
        CapacityError: more tracksters than `capacity`.
    """
    n = len(members.valid)
    length = bucket_size(n, LEAST_ROWS)
    columns = (pad_rows(np.asarray(c), length) for c in (members.position, members.energy, members.layer))
    room = _room("tracksters", density, capacity)
    made, _ = jax.device_get(
        _tracksters(*columns, _padded(density, length), config=config.calibration, capacity=room)
    )
    count = int(density.n_clusters)
    return Tracksters(made.member_trackster[:n], *(column[:count] for column in made[1:]))


def find_showers(
    hits: RecHits | CalorimeterEvent,
    config: HgcalConfig | None = None,
    *,
    cells: CellGraph | None = None,
    max_layer_clusters: int | None = None,
    max_tracksters: int | None = None,
    clock: Clock = lambda *_: None,
) -> Showers:
    """Find the showers in both endcaps of one event.

    Args:
        hits: the hits of the event on the host; or the event, which alone brings times.
        config: settings; those of CMS if not given.
        cells: from `load_cells`: the neighbours of every cell, and which are scintillator tiles. Hits are searched by
            their positions, as if all were in silicon, if not given.
        max_layer_clusters: refuse events with more; no limit if not given.
        max_tracksters: refuse events with more; no limit if not given.
        clock: sees every step go by.

    Returns:
        Host arrays, not padded: the trackster of every hit, and one row for every trackster and layer cluster. An event
        without hits has none.

    Raises:
        DataError: a hit is not finite, has negative energy, or a cell that the calorimeter does not have; it is named.
            Or the network asks for times and the hits have none.
        CapacityError: a limit was given and is too small.

    Example:
        >>> from recon import hgcal_clustering
        >>> showers = hgcal_clustering.find_showers(event)  # doctest: +SKIP
    """
    config = config or HgcalConfig()
    times = hits.times if isinstance(hits, CalorimeterEvent) else None
    if isinstance(hits, CalorimeterEvent):
        hits = hits.hits
    check_rechits(hits)
    if config.method == "hits":
        density = clue_hits(hits, config.hits)
        clock("clue in three dimensions", density)
        tracksters = find_tracksters(hits, density, config, capacity=max_tracksters)
        clock("tracksters", tracksters)
        return Showers(tracksters.member_trackster, tracksters, None)
    density, tile = cluster_layers(hits, config, cells)
    clock(f"{'density peaks' if config.method == 'imaging' else 'clue'} in the layers", density)
    clusters = find_layer_clusters(hits, density, config, scintillator=tile, capacity=max_layer_clusters)
    clock("layer clusters", clusters)
    density = associate_clusters(clusters, config, times_of(clusters, times, config))
    clock("association", density)
    showers = showers_from_clusters(clusters, density, config, capacity=max_tracksters)
    clock("tracksters", showers.tracksters)
    return showers


def showers_from_clusters(
    clusters: Clusters, density: DensityClusters, config: HgcalConfig, *, capacity: int | None = None
) -> Showers:
    """The showers of one event from the groups of its layer clusters; arguments as for `find_tracksters`."""
    tracksters = find_tracksters(clusters, density, config, capacity=capacity)
    return Showers(hit_clusters(clusters, tracksters), tracksters, clusters)


def load_cells(config: HgcalConfig | None = None, geometry: EndcapGeometry | None = None) -> CellGraph:
    """The graph of the cells that `find_showers` takes, from the cache; made first where it lacks it.

    Args:
        config: settings, whose radii the graph is made for; those of CMS if not given.
        geometry: which endcap; the final detector if not given.
    """
    layers = (config or HgcalConfig()).layers
    return CellGraph.from_calorimeter(
        load_calorimeter(geometry or EndcapGeometry()),
        layers.d_c,
        tile_d_c=layers.d_c_tiles,
        outlier_delta_factor=layers.outlier_delta_factor,
    )


def in_scintillator(hits: RecHits, cells: CellGraph | None) -> Bool[np.ndarray, " n"]:
    """Which hits lie in scintillator tiles; none without cells.

    Raises:
        DataError: a cell that the calorimeter does not have.
    """
    if cells is None:
        return np.zeros(len(hits.valid), bool)
    cell, is_tile = np.asarray(hits.cell), np.asarray(cells.is_tile)
    bad = np.flatnonzero(hits.valid & ((cell < 0) | (cell >= len(is_tile))))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"hits.cell is {int(cell[row])} in row {row}; the calorimeter has the cells 0 to {len(is_tile) - 1} "
            f"({bad.size} such rows)"
        )
    return np.where(hits.valid, is_tile[np.where(hits.valid, cell, 0)], False)


def _room(what: str, density: DensityClusters, capacity: int | None) -> int:
    needed = int(density.n_clusters)
    if capacity is not None and needed > capacity:
        raise CapacityError(what, capacity, needed, f"max_{what.replace(' ', '_')}")
    return bucket_size(needed, LEAST_ROWS)


def _padded(density: DensityClusters, length: int) -> DensityClusters:
    fills = (NOISE, 0, np.inf, NOISE, False)
    columns = (
        np.pad(column, (0, length - len(column)), constant_values=fill)
        for column, fill in zip(density, fills, strict=False)
    )
    return DensityClusters(*columns, *density[len(fills) :])
