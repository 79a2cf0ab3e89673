"""Which particle a reconstructed track belongs to, and the criteria by which it counts as found.

Host NumPy, one event at a time. Tracks are lists of hits (`TrackHits`) that may share hits, as those of a
combinatorial Kalman filter do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64

from recon.errors import DataError
from recon.types import NOISE, Particles, Tracks

TRACKML_MAJORITY = 0.5
LHC_MAJORITY = 0.75


class TrackHits(NamedTuple):
    """The hits of every track of one event, tracks after one another.

    Attributes:
        offsets: hits of track i are `hits[offsets[i]:offsets[i + 1]]`; such a row may be empty.
        hits: rows of `Hits`; a hit may lie on several tracks but only once on each.
    """

    offsets: Int64[np.ndarray, " t1"]
    hits: Int32[np.ndarray, " k"]

    @property
    def n_hits(self) -> Int64[np.ndarray, " t"]:
        """Number of hits on every track."""
        return np.diff(self.offsets)

    @property
    def track(self) -> Int64[np.ndarray, " k"]:
        """Row of the track of every entry of `hits`."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), self.n_hits)


class TrackMatch(NamedTuple):
    """The particle with the most hits on every track.

    Attributes:
        particle: its row in `Particles`, the lowest row where several have as many hits on the track;
            `NOISE` for a track without hits of any particle.
        n_common: hits of that particle on the track.
        n_track: hits on the track.
        n_particle: hits of that particle in the event; 0 without particle.
    """

    particle: Int32[np.ndarray, " t"]
    n_common: Int32[np.ndarray, " t"]
    n_track: Int32[np.ndarray, " t"]
    n_particle: Int32[np.ndarray, " t"]


def from_tracks(tracks: Tracks) -> TrackHits:
    """Hit lists of the tracks of one event; row i stays row i, rows that are not valid are empty.

    Args:
        tracks: not batched.

    Raises:
        DataError: a batch was given, or a hit names a track row that does not exist.
    """
    hit_track = np.asarray(tracks.hit_track)
    valid = np.asarray(tracks.valid)
    if hit_track.ndim != 1:
        raise DataError(f"hit_track has shape {hit_track.shape}; allowed: one event, without a batch axis")
    if hit_track.size and hit_track.max() >= valid.size:
        raise DataError(f"a hit lies on track {int(hit_track.max())}, but there are only {valid.size} tracks")
    used = hit_track >= 0
    used[used] = valid[hit_track[used]]
    hits = np.flatnonzero(used)
    track = hit_track[hits]
    order = np.argsort(track, kind="stable")
    offsets = np.append(0, np.cumsum(np.bincount(track, minlength=valid.size)))
    return TrackHits(offsets.astype(np.int64), hits[order].astype(np.int32))


def check_track_hits(track_hits: TrackHits, n_hits: int) -> None:
    """Refuse hit lists that do not fit the event.

    Args:
        track_hits: the lists.
        n_hits: number of hits of the event.

    Raises:
        DataError: offsets that do not ascend from 0 to the length of `hits`, a row outside the event, or a
            hit that is listed twice on one track.
    """
    offsets, hits = track_hits
    if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != hits.size or np.any(np.diff(offsets) < 0):
        raise DataError(f"track offsets must ascend from 0 to the number of listed hits, {hits.size}")
    if hits.size == 0:
        return
    if hits.min() < 0 or hits.max() >= n_hits:
        raise DataError(
            f"track hits reach from row {hits.min()} to {hits.max()}, the event has rows 0 to {n_hits - 1}"
        )
    entry = np.sort(track_hits.track * n_hits + hits)
    repeated = np.flatnonzero(entry[1:] == entry[:-1])
    if repeated.size:
        track, hit = divmod(int(entry[repeated[0]]), n_hits)
        raise DataError(f"hit {hit} is listed more than once on track {track}")


def hits_per_particle(particles: Particles) -> Int[np.ndarray, " p"]:
    """Number of hits that every particle left in the event."""
    made = np.asarray(particles.hit_particle)
    return np.bincount(made[made >= 0], minlength=len(particles.valid))


