"""Whether probabilities mean what they say, and one number that makes them: host NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from recon.errors import ConfigError, DataError
from recon.metrics import Ratio

TEMPERATURES = (0.02, 50.0)
"""Range in which `fit_temperature` looks."""


class Reliability(NamedTuple):
    """Reliability diagram: of the jets that were given a probability, how many are signal.

    Attributes:
        edges: of the bins of probability.
        predicted: mean probability of the jets of a bin; NaN where it is empty.
        observed: signal of all jets of a bin.
    """

    edges: Float[np.ndarray, " b1"]
    predicted: Float[np.ndarray, " b"]
    observed: Ratio

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |predicted - observed| over the jets; NaN without jets."""
        total = np.asarray(self.observed.total, np.float64)
        gap = np.abs(self.predicted - self.observed.value)
        return float(np.nansum(gap * total) / total.sum()) if total.sum() else np.nan


def reliability(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> Reliability:
    """Reliability diagram in bins of equal width.

    Args:
        label: true for signal.
        probability: of being signal, in [0, 1].
        bins: number of bins; the last one contains 1.

    Raises:
        ConfigError: bins is not positive.
        DataError: shapes that differ, or numbers outside [0, 1].

    Source:
        Guo et al., arXiv:1706.04599, section 2.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}; allowed: 1 or more")
    truth, p = np.asarray(label).ravel().astype(bool), np.asarray(probability, np.float64).ravel()
    if truth.shape != p.shape or not ((p >= 0) & (p <= 1)).all():
        raise DataError(
            f"label and probability have {truth.size} and {p.size} entries; as many of both, and probabilities from 0 "
            "to 1 are needed"
        )
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    total = np.bincount(place, minlength=bins)
    sums = np.bincount(place, p, bins)
    predicted = np.divide(sums, total, out=np.full(bins, np.nan), where=total > 0)
    return Reliability(
        np.linspace(0, 1, bins + 1), predicted, Ratio(np.bincount(place[truth], minlength=bins), total)
    )


def negative_log_likelihood(label: np.ndarray, logits: Float[np.ndarray, "j k"]) -> float:
    """Mean of -log of the probability that the true class was given.

    Args:
        label: row of the true class.
        logits: of the classes.

    Raises:
        DataError: no jets, or a label that is no class.
    """
    rows, values = np.asarray(label), np.asarray(logits, np.float64)
    if values.ndim != 2 or rows.shape != values.shape[:1] or not rows.size:
        raise DataError(
            f"labels of shape {rows.shape} and logits of {values.shape}: (j,) and (j, k) are needed"
        )
    if rows.min() < 0 or rows.max() >= values.shape[1]:
        raise DataError(f"labels from {rows.min()} to {rows.max()}; allowed: 0 to {values.shape[1] - 1}")
    return float(-log_softmax(values, axis=1)[np.arange(len(rows)), rows].mean())


def fit_temperature(label: np.ndarray, logits: Float[np.ndarray, "j k"]) -> float:
    """The temperature T for which softmax(logits / T) is likeliest; the order of the classes stays as it is.

    Args:
        label: row of the true class; of jets that the network was not trained on.
        logits: of the classes.

    Raises:
        DataError: no jets, or a label that is no class.

    Source:
        Guo et al., arXiv:1706.04599, section 4.2.
    """
    values = np.asarray(logits, np.float64)
    negative_log_likelihood(label, values)
    # In 1 / T the likelihood is concave: there is one best value.
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(label, values / np.exp(log_t)),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibrated(logits: Float[np.ndarray, "j k"], temperature: float) -> Float[np.ndarray, "j k"]:
    """Probabilities at a temperature.

    Args:
        logits: of the classes.
        temperature: of `fit_temperature`; 1 leaves the network as it is.

    Raises:
        ConfigError: a temperature that is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; allowed: above 0")
    return np.asarray(softmax(np.asarray(logits, np.float64) / temperature, axis=-1))
