"""Shower finding by an engine that serves an artefact of `recon.hgcal_clustering.export`."""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.engines import Engine, Inputs, Outputs, check_shapes
from recon.errors import DataError
from recon.hgcal_clustering.checks import check_rechits
from recon.hgcal_clustering.pipeline import Showers
from recon.pipeline import EngineModule
from recon.types import NOISE, CalorimeterEvent, Clusters, RecHits, Tracksters

MODEL = "hgcal"
"""Name of the artefact of CLUE3D; those of other algorithms are named after it and them."""
INPUTS = ("position", "energy", "layer", "cell", "sigma_noise")
HIT_INPUTS = INPUTS[:3]
"""What CLUE on hits in three dimensions needs."""
CLUSTERS = {
    "cluster_position": (3,),
    "cluster_energy": (),
    "cluster_size": (),
    "cluster_layer": (),
    "cluster_seed": (),
}
TRACKSTERS = {
    "trackster_position": (3,),
    "trackster_axes": (3, 3),
    "trackster_variance": (3,),
    "trackster_energy": (),
    "trackster_regressed_energy": (),
    "trackster_size": (),
    "trackster_seed": (),
}
"""Outputs with one row for every layer cluster and trackster, in the order of the fields, and the shape of a row."""


def model_name(algorithm: str) -> str:
    """Name of the artefact of an algorithm of `recon reconstruct hgcal`."""
    return MODEL if algorithm == "clue3d" else f"{MODEL}_{algorithm}"


def pack_hits(hits: RecHits) -> Inputs:
    """Hits as the inputs of the artefact: the valid ones, column by column.

    Raises:
        DataError: a hit that cannot be used, a cell that is not known or has two hits in one endcap.
    """
    check_rechits(hits)
    used = np.asarray(hits.valid)
    cell, side = np.asarray(hits.cell)[used], np.asarray(hits.position)[used, 2] < 0
    if cell.size and cell.min() < 0:
        row = int(np.flatnonzero(used)[np.argmin(cell)])
        raise DataError(f"hits.cell is {int(cell.min())} in row {row}; allowed are cells of the calorimeter")
    pairs, count = np.unique(2 * cell.astype(np.int64) + side, return_counts=True)
    if (count > 1).any():
        cell_twice = int(pairs[np.argmax(count)] // 2)
        raise DataError(f"cell {cell_twice} has {int(count.max())} hits: allowed is one; add them up")
    return _columns(hits, INPUTS)


def pack_points(hits: RecHits) -> Inputs:
    """Hits as the inputs of CLUE in three dimensions, which knows no cells.

    Raises:
        DataError: a hit that cannot be used.
    """
    check_rechits(hits)
    return _columns(hits, HIT_INPUTS)


def _columns(hits: RecHits, names: tuple[str, ...]) -> Inputs:
    used = np.asarray(hits.valid)
    return {name: np.ascontiguousarray(np.asarray(getattr(hits, name))[used]) for name in names}


def unpack_showers(hits: RecHits, outputs: Outputs) -> Showers:
    """The artefact's outputs as the showers of an event.

    Raises:
        DataError: they are not those of this event; the output is named.
    """
    used = np.flatnonzero(hits.valid)
    n, n_clusters = len(used), len(outputs["cluster_energy"])
    shapes: dict[str, tuple[int, ...]] = {"hit_cluster": (n,), "cluster_trackster": (n_clusters,)}
    check_shapes(outputs, shapes | {name: (n_clusters, *row) for name, row in CLUSTERS.items()})
    hit_cluster = np.full(len(hits.valid), NOISE, np.int32)
    hit_cluster[used] = outputs["hit_cluster"]
    layered = {name.removeprefix("cluster_"): outputs[name] for name in CLUSTERS}
    # Rows of the hits that were sent become rows of the event.
    layered["seed"] = used[layered["seed"]].astype(np.int32)
    clusters = Clusters(member_cluster=hit_cluster, **layered, valid=np.ones(n_clusters, bool))
    member = outputs["cluster_trackster"]
    tracksters = _tracksters(outputs, member)
    return Showers(np.append(member, np.int32(NOISE))[hit_cluster], tracksters, clusters)


def unpack_hit_showers(hits: RecHits, outputs: Outputs) -> Showers:
    """The outputs of CLUE on hits in three dimensions as the showers of an event.

    Raises:
        DataError: they are not those of this event; the output is named.
    """
    used = np.flatnonzero(hits.valid)
    check_shapes(outputs, {"hit_trackster": (len(used),)})
    member = np.full(len(hits.valid), NOISE, np.int32)
    member[used] = outputs["hit_trackster"]
    tracksters = _tracksters(outputs, member)
    return Showers(member, tracksters._replace(seed=used[tracksters.seed].astype(np.int32)), None)


def _tracksters(outputs: Outputs, member: np.ndarray) -> Tracksters:
    n = len(outputs["trackster_energy"])
    check_shapes(outputs, {name: (n, *row) for name, row in TRACKSTERS.items()})
    found = {name.removeprefix("trackster_"): outputs[name] for name in TRACKSTERS}
    return Tracksters(member_trackster=member, **found, valid=np.ones(n, bool))


class ShowerFinder(EngineModule[CalorimeterEvent]):
    """A module of `recon.pipeline.Job`: events to showers, as `find_showers` gives them.

    Args:
        engine: that serves the artefact.
        method: of `HgcalConfig`, of the chain in the artefact.
    """

    def __init__(self, engine: Engine, method: str = "clue3d") -> None:
        on_hits = method == "hits"

        def pack(event: CalorimeterEvent) -> Inputs:
            return pack_points(event.hits) if on_hits else pack_hits(event.hits)

        def unpack(event: CalorimeterEvent, outputs: Outputs) -> Any:
            return (unpack_hit_showers if on_hits else unpack_showers)(event.hits, outputs)

        super().__init__(engine, pack, unpack)
