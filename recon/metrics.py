"""Ratios with binomial errors, ROC curves and efficiencies in bins: host NumPy, shared by every task.

A quantity that nothing was measured for is NaN, never 0: an empty bin has no efficiency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy.special import betaincinv, ndtri
from scipy.stats import rankdata

from recon.errors import ConfigError, DataError

ONE_SIGMA = 0.6827
"""Probability inside one standard deviation: the default level of every interval."""

INTERVALS = ("clopper-pearson", "wilson")
"""Names that `Ratio.interval` accepts."""


Real = Float[np.ndarray, "..."] | np.float64
"""A number, or an array of the shape of the counts."""


@dataclass(frozen=True)
class Ratio:
    """How many of a number of independent trials passed; adds up over events.

    Attributes:
        passed: numerator, a count or an array of counts.
        total: denominator, the same shape.

    Example:
        >>> efficiency = Ratio(9, 10) + Ratio(10, 10)
        >>> float(efficiency.value)
        0.95
    """

    passed: int | np.ndarray
    total: int | np.ndarray

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.passed + other.passed, self.total + other.total)

    @property
    def value(self) -> Real:
        """`passed / total`; NaN where `total` is 0."""
        total = np.asarray(self.total, np.float64)
        return np.asarray(self.passed, np.float64) / np.where(total > 0, total, np.nan)

    @property
    def error(self) -> Real:
        """Half the width of the Wilson interval of one sigma; NaN where `total` is 0.

        Unlike `sqrt(p (1 - p) / n)` it is not 0 when all or none of the trials passed.
        """
        low, high = self.interval("wilson")
        return (high - low) / 2

    def interval(self, method: str = "clopper-pearson", level: float = ONE_SIGMA) -> tuple[Real, Real]:
        """Central confidence interval of the probability to pass.

        Args:
            method: "clopper-pearson", which covers at least `level` always (C. Clopper, E. Pearson,
                Biometrika 26 (1934) 404), or "wilson", which covers `level` on average (E. Wilson, JASA 22
                (1927) 209).
            level: probability content, between 0 and 1.

        Returns:
            Lower and upper end in [0, 1]; NaN where `total` is 0.

        Raises:
            ConfigError: unknown method, or a level outside (0, 1).
        """
        if method not in INTERVALS:
            raise ConfigError(f"unknown interval {method!r}; allowed: {', '.join(INTERVALS)}")
        if not 0 < level < 1:
            raise ConfigError(f"level is {level}; allowed: between 0 and 1")
        passed = np.asarray(self.passed, np.float64)
        total = np.asarray(self.total, np.float64)
        low, high = (_clopper_pearson if method == "clopper-pearson" else _wilson)(passed, total, level)
        empty = total <= 0
        return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _clopper_pearson(passed: np.ndarray, total: np.ndarray, level: float) -> tuple[Real, Real]:
    tail = (1 - level) / 2
    failed = total - passed
    # At the ends, where the interval touches 0 or 1, there is no beta quantile; the maxima keep it quiet.
    low = betaincinv(np.maximum(passed, 1), failed + 1, tail)
    high = betaincinv(passed + 1, np.maximum(failed, 1), 1 - tail)
    return np.where(passed > 0, low, 0.0), np.where(failed > 0, high, 1.0)


def _wilson(passed: np.ndarray, total: np.ndarray, level: float) -> tuple[Real, Real]:
    z2 = ndtri(0.5 + level / 2) ** 2
    n = np.maximum(total, 1)
    p = passed / n
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * p * (1 - p) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


class Roc(NamedTuple):
    """Every distinguishable working point of a score, from "nothing passes" to "everything passes".

    Attributes:
        false_positive: fraction of the background with at least this score; NaN without background.
        true_positive: the same of the signal; NaN without signal.
        threshold: scores, descending; infinity first.
    """

    false_positive: Float[np.ndarray, " k"]
    true_positive: Float[np.ndarray, " k"]
    threshold: Float[np.ndarray, " k"]


def _selected(
    label: np.ndarray, score: np.ndarray, valid: np.ndarray | None
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    truth = np.asarray(label).ravel().astype(bool)
    scores = np.asarray(score, np.float64).ravel()
    keep = np.ones(scores.shape, bool) if valid is None else np.asarray(valid).ravel().astype(bool)
    if not truth.shape == scores.shape == keep.shape:
        raise DataError(
            f"label, score and valid have {truth.size}, {scores.size} and {keep.size} entries, not the same"
        )
    truth, scores = truth[keep], scores[keep]
    if np.isnan(scores).any():
        raise DataError(
            f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN; only finite scores can be ranked"
        )
    return truth, scores


def roc(label: np.ndarray, score: np.ndarray, valid: np.ndarray | None = None) -> Roc:
    """Receiver operating characteristic of a score; equal scores make one point.

    Args:
        label: true for signal; any shape.
        score: larger is more like signal; the same shape.
        valid: entries that count; all if not given.

    Raises:
        DataError: shapes that differ, or a NaN among the valid scores.

    Example:
        >>> roc(np.array([True, False]), np.array([0.9, 0.1])).true_positive.tolist()
        [0.0, 1.0, 1.0]
    """
    truth, scores = _selected(label, score, valid)
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    last_of_tie = (
        np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if scores.size else np.zeros(0, np.int64)
    )
    signal = np.append(0, np.cumsum(truth)[last_of_tie])
    background = np.append(0, last_of_tie + 1 - signal[1:])
    return Roc(
        false_positive=_fraction(background),
        true_positive=_fraction(signal),
        threshold=np.append(np.inf, scores[last_of_tie]),
    )


def _fraction(count: np.ndarray) -> Float[np.ndarray, " k"]:
    return count / count[-1] if count[-1] > 0 else np.full(count.shape, np.nan)


def auc(label: np.ndarray, score: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Probability that a signal entry scores above a background entry, ties counting one half.

    Args:
        label: true for signal.
        score: larger is more like signal.
        valid: entries that count; all if not given.

    Returns:
        Area under the ROC curve; NaN without signal or without background.
    """
    curve = roc(label, score, valid)
    if np.isnan(curve.true_positive[-1] + curve.false_positive[-1]):
        return np.nan
    return float(np.trapezoid(curve.true_positive, curve.false_positive))


