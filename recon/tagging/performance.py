"""Every number of the report on taggers, from what they say and what is true: host NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from recon import metrics
from recon.metrics import (
    Binned,
    Ratio,
    RocBand,
    auc,
    auc_error,
    binned_efficiency,
    integer_edges,
    rejection,
    rejection_interval,
    roc_band,
)
from recon.tagging.calibration import Reliability, calibrated, fit_temperature, reliability
from recon.tagging.evaluation import Question, TaggerResult
from recon.tagging.labels import discriminant, opposed
from recon.tagging.metrics import MISTAG_RATES, Sculpting, WorkingPoint, mass_sculpting, working_points

EFFICIENCIES = (0.3, 0.5)
"""Of the signal, at which the rejection of the background is quoted."""
SCULPTING_MISTAG = 0.05
_PT_BINS, _PT_STEP, _PILEUP_BINS = 8, 50.0, 8
_SMALLEST_LOGARITHM = 1e-37


class Rejection(NamedTuple):
    """Background rejection at an efficiency.

    Attributes:
        value: one over the mistag rate; infinite where no background passes.
        low: end of the interval of one sigma.
        high: other end.
    """

    value: float
    low: float
    high: float


class Calibration(NamedTuple):
    """Whether probabilities mean what they say.

    Attributes:
        temperature: that makes them likeliest; NaN where there is one score a jet.
        before: as the tagger gives them.
        after: at the temperature; `None` without one.
    """

    temperature: float
    before: Reliability
    after: Reliability | None


@dataclass(frozen=True)
class Performance:
    """The numbers of one tagger.

    Attributes:
        name: of the tagger.
        curve: ROC with errors.
        auc: area under it.
        auc_error: its standard deviation.
        rejections: by efficiency.
        working_points: those for which there is enough background.
        by_bin: efficiency and mistag rate at every working point, by "pt" or "pileup", in bins.
        sculpting: of the mass of the background; `None` without mass or with too little background.
        calibration: `None` for scores outside [0, 1].
        confusion: jets by true class (rows) and likeliest class; empty where there is one score a jet.
        unknown: jets whose true class is none of the tagger's.
    """

    name: str
    curve: RocBand
    auc: float
    auc_error: float
    rejections: dict[float, Rejection]
    working_points: list[WorkingPoint]
    by_bin: dict[str, dict[str, tuple[Binned, Binned]]]
    sculpting: Sculpting | None
    calibration: Calibration | None
    confusion: Int64[np.ndarray, "k k"]
    unknown: int


def measure(result: TaggerResult, question: Question) -> Performance:
    """Everything about one tagger.

    Args:
        result: of `evaluate_taggers`.
        question: that it was evaluated with.
    """
    signal, score = result.sample.signal, result.score
    points = affordable_points(signal, score)
    return Performance(
        name=result.name,
        curve=roc_band(signal, score),
        auc=auc(signal, score),
        auc_error=auc_error(signal, score),
        rejections={
            efficiency: Rejection(
                rejection(signal, score, efficiency), *rejection_interval(signal, score, efficiency)
            )
            for efficiency in EFFICIENCIES
        },
        working_points=points,
        by_bin={variable: in_bins(result, points, variable) for variable in ("pt", "pileup")},
        sculpting=_sculpting(result),
        calibration=calibration(result, question),
        confusion=confusion(result),
        unknown=int((result.truth < 0).sum()) if result.labels else 0,
    )


def affordable_points(signal: Bool[np.ndarray, " j"], score: Float64[np.ndarray, " j"]) -> list[WorkingPoint]:
    """The working points loose, medium and tight that there is enough background for."""
    background = int((~signal).sum())
    rates = {name: rate for name, rate in MISTAG_RATES.items() if rate * background >= 1}
    return working_points(signal, score, rates) if rates else []


def edges_of(result: TaggerResult, variable: str) -> Float[np.ndarray, " b1"]:
    """Bins of "pt" or "pileup" that hold all jets of a sample."""
    values = getattr(result.sample, variable)
    values = values[np.isfinite(values)]
    if variable == "pileup" or not values.size:
        return integer_edges([values], _PILEUP_BINS)
    low, high = _PT_STEP * np.floor(values.min() / _PT_STEP), _PT_STEP * np.ceil(values.max() / _PT_STEP)
    steps = max(int((high - low) / _PT_STEP), 1)
    return np.linspace(low, low + steps * _PT_STEP, min(steps, _PT_BINS) + 1)


def in_bins(
    result: TaggerResult, points: list[WorkingPoint], variable: str
) -> dict[str, tuple[Binned, Binned]]:
    """Efficiency and mistag rate of working points in bins; empty where nobody knows the variable or it is constant."""
    values = getattr(result.sample, variable)
    known = values[np.isfinite(values)]
    if not known.size or known.min() == known.max():
        return {}
    edges, signal = edges_of(result, variable), result.sample.signal
    passes = {point.name: result.score >= point.threshold for point in points}
    return {
        name: (
            binned_efficiency(values, passed, edges, signal),
            binned_efficiency(values, passed, edges, ~signal),
        )
        for name, passed in passes.items()
    }


def _sculpting(result: TaggerResult) -> Sculpting | None:
    background = ~result.sample.signal & np.isfinite(result.sample.mass)
    if background.sum() * SCULPTING_MISTAG < 1:
        return None
    return mass_sculpting(result.sample.mass, result.score, background, SCULPTING_MISTAG)


def sculpting_by_chance(sculpting: Sculpting | None) -> float:
    """Divergence that a cut at random would be expected to show, with as many jets on both sides.

    For small differences the divergence is an eighth of their chi-squared distance, over log 2 for bits, and chance
    makes that the number of free bins for every jet of a side.

    Returns:
        NaN where nothing passes or fails.
    """
    if sculpting is None:
        return np.nan
    passed, failed = float(sculpting.passed.sum()), float(sculpting.failed.sum())
    if not (passed and failed):
        return np.nan
    free = int(((sculpting.passed + sculpting.failed) > 0).sum()) - 1
    return free * (1 / passed + 1 / failed) / (8 * np.log(2))


def balanced(signal: Bool[np.ndarray, " j"]) -> Int64[np.ndarray, " n"]:
    """Rows of as many jets of the signal as of the background, spread evenly over the sample.

    What a probability means depends on how many of the jets are signal: half of them, here.
    """
    sides = [np.flatnonzero(signal), np.flatnonzero(~signal)]
    size = min(map(len, sides))
    rows = [side[np.arange(size) * len(side) // max(size, 1)] for side in sides]
    return np.sort(np.concatenate(rows))


def calibration(result: TaggerResult, question: Question) -> Calibration | None:
    """Reliability before and after scaling by a temperature, which is fitted on every other jet.

    Args:
        result: of `evaluate_taggers`.
        question: that it was evaluated with.

    Returns:
        `None` for scores outside [0, 1].
    """
    rows = balanced(result.sample.signal)
    # Both halves hold jets of both sides, in whatever order the files come.
    fitted = np.arange(len(rows)) % 4 < 2
    held_out = rows[~fitted]
    signal, score = result.sample.signal[held_out], result.score[held_out]
    if not len(held_out) or score.min() < 0 or score.max() > 1:
        return None
    before = reliability(signal, score)
    usable = rows[fitted & (result.truth[rows] >= 0)] if result.labels else rows[:0]
    if not len(usable):
        return Calibration(np.nan, before, None)
    logits = np.log(np.maximum(result.probabilities.astype(np.float64), _SMALLEST_LOGARITHM))
    temperature = fit_temperature(result.truth[usable], logits[usable])
    sides = opposed(result.labels, *question, result.name)
    scaled = discriminant(calibrated(logits[held_out], temperature), *sides, result.labels)
    return Calibration(temperature, before, reliability(signal, np.clip(scaled, 0, 1)))


def confusion(result: TaggerResult) -> Int64[np.ndarray, "k k"]:
    """Jets by true class and by the class that the tagger finds likeliest."""
    classes = len(result.labels)
    if not classes:
        return np.zeros((0, 0), np.int64)
    known = result.truth >= 0
    return metrics.confusion(result.truth[known], result.probabilities[known].argmax(axis=1), classes)


def accuracy(performance: Performance) -> Ratio:
    """Jets whose likeliest class is the true one, of those whose true class the tagger knows."""
    return Ratio(int(np.trace(performance.confusion)), int(performance.confusion.sum()))
