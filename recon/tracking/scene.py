"""Turn an event and its tracks into what the event displays draw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.display.scene import Scene, TrackGroup, detector_outline
from recon.errors import DataError
from recon.geometry import curvature, eta_from_theta, helix_position
from recon.tracking.matching import TrackHits, check_track_hits, double_majority, match_tracks
from recon.tracking.metrics import TargetSelection, target_particles
from recon.tracking.resolution import FIELD_TESLA, truth_parameters
from recon.types import Array, Detector, Event

CURVE_POINTS = 25
"""Points along every drawn track."""

LONGEST_PATH = 6000.0
"""mm; a drawn helix ends here at the latest."""

_FORWARD = 0.7


class _Drawable(NamedTuple):
    """Tracks or particles with their hits, before they are sorted into groups."""

    hits: TrackHits
    parameters: Float[np.ndarray, "t 5"]
    chi2: Float[np.ndarray, " t"]
    curves: Float[np.ndarray, "t k 3"]


def track_scene(
    event: Event,
    track_hits: TrackHits,
    parameters: Float[Array, "t 5"] | None = None,
    *,
    chi2: Float[Array, " t"] | None = None,
    detector: Detector | None = None,
    selection: TargetSelection | None = None,
    title: str | None = None,
    field: float = FIELD_TESLA,
) -> Scene:
    """Collect what an event display shows.

    With truth the tracks come in the groups "other particle", "target found" and "fake" (no double majority),
    and the targets without a double-majority track are added as "missed target". Without truth there is one
    group. Tracks without a fit are drawn from hit to hit.

    Args:
        event: the event.
        track_hits: hits of every track; rows without hits are no tracks.
        parameters: fitted (d0 mm, z0 mm, phi, theta, q/p 1/GeV) of every track.
        chi2: of every track.
        detector: the outline to draw; none if not given.
        selection: the targets; the defaults of `TargetSelection` if not given.
        title: for the picture; the event number if not given.
        field: along +z, T.

    Raises:
        DataError: hit lists that do not fit the event, or arrays of different lengths.
    """
    n_tracks = len(track_hits.offsets) - 1
    check_track_hits(track_hits, len(event.hits.position))
    fitted = np.full((n_tracks, 5), np.nan) if parameters is None else np.asarray(parameters, np.float64)
    quality = np.full(n_tracks, np.nan) if chi2 is None else np.asarray(chi2, np.float64)
    if not len(fitted) == len(quality) == n_tracks:
        raise DataError(f"{n_tracks} tracks, but parameters of {len(fitted)} and chi2 of {len(quality)}")
    position = np.asarray(event.hits.position, np.float64)
    found = _Drawable(track_hits, fitted, quality, _curves(position, track_hits, fitted, field))
    return Scene(
        title=f"event {event.number}" if title is None else title,
        hits=np.asarray(event.hits.position, np.float32)[np.asarray(event.hits.valid)],
        groups=_groups(event, found, position, TargetSelection() if selection is None else selection, field),
        outline=None if detector is None else detector_outline(detector),
    )


def _groups(
    event: Event, found: _Drawable, position: np.ndarray, selection: TargetSelection, field: float
) -> tuple[TrackGroup, ...]:
    real = found.hits.n_hits > 0
    if event.particles is None:
        return (_group("tracks", "#0072B2", found, real, position),)
    match = match_tracks(found.hits, event.particles)
    good = double_majority(match)
    target = target_particles(event.particles, selection)
    of_target = good & np.append(target, False)[match.particle]
    missed = target.copy()
    missed[match.particle[good]] = False
    hits = _hits_of_particles(np.asarray(event.particles.hit_particle), missed)
    truth = truth_parameters(event.particles, field)[missed]
    lost = _Drawable(hits, truth, np.full(len(truth), np.nan), _curves(position, hits, truth, field))
    return (
        _group("other particle", "#009E73", found, good & ~of_target, position),
        _group("target found", "#0072B2", found, of_target, position),
        _group("fake", "#D55E00", found, real & ~good, position),
        _group("missed target", "#000000", lost, np.ones(len(truth), bool), position, dashed=True),
    )


def _group(
    name: str,
    color: str,
    drawable: _Drawable,
    rows: np.ndarray,
    position: np.ndarray,
    *,
    dashed: bool = False,
) -> TrackGroup:
    parameters = drawable.parameters[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        pt, eta = np.abs(np.sin(parameters[:, 3]) / parameters[:, 4]), eta_from_theta(parameters[:, 3])
    on_these = rows[drawable.hits.track]
    return TrackGroup(
        name=name,
        color=color,
        dashed=dashed,
        curves=drawable.curves[rows].astype(np.float32),
        hits=position[drawable.hits.hits[on_these]].astype(np.float32),
        pt=pt.astype(np.float32),
        eta=np.asarray(eta, np.float32),
        n_hits=drawable.hits.n_hits[rows].astype(np.int32),
        chi2=drawable.chi2[rows].astype(np.float32),
    )


def _hits_of_particles(hit_particle: np.ndarray, chosen: np.ndarray) -> TrackHits:
    """Hit lists of the chosen particles, in the order of their rows."""
    hits = np.flatnonzero((hit_particle >= 0) & np.append(chosen, False)[hit_particle])
    hits = hits[np.argsort(hit_particle[hits], kind="stable")]
    counts = np.bincount(hit_particle[hits], minlength=len(chosen))[chosen]
    return TrackHits(np.append(0, np.cumsum(counts)).astype(np.int64), hits.astype(np.int32))


def _curves(
    position: np.ndarray, hits: TrackHits, parameters: np.ndarray, field: float
) -> Float[np.ndarray, "t k 3"]:
    """Points from the perigee to the last hit of every track."""
    fitted = np.all(np.isfinite(parameters), axis=1)
    curves = np.zeros((len(parameters), CURVE_POINTS, 3))
    path = _path_to_last_hit(position, hits, parameters, field)
    steps = np.linspace(0, 1, CURVE_POINTS)
    curves[fitted] = helix_position(parameters[fitted][:, None, :], path[fitted, None] * steps, field)
    for row in np.flatnonzero(~fitted & (hits.n_hits > 0)):
        points = position[hits.hits[hits.offsets[row] : hits.offsets[row + 1]]]
        points = points[np.argsort(np.linalg.norm(points, axis=1), kind="stable")]
        place = np.linspace(0, len(points) - 1, CURVE_POINTS)
        curves[row] = np.stack([np.interp(place, np.arange(len(points)), axis) for axis in points.T], axis=-1)
    return curves


def _path_to_last_hit(
    position: np.ndarray, hits: TrackHits, parameters: np.ndarray, field: float
) -> Float[np.ndarray, " t"]:
    """Length of the helix from its perigee to the farthest hit, mm; 0 where there is no fit."""
    track = hits.track
    offset = position[hits.hits] - helix_position(parameters, np.zeros(len(parameters)), field)[track]
    sine, cosine = np.sin(parameters[track, 3]), np.cos(parameters[track, 3])
    bend = np.abs(np.asarray(curvature(parameters[:, 4], parameters[:, 3], field)))[track]
    half_turn = np.minimum(np.hypot(offset[:, 0], offset[:, 1]) * bend / 2, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = 2 * np.arcsin(half_turn) / bend / sine
        along = offset[:, 2] / cosine
    # Forward tracks are measured best along z, the others across, where the arc is longer than its chord.
    path = np.where(np.abs(cosine) > _FORWARD, along, across)
    longest = np.zeros(len(parameters))
    np.maximum.at(longest, track, np.where(np.isfinite(path), path, 0))
    return np.minimum(longest, LONGEST_PATH)
