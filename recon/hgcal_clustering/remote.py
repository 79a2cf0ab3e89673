"""Shower finding by an engine that serves the artefact of `recon.hgcal_clustering.export.export_chain`."""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.engines import Engine, Inputs, Outputs
from recon.errors import DataError
from recon.hgcal_clustering.checks import check_rechits
from recon.hgcal_clustering.pipeline import Showers
from recon.pipeline import EngineModule
from recon.types import NOISE, CalorimeterEvent, Clusters, RecHits, Tracksters

MODEL = "hgcal"
"""Name of the artefact."""
INPUTS = ("position", "energy", "layer", "cell", "sigma_noise")
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
    return {name: np.ascontiguousarray(np.asarray(getattr(hits, name))[used]) for name in INPUTS}


def unpack_showers(hits: RecHits, outputs: Outputs) -> Showers:
    """The artefact's outputs as the showers of an event.

    Raises:
        DataError: they are not those of this event; the output is named.
    """
    used = np.flatnonzero(hits.valid)
    n, n_clusters, n_tracksters = (
        len(used), len(outputs["cluster_energy"]), len(outputs["trackster_energy"]),
    )  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"hit_cluster": (n,), "cluster_trackster": (n_clusters,)}
    shapes |= {name: (n_clusters, *row) for name, row in CLUSTERS.items()}
    shapes |= {name: (n_tracksters, *row) for name, row in TRACKSTERS.items()}
    for name, shape in shapes.items():
        if outputs[name].shape != shape:
            raise DataError(
                f"output {name!r} of the engine has shape {outputs[name].shape}; {shape} is needed"
            )
    hit_cluster = np.full(len(hits.valid), NOISE, np.int32)
    hit_cluster[used] = outputs["hit_cluster"]
    layered = {name.removeprefix("cluster_"): outputs[name] for name in CLUSTERS}
    # Rows of the hits that were sent become rows of the event.
    layered["seed"] = used[layered["seed"]].astype(np.int32)
    clusters = Clusters(member_cluster=hit_cluster, **layered, valid=np.ones(n_clusters, bool))
    member = outputs["cluster_trackster"]
    found = {name.removeprefix("trackster_"): outputs[name] for name in TRACKSTERS}
    tracksters = Tracksters(member_trackster=member, **found, valid=np.ones(n_tracksters, bool))
    return Showers(np.append(member, np.int32(NOISE))[hit_cluster], tracksters, clusters)


class ShowerFinder(EngineModule[CalorimeterEvent]):
    """A module of `recon.pipeline.Job`: events to showers, as `find_showers` gives them.

    Args:
        engine: that serves the artefact.
    """

    def __init__(self, engine: Engine) -> None:
        def pack(event: CalorimeterEvent) -> Inputs:
            return pack_hits(event.hits)

        def unpack(event: CalorimeterEvent, outputs: Outputs) -> Any:
            return unpack_showers(event.hits, outputs)

        super().__init__(engine, pack, unpack)
