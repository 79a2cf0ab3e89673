"""One ACTS job over stored events: measurements in, fitted tracks out, CPU time of every stage.

The peer sees exactly the hits that our own chain sees, with their local positions and variances, so nothing
is simulated again and a row of `Hits` stays the name of a hit on both sides.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from recon.errors import DataError
from recon.sim import import_extra
from recon.sim.acts_output import PeerTracks, peer_tracks
from recon.sim.detector import GenericGeometry, generic_tracking_geometry
from recon.types import Detector, Event

FIELD_TESLA = 2.0
"""Solenoid field along z that the events were simulated in."""


@lru_cache(maxsize=1)
def shared_geometry() -> GenericGeometry:
    """Geometry for every job of this process: immutable, a second to build, and it must outlive the jobs."""
    return generic_tracking_geometry()


@lru_cache(maxsize=1)
def _sensor_identifiers() -> frozenset[int]:
    surfaces = shared_geometry().tracking_geometry.geoIdSurfaceMap()
    return frozenset(identifier.value for identifier in surfaces if identifier.sensitive)


def magnetic_field() -> Any:
    """Constant solenoid field of `FIELD_TESLA`."""
    acts = import_extra("acts")
    return acts.ConstantBField(acts.Vector3(0, 0, FIELD_TESLA * acts.UnitConstants.T))


class ActsSequence:
    """A silent, single-threaded ACTS sequencer that starts from the measurements of stored events.

    Whiteboard keys: `measurements` and `measurement_subset`, in the order of the valid rows of `Hits`.

    Args:
        events: their position in the sequence is the event number inside ACTS.
        detector: the sensor table that `Hits.module` points into.

    Raises:
        ConfigError: the `sim` extra is missing.
        DataError: see `measurement_rows`.
    """

    def __init__(self, events: Sequence[Event], detector: Detector) -> None:
        acts, examples = import_extra("acts"), import_extra("acts.examples")
        self.silent = acts.logging.FATAL
        self.rows = [measurement_rows(event, detector) for event in events]
        self.stamps: list[list[tuple[str, float]]] = [[] for _ in events]
        self._sequencer = examples.Sequencer(
            events=len(events), numThreads=1, logLevel=self.silent, trackFpes=False
        )
        # The sequencer does not own algorithms that are written in Python.
        self._alive: list[Any] = []
        self._stamp("start")
        self.add_python(
            "measurements",
            lambda number: _measurements(events[number], detector, self.rows[number]),
            output=("measurements", examples.MeasurementContainer),
        )
        # A subset points into the container that the whiteboard owns: the same algorithm cannot make both.
        self.add_python(
            "subset",
            lambda _, container: examples.MeasurementSubset(container, range(len(container))),
            inputs={"measurements": examples.MeasurementContainer},
            output=("measurement_subset", examples.MeasurementSubset),
        )
        self._stamp("input")

    def add(self, stage: str, *algorithms: Any) -> None:
        """Append algorithms, all of whose CPU time is booked on `stage`."""
        for algorithm in algorithms:
            self._sequencer.addAlgorithm(algorithm)
        self._stamp(stage)

    def add_python(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: Mapping[str, Any] | None = None,
        output: tuple[str, Any] | None = None,
    ) -> None:
        """Append a Python function as an algorithm.

        Args:
            name: of the algorithm.
            function: called with the event number and the inputs.
            inputs: whiteboard keys and their types, in the order of the arguments.
            output: whiteboard key and type of what the function returns.
        """
        algorithm = _python_algorithm(name, function, inputs or {}, output)
        self._alive.append(algorithm)
        self._sequencer.addAlgorithm(algorithm)

    def run(self, tracks: str) -> list[PeerTracks]:
        """Run the job.

        Args:
            tracks: whiteboard key of the tracks to return.

        Returns:
            One entry an event, in order.
        """
        if not self.rows:
            return []
        container = import_extra("acts.examples").ConstTrackContainer
        found: list[PeerTracks] = []

        def collect(number: int, track_container: Any) -> None:
            # One thread: the events come in order.
            found.append(peer_tracks(track_container, self.rows[number]))

        self.add_python("collect", collect, inputs={tracks: container})
        self._stamp("output")
        self._sequencer.run()
        return [
            tracks_found._replace(cpu=_stage_seconds(stamps))
            for tracks_found, stamps in zip(found, self.stamps, strict=True)
        ]

    def _stamp(self, stage: str) -> None:
        def record(number: int) -> None:
            self.stamps[number].append((stage, time.process_time()))

        self.add_python(f"stamp_{stage}", record)


def measurement_rows(event: Event, detector: Detector) -> Int64[np.ndarray, " m"]:
    """Rows of `Hits` that become measurements 0, 1, 2, ... of ACTS: the valid ones.

    Raises:
        DataError: a valid hit has no sensor in the detector of ACTS, a position that is not finite, or a
            variance that is not positive.
    """
    hits = event.hits
    rows = np.flatnonzero(hits.valid)
    module = np.asarray(hits.module)[rows]
    inside = (module >= 0) & (module < len(detector.geometry_id))
    _require(inside, rows, event, "a row of the detector table in `module`", module)
    identifiers = detector.geometry_id[module]
    unknown = [i for i in np.unique(identifiers).tolist() if i not in _sensor_identifiers()]
    known = ~np.isin(identifiers, np.array(unknown, np.uint64))
    _require(known, rows, event, "a sensor of the GenericDetector in `Detector.geometry_id`", identifiers)
    local, variance = np.asarray(hits.local)[rows], np.asarray(hits.variance)[rows]
    _require(np.isfinite(local).all(1), rows, event, "a finite `local` position (mm)", local)
    positive = (np.isfinite(variance) & (variance > 0)).all(1)
    _require(positive, rows, event, "a finite and positive `variance` (mm^2)", variance)
    return rows


def space_point_maker(
    sequence: ActsSequence, volumes: Sequence[int], subset: str = "measurement_subset"
) -> Any:
    """Algorithm that makes a space point (key `space_points`) of every measurement of a subset in the volumes."""
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    return examples.SpacePointMaker(
        level=sequence.silent,
        inputMeasurements=subset,
        outputSpacePoints="space_points",
        trackingGeometry=shared_geometry().tracking_geometry,
        geometrySelection=[acts.GeometryIdentifier(volume=volume) for volume in volumes],
        stripGeometrySelection=[],
    )


def _require(
    fine: Bool[np.ndarray, " m"], rows: Int64[np.ndarray, " m"], event: Event, what: str, given: np.ndarray
) -> None:
    if not fine.all():
        first = int(np.argmin(fine))
        raise DataError(
            f"{int((~fine).sum())} of {len(rows)} hits of event {event.number} cannot be given to ACTS: "
            f"each needs {what}, but row {rows[first]} of the hits has {given[first]}"
        )


def _measurements(event: Event, detector: Detector, rows: Int64[np.ndarray, " m"]) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    container = examples.MeasurementContainer()
    container.reserve(len(rows))
    modules, place = np.unique(np.asarray(event.hits.module)[rows], return_inverse=True)
    identifiers = [acts.GeometryIdentifier(i) for i in detector.geometry_id[modules].tolist()]
    local = np.asarray(event.hits.local, np.float64)[rows].tolist()
    variance = np.asarray(event.hits.variance, np.float64)[rows].tolist()
    for sensor, position, spread in zip(place.ravel().tolist(), local, variance, strict=True):
        container.emplaceMeasurement(identifiers[sensor], (0, 1), position, spread)
    return container


def _python_algorithm(
    name: str, function: Callable[..., Any], inputs: Mapping[str, Any], output: tuple[str, Any] | None
) -> Any:
    acts, examples = import_extra("acts"), import_extra("acts.examples")

    def handle(algorithm: Any, kind: Any, key: str, data_type: Any) -> Any:
        opened = kind(algorithm, data_type, key)
        opened.initialize(key)
        return opened

    class PythonAlgorithm(examples.IAlgorithm):  # type: ignore[name-defined]
        def __init__(self) -> None:
            examples.IAlgorithm.__init__(self, name, acts.logging.FATAL)
            self.reads = [handle(self, examples.ReadDataHandle, key, kind) for key, kind in inputs.items()]
            self.write = handle(self, examples.WriteDataHandle, *output) if output else None

        def execute(self, context: Any) -> Any:
            result = function(context.eventNumber, *(read(context.eventStore) for read in self.reads))
            if self.write is not None:
                self.write(context, result)
            return examples.ProcessCode.SUCCESS

    return PythonAlgorithm()


def _stage_seconds(stamps: list[tuple[str, float]]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for (_, start), (stage, end) in itertools.pairwise(stamps):
        seconds[stage] = seconds.get(stage, 0.0) + end - start
    return seconds
