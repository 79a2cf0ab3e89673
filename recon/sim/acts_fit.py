"""The Kalman fit of ACTS on given lists of hits: the yardstick of our own fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from recon.errors import DataError
from recon.sim import import_extra
from recon.sim.acts_sequence import _measurement_indices,ActsSequence, PeerTracks, magnetic_field, shared_geometry
from recon.sim.detector import LONG_STRIP_VOLUMES, PIXEL_VOLUMES, SHORT_STRIP_VOLUMES
from recon.types import Detector, Event

HitLists = tuple[Int[np.ndarray, " t1"], Int[np.ndarray, " k"]]
"""(offsets, hits) as in `PeerTracks`: rows of `Hits`, track after track."""


def fit_tracks_kalman(
    events: Sequence[Event], track_hits: Sequence[HitLists], detector: Detector
) -> list[PeerTracks]:
    """Fit lists of hits with the Kalman filter and smoother of ACTS, pion hypothesis, 2 T, all material.

    The filter starts on the sensor of the first hit from a circle through three hits of the track with a wide
    covariance, runs outwards, is smoothed, and the result is extrapolated to the perigee. Row i of the result
    belongs to list i of the input. A track that cannot be fitted (fewer than three hits at different radii, or the
    filter gives up) has `valid` false, NaN parameters and no hits. Hits that the filter did not meet on its way
    (a second one on the same sensor, or one far off the track) are missing from the result's hits.

    CPU time is reported by stage: `space_points`, `parameters` and `fit`, and apart from them `input` and `output`.

    Args:
        events: stored events; only `hits` is looked at.
        track_hits: for every event the lists, each from the beam line outwards.
        detector: the sensor table that `Hits.module` points into.

    Returns:
        The fits of every event.

    Raises:
        ConfigError: the `sim` extra is missing.
        DataError: as many entries as events are needed; lists that do not fit together or name a hit that does not
            exist, is not valid, or has no sensor.
    """
    if len(events) != len(track_hits):
        raise DataError(f"{len(track_hits)} entries of track_hits for {len(events)} events; one an event is needed")
    sequence = ActsSequence(events, detector)
    lists = [
        _measurement_lists(event, hit_lists, rows)
        for event, hit_lists, rows in zip(events, track_hits, sequence.rows, strict=True)
    ]
    examples = import_extra("acts.examples")
    proto_tracks = ("proto_tracks", examples.ProtoTrackContainer)
    sequence.add_python("proto_tracks", lambda number: _proto_tracks(lists[number]), output=proto_tracks)
    sequence.add("input")
    sequence.add("space_points", _space_points(sequence))
    sequence.add("parameters", *_start_parameters(sequence))
    sequence.add("fit", _kalman_fit(sequence, "fit_proto_tracks","start_parameters","fitted_tracks"))
    if not os.environ.get("TWO"): fits = sequence.run("fitted_tracks")
    else:
        def refit_lists(number, tracks):
            out=[]; it=iter(lists[number])
            for t in tracks:
                h=set(_measurement_indices(t))
                for l in it:
                    if h<=set(l): break
                out.append(l)
            return _proto_tracks(out)
        sequence.add_python("refit_proto", refit_lists, {"fitted_tracks":examples.ConstTrackContainer}, ("refit_proto_tracks", examples.ProtoTrackContainer))
        sequence.add("input2",examples.TrackModifier(level=sequence.silent,inputTracks="fitted_tracks",outputTracks="wide_tracks",covScale=float(os.environ["TWO"])),examples.TracksToParameters(level=sequence.silent,inputTracks="wide_tracks",outputTrackParameters="refit_parameters"))
        sequence.add("fit", _kalman_fit(sequence, "refit_proto_tracks","refit_parameters","refitted_tracks"))
        fits = sequence.run("refitted_tracks")
    return [
        _align(fit, hits, rows) for fit, hits, rows in zip(fits, lists, sequence.rows, strict=True)
    ]


def _measurement_lists(event: Event, hit_lists: HitLists, rows: Int64[np.ndarray, " m"]) -> list[list[int]]:
    """Turn rows of `Hits` into indices of measurements, one list a track."""
    offsets, hits = (np.asarray(array, np.int64) for array in hit_lists)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(hits) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"event {event.number}: offsets of the hit lists must rise from 0 to the number of hits ({len(hits)}), "
            f"given {offsets[:3].tolist()} ... {offsets[-1:].tolist()}"
        )
    index = np.full(len(event.hits.valid), -1, np.int64)
    index[rows] = np.arange(len(rows))
    wrong = (hits < 0) | (hits >= len(index))
    wrong |= index[np.where(wrong, 0, hits)] < 0 if len(index) else True
    if wrong.any():
        raise DataError(
            f"event {event.number}: track_hits name row {hits[wrong][0]}, allowed are the valid rows of the "
            f"{len(index)} hits"
        )
    return [part.tolist() for part in np.split(index[hits], offsets[1:-1])] if len(offsets) > 1 else []


def _proto_tracks(lists: list[list[int]]) -> Any:
    examples = import_extra("acts.examples")
    container = examples.ProtoTrackContainer()
    for indices in lists:
        container.append(examples.ProtoTrack(indices))
    return container


def _space_points(sequence: ActsSequence) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    volumes = PIXEL_VOLUMES + SHORT_STRIP_VOLUMES + LONG_STRIP_VOLUMES
    return examples.SpacePointMaker(
        level=sequence.silent,
        inputMeasurements="measurement_subset",
        outputSpacePoints="space_points",
        trackingGeometry=shared_geometry().tracking_geometry,
        # The strips measure both coordinates, so every measurement is a space point.
        geometrySelection=[acts.GeometryIdentifier(volume=volume) for volume in volumes],
        stripGeometrySelection=[],
    )


import os
def _start_parameters(sequence: ActsSequence) -> list[Any]:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    if os.environ.get("PTP"):
        return [examples.ProtoTracksToParameters(level=sequence.silent,inputProtoTracks="proto_tracks", inputSpacePoints="space_points", outputSeeds="seeds", outputParameters="start_parameters", outputProtoTracks="fit_proto_tracks", spacePointSelection=getattr(examples.SeedSpacePointSelection,os.environ.get("SPS","SpreadTriplet")),geometry=shared_geometry().tracking_geometry, magneticField=magnetic_field())]
    to_seeds = examples.ProtoTracksToSeeds(
        level=sequence.silent,
        inputProtoTracks="proto_tracks",
        inputSpacePoints="space_points",
        outputSeeds="seeds",
        outputProtoTracks="seeded_proto_tracks",
    )
    estimation = examples.TrackParamsEstimationAlgorithm(
        level=sequence.silent,
        inputSeeds="seeds",
        inputProtoTracks="seeded_proto_tracks",
        outputTrackParameters="start_parameters",
        outputSeeds="start_seeds",
        outputProtoTracks="fit_proto_tracks",
        trackingGeometry=shared_geometry().tracking_geometry,
        magneticField=magnetic_field(),
        particleHypothesis=acts.ParticleHypothesis.pion,
        spacePointSelection=getattr(examples.SeedSpacePointSelection,os.environ.get("SPS","SpreadTriplet")),
        # Wide: the start comes from hits of the same track, which must not count twice.
        initialVarInflation=[float(os.environ.get("INF",100))] * 6,
    )
    return [to_seeds, estimation]


def _kalman_fit(sequence: ActsSequence,a,b,c) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    fit = examples.makeKalmanFitterFunction(
        shared_geometry().tracking_geometry,
        magnetic_field(),
        multipleScattering=True,
        energyLoss=True,
        reverseFilteringMomThreshold=0.0,
        reverseFilteringCovarianceScaling=100.0,
        freeToBoundCorrection=examples.FreeToBoundCorrection(False),
        level=sequence.silent,
        chi2Cut=float("inf"),
        useJosephFormulation=False,
    )
    return examples.TrackFittingAlgorithm(
        level=sequence.silent,
        inputMeasurements="measurements",
        inputProtoTracks=a,
        inputInitialTrackParameters=b,
        inputClusters="",
        outputTracks=c,
        pickTrack=-1,
        fit=fit,
        calibrator=examples.makePassThroughCalibrator(),
        referenceSurface=acts.Surface.createPerigee(acts.Vector3(0, 0, 0)),
    )


def _align(fit, lists, rows):
    return fit
