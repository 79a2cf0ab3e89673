"""How well the energy of a shower is measured: response and resolution, in total and in bins. Host NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from recon.errors import ConfigError
from recon.hgcal_clustering.metrics import ParticleTable, variable_of
from recon.metrics import ONE_SIGMA


class Response(NamedTuple):
    """Distribution of reconstructed over true energy; one entry a bin where there are bins.

    Attributes:
        particles: how many were found.
        response: median; NaN without any.
        response_error: of the median, from the width.
        resolution: half the distance of the quantiles that hold 68 %, over the median; NaN with fewer than two.
        resolution_error: of the resolution.
    """

    particles: Int[np.ndarray, "*b"]
    response: Float[np.ndarray, "*b"]
    response_error: Float[np.ndarray, "*b"]
    resolution: Float[np.ndarray, "*b"]
    resolution_error: Float[np.ndarray, "*b"]


def energy_response(particles: ParticleTable, *, found_only: bool = True) -> Float[np.ndarray, " p"]:
    """Energy of the cluster that holds most of a particle, over the true energy.

    Args:
        particles: of one or more events.
        found_only: NaN for particles that the simple definition does not call found; else they count with the cluster
            that has most of them, and with 0 if there is none.
    """
    ratio = particles.cluster_energy / particles.energy
    return np.where(particles.found_simple, ratio, np.nan) if found_only else ratio


def summarise(ratio: Float[np.ndarray, " p"]) -> Response:
    """Median and width of a distribution; NaN entries do not count.

    The errors are those of quantiles of a normal distribution: 1.253 sigma / sqrt(n) of the median, and 1.3 times
    sigma / sqrt(2 n) of the width.
    """
    values = ratio[np.isfinite(ratio)]
    n = len(values)
    if n == 0:
        return Response(np.array(0), *[np.array(np.nan)] * 4)
    tail = (1 - ONE_SIGMA) / 2
    low, middle, high = np.quantile(values, [tail, 0.5, 1 - tail])
    sigma = (high - low) / (2 * ndtri(0.5 + ONE_SIGMA / 2)) if n > 1 else np.nan
    width = sigma / middle if middle > 0 else np.nan
    return Response(
        np.array(n),
        np.array(middle),
        np.array(1.253 * sigma / np.sqrt(n)),
        np.array(width),
        np.array(1.3 * width / np.sqrt(2 * n)),
    )


def response_in_bins(
    particles: ParticleTable, variable: str, edges: np.ndarray, *, found_only: bool = True
) -> Response:
    """Response and resolution in bins of "energy" (GeV), absolute "eta" or "pileup".

    Args:
        particles: of one or more events.
        variable: to bin in.
        edges: of the bins, ascending; a bin contains its lower edge, the last one its upper edge too.
        found_only: as in `energy_response`.

    Raises:
        ConfigError: unknown variable, or edges that do not ascend.
    """
    edge = np.asarray(edges, np.float64)
    if edge.ndim != 1 or edge.size < 2 or not np.all(np.diff(edge) > 0):
        raise ConfigError(f"bin edges are {edge.tolist()}; allowed: two or more numbers that ascend")
    value = variable_of(particles, variable)
    ratio = energy_response(particles, found_only=found_only)
    place = np.searchsorted(edge, value, side="right") - 1
    place[value == edge[-1]] = edge.size - 2
    bins = [summarise(ratio[place == index]) for index in range(edge.size - 1)]
    return Response(*(np.array(column) for column in zip(*bins, strict=True)))
