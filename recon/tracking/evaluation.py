"""Track finders side by side on the same events: the graph network, and the chain of ACTS where it is installed.

events -> each finder's tracks and CPU time -> metrics against the truth -> one report
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recon.errors import ConfigError
from recon.io.trackml_weights import trackml_weights
from recon.step_clock import StepClock, mean_seconds
from recon.tracking.counts import Evaluation
from recon.tracking.detector import load_detector
from recon.tracking.matching import TrackHits, from_tracks
from recon.tracking.metrics import TargetSelection, evaluate_event, merge
from recon.tracking.pipeline import STEPS, find_tracks
from recon.tracking.report import FinderResult
from recon.tracking.shipped import TrackingModel
from recon.types import Event, Tracks

Progress = Callable[[str, int, int], None]
"""Called with (finder, events done, events in all)."""

NETWORK = "graph network"


def timed_tracks(
    event: Event, model: TrackingModel, length: int | None = None
) -> tuple[Tracks, dict[str, float]]:
    """Tracks of an event and the CPU seconds of every step, compilation left out.

    The event is run twice where its size is new: a program is compiled at its first use.

    Args:
        event: one event.
        model: the track finder.
        length: as for `find_tracks`.
    """
    programs = _n_programs()
    tracks, seconds = _run_timed(event, model, length)
    if _n_programs() != programs:
        tracks, seconds = _run_timed(event, model, length)
    return tracks, seconds


def _n_programs() -> int:
    return sum(step._cache_size() for step in STEPS)  # type: ignore[attr-defined]  # what jit returns has it


def _run_timed(event: Event, model: TrackingModel, length: int | None) -> tuple[Tracks, dict[str, float]]:
    clock = StepClock()
    clock.start()
    tracks = find_tracks(event, model, length=length, clock=clock)
    clock("output", tracks)
    return tracks, clock.seconds


def evaluate_network(
    events: Sequence[Event],
    model: TrackingModel,
    selection: TargetSelection,
    progress: Progress,
    *,
    length: int | None = None,
) -> FinderResult:
    """The graph network's tracks against the truth.

    Args:
        events: of the detector of the model.
        model: the track finder.
        selection: particles to find.
        progress: told of every event.
        length: as for `find_tracks`.
    """
    evaluations, seconds = [], []
    for index, event in enumerate(events):
        tracks, cpu = timed_tracks(event, model, length)
        hits = from_tracks(tracks)
        evaluations.append(_against_truth(event, hits, tracks.parameters, tracks.covariance, selection))
        seconds.append(cpu)
        progress(NETWORK, index + 1, len(events))
    return FinderResult(name=NETWORK, evaluation=merge(evaluations), cpu_seconds=mean_seconds(seconds))


def evaluate_acts(
    events: Sequence[Event], working_point: str, selection: TargetSelection, progress: Progress
) -> FinderResult:
    """The tracks of ACTS's seeding and combinatorial Kalman filter against the truth.

    Args:
        events: of the generic detector.
        working_point: name in `recon.sim.acts_tracks.WORKING_POINTS`.
        selection: particles to find.
        progress: told of every event.

    Raises:
        ConfigError: unknown working point, or the `sim` extra is missing.
    """
    from recon.sim.acts_output import CONVERSION_STAGES  # noqa: PLC0415  ACTS is optional
    from recon.sim.acts_tracks import WORKING_POINTS, find_tracks_ckf  # noqa: PLC0415

    if working_point not in WORKING_POINTS:
        raise ConfigError(
            f"ACTS has no working point {working_point!r}; there are {', '.join(WORKING_POINTS)}"
        )
    name = f"ACTS CKF {working_point}"
    progress(name, 0, len(events))
    found = find_tracks_ckf(events, WORKING_POINTS[working_point], load_detector())
    evaluations, seconds = [], []
    for index, (event, tracks) in enumerate(zip(events, found, strict=True)):
        hits = TrackHits(tracks.offsets, tracks.hits)
        evaluations.append(_against_truth(event, hits, tracks.parameters, tracks.covariance, selection))
        # Copying measurements into ACTS and tracks out of it is not ACTS's own time.
        seconds.append({stage: cpu for stage, cpu in tracks.cpu.items() if stage not in CONVERSION_STAGES})
        progress(name, index + 1, len(events))
    return FinderResult(name=name, evaluation=merge(evaluations), cpu_seconds=mean_seconds(seconds))


def _against_truth(
    event: Event, hits: TrackHits, parameters: np.ndarray, covariance: np.ndarray, selection: TargetSelection
) -> Evaluation:
    return evaluate_event(
        event, hits, parameters, selection, covariance=covariance, weights=trackml_weights(event)
    )