def match_tracks(track_hits: TrackHits, particles: Particles) -> TrackMatch:
    """Find the particle that has the most hits on every track.

    Args:
        track_hits: hits of every track, rows of the same hits as `particles.hit_particle`.
        particles: of the same event, not batched.

    Raises:
        DataError: hit lists that do not fit the event; see `check_track_hits`.
    """
    made = np.asarray(particles.hit_particle)
    check_track_hits(track_hits, made.size)
    n_tracks, n_particles = len(track_hits.offsets) - 1, len(particles.valid)
    owner = made[track_hits.hits]
    known = owner >= 0
    pair, common = np.unique(track_hits.track[known] * n_particles + owner[known], return_counts=True)
    track, candidate = np.divmod(pair, max(n_particles, 1))
    # The last writer wins: the pair with the most hits, of equals the one with the lowest row.
    order = np.lexsort((-candidate, common))
    particle = np.full(n_tracks, NOISE, np.int32)
    n_common = np.zeros(n_tracks, np.int32)
    particle[track[order]] = candidate[order]
    n_common[track[order]] = common[order]
    n_particle = np.append(hits_per_particle(particles), 0)[particle]
    return TrackMatch(particle, n_common, track_hits.n_hits.astype(np.int32), n_particle.astype(np.int32))


def double_majority(match: TrackMatch) -> Bool[np.ndarray, " t"]:
    """More than half of the track's hits are the particle's, and more than half of the particle's are on it.

    Denominators: the hits on the track; all hits of the particle in the event. A half exactly does not pass.
    No two tracks without shared hits can pass for the same particle.
    """
    return (2 * match.n_common > match.n_track) & (2 * match.n_common > match.n_particle)


def perfect(match: TrackMatch) -> Bool[np.ndarray, " t"]:
    """All hits of the particle and no other hit are on the track.

    Denominators: the hits on the track; all hits of the particle in the event. Both must be matched in full.
    """
    return (match.n_common > 0) & (match.n_common == match.n_track) & (match.n_common == match.n_particle)


def lhc(match: TrackMatch) -> Bool[np.ndarray, " t"]:
    """At least 75 % of the track's hits come from one particle.

    Denominator: the hits on the track. How much of the particle was found does not matter, so a particle may
    be matched by several tracks.
    """
    return (match.n_common > 0) & (match.n_common >= LHC_MAJORITY * match.n_track)


def impure(match: TrackMatch) -> Bool[np.ndarray, " t"]:
    """At most half of the track's hits come from any one particle; the complement of a simple majority.

    Denominator: the hits on the track. False for a row without hits, which is no track.
    """
    return (match.n_track > 0) & (2 * match.n_common <= match.n_track)


def duplicate(match: TrackMatch, counts: Bool[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    """Double-majority tracks of a particle for which a better one exists.

    Better means more common hits, then fewer hits in all, then the lower row.

    Args:
        match: of every track.
        counts: the tracks to compare; the others are neither duplicates nor make duplicates.
    """
    rows = np.flatnonzero(double_majority(match) & counts)
    order = rows[np.lexsort((rows, match.n_track[rows], -match.n_common[rows], match.particle[rows]))]
    again = np.append(False, match.particle[order[1:]] == match.particle[order[:-1]])[: order.size]
    result = np.zeros(len(counts), bool)
    result[order[again]] = True
    return result


def trackml_score(
    match: TrackMatch, track_hits: TrackHits, particles: Particles, weights: Float[np.ndarray, " n"]
) -> float:
    """Score of the TrackML challenge: summed weight of the hits that are on the right track.

    A hit counts if its track passes the double majority and the hit belongs to the track's particle
    (S. Amrouche et al., "The Tracking Machine Learning challenge: Accuracy phase", arXiv:1904.06778). Of
    several tracks that share hits each counts: only tracks without shared hits compare with the challenge.

    Args:
        match: of the same tracks.
        track_hits: hits of every track.
        particles: of the same event.
        weights: of every hit, summing to 1 over the event.

    Raises:
        DataError: not one weight a hit.
    """
    if len(weights) != len(particles.hit_particle):
        raise DataError(f"{len(weights)} weights for {len(particles.hit_particle)} hits")
    track = track_hits.track
    right = double_majority(match)[track] & (particles.hit_particle[track_hits.hits] == match.particle[track])
    return float(weights[track_hits.hits[right]].sum())
