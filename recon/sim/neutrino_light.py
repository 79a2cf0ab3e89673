"""Energy in the detector and the light that reaches the readout, cell by cell."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    BIRKS,
    CELL_PITCH,
    CELL_WIDTH,
    CELLS,
    HALF_WIDTH,
    LIGHT_YIELD,
    LONG_ATTENUATION,
    PLANE_DEPTH,
    PLANE_PITCH,
    PLANES,
    SHORT_ATTENUATION,
    SHORT_SHARE,
)

_ENTRIES = 1024


class Light(NamedTuple):
    """What one event leaves in the cells.

    Attributes:
        expected: mean number of photo-electrons.
        touched: plane times `CELLS` plus cell of all cells that have light, in order of their first.
        size: number of them.
        energy: sum of the energy in the scintillator, GeV.
        attenuation: part of the light that arrives, by distance from the readout, evenly spaced over a cell's length.
    """

    expected: Float64[np.ndarray, "planes cells"]
    touched: Int64[np.ndarray, " n"]
    size: Int64[np.ndarray, " 1"]
    energy: Float64[np.ndarray, " 1"]
    attenuation: Float64[np.ndarray, " a"]


def new_light() -> Light:
    """A dark detector."""
    return Light(
        np.zeros((PLANES, CELLS)),
        np.zeros(PLANES * CELLS, np.int64),
        np.zeros(1, np.int64),
        np.zeros(1),
        attenuation_table(),
    )


@lru_cache(maxsize=1)
def attenuation_table() -> Float64[np.ndarray, " a"]:
    """Part of the light that arrives, 1 next to the readout: both arms of the fibre's loop add up."""
    length = 2 * HALF_WIDTH
    near = np.linspace(0, length, _ENTRIES)

    def arm(distance: Float64[np.ndarray, " a"]) -> Float64[np.ndarray, " a"]:
        short, long = np.exp(-distance / SHORT_ATTENUATION), np.exp(-distance / LONG_ATTENUATION)
        return SHORT_SHARE * short + (1 - SHORT_SHARE) * long

    both = arm(near) + arm(2 * length - near)
    return both / both[0]


@compiled
def attenuation(light: Light, distance: float) -> float:
    """Part of the light that arrives from a distance, mm."""
    at = min(max(distance / (2 * HALF_WIDTH), 0.0), 1.0) * (len(light.attenuation) - 1)
    i = min(int(at), len(light.attenuation) - 2)
    return light.attenuation[i] + (at - i) * (light.attenuation[i + 1] - light.attenuation[i])


@compiled
def deposit(light: Light, x: float, y: float, z: float, energy: float, loss: float) -> None:
    """Leave energy at a place; what is not in scintillator is lost.

    Vertical cells are read out at the top, horizontal ones at positive x.

    Args:
        light: is changed.
        x: mm.
        y: mm.
        z: mm.
        energy: GeV.
        loss: of the particle, GeV/mm, which quenches the light (Birks).
    """
    plane = int(z / PLANE_PITCH)
    if z < 0.0 or plane >= PLANES or z - plane * PLANE_PITCH > PLANE_DEPTH:
        return
    vertical = plane % 2 == 0
    across = (x if vertical else y) + HALF_WIDTH
    along = y if vertical else x
    cell = int(across / CELL_PITCH)
    if across < 0.0 or cell >= CELLS or abs(across - (cell + 0.5) * CELL_PITCH) > 0.5 * CELL_WIDTH:
        return
    if light.expected[plane, cell] == 0.0:
        light.touched[light.size[0]] = plane * CELLS + cell
        light.size[0] += 1
    light.energy[0] += energy
    seen = 1e3 * energy / (1.0 + 1e3 * BIRKS * loss)
    light.expected[plane, cell] += seen * LIGHT_YIELD * attenuation(light, HALF_WIDTH - along) + 1e-12


@compiled
def darken(light: Light) -> None:
    """Take all light away, at the cost of the cells that had some."""
    for i in range(light.size[0]):
        key = light.touched[i]
        light.expected[key // CELLS, key % CELLS] = 0.0
    light.size[0] = 0
    light.energy[0] = 0.0
