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
        correction: (CE-E, CE-H) what an energy is divided by after the weights of the layers: a shower leaves less in
            the sensors, for what it loses between them, than a minimum ionising particle does.
    """

    name: str
    cells_per_side: int
    area: float
    fc_per_mip: float
    noise_mip: float
    correction: tuple[float, float]


SENSORS = (
    Sensor("silicon 120 um", 12, 52.0, 2.06, 2000.0 * ELECTRON_CHARGE / 2.06, (0.75, 0.85)),
    Sensor("silicon 200 um", 8, 118.0, 3.43, 2400.0 * ELECTRON_CHARGE / 3.43, (0.76, 0.85)),
    Sensor("silicon 300 um", 8, 118.0, 5.15, 2000.0 * ELECTRON_CHARGE / 5.15, (0.75, 0.84)),
    Sensor("scintillator", 0, 0.0, 0.0, 0.01, (0.69, 0.69)),
)
"""Rows that `Calorimeter.sensor` counts in."""

FINE, MEDIUM, COARSE, SCINTILLATOR = range(4)

TILE_ANGLE = 2.0 * math.pi / 288
"""Width of a scintillator tile in phi; its height is the same in the logarithm of the radius, so that it is square."""


def cell_pitch(sensor: int) -> float:
    """Distance between the centres of neighbouring silicon cells, mm: 8.06 for 120 um, 12.08 for the others."""
    return WAFER_SIZE / (SENSORS[sensor].cells_per_side * math.sqrt(3.0))
