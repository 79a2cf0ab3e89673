"""The sensors of the HGCAL: three thicknesses of silicon, and scintillator; what turns a signal into energy."""

from __future__ import annotations

import math
from typing import NamedTuple

ELECTRON_CHARGE = 1.602176634e-4
"""fC."""

WAFER_SIZE = 167.4408
"""Distance between the centres of neighbouring silicon wafers, mm (CMSSW hgcal v17)."""


class Sensor(NamedTuple):
    """One kind of sensor; defaults of CMSSW (`hgcalLayerClusters_cfi`, `HGCalRecHit_cfi`).

    Attributes:
        name: of the kind.
        cells_per_side: cells along one side of a rhombus of a wafer, which holds three times the square of it; 0
            for scintillator.
        area: active area of a cell, mm^2; 0 for scintillator, where it grows with the radius.
        fc_per_mip: charge from a minimum ionising particle, fC; 0 for scintillator.
        noise_mip: one standard deviation of the noise in units of a minimum ionising particle.
        correction: (CE-E, CE-H) what a calibrated energy is divided by: the electrons and photons of a shower lose
            more between the sensors than the energy loss of a minimum ionising particle says.
    """

    name: str
    cells_per_side: int
    area: float
    fc_per_mip: float
    noise_mip: float
    correction: tuple[float, float]


def _silicon(name: str, cells: int, area: float, fc_per_mip: float, noise_electrons: float) -> Sensor:
    return Sensor(name, cells, area, fc_per_mip, noise_electrons * ELECTRON_CHARGE / fc_per_mip, (0.77, 0.84))


SENSORS = (
    _silicon("silicon 120 um", 12, 52.0, 2.06, 2000.0),
    _silicon("silicon 200 um", 8, 118.0, 3.43, 2400.0),
    _silicon("silicon 300 um", 8, 118.0, 5.15, 2000.0),
    Sensor("scintillator", 0, 0.0, 0.0, 0.01, (0.90, 0.90)),
)
"""Rows that `Calorimeter.sensor` counts in."""

FINE, MEDIUM, COARSE, SCINTILLATOR = range(4)

TILE_ANGLE = 2.0 * math.pi / 288
"""Width of a scintillator tile in phi; its height is the same in the logarithm of the radius, so that it is square."""


def cell_pitch(sensor: int) -> float:
    """Distance between the centres of neighbouring silicon cells, mm: 8.06 for 120 um, 12.08 for the others."""
    return WAFER_SIZE / (SENSORS[sensor].cells_per_side * math.sqrt(3.0))
