"""Which cluster is which particle: shared energy and scores, from the fractions of every hit.

Only pairs of a cluster and a particle that share a hit are looked at, so the cost grows with the number of hits.
The scores are those of CMS's TICL (`TSToSimTSHitLCAssociatorByEnergyScoreImpl` in CMSSW). Host NumPy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from recon.errors import DataError
from recon.types import NOISE, Clusters, ShowerTruth, Tracksters


class Association(NamedTuple):
    """Energies of clusters and particles, and one row for every pair that shares a hit.

    Attributes:
        cluster: of the pair, ascending.
        particle: of the pair, ascending within a cluster.
        shared_energy: what the particle gave to hits of the cluster, GeV.
        reco_to_sim: 0 if the particle made all of the cluster, 1 if nothing of account; see `associate`.
        sim_to_reco: 0 if the cluster holds all of the particle, 1 if nothing of account.
        cluster_energy: sum over the hits of every cluster, GeV.
        cluster_size: number of hits of every cluster.
        particle_energy: what every particle left in all hits, clustered or not, GeV.
    """

    cluster: Int[np.ndarray, " k"]
    particle: Int[np.ndarray, " k"]
    shared_energy: Float[np.ndarray, " k"]
    reco_to_sim: Float[np.ndarray, " k"]
    sim_to_reco: Float[np.ndarray, " k"]
    cluster_energy: Float[np.ndarray, " c"]
    cluster_size: Int[np.ndarray, " c"]
    particle_energy: Float[np.ndarray, " p"]


def hit_clusters(clusters: Clusters, tracksters: Tracksters) -> Int[np.ndarray, " n"]:
    """For every hit the trackster that its layer cluster belongs to; `NOISE` for none.

    Args:
        clusters: of one event, on the host.
        tracksters: made of these clusters.
    """
    through = np.append(np.asarray(tracksters.member_trackster), np.int32(NOISE))
    return through[np.asarray(clusters.member_cluster)]


def associate(
    energy: Float[np.ndarray, " n"], truth: ShowerTruth, hit_cluster: Int[np.ndarray, " m"]
) -> Association:
    """Compare the clusters of one event with its particles.

    With E the energy of a hit, f the fraction of it that the particle made and r = 1 for the hits of the cluster, 0 for
    all others:

        reco_to_sim = sum min((r - f)^2, r^2) E^2 / sum r^2 E^2     over the hits of the cluster
        sim_to_reco = sum min((r - f)^2, f^2) E^2 / sum f^2 E^2     over the hits of the particle

    The minima, as in CMSSW, keep the scores at 1 or below. A pair that is not listed shares no hit: both its scores are
    1. Noise is no particle.

    Args:
        energy: of the hits, GeV.
        truth: the particles and their fractions.
        hit_cluster: for every hit the row of its cluster; `NOISE` for none.

    Raises:
        DataError: a column that does not fit the number of hits or particles.
    """
    _check(energy, truth, hit_cluster)
    weight = np.asarray(energy, np.float64)
    n_clusters, n_particles = int(np.max(hit_cluster, initial=NOISE)) + 1, len(truth.pdg)
    clustered = hit_cluster >= 0
    cluster_energy = np.bincount(hit_cluster[clustered], weights=weight[clustered], minlength=n_clusters)
    # Without a cluster, bincount counts in integers.
    cluster_energy = cluster_energy.astype(np.float64)
    square = np.bincount(hit_cluster[clustered], weights=weight[clustered] ** 2, minlength=n_clusters)
    fraction, entry_energy = np.asarray(truth.fraction, np.float64), weight[truth.hit]
    left = fraction * entry_energy
    particle_energy = np.bincount(truth.particle, weights=left, minlength=n_particles)
    particle_square = np.bincount(truth.particle, weights=left**2, minlength=n_particles)
    at = hit_cluster[truth.hit]
    shared = at >= 0
    key = at[shared].astype(np.int64) * max(n_particles, 1) + truth.particle[shared]
    pair, row = np.unique(key, return_inverse=True)
    cluster, particle = np.divmod(pair, max(n_particles, 1))
    f, e = fraction[shared], entry_energy[shared]
    # What the sums over all hits of the cluster (of the particle) lose where both have a share.
    lost = (1 - np.minimum((1 - f) ** 2, 1)) * e**2
    sim_lost = (f**2 - np.minimum((1 - f) ** 2, f**2)) * e**2
    with np.errstate(divide="ignore", invalid="ignore"):
        reco_to_sim = 1 - np.bincount(row, weights=lost, minlength=len(pair)) / square[cluster]
        sim_to_reco = 1 - np.bincount(row, weights=sim_lost, minlength=len(pair)) / particle_square[particle]
    return Association(
        cluster=cluster,
        particle=particle,
        shared_energy=np.bincount(row, weights=left[shared], minlength=len(pair)),
        # Pairs that share hits without energy tell nothing: not associated.
        reco_to_sim=np.clip(np.nan_to_num(reco_to_sim, nan=1.0), 0, 1),
        sim_to_reco=np.clip(np.nan_to_num(sim_to_reco, nan=1.0), 0, 1),
        cluster_energy=cluster_energy,
        cluster_size=np.bincount(hit_cluster[clustered], minlength=n_clusters),
        particle_energy=particle_energy,
    )


def _check(energy: np.ndarray, truth: ShowerTruth, hit_cluster: np.ndarray) -> None:
    n, p = len(energy), len(truth.pdg)
    if len(hit_cluster) != n:
        raise DataError(
            f"associate: {len(hit_cluster)} hits have a cluster, {n} an energy; needed is one each"
        )
    for name, values, end in (("hit", truth.hit, n), ("particle", truth.particle, p)):
        bad = np.flatnonzero((values < 0) | (values >= end))
        if bad.size:
            first = int(bad[0])
            raise DataError(
                f"truth.{name} is {int(values[first])} in row {first}; allowed are 0 to {end - 1} "
                f"({bad.size} such rows)"
            )


class Agreement(NamedTuple):
    """Energy-weighted agreement of clusters with particles; see `agreement`.

    Attributes:
        homogeneity: 1 if every cluster holds one particle only.
        completeness: 1 if every particle lies in one cluster only.
        v: harmonic mean of both.
        clustered: fraction of the particles' energy that lies in any cluster.
    """

    homogeneity: float
    completeness: float
    v: float
    clustered: float


def agreement(pairs: Association) -> Agreement:
    """Homogeneity, completeness and V-measure with energies in the place of counts.

    The definitions are those of A. Rosenberg, J. Hirschberg, EMNLP-CoNLL 2007, and of scikit-learn: with the entropies
    of the particles H(P) and clusters H(C) and the conditional ones, `h = 1 - H(P|C) / H(P)`, `c = 1 - H(C|P) / H(C)`,
    `v = 2 h c / (h + c)`, where a hit counts for every particle with the energy that this gave it. Denominator: the
    energy of particles in clusters; noise and hits in no cluster do not count, `clustered` says how much that leaves
    out. All are NaN where nothing is left.
    """
    total = pairs.shared_energy.sum()
    deposited = pairs.particle_energy.sum()
    clustered = float(total / deposited) if deposited > 0 else np.nan
    if total <= 0:
        return Agreement(np.nan, np.nan, np.nan, clustered)
    n_clusters, n_particles = len(pairs.cluster_energy), len(pairs.particle_energy)
    joint = _entropy(pairs.shared_energy)
    of_clusters = _entropy(np.bincount(pairs.cluster, weights=pairs.shared_energy, minlength=n_clusters))
    of_particles = _entropy(np.bincount(pairs.particle, weights=pairs.shared_energy, minlength=n_particles))
    h = 1 - (joint - of_clusters) / of_particles if of_particles > 0 else 1.0
    c = 1 - (joint - of_particles) / of_clusters if of_clusters > 0 else 1.0
    return Agreement(float(h), float(c), float(2 * h * c / (h + c)) if h + c > 0 else 0.0, clustered)


def _entropy(energy: Float[np.ndarray, " k"]) -> float:
    share = energy[energy > 0] / energy.sum()
    return float(-(share * np.log(share)).sum())
