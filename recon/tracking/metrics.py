"""Track finding against the truth: efficiency, fake and duplicate rates, event by event and in bins.

Definitions follow the tracking challenges and the LHC experiments; the criteria are in `matching`.
Host NumPy; what one event gives adds up over events with `merge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from recon.errors import ConfigError, DataError
from recon.geometry import eta_from_theta
from recon.metrics import Binned, binned_efficiency
from recon.tracking.counts import EdgeCounts, Evaluation, EventCounts, ParticleTable, TrackTable, merge
from recon.tracking.matching import (
    TrackHits,
    TrackMatch,
    double_majority,
    duplicate,
    from_tracks,
    hits_per_particle,
    impure,
    lhc,
    match_tracks,
    perfect,
    trackml_score,
)
from recon.tracking.resolution import FIELD_TESLA, pulls, residuals, truth_parameters
from recon.types import Array, EdgeList, Event, Particles

__all__ = [
    "CandidateSelection",
    "EdgeCounts",
    "Evaluation",
    "EventCounts",
    "ParticleTable",
    "TargetSelection",
    "TrackHits",
    "TrackMatch",
    "TrackTable",
    "count_interactions",
    "double_majority",
    "duplicate",
    "efficiency_in_bins",
    "evaluate_edges",
    "evaluate_event",
    "from_tracks",
    "impure",
    "lhc",
    "match_tracks",
    "merge",
    "perfect",
    "rate_in_bins",
    "target_particles",
    "trackml_score",
]

Segments = tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]
"""Rows of the inner and of the outer hit."""


@dataclass(frozen=True, kw_only=True)
class TargetSelection:
    """The particles that a track finder should find: charged, from the generator, and inside these cuts.

    Attributes:
        pt_min: the transverse momentum is larger, GeV.
        eta_max: the absolute pseudorapidity is smaller.
        eta_min: the absolute pseudorapidity is at least this.
        radius_max: the distance of the production vertex from the beam line is smaller, mm.
        min_hits: fewest hits in the event.
    """

    pt_min: float = 1.0
    eta_max: float = 4.0
    eta_min: float = 0.0
    radius_max: float = 24.0
    min_hits: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.eta_min < self.eta_max:
            raise ConfigError(
                f"eta range is {self.eta_min} to {self.eta_max}; allowed: 0 <= eta_min < eta_max"
            )
        if self.min_hits < 1:
            raise ConfigError(f"min_hits is {self.min_hits}; allowed: 1 or more")


@dataclass(frozen=True, kw_only=True)
class CandidateSelection:
    """The tracks that fake and duplicate rates are a fraction of.

    With fitted parameters the pseudorapidity must lie in the range of the targets as well. A track whose
    parameters are NaN passes: a failed fit must not hide a fake.

    Attributes:
        pt_min: the fitted transverse momentum is larger, GeV; below the cut on targets, so that resolution
            does not move tracks of targets out of the sample.
        min_hits: fewest hits; shorter tracks count neither as found nor as fake.
    """

    pt_min: float = 0.9
    min_hits: int = 6


def count_interactions(particles: Particles) -> int:
    """Estimate the number of proton collisions in an event from its truth.

    A collision is a place on the beam line (within 0.1 mm of it, 5 um of each other in z) where three or more
    particles of the generator start; two are too often a short-lived decay. Collisions that leave less in the
    detector do not count, and at hundreds of collisions about one in a hundred coincides with another.
    """
    prompt = np.asarray(particles.valid & particles.primary)
    prompt = prompt & (np.hypot(particles.vertex[:, 0], particles.vertex[:, 1]) < 0.1)
    z = np.sort(np.asarray(particles.vertex[prompt, 2]).astype(np.float64))
    # Not one value of z: neutral pions fly nanometres before they decay.
    place = np.cumsum(np.diff(z, prepend=z[:1]) > 0.005)
    return int((np.bincount(place) >= 3).sum()) if z.size else 0


def evaluate_event(
    event: Event,
    track_hits: TrackHits,
    parameters: Float[Array, "t 5"] | None = None,
    selection: TargetSelection | None = None,
    *,
    candidates: CandidateSelection | None = None,
    covariance: Float[Array, "t 5 5"] | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    pileup: float | int | None = None,
    field: float = FIELD_TESLA,
) -> Evaluation:
    """Compare the tracks of one event with its truth.

    Args:
        event: with truth.
        track_hits: hits of every track; see `from_tracks` for `Tracks`.
        parameters: fitted (d0 mm, z0 mm, phi, theta, q/p 1/GeV) of every track; without them no candidate is
            cut on momentum or pseudorapidity and there are no residuals.
        selection: the particles to find; the defaults of `TargetSelection` if not given.
        candidates: the tracks that rates refer to; the defaults of `CandidateSelection` if not given.
        covariance: of `parameters`; without it there are no pulls.
        weights: of every hit, for the TrackML score; without them there is no score.
        pileup: interactions besides the one of interest; estimated with `count_interactions` if not given.
        field: along +z, T.

    Raises:
        DataError: no truth, hit lists that do not fit the event, or arrays of different lengths.

    Example:
        >>> from recon.tracking.metrics import evaluate_event, from_tracks, merge
        >>> def efficiency(events, found):
        ...     each = [evaluate_event(e, from_tracks(t), t.parameters) for e, t in zip(events, found)]
        ...     return merge(each).counts.efficiency
    """
    if event.particles is None:
        raise DataError(f"event {event.number} has no truth: nothing to compare tracks with")
    selection = TargetSelection() if selection is None else selection
    candidates = CandidateSelection() if candidates is None else candidates
    match = match_tracks(track_hits, event.particles)
    fit = _fit(parameters, covariance, len(match.particle))
    extra = float(max(count_interactions(event.particles) - 1, 0) if pileup is None else pileup)
    long = match.n_track >= candidates.min_hits
    particle_table = _particle_table(event.particles, match, long, selection, extra)
    candidate = _is_candidate(match, fit, selection, candidates)
    track_table = _track_table(
        event.particles,
        match,
        fit,
        candidate=candidate,
        targets=target_particles(event.particles, selection),
        pileup=extra,
        field=field,
    )
    score = None if weights is None else trackml_score(match, track_hits, event.particles, weights)
    return Evaluation(_count(particle_table, track_table, match, long, score), particle_table, track_table)


def _rows_of(match: TrackMatch, passes: np.ndarray, n_particles: int) -> Bool[np.ndarray, " p"]:
    found = np.zeros(n_particles, bool)
    found[match.particle[passes]] = True
    return found


def _pt_eta(momentum: Array) -> tuple[np.ndarray, np.ndarray]:
    px, py, pz = np.asarray(momentum, np.float64).T
    pt = np.hypot(px, py)
    return pt, np.arcsinh(pz / np.maximum(pt, 1e-12))


def _cuts(particles: Particles, selection: TargetSelection) -> dict[str, np.ndarray]:
    """Every cut on targets as a flag a particle; "countable" holds what no plot does without."""
    pt, eta = _pt_eta(particles.momentum)
    radius = np.hypot(particles.vertex[:, 0], particles.vertex[:, 1])
    absolute_eta = np.abs(eta)
    charged = np.asarray(particles.valid & particles.primary & (particles.charge != 0))
    return {
        "countable": charged & (hits_per_particle(particles) >= selection.min_hits),
        "pt": pt > selection.pt_min,
        "eta": (absolute_eta < selection.eta_max) & (absolute_eta >= selection.eta_min),
        "radius": np.asarray(radius < selection.radius_max),
    }


def target_particles(particles: Particles, selection: TargetSelection) -> Bool[np.ndarray, " p"]:
    """True for the particles that a track finder should find.

    Args:
        particles: of one event.
        selection: the cuts.
    """
    return np.logical_and.reduce(list(_cuts(particles, selection).values()))


def _particle_table(
    particles: Particles, match: TrackMatch, long: np.ndarray, selection: TargetSelection, pileup: float
) -> ParticleTable:
    pt, eta = _pt_eta(particles.momentum)
    cuts = _cuts(particles, selection)
    rows = np.flatnonzero(cuts["countable"])
    return ParticleTable(
        pt=pt[rows],
        eta=eta[rows],
        radius=np.hypot(particles.vertex[rows, 0], particles.vertex[rows, 1]).astype(np.float64),
        n_hits=hits_per_particle(particles)[rows],
        pileup=np.full(rows.size, pileup),
        pt_passes=cuts["pt"][rows],
        eta_passes=cuts["eta"][rows],
        radius_passes=cuts["radius"][rows],
        found=_rows_of(match, double_majority(match) & long, pt.size)[rows],
        perfect=_rows_of(match, perfect(match) & long, pt.size)[rows],
        lhc=_rows_of(match, lhc(match) & long, pt.size)[rows],
    )


class _Fit(NamedTuple):
    """Parameters in double precision, NaN where there was no fit, and what follows from them."""

    parameters: Float[np.ndarray, "t 5"]
    covariance: Float[np.ndarray, "t 5 5"]
    pt: Float[np.ndarray, " t"]
    eta: Float[np.ndarray, " t"]


def _fit(parameters: Array | None, covariance: Array | None, n_tracks: int) -> _Fit:
    for name, array in (("parameters", parameters), ("covariance", covariance)):
        if array is not None and len(array) != n_tracks:
            raise DataError(f"{name} has {len(array)} rows for {n_tracks} tracks")
    fitted = np.full((n_tracks, 5), np.nan) if parameters is None else np.asarray(parameters, np.float64)
    errors = np.full((n_tracks, 5, 5), np.nan) if covariance is None else np.asarray(covariance, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        pt, eta = np.abs(np.sin(fitted[:, 3]) / fitted[:, 4]), np.asarray(eta_from_theta(fitted[:, 3]))
    return _Fit(fitted, errors, pt, eta)


def _is_candidate(
    match: TrackMatch, fit: _Fit, selection: TargetSelection, candidates: CandidateSelection
) -> Bool[np.ndarray, " t"]:
    # Written as "not outside" because NaN, a missing or failed fit, must pass.
    outside = fit.pt <= candidates.pt_min
    outside |= (np.abs(fit.eta) >= selection.eta_max) | (np.abs(fit.eta) < selection.eta_min)
    return (match.n_track >= candidates.min_hits) & ~outside


def _track_table(
    particles: Particles,
    match: TrackMatch,
    fit: _Fit,
    *,
    candidate: np.ndarray,
    targets: np.ndarray,
    pileup: float,
    field: float,
) -> TrackTable:
    matched = double_majority(match)
    # Row -1 of the columns below, appended to them, stands for "no particle".
    particle = np.where(matched, match.particle, -1)
    residual = residuals(fit.parameters, truth_parameters(particles, field), particle)
    truth_pt, truth_eta = (np.append(column, np.nan)[particle] for column in _pt_eta(particles.momentum))
    table = TrackTable(
        pt=fit.pt,
        eta=fit.eta,
        n_hits=match.n_track,
        pileup=np.full(len(matched), pileup),
        candidate=candidate,
        fake=~matched,
        impure=impure(match),
        duplicate=duplicate(match, candidate),
        target=np.append(targets, False)[particle],
        truth_pt=truth_pt,
        truth_eta=truth_eta,
        residual=residual,
        pull=pulls(residual, fit.covariance),
    )
    return TrackTable(*(column[match.n_track > 0] for column in table))


def _count(
    particles: ParticleTable, tracks: TrackTable, match: TrackMatch, long: np.ndarray, score: float | None
) -> EventCounts:
    target, candidate = particles.target, tracks.candidate
    return EventCounts(
        events=1,
        targets=int(target.sum()),
        found=int((target & particles.found).sum()),
        found_perfect=int((target & particles.perfect).sum()),
        found_lhc=int((target & particles.lhc).sum()),
        tracks=int(long.sum()),
        candidates=int(candidate.sum()),
        fakes=int((candidate & tracks.fake).sum()),
        impure=int((candidate & tracks.impure).sum()),
        duplicates=int((candidate & tracks.duplicate).sum()),
        candidates_lhc=int((candidate & lhc(match)[match.n_track > 0]).sum()),
        score=0.0 if score is None else score,
        scored=0 if score is None else 1,
    )


CRITERIA = {"double_majority": "found", "perfect": "perfect", "lhc": "lhc"}


def efficiency_in_bins(
    evaluation: Evaluation, variable: str, edges: np.ndarray, criterion: str = "double_majority"
) -> Binned:
    """Efficiency for targets in bins of a variable, without the cut on that variable itself.

    Args:
        evaluation: of one or more events.
        variable: "pt" (GeV), "eta", "radius" (mm) or "pileup".
        edges: of the bins.
        criterion: "double_majority", "perfect" or "lhc".

    Raises:
        ConfigError: unknown variable or criterion.
    """
    table = evaluation.particles
    cuts = {"pt": table.pt_passes, "eta": table.eta_passes, "radius": table.radius_passes}
    if variable not in (*cuts, "pileup") or criterion not in CRITERIA:
        raise ConfigError(
            f"no efficiency {criterion!r} against {variable!r}; allowed: {list(CRITERIA)} against "
            f"{[*cuts, 'pileup']}"
        )
    counts = np.ones(table.pt.shape, bool)
    for name, passes in cuts.items():
        if name != variable:
            counts &= passes
    return binned_efficiency(getattr(table, variable), getattr(table, CRITERIA[criterion]), edges, counts)


RATES = ("fake", "impure", "duplicate")


def rate_in_bins(evaluation: Evaluation, rate: str, variable: str, edges: np.ndarray) -> Binned:
    """Fraction of the candidates that is bad, in bins of a fitted quantity.

    Args:
        evaluation: of one or more events.
        rate: "fake", "impure" or "duplicate".
        variable: "pt" (GeV), "eta", "n_hits" or "pileup".
        edges: of the bins.

    Raises:
        ConfigError: unknown rate or variable.
    """
    allowed = ("pt", "eta", "n_hits", "pileup")
    if rate not in RATES or variable not in allowed:
        raise ConfigError(
            f"no rate {rate!r} against {variable!r}; allowed: {list(RATES)} against {list(allowed)}"
        )
    table = evaluation.tracks
    return binned_efficiency(getattr(table, variable), getattr(table, rate), edges, table.candidate)


def evaluate_edges(
    edges: EdgeList,
    targets: Segments,
    truth: tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"]] | None = None,
    accept: Bool[np.ndarray, " e"] | None = None,
) -> EdgeCounts:
    """Compare candidate segments with the true ones.

    Args:
        edges: of one event.
        targets: true segments of the particles to find; see `recon.tracking.truth.true_segments`.
        truth: true segments of all particles; `targets` if not given.
        accept: edges that pass a classifier; all valid ones if not given.

    Raises:
        DataError: the edge list overflowed and is incomplete.
    """
    if bool(np.any(edges.overflow)):
        raise DataError("the edge list overflowed: it is incomplete, build it with a larger capacity")
    use = np.asarray(edges.valid) if accept is None else np.asarray(edges.valid) & np.asarray(accept)
    key = np.unique(_segment_key(np.asarray(edges.senders)[use], np.asarray(edges.receivers)[use]))
    target_key = np.unique(_segment_key(*targets))
    in_targets = int(np.isin(key, target_key, assume_unique=True).sum())
    in_truth = in_targets if truth is None else int(np.isin(key, np.unique(_segment_key(*truth))).sum())
    return EdgeCounts(
        segments=target_key.size,
        found=in_targets,
        edges=key.size,
        true_edges=in_truth,
        target_edges=in_targets,
    )


def _segment_key(inner: np.ndarray, outer: np.ndarray) -> Int[np.ndarray, " s"]:
    return (np.asarray(inner, np.int64) << 32) | np.asarray(outer, np.int64)
