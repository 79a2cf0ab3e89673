"""Cosmic muons, and photons beside them, in the far detector: it lies at the surface under a metre of concrete."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import HALF_WIDTH, LENGTH, MUON, PHOTON
from recon.sim.neutrino_random import exponential, uniform
from recon.sim.neutrino_stack import Stack, push

OVERBURDEN_LOSS = 0.75
"""Energy that a vertical muon loses in the overburden (3.6 m of water equivalent), GeV."""
PHOTON_SHARE, PHOTON_ENERGY, PHOTON_LEAST = 0.04, 1.2, 0.15
"""Showers of photons that come in without a muon: a rough guess of their share, mean energy above the least, GeV."""
MUON_MODE, PHOTON_MODE = -1, -2
"""Stand in the truth where neutrinos have their mode."""
_ZENITH = (0.102573, -0.068287, 0.958633, 0.0407253, 0.817285)
_HIGHEST = 2000.0


class Cosmics(NamedTuple):
    """Tables to draw from.

    Attributes:
        cosine: quantiles of the cosine of the zenith angle, weighted with the flux.
        grid: cosines that `energy` is given for, evenly spaced from its first to 1.
        energy: quantiles of the muon's energy at the surface, GeV, one row a cosine.
    """

    cosine: Float64[np.ndarray, " u"]
    grid: Float64[np.ndarray, " c"]
    energy: Float64[np.ndarray, "c u"]


def surface_flux(
    energy: Float64[np.ndarray, "*n"], cosine: Float64[np.ndarray, "*n"]
) -> Float64[np.ndarray, "*n"]:
    """Muons at sea level, 1/(m^2 s sr GeV).

    Args:
        energy: GeV.
        cosine: of the zenith angle.

    Source:
        M. Guan et al., arXiv:1509.06176 (Gaisser's formula, changed for low energies and large angles).
    """
    p1, p2, p3, p4, p5 = _ZENITH
    star = np.sqrt((cosine**2 + p1**2 + p2 * cosine**p3 + p4 * cosine**p5) / (1 + p1**2 + p2 + p4))
    spectrum = (energy * (1 + 3.64 / (energy * star**1.29))) ** -2.7
    return 1400.0 * spectrum * (1 / (1 + 1.1 * energy * star / 115) + 0.054 / (1 + 1.1 * energy * star / 850))


@lru_cache(maxsize=1)
def cosmics(quantiles: int = 257) -> Cosmics:
    """The tables of muons that reach the detector."""
    grid = np.linspace(0.03, 1.0, 60)
    u = np.linspace(0, 1, quantiles)
    rate, energies = np.zeros(len(grid)), np.zeros((len(grid), quantiles))
    for row, cosine in enumerate(grid):
        energy = np.geomspace(OVERBURDEN_LOSS / cosine, _HIGHEST + OVERBURDEN_LOSS / cosine, 3000)
        value = surface_flux(energy, np.full_like(energy, cosine))
        cumulative = np.concatenate([[0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(energy))])
        rate[row] = cumulative[-1]
        energies[row] = np.interp(u, cumulative / cumulative[-1], energy)
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(grid))])
    return Cosmics(np.interp(u, cumulative / cumulative[-1], grid), grid, energies)


@compiled
def cosmic_ray(stack: Stack, tables: Cosmics, truth: Float64[np.ndarray, " t"]) -> None:
    """Put one particle on the stack where it enters the detector.

    Directions follow the flux times the area that the detector shows them; the entry is uniform over that area.

    Args:
        stack: is changed.
        tables: of `cosmics`.
        truth: receives energy, momentum and entry point; see `recon.sim.neutrino_events`.
    """
    state = stack.random
    top, side, end = 2 * HALF_WIDTH * LENGTH, 2 * HALF_WIDTH * LENGTH, 4 * HALF_WIDTH**2
    largest = math.sqrt(top**2 + side**2 + end**2)
    while True:
        cosine = _quantile(tables.cosine, uniform(state))
        phi = 2 * math.pi * uniform(state)
        sine = math.sqrt(1 - cosine * cosine)
        direction = (sine * math.cos(phi), -cosine, sine * math.sin(phi))
        shown = (side * abs(direction[0]), top * cosine, end * abs(direction[2]))
        if uniform(state) * largest < shown[0] + shown[1] + shown[2]:
            break
    x = (2 * uniform(state) - 1) * HALF_WIDTH
    y = (2 * uniform(state) - 1) * HALF_WIDTH
    z = uniform(state) * LENGTH
    face = uniform(state) * (shown[0] + shown[1] + shown[2])
    if face < shown[0]:
        x = -math.copysign(HALF_WIDTH, direction[0])
    elif face < shown[0] + shown[1]:
        y = HALF_WIDTH
    else:
        z = 0.0 if direction[2] > 0 else LENGTH
    kind, energy = MUON, 0.0
    if uniform(state) < PHOTON_SHARE:
        kind, energy = PHOTON, PHOTON_LEAST + PHOTON_ENERGY * exponential(state)
    else:
        row = int((cosine - tables.grid[0]) / (tables.grid[1] - tables.grid[0]) + uniform(state))
        row = min(max(row, 0), len(tables.grid) - 1)
        energy = max(_quantile(tables.energy[row], uniform(state)) - OVERBURDEN_LOSS / tables.grid[row], 0.05)
    push(stack, kind, (x, y, z), direction, energy)
    truth[0] = energy
    for i in range(3):
        truth[1 + i] = energy * direction[i]
    truth[4], truth[5], truth[6] = x, y, z
    truth[7] = MUON_MODE if kind == MUON else PHOTON_MODE


@compiled
def _quantile(values: Float64[np.ndarray, " u"], u: float) -> float:
    at = u * (len(values) - 1)
    i = int(at)
    return values[i] + (at - i) * (values[i + 1] - values[i])
