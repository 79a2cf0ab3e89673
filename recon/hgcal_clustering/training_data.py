"""Simulated events as training wants them: layer clusters and what every particle gave to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.errors import DataError
from recon.geometry import eta
from recon.hgcal_clustering.calibration import CalibrationConfig, fit_calibration, soft_energy
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.cluster_times import ClusterTimes
from recon.hgcal_clustering.condensation import Shares, cluster_shares
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.pipeline import (
    associate_clusters,
    cluster_layers,
    find_layer_clusters,
    find_tracksters,
    times_of,
)
from recon.io.root_rechits import read_rechits
from recon.types import NOISE, CalorimeterEvent, Clusters


class TrainingEvent(NamedTuple):
    """One event.

    Attributes:
        clusters: layer clusters.
        shares: what every particle gave to them.
        energy: true, of the particles, GeV.
        deposited: what they left in all hits, GeV.
        times: of the layer clusters, where the method asks for them.
    """

    clusters: Clusters
    shares: Shares
    energy: Float[np.ndarray, " p"]
    deposited: Float[np.ndarray, " p"]
    times: ClusterTimes | None = None


def prepare(event: CalorimeterEvent, config: HgcalConfig, cells: CellGraph | None) -> TrainingEvent:
    """Cluster the layers of an event and look up what each particle gave.

    Raises:
        DataError: an event without truth, or without times where the method asks for them.
    """
    if event.truth is None:
        raise DataError(f"event {event.number} has no truth to learn from")
    hits, truth = event.hits, event.truth
    density, tile = cluster_layers(hits, config, cells)
    clusters = find_layer_clusters(hits, density, config, scintillator=tile)
    given = (truth.fraction * hits.energy[truth.hit]).astype(np.float64)
    return TrainingEvent(
        clusters,
        cluster_shares(hits, truth, clusters),
        np.linalg.norm(truth.momentum.astype(np.float64), axis=1),
        np.bincount(truth.particle, weights=given, minlength=len(truth.pdg)),
        times_of(clusters, event.times, config),
    )


def read_training_events(
    files: Sequence[Path], config: HgcalConfig, cells: CellGraph | None
) -> Iterator[TrainingEvent]:
    """All events of some files, prepared one after the other."""
    for file in files:
        for event in read_rechits(file):
            yield prepare(event, config, cells)


def sides(clusters: Clusters) -> Iterator[Clusters]:
    """The endcaps one after the other; layer clusters of the other one are not valid."""
    for side in (-1, 1):
        here = clusters.valid & (np.sign(clusters.position[:, 2]) == side)
        if here.any():
            yield clusters._replace(valid=here)


class MatchedShowers(NamedTuple):
    """Tracksters that one particle made for the most part.

    Attributes:
        energy: raw, GeV.
        eta: of the barycentre.
        hadronic_fraction: part of the energy behind the front section.
        pileup: soft energy of the endcap, TeV.
        true_energy: of the particle, GeV.
    """

    energy: Float[np.ndarray, " t"]
    eta: Float[np.ndarray, " t"]
    hadronic_fraction: Float[np.ndarray, " t"]
    pileup: Float[np.ndarray, " t"]
    true_energy: Float[np.ndarray, " t"]


def matched_showers(event: TrainingEvent, config: HgcalConfig, energy_min: float) -> MatchedShowers:
    """Found showers of particles above an energy: more than half of each in the other."""
    clusters, shares = event.clusters, event.shares
    tracksters = find_tracksters(clusters, associate_clusters(clusters, config, event.times), config)
    label = tracksters.member_trackster
    at = label[shares.cluster]
    n_particles, n = max(len(event.energy), 1), len(tracksters.energy)
    there = at >= 0
    key = at[there].astype(np.int64) * n_particles + shares.particle[there]
    pair, row = np.unique(key, return_inverse=True)
    shared = np.bincount(row, weights=shares.energy[there], minlength=len(pair))
    trackster, particle = np.divmod(pair, n_particles)
    good = (shared > 0.5 * event.deposited[particle]) & (shared > 0.5 * tracksters.energy[trackster])
    good &= event.energy[particle] >= energy_min
    member = np.flatnonzero(label != NOISE)
    behind = member[clusters.layer[member] >= config.calibration.front_layers]
    hadronic = np.bincount(label[behind], weights=clusters.energy[behind], minlength=n)
    t = trackster[good]
    soft = np.asarray(soft_energy(clusters.energy, clusters.position[:, 2], tracksters.position[t, 2]))
    return MatchedShowers(
        energy=tracksters.energy[t].astype(np.float64),
        eta=np.asarray(eta(tracksters.position[t].astype(np.float64))),
        hadronic_fraction=hadronic[t] / tracksters.energy[t],
        pileup=soft.astype(np.float64),
        true_energy=event.energy[particle[good]],
    )


def calibrate(
    events: Sequence[TrainingEvent], config: HgcalConfig, *, energy_min: float = 15.0
) -> CalibrationConfig:
    """Fit the regressed energy of a chain to the showers that it finds.

    Raises:
        DataError: fewer than ten showers are found.
    """
    found = [matched_showers(event, config, energy_min) for event in events]
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return fit_calibration(*columns, front_layers=config.calibration.front_layers)
