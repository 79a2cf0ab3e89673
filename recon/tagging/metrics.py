"""Working points of a tagger, and how much its cut sculpts the mass of the background: host NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError, DataError
from recon.metrics import Ratio

MISTAG_RATES = {"loose": 0.1, "medium": 0.01, "tight": 0.001}
"""Fraction of the background that passes the working points of CMS's b taggers (arXiv:1712.07158)."""

MASS_EDGES = np.linspace(30.0, 250.0, 23)
"""Bins of the soft-drop mass for `mass_sculpting`, GeV."""


class WorkingPoint(NamedTuple):
    """A cut on a score.

    Attributes:
        name: "loose" and so on.
        threshold: jets with at least this score pass.
        mistag: fraction of the background that passes.
        efficiency: fraction of the signal that passes.
    """

    name: str
    threshold: float
    mistag: Ratio
    efficiency: Ratio


def working_points(
    label: np.ndarray, score: np.ndarray, mistag_rates: Mapping[str, float] = MISTAG_RATES
) -> list[WorkingPoint]:
    """The loosest cuts whose mistag rates do not exceed the ones asked for.

    Args:
        label: true for signal.
        score: larger is more like signal.
        mistag_rates: allowed fraction of the background, by name.

    Raises:
        ConfigError: a rate outside (0, 1).
        DataError: shapes that differ, a NaN, no background, or too little of it for a rate.
    """
    truth, scores = np.asarray(label).astype(bool).ravel(), np.asarray(score, np.float64).ravel()
    if truth.shape != scores.shape or np.isnan(scores).any():
        raise DataError(
            f"label and score have {truth.size} and {scores.size} entries, {int(np.isnan(scores).sum())} of them NaN; "
            "as many of both and no NaN are needed"
        )
    background = np.sort(scores[~truth])[::-1]
    return [_working_point(name, rate, scores[truth], background) for name, rate in mistag_rates.items()]


def _working_point(name: str, rate: float, signal: np.ndarray, background: np.ndarray) -> WorkingPoint:
    if not 0 < rate < 1:
        raise ConfigError(f"the mistag rate of {name!r} is {rate}; allowed: between 0 and 1")
    allowed = int(np.floor(rate * len(background) * (1 + 1e-12)))
    if allowed < 1:
        raise DataError(
            f"{len(background)} background jets say nothing about a mistag rate of {rate} ({name!r}); "
            f"{int(np.ceil(1 / rate))} at least are needed"
        )
    # Just above the first background jet that must not pass: equal scores pass together or not at all.
    threshold = float(np.nextafter(background[allowed], np.inf))
    mistag = Ratio(int((background >= threshold).sum()), len(background))
    return WorkingPoint(name, threshold, mistag, Ratio(int((signal >= threshold).sum()), len(signal)))


def jensen_shannon(one: Float[np.ndarray, " b"], other: Float[np.ndarray, " b"]) -> float:
    """Jensen-Shannon divergence of two histograms, in bits: 0 where they have one shape, 1 where no bin is shared.

    Args:
        one: counts or weights, not negative.
        other: the same bins.

    Returns:
        NaN where one of them is empty.

    Raises:
        DataError: shapes that differ, or a negative entry.

    Source:
        J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145.
    """
    p, q = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if p.shape != q.shape or min(p.min(initial=0), q.min(initial=0)) < 0:
        raise DataError(
            f"histograms of shapes {p.shape} and {q.shape}: one shape and no negative entry is needed"
        )
    if not (p.sum() > 0 and q.sum() > 0):
        return np.nan
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return float(sum(_divergence(side, middle) for side in (p, q)) / 2)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    filled = p > 0
    return float((p[filled] * np.log2(p[filled] / q[filled])).sum())


class Sculpting(NamedTuple):
    """The mass of the background jets that a cut keeps and of those that it drops.

    Attributes:
        divergence: `jensen_shannon` of the two.
        edges: of the bins, GeV.
        passed: jets a bin.
        failed: jets a bin.
        outside: jets in no bin.
    """

    divergence: float
    edges: Float[np.ndarray, " b1"]
    passed: Float[np.ndarray, " b"]
    failed: Float[np.ndarray, " b"]
    outside: int


def mass_sculpting(
    mass: np.ndarray,
    score: np.ndarray,
    background: np.ndarray,
    mistag_rate: float = 0.05,
    edges: np.ndarray = MASS_EDGES,
    weight: np.ndarray | None = None,
) -> Sculpting:
    """How the cut with a mistag rate changes the shape of the background's mass.

    Args:
        mass: soft-drop mass of every jet, GeV.
        score: larger is more like signal.
        background: jets that count.
        mistag_rate: fraction of them that passes.
        edges: of the bins, GeV.
        weight: of every jet; 1 if not given. The cut is set without weights.

    Raises:
        ConfigError: a rate outside (0, 1).
        DataError: shapes that differ, a NaN among the scores, or too few background jets.
    """
    keep = np.asarray(background).astype(bool)
    arrays = [np.asarray(mass, np.float64), np.asarray(score, np.float64)]
    arrays.append(np.ones_like(arrays[0]) if weight is None else np.asarray(weight, np.float64))
    if any(array.shape != keep.shape for array in arrays):
        raise DataError(
            f"mass, score, weight and background have shapes {[a.shape for a in (*arrays, keep)]}"
        )
    masses, scores, weights = (array[keep] for array in arrays)
    rates = {"the cut": mistag_rate}
    passes = scores >= working_points(np.zeros(len(scores), bool), scores, rates)[0].threshold
    passed, failed = (
        np.histogram(masses[side], edges, weights=weights[side])[0] for side in (passes, ~passes)
    )
    inside = int(((masses >= edges[0]) & (masses <= edges[-1])).sum())
    bins = np.asarray(edges, np.float64)
    return Sculpting(jensen_shannon(passed, failed), bins, passed, failed, len(masses) - inside)
