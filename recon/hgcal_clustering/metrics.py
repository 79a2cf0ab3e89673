"""Clusters against the particles that made them: efficiency, purity, fake, duplicate and merge rates.

Two sets of definitions stand side by side: those of CMS's validation of TICL, on the scores of `associate`, and a
simple one on energies alone. Host NumPy; what one event gives adds up over events with `merge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from recon.errors import ConfigError, DataError
from recon.geometry import eta
from recon.hgcal_clustering.association import Association, agreement, associate
from recon.metrics import Binned, Ratio, binned_efficiency
from recon.types import NOISE, CalorimeterEvent


@dataclass(frozen=True, kw_only=True)
class ShowerSelection:
    """Which particles and clusters count, and from where on they are called good.

    Attributes:
        energy_min: least true energy of a particle to find, GeV.
        eta_min: least absolute pseudorapidity of such a particle.
        eta_max: largest one.
        hard_scatter: only particles that are not pile-up need to be found.
        deposit_min: least part of its energy that such a particle must leave in the hits: one that passes through a gap
            cannot be found.
        cluster_energy_min: clusters below are not counted in the rates, GeV.
        shared_min: found if a cluster has at least this part of the particle's deposits.
        purity_min: and, for the simple definition, makes up more than this part of the cluster.
        pure_score: a `sim_to_reco` score below is good: `SCORE_CUT` 0.2 of CMS's validation.
        fake_score: a `reco_to_sim` score above means that the particle did not make the cluster: 0.6 there.
    """

    energy_min: float = 1.0
    eta_min: float = 1.5
    eta_max: float = 3.0
    hard_scatter: bool = True
    deposit_min: float = 0.1
    cluster_energy_min: float = 1.0
    shared_min: float = 0.5
    purity_min: float = 0.5
    pure_score: float = 0.2
    fake_score: float = 0.6

    def __post_init__(self) -> None:
        for name in ("shared_min", "purity_min", "pure_score", "fake_score", "deposit_min"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"ShowerSelection.{name} = {getattr(self, name)}; allowed are 0 to 1")
        if not 0 <= self.eta_min < self.eta_max:
            raise ConfigError(
                f"ShowerSelection: eta_min = {self.eta_min}, eta_max = {self.eta_max}; needed is 0 <= min < max"
            )


class ParticleTable(NamedTuple):
    """One row for every particle that should be found.

    Attributes:
        energy: true, the absolute momentum, GeV.
        eta: pseudorapidity of the momentum.
        pdg: particle code.
        pileup: of the event.
        deposited: energy that the particle left in the hits, GeV.
        cluster_energy: of the cluster with most of it, GeV; 0 if there is none.
        shared: part of `deposited` in that cluster.
        purity: part of that cluster that this particle made; NaN if there is none.
        score: least `sim_to_reco` of all clusters; 1 if there is none.
        n_good: number of clusters whose `sim_to_reco` is good.
        found: one cluster shares enough of the particle (CMS's efficiency).
        found_simple: the cluster with most of the particle has more than half of it and is more than half it.
    """

    energy: Float[np.ndarray, " p"]
    eta: Float[np.ndarray, " p"]
    pdg: Int[np.ndarray, " p"]
    pileup: Float[np.ndarray, " p"]
    deposited: Float[np.ndarray, " p"]
    cluster_energy: Float[np.ndarray, " p"]
    shared: Float[np.ndarray, " p"]
    purity: Float[np.ndarray, " p"]
    score: Float[np.ndarray, " p"]
    n_good: Int[np.ndarray, " p"]
    found: Bool[np.ndarray, " p"]
    found_simple: Bool[np.ndarray, " p"]


class ClusterTable(NamedTuple):
    """One row for every cluster above the energy cut.

    Attributes:
        energy: GeV.
        size: number of hits.
        eta: pseudorapidity of the energy-weighted barycentre.
        pileup: of the event.
        score: least `reco_to_sim` of all particles, pile-up too; 1 if there is none.
        fake: no particle made it: all `reco_to_sim` above the cut.
        merged: more than one did.
        duplicate: one of two or more clusters that are good for the same particle.
    """

    energy: Float[np.ndarray, " c"]
    size: Int[np.ndarray, " c"]
    eta: Float[np.ndarray, " c"]
    pileup: Float[np.ndarray, " c"]
    score: Float[np.ndarray, " c"]
    fake: Bool[np.ndarray, " c"]
    merged: Bool[np.ndarray, " c"]
    duplicate: Bool[np.ndarray, " c"]


class EventTable(NamedTuple):
    """One row for every event; see `recon.hgcal_clustering.association.Agreement`."""

    homogeneity: Float[np.ndarray, " e"]
    completeness: Float[np.ndarray, " e"]
    v: Float[np.ndarray, " e"]
    clustered: Float[np.ndarray, " e"]


class Evaluation(NamedTuple):
    """What a number of events gave."""

    particles: ParticleTable
    clusters: ClusterTable
    events: EventTable


def evaluate_event(
    event: CalorimeterEvent,
    hit_cluster: Int[np.ndarray, " n"],
    selection: ShowerSelection,
    *,
    pileup: float = 0.0,
    energies: Float[np.ndarray, " t"] | None = None,
) -> Evaluation:
    """Compare the clusters of one event with its particles.

    Args:
        event: with truth.
        hit_cluster: for every hit the row of its cluster (layer cluster or trackster); `NOISE` for none.
        selection: what counts.
        pileup: number of pile-up collisions of the event, a column of the tables.
        energies: what `cluster_energy` of a particle is taken from (`Tracksters.regressed_energy`); the sums over the
            hits if not given.

    Raises:
        DataError: the event has no truth, or columns do not fit.
    """
    if event.truth is None:
        raise DataError(f"event {event.number} has no truth to compare with")
    energy = np.where(event.hits.valid, event.hits.energy, 0)
    label = np.where(event.hits.valid, hit_cluster, NOISE)
    pairs = associate(energy, event.truth, label)
    found = agreement(pairs)
    quoted = np.asarray(pairs.cluster_energy if energies is None else energies, np.float64)
    if len(quoted) < len(pairs.cluster_energy):
        raise DataError(
            f"{len(quoted)} energies for {len(pairs.cluster_energy)} clusters; needed is one each"
        )
    return Evaluation(
        _particle_table(event, pairs, selection, pileup, quoted),
        _cluster_table(event, pairs, label, selection, pileup),
        EventTable(*(np.array([value]) for value in found)),
    )


def _particle_table(
    event: CalorimeterEvent,
    pairs: Association,
    selection: ShowerSelection,
    pileup: float,
    quoted: Float[np.ndarray, " t"],
) -> ParticleTable:
    truth = event.truth
    assert truth is not None
    momentum = np.asarray(truth.momentum, np.float64)
    energy, direction = np.linalg.norm(momentum, axis=1), _eta(momentum)
    n = len(energy)
    best = _first_per_group(pairs.particle, -pairs.shared_energy, n)
    none = best < 0
    taken = np.where(none, 0, best)
    cluster, shared_energy = (np.append(column, 0)[taken] for column in (pairs.cluster, pairs.shared_energy))
    cluster_energy, quoted_energy = (
        np.where(none, 0, np.append(column, 0)[cluster]) for column in (pairs.cluster_energy, quoted)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.where(none, 0, shared_energy / pairs.particle_energy)
        purity = np.where(none, np.nan, shared_energy / cluster_energy)
    score = np.ones(n)
    np.minimum.at(score, pairs.particle, pairs.sim_to_reco)
    good = np.bincount(pairs.particle[pairs.sim_to_reco < selection.pure_score], minlength=n)
    rows = (energy >= selection.energy_min) & (pairs.particle_energy >= selection.deposit_min * energy)
    rows &= (np.abs(direction) >= selection.eta_min) & (np.abs(direction) <= selection.eta_max)
    if selection.hard_scatter:
        rows &= truth.hard_scatter
    table = ParticleTable(
        energy=energy,
        eta=direction,
        pdg=truth.pdg,
        pileup=np.full(n, float(pileup)),
        deposited=pairs.particle_energy,
        cluster_energy=quoted_energy,
        shared=shared,
        purity=purity,
        score=score,
        n_good=good,
        found=shared >= selection.shared_min,
        found_simple=(shared > selection.shared_min) & (purity > selection.purity_min),
    )
    return ParticleTable(*(column[rows] for column in table))


def _cluster_table(
    event: CalorimeterEvent, pairs: Association, label: np.ndarray, selection: ShowerSelection, pileup: float
) -> ClusterTable:
    n = len(pairs.cluster_energy)
    made_by = np.bincount(pairs.cluster[pairs.reco_to_sim < selection.fake_score], minlength=n)
    score = np.ones(n)
    np.minimum.at(score, pairs.cluster, pairs.reco_to_sim)
    good = pairs.sim_to_reco < selection.pure_score
    several = np.bincount(pairs.particle[good], minlength=len(pairs.particle_energy)) > 1
    duplicate = np.zeros(n, bool)
    duplicate[pairs.cluster[good & several[pairs.particle]]] = True
    kept = label >= 0
    weight = event.hits.energy[kept].astype(np.float64)
    moments = [
        np.bincount(label[kept], weights=weight * column, minlength=n)
        for column in event.hits.position[kept].T.astype(np.float64)
    ]
    table = ClusterTable(
        energy=pairs.cluster_energy,
        size=pairs.cluster_size,
        # Without a cluster, bincount counts in integers.
        eta=_eta(np.stack(moments, -1).astype(np.float64)),
        pileup=np.full(n, float(pileup)),
        score=score,
        fake=made_by == 0,
        merged=made_by > 1,
        duplicate=duplicate,
    )
    rows = pairs.cluster_energy >= selection.cluster_energy_min
    return ClusterTable(*(column[rows] for column in table))


def _eta(vector: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Pseudorapidity; NaN without a direction, infinite along the beam."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(eta(vector))


def _first_per_group(group: np.ndarray, order: np.ndarray, count: int) -> Int[np.ndarray, " count"]:
    """Row of the least `order` in every group, the first of equals; -1 for an empty group."""
    ranked = np.lexsort((np.arange(len(group)), order, group))
    names, place = np.unique(group[ranked], return_index=True)
    first = np.full(count, -1)
    first[names] = ranked[place]
    return first


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Join the tables of some events.

    Raises:
        DataError: no event.
    """
    if not evaluations:
        raise DataError("merge was given no evaluation; at least one is needed")
    return Evaluation(
        *(
            kind(*(np.concatenate(columns) for columns in zip(*tables, strict=True)))
            for kind, tables in zip(
                (ParticleTable, ClusterTable, EventTable), zip(*evaluations, strict=True), strict=True
            )
        )
    )


PARTICLE_RATES = ("efficiency", "efficiency_simple", "purity", "duplicate")
CLUSTER_RATES = ("fake", "merge", "split")


def _outcome(
    evaluation: Evaluation, name: str, selection: ShowerSelection
) -> tuple[ParticleTable | ClusterTable, Bool[np.ndarray, " n"]]:
    """Table that holds the denominator of a rate, and which of its rows pass."""
    particles, clusters = evaluation.particles, evaluation.clusters
    outcomes: dict[str, tuple[ParticleTable | ClusterTable, np.ndarray]] = {
        "efficiency": (particles, particles.found),
        "efficiency_simple": (particles, particles.found_simple),
        "purity": (particles, particles.score < selection.pure_score),
        "duplicate": (particles, particles.n_good > 1),
        "fake": (clusters, clusters.fake),
        "merge": (clusters, clusters.merged),
        "split": (clusters, clusters.duplicate),
    }
    if name not in outcomes:
        raise ConfigError(f"no rate {name!r}; allowed: {', '.join(outcomes)}")
    return outcomes[name]


def rate(evaluation: Evaluation, name: str, selection: ShowerSelection) -> Ratio:
    """One of the rates, with its binomial errors.

    Args:
        evaluation: of one or more events.
        name: with the denominator "particles that should be found": "efficiency" (a cluster shares at least
            `shared_min` of the particle's deposits), "efficiency_simple" (and makes up most of that cluster), "purity"
            (the best `sim_to_reco` is good), "duplicate" (more than one is). With the denominator "clusters above the
            energy cut": "fake" (no particle of any kind, pile-up included, with `reco_to_sim` below `fake_score`),
            "merge" (more than one), "split" (one of several clusters that are good for the same particle).
        selection: that the evaluation was made with.

    Raises:
        ConfigError: unknown name.
    """
    _, passed = _outcome(evaluation, name, selection)
    return Ratio(int(passed.sum()), len(passed))


def rate_in_bins(
    evaluation: Evaluation, name: str, variable: str, edges: np.ndarray, selection: ShowerSelection
) -> Binned:
    """A rate in bins of "energy" (GeV), absolute "eta" or "pileup"; arguments as in `rate`.

    Raises:
        ConfigError: unknown rate or variable.
    """
    table, passed = _outcome(evaluation, name, selection)
    return binned_efficiency(variable_of(table, variable), passed, edges)


VARIABLES = ("energy", "eta", "pileup")


def variable_of(table: ParticleTable | ClusterTable, variable: str) -> Float[np.ndarray, " n"]:
    """A column to bin in: true energy of particles, that of the cluster for clusters; |eta|; pile-up.

    Raises:
        ConfigError: unknown variable.
    """
    if variable not in VARIABLES:
        raise ConfigError(f"no bins of {variable!r}; allowed: {', '.join(VARIABLES)}")
    values: np.ndarray = getattr(table, variable)
    return np.abs(values) if variable == "eta" else values
