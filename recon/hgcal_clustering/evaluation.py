"""Algorithms and settings side by side on the same events: their showers against the truth, and their CPU time.

events -> each working point's showers -> metrics against the truth -> one report
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from recon.errors import ConfigError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.metrics import Evaluation, ShowerSelection, evaluate_event, merge
from recon.hgcal_clustering.pipeline import Showers, find_showers
from recon.step_clock import Compilations, StepClock, mean_seconds
from recon.types import CalorimeterEvent

Progress = Callable[[int], None]
"""Called with the number of events that are done."""


class WorkingPoint(NamedTuple):
    """One way to find showers.

    Attributes:
        name: for tables and legends.
        config: settings.
    """

    name: str
    config: HgcalConfig


class Trial(NamedTuple):
    """One event to find showers in.

    Attributes:
        event: with truth.
        pileup: number of simultaneous collisions.
        cells: neighbours of the cells, by the name of the working point; `None` to search by position.
    """

    event: CalorimeterEvent
    pileup: float
    cells: Mapping[str, CellGraph | None]


@dataclass(frozen=True, kw_only=True)
class FinderResult:
    """What one working point did with the events.

    Attributes:
        name: for tables and legends.
        evaluation: merged over the events.
        n_hits: hits of every event.
        n_tracksters: tracksters of every event.
        cpu_seconds: mean CPU time of every step per event, s.
        config: settings.
    """

    name: str
    evaluation: Evaluation
    n_hits: Sequence[int]
    n_tracksters: Sequence[int]
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    config: HgcalConfig = field(default_factory=HgcalConfig)


def timed_showers(
    event: CalorimeterEvent, config: HgcalConfig, cells: CellGraph | None
) -> tuple[Showers, dict[str, float]]:
    """Showers of an event and the CPU seconds of every step, compilation left out.

    The event is run again as long as anything had to be compiled, three times at most.

    Args:
        event: one event.
        config: settings.
        cells: neighbours of the cells; `None` to search by position.
    """
    clock = StepClock()
    for _ in range(3):
        clock.start()
        with Compilations() as compilations:
            showers = find_showers(event, config, cells=cells, clock=clock)
            clock("output", ())
        if not compilations.count:
            break
    return showers, clock.seconds


def evaluate_points(
    trials: Iterable[Trial], points: Sequence[WorkingPoint], selection: ShowerSelection, progress: Progress
) -> list[FinderResult]:
    """The showers of every working point against the truth, event by event.

    Args:
        trials: events, taken one by one.
        points: one column of the report each.
        selection: which particles and tracksters count.
        progress: told of every event.

    Raises:
        ConfigError: no working point, or two of one name.
        DataError: no event, an event without truth, or hits that cannot be used.
    """
    names = [point.name for point in points]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"working points need different names, and at least one is needed; given are {names}"
        )
    found = {name: list[Evaluation]() for name in names}
    seconds = {name: list[dict[str, float]]() for name in names}
    sizes = {name: list[tuple[int, int]]() for name in names}
    for done, trial in enumerate(trials, start=1):
        for point in points:
            showers, cpu = timed_showers(trial.event, point.config, trial.cells[point.name])
            found[point.name].append(_against_truth(trial, showers, selection))
            seconds[point.name].append(cpu)
            sizes[point.name].append((len(showers.hit_trackster), len(showers.tracksters.valid)))
        progress(done)
    return [
        FinderResult(
            name=point.name,
            evaluation=merge(found[point.name]),
            n_hits=[hits for hits, _ in sizes[point.name]],
            n_tracksters=[tracksters for _, tracksters in sizes[point.name]],
            cpu_seconds=mean_seconds(seconds[point.name]),
            config=point.config,
        )
        for point in points
    ]


def _against_truth(trial: Trial, showers: Showers, selection: ShowerSelection) -> Evaluation:
    return evaluate_event(
        trial.event,
        showers.hit_trackster,
        selection,
        pileup=trial.pileup,
        energies=np.asarray(showers.tracksters.regressed_energy, np.float64),
    )
