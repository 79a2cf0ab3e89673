"""Counts and tables of track finding that add up over events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from recon.errors import DataError
from recon.metrics import Ratio


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """Counts of one or more events; they add up with `+`.

    Attributes:
        events: number of events.
        targets: particles that should be found.
        found: targets with a double-majority track.
        found_perfect: targets with a perfect track.
        found_lhc: targets with a track of which they made at least 75 %.
        tracks: tracks with at least `CandidateSelection.min_hits` hits.
        candidates: those inside the whole candidate selection.
        fakes: candidates without a double-majority match to any particle, target or not.
        impure: candidates with at most half of their hits from any one particle.
        duplicates: candidates with a double-majority match to a particle that a better candidate matches too.
        candidates_lhc: candidates with at least 75 % of their hits from one particle.
        score: TrackML score, summed over the events that have one.
        scored: events with a score.
    """

    events: int = 0
    targets: int = 0
    found: int = 0
    found_perfect: int = 0
    found_lhc: int = 0
    tracks: int = 0
    candidates: int = 0
    fakes: int = 0
    impure: int = 0
    duplicates: int = 0
    candidates_lhc: int = 0
    score: float = 0.0
    scored: int = 0

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def efficiency(self) -> Ratio:
        """Double-majority efficiency: found / targets."""
        return Ratio(self.found, self.targets)

    @property
    def perfect_efficiency(self) -> Ratio:
        """Found perfectly / targets."""
        return Ratio(self.found_perfect, self.targets)

    @property
    def lhc_efficiency(self) -> Ratio:
        """Found by the LHC criterion / targets."""
        return Ratio(self.found_lhc, self.targets)

    @property
    def lhc_purity(self) -> Ratio:
        """Candidates that pass the LHC criterion / candidates."""
        return Ratio(self.candidates_lhc, self.candidates)

    @property
    def fake_rate(self) -> Ratio:
        """Candidates without double-majority match / candidates."""
        return Ratio(self.fakes, self.candidates)

    @property
    def impure_rate(self) -> Ratio:
        """Candidates without simple majority of one particle / candidates."""
        return Ratio(self.impure, self.candidates)

    @property
    def duplicate_rate(self) -> Ratio:
        """Duplicates / candidates."""
        return Ratio(self.duplicates, self.candidates)

    @property
    def mean_score(self) -> float:
        """TrackML score averaged over events; NaN where no event has one."""
        return self.score / self.scored if self.scored else float("nan")


class ParticleTable(NamedTuple):
    """Charged particles from the generator with enough hits, of any momentum and origin.

    Attributes:
        pt: GeV.
        eta: pseudorapidity at the production vertex.
        radius: of the production vertex, mm.
        n_hits: in the event.
        pileup: interactions in the event besides the one of interest.
        pt_passes: passes the cut on transverse momentum.
        eta_passes: passes the cuts on pseudorapidity.
        radius_passes: passes the cut on the production radius. A target passes all three.
        found: by a double-majority track.
        perfect: by a perfect track.
        lhc: by a track that passes the LHC criterion.
    """

    pt: Float[np.ndarray, " p"]
    eta: Float[np.ndarray, " p"]
    radius: Float[np.ndarray, " p"]
    n_hits: Int[np.ndarray, " p"]
    pileup: Float[np.ndarray, " p"]
    pt_passes: Bool[np.ndarray, " p"]
    eta_passes: Bool[np.ndarray, " p"]
    radius_passes: Bool[np.ndarray, " p"]
    found: Bool[np.ndarray, " p"]
    perfect: Bool[np.ndarray, " p"]
    lhc: Bool[np.ndarray, " p"]

    @property
    def target(self) -> Bool[np.ndarray, " p"]:
        """True for particles that should be found."""
        return self.pt_passes & self.eta_passes & self.radius_passes


class TrackTable(NamedTuple):
    """Tracks with at least one hit.

    Attributes:
        pt: fitted, GeV; NaN without parameters.
        eta: fitted; NaN without parameters.
        n_hits: on the track.
        pileup: interactions in the event besides the one of interest.
        candidate: enters the fake and duplicate rates.
        fake: no double-majority match.
        impure: no simple majority.
        duplicate: a better candidate has the same particle.
        target: double-majority match to a target.
        truth_pt: of the double-majority particle, GeV; NaN for fakes.
        truth_eta: of the double-majority particle; NaN for fakes.
        residual: fitted minus true (d0, z0, phi, theta, q/p); NaN for fakes and without parameters.
        pull: `residual` over its error; NaN also without covariance.
    """

    pt: Float[np.ndarray, " t"]
    eta: Float[np.ndarray, " t"]
    n_hits: Int[np.ndarray, " t"]
    pileup: Float[np.ndarray, " t"]
    candidate: Bool[np.ndarray, " t"]
    fake: Bool[np.ndarray, " t"]
    impure: Bool[np.ndarray, " t"]
    duplicate: Bool[np.ndarray, " t"]
    target: Bool[np.ndarray, " t"]
    truth_pt: Float[np.ndarray, " t"]
    truth_eta: Float[np.ndarray, " t"]
    residual: Float[np.ndarray, "t 5"]
    pull: Float[np.ndarray, "t 5"]


class Evaluation(NamedTuple):
    """What one event, or several, gave.

    Attributes:
        counts: totals.
        particles: one row a particle, for efficiencies in bins.
        tracks: one row a track, for rates in bins, resolutions and pulls.
    """

    counts: EventCounts
    particles: ParticleTable
    tracks: TrackTable


@dataclass(frozen=True, kw_only=True)
class EdgeCounts:
    """Candidate segments against the truth; counts add up with `+`.

    Attributes:
        segments: true segments of the targets.
        found: those that are among the edges.
        edges: accepted edges.
        true_edges: accepted edges that are a true segment of any particle.
        target_edges: accepted edges that are a true segment of a target.
    """

    segments: int = 0
    found: int = 0
    edges: int = 0
    true_edges: int = 0
    target_edges: int = 0

    def __add__(self, other: EdgeCounts) -> EdgeCounts:
        return EdgeCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def efficiency(self) -> Ratio:
        """Found / segments of the targets."""
        return Ratio(self.found, self.segments)

    @property
    def purity(self) -> Ratio:
        """True edges / edges."""
        return Ratio(self.true_edges, self.edges)

    @property
    def target_purity(self) -> Ratio:
        """Edges of targets / edges."""
        return Ratio(self.target_edges, self.edges)


Table = TypeVar("Table", ParticleTable, TrackTable)


def _concatenate(tables: list[Table]) -> Table:
    columns: list[Any] = [np.concatenate(column) for column in zip(*tables, strict=True)]
    return type(tables[0])(*columns)


def merge(evaluations: Iterable[Evaluation]) -> Evaluation:
    """Add up events: counts are summed, tables are put one after another.

    Raises:
        DataError: nothing was given.
    """
    each = list(evaluations)
    if not each:
        raise DataError("no evaluation to merge: at least one event is needed")
    return Evaluation(
        sum((e.counts for e in each), start=EventCounts()),
        _concatenate([e.particles for e in each]),
        _concatenate([e.tracks for e in each]),
    )
