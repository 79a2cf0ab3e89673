"""How far fitted track parameters are from the truth: residuals, pulls and their widths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr

from recon.errors import ConfigError
from recon.geometry import perigee_parameters, wrap_phi
from recon.types import Particles

PARAMETERS = ("d0", "z0", "phi", "theta", "q/p")
"""Order of track parameters everywhere."""

PHI = PARAMETERS.index("phi")
FIELD_TESLA = 2.0
"""Solenoid field along +z that the truth is extrapolated in unless another is given."""

_CORE = 2.0
_ONE_SIGMA = (15.8655, 84.1345)


class Spread(NamedTuple):
    """Centre and widths of a distribution; NaN where it is empty.

    Attributes:
        n: finite entries.
        mean: arithmetic mean; feels the tails.
        median: does not.
        width: half the interval from the 15.87 % to the 84.13 % quantile, sigma for a Gaussian.
        width_error: statistical error of `width`, that of a Gaussian.
        core: sigma of the Gaussian that describes the entries within two of its sigmas.
    """

    n: int
    mean: float
    median: float
    width: float
    width_error: float
    core: float


def truth_parameters(particles: Particles, field: float = FIELD_TESLA) -> Float[np.ndarray, "p 5"]:
    """Perigee parameters of every particle from its production vertex and momentum, without material.

    Args:
        particles: of one event.
        field: along +z, T.

    Returns:
        (d0 mm, z0 mm, phi rad, theta rad, q/p 1/GeV); NaN for neutral, null-momentum and padding rows.
    """
    momentum = np.asarray(particles.momentum, np.float64)
    usable = (
        np.asarray(particles.valid)
        & (np.asarray(particles.charge) != 0)
        & np.any(momentum[:, :2] != 0, axis=1)
    )
    result = np.full((len(momentum), 5), np.nan)
    result[usable] = perigee_parameters(
        np.asarray(particles.vertex, np.float64)[usable],
        momentum[usable],
        np.asarray(particles.charge, np.float64)[usable],
        field,
    )
    return result


def residuals(
    parameters: Float[np.ndarray, "t 5"], truth: Float[np.ndarray, "p 5"], particle: Int[np.ndarray, " t"]
) -> Float[np.ndarray, "t 5"]:
    """Fitted minus true parameters; the azimuth is taken the short way round.

    Args:
        parameters: of every track.
        truth: of every particle; see `truth_parameters`.
        particle: row of the particle of every track; negative for none.

    Returns:
        In the units of the parameters; NaN without particle.
    """
    none = np.full((1, 5), np.nan)
    difference = np.asarray(parameters, np.float64) - np.concatenate([truth, none])[np.maximum(particle, -1)]
    difference[:, PHI] = wrap_phi(difference[:, PHI])
    return difference


def pulls(
    residual: Float[np.ndarray, "t 5"], covariance: Float[np.ndarray, "t 5 5"]
) -> Float[np.ndarray, "t 5"]:
    """Residuals in units of the estimated error; NaN where the variance is not positive."""
    variance = np.diagonal(np.asarray(covariance, np.float64), axis1=1, axis2=2)
    return residual / np.sqrt(np.where(variance > 0, variance, np.nan))


def spread(values: Float[np.ndarray, "*n"]) -> Spread:
    """Describe a distribution; entries that are not finite are left out and not counted in `n`."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return Spread(0, *[float("nan")] * 5)
    low, median, high = np.percentile(finite, [_ONE_SIGMA[0], 50, _ONE_SIGMA[1]])
    width = (high - low) / 2
    # Variance of half the difference of two order statistics of a Gaussian: (p (1 - 2p)) / (2 n density^2).
    tail, density = _ONE_SIGMA[0] / 100, np.exp(-0.5) / np.sqrt(2 * np.pi)
    error = width * np.sqrt(tail * (1 - 2 * tail) / (2 * finite.size)) / density
    core = _core_width(finite, median, width)
    return Spread(finite.size, float(finite.mean()), float(median), float(width), float(error), core)


def _core_width(values: np.ndarray, centre: float, width: float, steps: int = 50) -> float:
    """Sigma of the Gaussian core by iterated truncation, corrected for the tails that the cut takes away."""
    density = np.exp(-(_CORE**2) / 2) / np.sqrt(2 * np.pi)
    kept = np.sqrt(1 - 2 * _CORE * density / (2 * ndtr(_CORE) - 1))
    for _ in range(steps):
        inside = values[np.abs(values - centre) <= _CORE * width]
        if inside.size < 2:
            break
        previous, width, centre = width, float(inside.std() / kept), float(inside.mean())
        if abs(width - previous) <= 1e-6 * previous:
            break
    return float(width)


def spread_in_bins(
    values: Float[np.ndarray, " n"], variable: Float[np.ndarray, " n"], edges: Float[np.ndarray, " b1"]
) -> list[Spread]:
    """Describe a distribution in bins of a variable; a bin contains its lower edge.

    Raises:
        ConfigError: edges that do not ascend.
    """
    if np.any(np.diff(edges) <= 0):
        raise ConfigError(f"bin edges are {np.asarray(edges).tolist()}; allowed: numbers that ascend")
    row = np.digitize(variable, edges) - 1
    return [spread(values[row == i]) for i in range(len(edges) - 1)]