def auc_error(label: np.ndarray, score: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Standard deviation of `auc` over samples of this size.

    Args:
        label: true for signal.
        score: larger is more like signal.
        valid: entries that count; all if not given.

    Returns:
        NaN with fewer than two entries of either kind.

    Source:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837; by ranks after Sun and Xu, IEEE SPL 21 (2014) 1389.
    """
    truth, scores = _selected(label, score, valid)
    signal, background = scores[truth], scores[~truth]
    if min(len(signal), len(background)) < 2:
        return np.nan
    # Fraction of the other kind that an entry beats, ties counting one half.
    beats = (rankdata(scores)[truth] - rankdata(signal)) / len(background)
    beaten = (rankdata(scores)[~truth] - rankdata(background)) / len(signal)
    return float(np.sqrt(beats.var(ddof=1) / len(signal) + beaten.var(ddof=1) / len(background)))


def accuracy(
    label: np.ndarray, score: np.ndarray, threshold: float = 0.5, valid: np.ndarray | None = None
) -> Ratio:
    """Fraction of entries on the right side of the cut `score > threshold`.

    Args:
        label: true for signal.
        score: larger is more like signal.
        threshold: of the scores.
        valid: entries that count; all if not given.
    """
    truth, scores = _selected(label, score, valid)
    return Ratio(int(((scores > threshold) == truth).sum()), int(truth.size))


def confusion(
    truth: Int[np.ndarray, " n"], found: Int[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, "k k"]:
    """Confusion matrix: objects by true class (rows) and by the class that was found.

    Args:
        truth: classes, 0 to below `classes`.
        found: classes, 0 to below `classes`.
        classes: number of classes.
    """
    cells = truth.astype(np.int64) * classes + found
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def efficiency_purity(
    label: np.ndarray, score: np.ndarray, threshold: float, valid: np.ndarray | None = None
) -> tuple[Ratio, Ratio]:
    """Efficiency and purity of the cut `score >= threshold`.

    Args:
        label: true for signal.
        score: larger is more like signal.
        threshold: of the scores.
        valid: entries that count; all if not given.

    Returns:
        (signal that passes / all signal) and (signal that passes / all that passes).
    """
    truth, scores = _selected(label, score, valid)
    passes = scores >= threshold
    both = int((passes & truth).sum())
    return Ratio(both, int(truth.sum())), Ratio(both, int(passes.sum()))


def rejection(
    label: np.ndarray, score: np.ndarray, signal_efficiency: float, valid: np.ndarray | None = None
) -> float:
    """Background rejection, 1 / (false positive rate), at a signal efficiency.

    The ROC curve is taken as straight between its points.

    Args:
        label: true for signal.
        score: larger is more like signal.
        signal_efficiency: in (0, 1].
        valid: entries that count; all if not given.

    Returns:
        Infinity where no background passes; NaN without signal or without background.

    Raises:
        ConfigError: efficiency outside (0, 1].
    """
    rate = _background_rate(label, score, signal_efficiency, valid)
    return np.inf if rate == 0 else 1 / rate


def rejection_interval(
    label: np.ndarray,
    score: np.ndarray,
    signal_efficiency: float,
    valid: np.ndarray | None = None,
    level: float = ONE_SIGMA,
) -> tuple[float, float]:
    """Confidence interval of `rejection`: binomial in the background that passes, at the cut as it is.

    Args:
        label: true for signal.
        score: larger is more like signal.
        signal_efficiency: in (0, 1].
        valid: entries that count; all if not given.
        level: probability content.

    Returns:
        Lower and upper end, by Clopper and Pearson; the upper one is infinite where no background passes. NaN without
        signal or without background.

    Raises:
        ConfigError: efficiency outside (0, 1].
    """
    rate = _background_rate(label, score, signal_efficiency, valid)
    if np.isnan(rate):
        return np.nan, np.nan
    truth, _ = _selected(label, score, valid)
    total = int((~truth).sum())
    low, high = (float(end) for end in Ratio(round(rate * total), total).interval(level=level))
    return 1 / high, np.inf if low == 0 else 1 / low


def _background_rate(
    label: np.ndarray, score: np.ndarray, signal_efficiency: float, valid: np.ndarray | None
) -> float:
    """Fraction of the background that passes at a signal efficiency; NaN where a kind is missing."""
    if not 0 < signal_efficiency <= 1:
        raise ConfigError(f"signal_efficiency is {signal_efficiency}; allowed: above 0, at most 1")
    curve = roc(label, score, valid)
    if np.isnan(curve.true_positive[-1] + curve.false_positive[-1]):
        return np.nan
    # Where the curve runs flat only its start is a working point anybody would choose.
    rising = np.append(True, np.diff(curve.true_positive) > 0)
    return float(np.interp(signal_efficiency, curve.true_positive[rising], curve.false_positive[rising]))


class RocBand(NamedTuple):
    """A ROC curve with its errors.

    Attributes:
        efficiency: of the signal, ascending.
        mistag: fraction of the background that passes there; NaN without background.
        low: end of the Clopper-Pearson interval of one sigma.
        high: other end.
    """

    efficiency: Float[np.ndarray, " k"]
    mistag: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]


def roc_band(
    label: np.ndarray, score: np.ndarray, points: int = 200, valid: np.ndarray | None = None
) -> RocBand:
    """Mistag rate with binomial errors at efficiencies of the signal, for a picture.

    Args:
        label: true for signal.
        score: larger is more like signal.
        points: most points, spread evenly over the signal.
        valid: entries that count; all if not given.

    Raises:
        ConfigError: points is not positive.
        DataError: shapes that differ, a NaN, or no signal.
    """
    if points < 1:
        raise ConfigError(f"points is {points}; allowed: 1 or more")
    truth, scores = _selected(label, score, valid)
    signal, background = np.sort(scores[truth]), np.sort(scores[~truth])
    if not len(signal):
        raise DataError(f"there is no signal among {len(scores)} entries")
    # Cuts at entries of the signal: everything from there upwards passes, equal scores together.
    cuts = np.unique(signal[np.linspace(0, len(signal) - 1, min(points, len(signal))).astype(np.int64)])[::-1]
    efficiency = (len(signal) - np.searchsorted(signal, cuts)) / len(signal)
    passed = len(background) - np.searchsorted(background, cuts)
    ratio = Ratio(passed, np.full(len(cuts), len(background)))
    low, high = ratio.interval()
    return RocBand(efficiency, np.asarray(ratio.value), np.asarray(low), np.asarray(high))


class Binned(NamedTuple):
    """A ratio in bins of a variable.

    Attributes:
        edges: of the bins; a bin contains its lower edge, the last one its upper edge too.
        ratio: one entry a bin.
        outside: entries below, above or NaN, which are in no bin.
    """

    edges: Float[np.ndarray, " b1"]
    ratio: Ratio
    outside: int


def binned_efficiency(
    value: np.ndarray, passed: np.ndarray, edges: np.ndarray, valid: np.ndarray | None = None
) -> Binned:
    """Fraction that passed in bins of a variable.

    Args:
        value: the variable, one entry a trial.
        passed: whether the trial passed.
        edges: of the bins, ascending.
        valid: trials that count; all if not given.

    Raises:
        ConfigError: fewer than two edges, or edges that do not ascend.
        DataError: shapes that differ.
    """
    edge = np.asarray(edges, np.float64)
    if edge.ndim != 1 or edge.size < 2 or not np.all(np.diff(edge) > 0):
        raise ConfigError(f"bin edges are {edge.tolist()}; allowed: two or more numbers that ascend")
    x, flag = np.asarray(value, np.float64), np.asarray(passed).astype(bool)
    keep = np.ones(x.shape, bool) if valid is None else np.asarray(valid).astype(bool)
    if not x.shape == flag.shape == keep.shape:
        raise DataError(
            f"value, passed and valid have shapes {x.shape}, {flag.shape} and {keep.shape}, not the same"
        )
    x, flag = x[keep], flag[keep]
    total = np.histogram(x[~np.isnan(x)], edge)[0]
    return Binned(
        edge, Ratio(np.histogram(x[flag & ~np.isnan(x)], edge)[0], total), int(x.size - total.sum())
    )


def integer_edges(values: Sequence[np.ndarray], most: int) -> Float[np.ndarray, " b1"]:
    """Equal bins over the numbers that occur; integers lie inside bins, not on edges.

    Args:
        values: samples that share the bins.
        most: number of bins where there are as many different integers or more.
    """
    each = [sample for sample in values if sample.size]
    if not each:
        return np.array([-0.5, 0.5])
    low, high = min(float(s.min()) for s in each) - 0.5, max(float(s.max()) for s in each) + 0.5
    return np.linspace(low, high, min(most, max(int(high - low), 1)) + 1)
