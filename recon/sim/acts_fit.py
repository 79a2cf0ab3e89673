"""The Kalman fit of ACTS on given lists of hits: the yardstick of our own fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from recon.errors import DataError
from recon.sim import import_extra
from recon.sim.acts_output import PeerTracks, measurement_indices
from recon.sim.acts_sequence import (
    ActsSequence,
    magnetic_field,
    shared_geometry,
    space_point_maker,
)
from recon.sim.detector import LONG_STRIP_VOLUMES, PIXEL_VOLUMES, SHORT_STRIP_VOLUMES
from recon.types import Detector, Event

HitLists = tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]
"""(offsets, hits) as in `PeerTracks`: rows of `Hits`, track after track."""

START_INFLATION = 2.0
"""Factor on the covariance of each fit that the next one starts with.

The filter takes the multiple scattering from the momentum that it knows on its way, which is little more than that
of its start. With a start ten times as wide (a factor of 100) the fits of tracks beyond |eta| = 2.5 move by a median
of 0.06 sigma in q/p, and 10 % of all fits by more than 0.1 sigma."""

REFITS = 4
"""Fits after the first one, each from the result of the one before.

The start comes from the same hits. In the parameters it fades away, by `START_INFLATION` + 1 with each fit (four
more fits change the median parameter by less than 0.002 sigma); in the covariance it is taken out by `_hit_share`.
What stays is the beam pipe: ACTS leaves it out on the way from the first hit to the perigee."""


def fit_tracks_kalman(
    events: Sequence[Event], track_hits: Sequence[HitLists], detector: Detector
) -> list[PeerTracks]:
    """Fit lists of hits with the Kalman filter and smoother of ACTS: pion hypothesis, 2 T, all material.

    A circle through all hits starts a first fit, and the result of each fit, with its covariance inflated by
    `START_INFLATION`, the next one, `REFITS` times: run outwards, smoothed, extrapolated to the perigee.
    Row i of the result belongs to list i of the input. A track that cannot be fitted (fewer than three hits,
    no circle, the filter gave up) has `valid` false, NaN parameters and no hits. A hit that the filter did
    not meet on its way (a second one on the same sensor, or one on a sensor that the track misses) is not
    among the hits of the result.

    CPU time is reported by stage: `fit` is the returned fit alone, `start` all that finds its starting point,
    and `input` and `output` are the copies between Python and ACTS.

    Args:
        events: stored events; only `hits` is looked at.
        track_hits: for every event the lists, each from the beam line outwards.
        detector: the sensor table that `Hits.module` points into.

    Returns:
        The fits of every event, with as many rows as lists.

    Raises:
        ConfigError: the `sim` extra is missing.
        DataError: not one entry an event; lists that do not fit together, or name a hit that does not exist
            or is padding; see also `measurement_rows`.
    """
    if len(events) != len(track_hits):
        raise DataError(
            f"{len(track_hits)} entries of track_hits for {len(events)} events: one an event is needed"
        )
    sequence = ActsSequence(events, detector)
    lists = [_measurement_lists(*item) for item in zip(events, track_hits, sequence.rows, strict=True)]
    keys = _add_start(sequence, lists)
    sequence.add("fit", _kalman_fit(sequence, *keys, "fitted_tracks"))
    fits = sequence.run("fitted_tracks")
    return [_align(*item) for item in zip(fits, lists, sequence.rows, strict=True)]


def subsequence_rows(candidates: Sequence[Iterable[int]], lists: Sequence[Iterable[int]]) -> list[int]:
    """Find for every candidate the list it was made from: some lists were skipped, none reordered.

    The earliest list that contains all hits of the candidate is taken; where that fails, every choice does.

    Args:
        candidates: hits of every fitted track.
        lists: hits of every track that was to be fitted.

    Returns:
        Strictly rising rows of `lists`.

    Raises:
        DataError: a candidate has hits of no list that is left.
    """
    rows, remaining = [], iter(enumerate(lists))
    for number, candidate in enumerate(candidates):
        wanted = set(candidate)
        row = next((row for row, hits in remaining if wanted <= set(hits)), None)
        if row is None:
            raise DataError(
                f"fitted track {number} of {len(candidates)} has hits that are on none of the lists left"
            )
        rows.append(row)
    return rows


def _measurement_lists(event: Event, hit_lists: HitLists, rows: Int64[np.ndarray, " m"]) -> list[list[int]]:
    """Turn rows of `Hits` into indices of measurements, one list a track."""
    offsets, hits = (np.asarray(array, np.int64) for array in hit_lists)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(hits) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"event {event.number}: the offsets of track_hits must rise from 0 to the number of hits, "
            f"{len(hits)}; given {offsets[:3].tolist()} to {offsets[-1:].tolist()}"
        )
    n_hits = len(event.hits.valid)
    # One more entry, so that a row that does not exist finds a -1 as padding does.
    index = np.full(n_hits + 1, -1, np.int64)
    index[rows] = np.arange(len(rows))
    measurement = index[np.where((hits >= 0) & (hits < n_hits), hits, n_hits)]
    if (measurement < 0).any():
        raise DataError(
            f"event {event.number}: track_hits name row {hits[np.argmin(measurement)]}; "
            f"allowed are the valid rows among the {n_hits} hits"
        )
    return [measurement[low:high].tolist() for low, high in itertools.pairwise(offsets)]


def _add_start(sequence: ActsSequence, lists: list[list[list[int]]]) -> tuple[str, str]:
    """Append all that leads to the last fit; keys of its proto tracks and of the parameters they start with."""
    examples = import_extra("acts.examples")
    volumes = PIXEL_VOLUMES + SHORT_STRIP_VOLUMES + LONG_STRIP_VOLUMES
    sequence.add_python(
        "all_lists",
        lambda number: _proto_tracks(lists[number]),
        output=("all_proto_tracks", examples.ProtoTrackContainer),
    )
    sequence.add_python(
        "hits_on_lists",
        lambda number, every: examples.MeasurementSubset(every, sorted(set(itertools.chain(*lists[number])))),
        inputs={"measurements": examples.MeasurementContainer},
        output=("track_measurements", examples.MeasurementSubset),
    )
    sequence.add("input")
    # The strips measure both coordinates, so every measurement is a space point. ACTS looks up the space point
    # of each hit by going through all of them, hence only those of the hits on the lists are made.
    space_points = space_point_maker(sequence, volumes, subset="track_measurements")
    sequence.add("start", space_points, *_circle_parameters(sequence))
    keys = "circle_proto_tracks", "circle_parameters"
    for number in range(REFITS):
        sequence.add("start", _kalman_fit(sequence, *keys, f"tracks_{number}"))
        keys = _add_refit_start(sequence, lists, number)
    return keys


def _add_refit_start(sequence: ActsSequence, lists: list[list[list[int]]], number: int) -> tuple[str, str]:
    """Append what makes a start of fit `number`; keys of the proto tracks and of the parameters."""
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    level, container = sequence.silent, examples.ProtoTrackContainer
    tracks, good, wide = f"tracks_{number}", f"perigee_tracks_{number}", f"wide_tracks_{number}"
    keys = f"proto_tracks_{number}", f"parameters_{number}"

    def lists_of_tracks(event: int, fitted: Any) -> Any:
        rows = subsequence_rows([measurement_indices(track) for track in fitted], lists[event])
        return _proto_tracks([lists[event][row] for row in rows])

    at_perigee = acts.TrackSelector.Config(requireReferenceSurface=True)
    sequence.add(
        "start",
        examples.TrackSelectorAlgorithm(
            level=level, inputTracks=tracks, outputTracks=good, selectorConfig=at_perigee
        ),
        examples.TrackModifier(level=level, inputTracks=good, outputTracks=wide, covScale=START_INFLATION),
        examples.TracksToParameters(level=level, inputTracks=wide, outputTrackParameters=keys[1]),
    )
    sequence.add_python(
        f"lists_of_{tracks}",
        lists_of_tracks,
        inputs={good: examples.ConstTrackContainer},
        output=(keys[0], container),
    )
    sequence.add("input")
    return keys


def _hit_share() -> float:
    """Part of the information in the last fit that comes from using the hits once.

    The information of each fit is that of the hits plus that of the fit before, divided by `START_INFLATION`.
    """
    return 1 / sum(START_INFLATION**-fits for fits in range(REFITS + 1))


def _proto_tracks(lists: list[list[int]]) -> Any:
    examples = import_extra("acts.examples")
    container = examples.ProtoTrackContainer()
    for indices in lists:
        container.append(examples.ProtoTrack(indices))
    return container


def _circle_parameters(sequence: ActsSequence) -> list[Any]:
    """Track parameters from a circle through all hits; `circle_proto_tracks` lacks the lists without one."""
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    seeds = examples.ProtoTracksToSeeds(
        level=sequence.silent,
        inputProtoTracks="all_proto_tracks",
        inputSpacePoints="space_points",
        outputSeeds="seeds",
        outputProtoTracks="seed_proto_tracks",
    )
    estimation = examples.TrackParamsEstimationAlgorithm(
        level=sequence.silent,
        inputSeeds="seeds",
        inputProtoTracks="seed_proto_tracks",
        outputTrackParameters="circle_parameters",
        outputSeeds="circle_seeds",
        outputProtoTracks="circle_proto_tracks",
        trackingGeometry=shared_geometry().tracking_geometry,
        magneticField=magnetic_field(),
        particleHypothesis=acts.ParticleHypothesis.pion,
        # Three hits that lie close together miss the momentum by far, and the filter then leaves the track.
        spacePointSelection=examples.SeedSpacePointSelection.All,
    )
    return [seeds, estimation]


def _kalman_fit(sequence: ActsSequence, proto_tracks: str, parameters: str, tracks: str) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    fit = examples.makeKalmanFitterFunction(
        shared_geometry().tracking_geometry,
        magnetic_field(),
        multipleScattering=True,
        energyLoss=True,
        # Below this momentum a second, inward filter would replace the smoother.
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
        inputProtoTracks=proto_tracks,
        inputInitialTrackParameters=parameters,
        inputClusters="",
        outputTracks=tracks,
        pickTrack=-1,
        fit=fit,
        calibrator=examples.makePassThroughCalibrator(),
        referenceSurface=acts.Surface.createPerigee(acts.Vector3(0, 0, 0)),
    )


def _align(fits: PeerTracks, lists: list[list[int]], rows: Int64[np.ndarray, " m"]) -> PeerTracks:
    """Give every list its row; fits that do not reach the perigee become rows that are not valid."""
    parts = np.split(fits.hits, fits.offsets[1:-1]) if len(fits.valid) else []
    place = np.array(
        subsequence_rows([part.tolist() for part in parts], [rows[indices].tolist() for indices in lists]),
        np.int64,
    )
    place, source = place[fits.valid], np.flatnonzero(fits.valid)
    n_hits = np.zeros(len(lists), np.int64)
    n_hits[place] = np.diff(fits.offsets)[source]
    valid = np.zeros(len(lists), bool)
    valid[place] = True

    def spread(values: np.ndarray, empty: float | int) -> np.ndarray:
        full = np.full((len(lists), *values.shape[1:]), empty, values.dtype)
        full[place] = values[source]
        return full

    return PeerTracks(
        offsets=np.concatenate([[0], np.cumsum(n_hits)]),
        hits=np.concatenate([np.zeros(0, np.int32), *(parts[i] for i in source)]),
        parameters=spread(fits.parameters, np.nan),
        covariance=spread(fits.covariance / _hit_share(), np.nan),
        chi2=spread(fits.chi2, np.nan),
        n_holes=spread(fits.n_holes, 0),
        n_outliers=spread(fits.n_outliers, 0),
        valid=valid,
        cpu=fits.cpu,
    )
