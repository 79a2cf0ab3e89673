"""The graph that the hybrid clustering works on: layer clusters on one side, shower candidates on the other.

Every layer cluster has edges to a few candidates near it, kept as a table with a fixed number of slots. Features are
logarithms and ratios of energies and distances, so that one network serves all energies and any pile-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy.spatial import cKDTree

from recon.errors import CapacityError, ConfigError
from recon.hgcal_clustering.checks import LEAST_ROWS
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, chosen_rows, project
from recon.hgcal_clustering.cluster_times import ClusterTimes, time_features
from recon.hgcal_clustering.neighbourhood import BANDS, RADII, surrounding_energy
from recon.hgcal_clustering.shower_candidates import Candidates, Points, best_pairs, find_candidates
from recon.padding import bucket_size
from recon.types import NOISE, Array, Clusters, DensityClusters

NODE_FEATURES = 9 + len(RADII) * (len(BANDS) + 1)
EDGE_FEATURES = 19
_FRONT_LAYERS = 26
_LEAST = 1e-3
_LEAST_AROUND = 1e-2
_SEEDS = ClusterClueConfig(d_c=25.0, rho_c=3.0, outlier_delta_factor=1.0)


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """How the graph is made.

    Attributes:
        seeds: CLUE that finds the candidates.
        separation: of seeds closer than this in the plane, at any depths, only the densest begins a candidate, mm.
        reach: candidates further from a layer cluster are none of its, mm.
        slots: candidates of a layer cluster.
        layers: of the calorimeter.
    """

    seeds: ClusterClueConfig = field(default_factory=lambda: _SEEDS)
    separation: float = 25.0
    reach: float = 300.0
    slots: int = 8
    layers: int = 50

    def __post_init__(self) -> None:
        if not self.reach > 0 or self.slots < 1 or self.layers < 1:
            raise ConfigError(
                f"GraphConfig: reach = {self.reach} must be above 0, slots = {self.slots} and layers = {self.layers} "
                "1 or more"
            )


class ShowerGraph(NamedTuple):
    """Layer clusters and their shower candidates.

    Attributes:
        nodes: features of the layer clusters.
        edges: features of a layer cluster and one of its candidates.
        candidate: row of the candidate; -1 in empty slots.
        higher: row, among `row`, of the nearest layer cluster of higher density; -1 for none.
        energy: of the layer clusters, GeV.
        scale: energy of the core of the first candidate, GeV.
        seed: row, among `row`, of the layer cluster that a candidate begins at; -1 for padding.
        row: of the layer clusters among those of the event; -1 for padding.
    """

    nodes: Float32[Array, "*b n f"]
    edges: Float32[Array, "*b n k g"]
    candidate: Int32[Array, "*b n k"]
    higher: Int32[Array, "*b n"]
    energy: Float32[Array, "*b n"]
    scale: Float32[Array, "*b n"]
    seed: Int32[Array, "*b s"]
    row: Int32[Array, "*b n"]


def shower_graph(
    clusters: Clusters, config: GraphConfig, times: ClusterTimes | None = None
) -> tuple[ShowerGraph, DensityClusters]:
    """Make the graph of one endcap; not padded.

    Args:
        clusters: layer clusters on the host.
        config: of the graph.
        times: of the layer clusters, which then are their last `cluster_times.TIME_FEATURES` features.

    Returns:
        The graph, and the density clustering of its layer clusters (rows of `ShowerGraph.row`).

    Raises:
        DataError: layer clusters that cannot be used; see `chosen_rows`.
        CapacityError: a layer number beyond those of the calorimeter.
    """
    seeds = config.seeds
    rows = chosen_rows(clusters, seeds.energy_min)
    layer, energy = clusters.layer[rows], clusters.energy[rows]
    if len(rows) and int(layer.max()) >= config.layers:
        raise CapacityError("layers", config.layers, int(layer.max()) + 1, "GraphConfig.layers")
    projected = project(clusters.position[rows], layer, seeds.plane, seeds.layer_step)
    density = clue(
        projected, energy, d_c=seeds.d_c, rho_c=seeds.rho_c, outlier_delta_factor=seeds.outlier_delta_factor
    )
    points = Points(projected[:, :2].astype(np.float64), energy.astype(np.float64), layer)
    density = join_seeds(points, density, config.separation)
    found = find_candidates(points, density, config.reach, config.layers)
    core = np.maximum(found.ring[1], 0).sum(1)
    preference = expected_core(points, found) * spread(points, found)
    table, filled = best_pairs(found, preference, len(rows), config.slots)
    pairs = table[filled]
    features = np.zeros((*table.shape, EDGE_FEATURES), np.float32)
    if len(pairs):
        features[filled] = edge_features(points, found, density, preference, pairs)
    candidate = np.full(table.shape, -1, np.int32)
    candidate[filled] = found.candidate[pairs]
    first = np.append(core, 0)[candidate[:, 0]]
    nodes = node_features(points, found, density, clusters.size[rows])
    if times is not None:
        nodes = np.concatenate([nodes, time_features(times.at(rows))], 1)
    made = ShowerGraph(
        nodes,
        features,
        candidate,
        np.asarray(density.nearest_higher, np.int32),
        energy,
        first.astype(np.float32),
        found.seed.astype(np.int32),
        rows.astype(np.int32),
    )
    return made, density


def join_seeds(points: Points, density: DensityClusters, separation: float) -> DensityClusters:
    """Let every seed near a denser one join it with all that is its own; the rest is numbered anew.

    A hadron that interacts twice makes two cores, one behind the other. What surrounds their common axis is the same
    for both, so that nothing could tell whose a layer cluster is.

    Args:
        points: layer clusters.
        density: of the same.
        separation: distance in the plane, mm; of equally dense seeds the one with the higher row counts as denser.
    """
    seed = np.flatnonzero(density.is_seed)
    seed = seed[np.lexsort((-seed, -density.rho[seed]))]
    into = np.arange(len(seed))
    for first, second in sorted(cKDTree(points.xy[seed]).query_pairs(separation)) if len(seed) else ():
        if into[first] == first and into[second] == second:
            into[second] = first
    kept = np.zeros(len(density.is_seed), bool)
    kept[seed[into == np.arange(len(seed))]] = True
    target = np.zeros(len(seed), np.int64)
    target[density.ids[seed]] = seed[into]
    number = np.cumsum(kept) - 1
    ids = np.where(density.ids >= 0, number[np.append(target, 0)[density.ids]], NOISE)
    return density._replace(ids=ids.astype(np.int32), is_seed=kept, n_clusters=np.int32(kept.sum()))


def node_features(
    points: Points, found: Candidates, density: DensityClusters, size: np.ndarray
) -> np.ndarray:
    """Features of layer clusters: of themselves, of their nearest higher, of the pile-up and of what surrounds them."""
    higher = density.nearest_higher
    ratio = np.append(points.energy, 0)[higher] / np.maximum(points.energy, _LEAST)
    columns = [
        np.log(np.maximum(points.energy, _LEAST)),
        points.layer / 20,
        points.layer >= _FRONT_LAYERS,
        np.log(found.pileup + 1e-6),
        np.hypot(*points.xy.T) / 1000,
        np.log(np.maximum(size, 1)),
        np.log(np.maximum(density.rho, _LEAST)),
        np.where(higher >= 0, _log(ratio), 0),
        np.minimum(density.delta / 25, 2),
        *np.log(surrounding_energy(points) + _LEAST_AROUND).T,
    ]
    return np.stack(columns, 1).astype(np.float32)


def edge_features(
    points: Points, found: Candidates, density: DensityClusters, preference: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """Features of some pairs: where the layer cluster is in the candidate, and what the candidate is like."""
    member, candidate, distance = found.member[pairs], found.candidate[pairs], found.distance[pairs]
    rivals = np.bincount(member, weights=preference[pairs], minlength=len(points.layer))[member]
    layer = points.layer[member]
    positive = np.maximum(found.ring, 0)
    inner, core, ring, halo = positive.sum(2)
    share = positive[1] / np.maximum(core, _LEAST)[:, None]
    begin = (np.cumsum(share, 1) < 0.1).sum(1)
    own = [
        _log(core),
        share[:, _FRONT_LAYERS:].sum(1),
        (share * np.arange(share.shape[1])).sum(1) / 20,
        begin / 20,
        _log(inner / np.maximum(core, _LEAST)),
        _log(ring / np.maximum(core, _LEAST)) / 3,
        _log(halo / np.maximum(core, _LEAST)) / 3,
        _log(density.rho[found.seed]),
        np.hypot(*points.xy[found.seed].T) / 1000,
    ]
    between = [
        np.log1p(distance / 5),
        distance / 100,
        *(_log(ring[candidate, layer]) for ring in found.ring),
        (layer - points.layer[found.seed][candidate]) / 20,
        (layer - begin[candidate]) / 20,
        np.log(np.maximum(preference[pairs] / np.maximum(found.pileup[member], 1e-9), 1e-4)) / 3,
        np.log(np.maximum(preference[pairs] / np.maximum(rivals, 1e-12), 1e-4)),
    ]
    return np.concatenate([np.stack(between, 1), np.stack(own, 1)[candidate]], 1).astype(np.float32)


def spread(points: Points, found: Candidates) -> Float[np.ndarray, " p"]:
    """Part of a shower's energy per area at the distance of a pair, 1 / mm^2: a core and a tail, wider with depth.

    The form is that of Grindhammer and Peters, `2 r R^2 / (r^2 + R^2)^2`; the radii were chosen by eye. It only ranks
    candidates and is a feature.
    """
    layer = points.layer[found.member]
    front, behind = np.minimum(layer / 25, 1), np.maximum(layer - 25, 0) / 21
    square = found.distance**2
    core, tail = (6 + 4 * front + 10 * behind) ** 2, (40 + 40 * front + 80 * behind) ** 2
    total: np.ndarray = (core / (square + core) ** 2 + tail / (square + tail) ** 2) / (2 * np.pi)
    return total


def pad_graph(graph: ShowerGraph) -> ShowerGraph:
    """Add layer clusters without candidates and candidates without layer clusters, up to sizes of the ladder."""
    n, s = bucket_size(len(graph.row), LEAST_ROWS), bucket_size(len(graph.seed), 64)
    fills = dict.fromkeys(("candidate", "higher", "row", "seed"), NOISE)
    padded = {}
    for name, column in graph._asdict().items():
        length = (s if name == "seed" else n) - len(column)
        padded[name] = np.concatenate(
            [column, np.full((length, *column.shape[1:]), fills.get(name, 0), column.dtype)]
        )
    return ShowerGraph(**padded)


def expected_core(points: Points, found: Candidates) -> Float[np.ndarray, " p"]:
    """How much a candidate is expected to have around the layer of every pair; only ratios matter.

    The core at that layer alone ranks the wide part of a hadronic shower behind every soft core next to it: the mean
    over all layers counts as much, and hard candidates come first.
    """
    core = np.maximum(found.ring[1], 0)
    core = (core + core.mean(1, keepdims=True)) * np.sqrt(core.sum(1, keepdims=True))
    value: np.ndarray = core[found.candidate, points.layer[found.member]]
    return value


def _log(energy: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(energy, _LEAST))
