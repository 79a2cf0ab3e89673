"""How many candidates a layer-pair map lets through, from its windows and the places of its layers alone.

Charged particles come out flat in azimuth and in pseudorapidity. A layer then sees hits in proportion to the
pseudorapidity it covers, and the hits within a window are the window's area times their density. Nothing is
counted in events, so the estimate is there before the first one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from recon.tracking.windows import LayerPairs

PIXEL_HITS = 1.2
"""Hits on pixel layers over hits on strips, for the same coverage: soft particles turn back before the strips.
Measured on t tbar events with 40 and 200 pile-up collisions: 1.19."""

_POINTS = 8


class SearchDensity(NamedTuple):
    """Expected candidates of a layer-pair map.

    Attributes:
        queries: layer pairs that end on a hit, mean over all hits of the detector.
        doublets: segments within the windows, a hit and 100,000 hits.
    """

    queries: float
    doublets: float


def search_density(pairs: LayerPairs) -> SearchDensity:
    """Estimate what the search of a layer-pair map has to handle.

    Args:
        pairs: the layer-pair map, in host arrays.
    """
    low, high = _coverage(pairs)
    occupancy = np.where(pairs.is_pixel, PIXEL_HITS, 1.0)
    hits = ((high - low) * occupancy).sum()
    inner, outer = pairs.inner, pairs.outer
    # Straight lines from the beam spot cross both layers in this range of pseudorapidity.
    begin = np.maximum(low[inner], low[outer])
    length = np.maximum(np.minimum(high[inner], high[outer]) - begin, 0.0)
    steps = (np.arange(_POINTS)[:, None] + 0.5) / _POINTS
    area = _window_area(pairs, begin + steps * length).mean(0)
    doublets = (length * occupancy[outer] * occupancy[inner] * area).sum() / hits**2
    queries = ((high - low) * occupancy)[outer].sum() / hits
    return SearchDensity(float(queries), float(doublets * 1e5))


def _coverage(pairs: LayerPairs) -> tuple[Float[np.ndarray, " l"], Float[np.ndarray, " l"]]:
    """Lowest and highest pseudorapidity of every layer, seen from the centre of the detector."""
    place = pairs.reach.mean(1)[:, None]
    r = np.where(pairs.is_barrel[:, None], place, pairs.extent)
    z = np.where(pairs.is_barrel[:, None], pairs.extent, place)
    ends = np.sort(np.arcsinh(z / np.maximum(r, 1.0)), 1)
    return ends[:, 0], ends[:, 1]


def _window_area(pairs: LayerPairs, eta: Float[np.ndarray, "k p"]) -> Float[np.ndarray, "k p"]:
    """Windows of every pair on its inner layer: share of the azimuth times range of pseudorapidity."""
    r_in, r_out = (_radius(pairs, layer, eta) for layer in (pairs.inner, pairs.outer))
    # Azimuth ends where its own window or that of the curvature does.
    half = np.minimum(pairs.delta_phi, pairs.curvature * np.maximum(r_out - r_in, 0.0) / 2.0)
    # A line that is off by z0 at the beam line is off by this much where it crosses the inner layer.
    along = np.maximum(1.0 - r_in / r_out, 0.0) * pairs.z0
    return half / np.pi * 2.0 * along / (r_in * np.cosh(eta))


def _radius(
    pairs: LayerPairs, layer: Int[np.ndarray, " p"], eta: Float[np.ndarray, "k p"]
) -> Float[np.ndarray, "k p"]:
    """Radius (mm) at which lines from the centre of the detector cross layers."""
    place = pairs.reach[layer].mean(1)
    # A disc is crossed on its own side: its z and the pseudorapidity have the same sign.
    on_disc = np.abs(place) / np.maximum(np.abs(np.sinh(eta)), 1e-6)
    return np.where(pairs.is_barrel[layer], place, on_disc)
