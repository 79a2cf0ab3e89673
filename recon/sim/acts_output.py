"""Tracks of ACTS as arrays."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from recon.sim import import_extra

CONVERSION_STAGES = ("input", "output")
"""Stages of `PeerTracks.cpu` that only copy data between Python and ACTS."""

_TRIANGLE = tuple(itertools.combinations_with_replacement(range(5), 2))


class PeerTracks(NamedTuple):
    """Tracks of one event as ACTS gives them.

    Attributes:
        offsets: hits of track i are `hits[offsets[i]:offsets[i + 1]]`.
        hits: rows of `Hits`, from the beam line outwards along the track; outliers are left out.
        parameters: (d0 mm, z0 mm, phi rad, theta rad, q/p 1/GeV) at the perigee to the line x = y = 0; NaN
            where not `valid`.
        covariance: of `parameters`; NaN where not `valid`.
        chi2: sum over the hits of the track; NaN where not `valid`.
        n_holes: sensors crossed without a hit.
        n_outliers: hits met along the track but rejected.
        valid: false where ACTS gave no fit at the perigee.
        cpu: CPU seconds of every stage of this event; see `reconstruction_cpu`.
    """

    offsets: Int64[np.ndarray, " t1"]
    hits: Int32[np.ndarray, " k"]
    parameters: Float64[np.ndarray, "t 5"]
    covariance: Float64[np.ndarray, "t 5 5"]
    chi2: Float64[np.ndarray, " t"]
    n_holes: Int32[np.ndarray, " t"]
    n_outliers: Int32[np.ndarray, " t"]
    valid: Bool[np.ndarray, " t"]
    cpu: dict[str, float]


def reconstruction_cpu(tracks: PeerTracks) -> float:
    """CPU seconds that ACTS itself spent on the event, without the copies between Python and ACTS."""
    return sum(seconds for stage, seconds in tracks.cpu.items() if stage not in CONVERSION_STAGES)


def measurement_indices(track: Any) -> list[int]:
    """Indices of the measurements on an ACTS track, from the beam line outwards, without outliers."""
    source_link = import_extra("acts.examples").IndexSourceLink
    indices = []
    for state in track.trackStatesReversed:
        flags = state.typeFlags
        if flags.isMeasurement and not flags.isOutlier and state.hasUncalibratedSourceLink:
            indices.append(source_link.fromSourceLink(state.uncalibratedSourceLink).index())
    return indices[::-1]


def peer_tracks(container: Any, rows: Int64[np.ndarray, " m"]) -> PeerTracks:
    """Copy the tracks of one event out of ACTS.

    Args:
        container: `acts.examples.ConstTrackContainer`.
        rows: row of `Hits` of every measurement.

    Returns:
        The tracks in the order of the container, without CPU times.
    """
    tracks = list(container)
    hit_lists = [measurement_indices(track) for track in tracks]
    valid = np.array([track.hasReferenceSurface for track in tracks], bool)
    parameters = np.full((len(tracks), 5), np.nan)
    covariance = np.full((len(tracks), 5, 5), np.nan)
    for row in np.flatnonzero(valid):
        vector, matrix = tracks[row].parameters, tracks[row].covariance
        parameters[row] = [vector[i] for i in range(5)]
        for i, j in _TRIANGLE:
            covariance[row, i, j] = covariance[row, j, i] = matrix[i, j]
    return PeerTracks(
        offsets=np.cumsum([0, *map(len, hit_lists)], dtype=np.int64),
        hits=rows[np.array(list(itertools.chain(*hit_lists)), np.int64)].astype(np.int32),
        parameters=parameters,
        covariance=covariance,
        chi2=np.where(valid, np.array([track.chi2 for track in tracks], np.float64), np.nan),
        n_holes=np.array([track.nHoles for track in tracks], np.int32),
        n_outliers=np.array([track.nOutliers for track in tracks], np.int32),
        valid=valid,
        cpu={},
    )
