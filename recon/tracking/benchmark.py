"""Cost and quality of track finders on samples of rising size, one row a finder and sample.

All events of a sample are padded to one length: one set of programs serves them, and compilation, which takes longer
than thousands of events, is left out of every number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from recon.tracking.checks import padded_length
from recon.tracking.evaluation import NETWORK, Progress, evaluate_acts, evaluate_network
from recon.tracking.metrics import TargetSelection
from recon.tracking.report import FinderResult
from recon.tracking.shipped import TrackingModel
from recon.types import Event

SHIPPED = "as shipped"
"""Name of the setting without a change."""
EDGE_SCORE = "edge score"
"""Begin of the names of settings with another threshold."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """What one finder did with one sample.

    Attributes:
        finder: name of the finder.
        setting: its working point.
        pileup: collisions beside the hard scatter.
        events: in the sample.
        hits: mean of an event, without padding.
        cpu: CPU seconds of an event, compilation and copies between Python and the peer left out.
        stages: the same by stage.
        efficiency: double majority.
        efficiency_error: of it.
        perfect: efficiency for exact matches.
        fake_rate: share of fake tracks.
        duplicate_rate: share of duplicate tracks.
    """

    finder: str
    setting: str
    pileup: int
    events: int
    hits: float
    cpu: float
    stages: dict[str, float]
    efficiency: float
    efficiency_error: float
    perfect: float
    fake_rate: float
    duplicate_rate: float


MARKDOWN_HEAD = (
    "| pile-up | hits | finder | setting | CPU time per event [s] | µs per hit | efficiency | perfect | fake rate |\n"
    "| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def markdown_line(row: BenchmarkRow) -> str:
    """One line of the table under `MARKDOWN_HEAD`."""
    cells = (
        f"{row.pileup}",
        f"{row.hits:,.0f}",
        row.finder,
        row.setting,
        f"{row.cpu:.3g}",
        f"{1e6 * row.cpu / row.hits:.1f}",
        f"{100 * row.efficiency:.2f} ± {100 * row.efficiency_error:.2f} %",
        f"{100 * row.perfect:.2f} %",
        f"{100 * row.fake_rate:.2f} %",
    )
    return f"| {' | '.join(cells)} |"


def measure_network(
    events: Sequence[Event],
    model: TrackingModel,
    progress: Progress,
    *,
    pileup: int,
    setting: str = SHIPPED,
) -> BenchmarkRow:
    """Run the graph network over a sample.

    Args:
        events: the sample.
        model: with its settings.
        progress: told of every event.
        pileup: of the sample.
        setting: name of the settings.
    """
    length = padded_length(event.hits for event in events)
    result = evaluate_network(events, model, TargetSelection(), progress, length=length)
    return _row(result, events, NETWORK, setting, pileup)


def measure_acts(
    events: Sequence[Event], working_point: str, progress: Progress, *, pileup: int
) -> BenchmarkRow:
    """Run the chain of ACTS over a sample.

    Args:
        events: the sample.
        working_point: name in `recon.sim.acts_tracks.WORKING_POINTS`.
        progress: told of every event.
        pileup: of the sample.
    """
    result = evaluate_acts(events, working_point, TargetSelection(), progress)
    return _row(result, events, "ACTS CKF", working_point, pileup)


def _row(
    result: FinderResult, events: Sequence[Event], finder: str, setting: str, pileup: int
) -> BenchmarkRow:
    counts = result.evaluation.counts
    return BenchmarkRow(
        finder=finder,
        setting=setting,
        pileup=pileup,
        events=len(events),
        hits=float(np.mean([len(event.hits.layer) for event in events])),
        cpu=sum(result.cpu_seconds.values()),
        stages=dict(result.cpu_seconds),
        efficiency=float(counts.efficiency.value),
        efficiency_error=float(counts.efficiency.error),
        perfect=float(counts.perfect_efficiency.value),
        fake_rate=float(counts.fake_rate.value),
        duplicate_rate=float(counts.duplicate_rate.value),
    )


def working_points(
    model: TrackingModel, windows: Sequence[float], edge_scores: Sequence[float]
) -> Iterator[tuple[str, TrackingModel]]:
    """The model with other settings, by their names.

    Args:
        model: to start from.
        windows: factors on the windows of the layer-pair map: narrow ones are fast and lose segments.
        edge_scores: values of `BuildingConfig.edge_score`.
    """
    for factor in windows:
        yield f"windows x {factor:g}", scale_windows(model, factor)
    for score in edge_scores:
        building = dataclasses.replace(model.config.building, edge_score=score)
        config = dataclasses.replace(model.config, building=building)
        yield f"{EDGE_SCORE} {score:g}", dataclasses.replace(model, config=config)


def scale_windows(model: TrackingModel, factor: float) -> TrackingModel:
    """The model with narrower or wider windows for segments and triplets.

    Args:
        model: to start from.
        factor: on the windows in azimuth, z0 and curvature, and on the changes between segments.
    """
    pairs = model.pairs
    scaled = {name: getattr(pairs, name) * factor for name in ("delta_phi", "z0", "curvature", "triplet")}
    # Other windows need arrays of other lengths.
    return dataclasses.replace(model, pairs=pairs._replace(**scaled), capacities={})
