"""The layers of the HGCAL endcap as data: the 50-layer geometry V10 and the 47-layer geometry V16/V17 of CMS.

Positions of V16/V17 and its sheets of material are those of CMSSW (`Geometry/HGCalCommonData`, hgcal, hgcalEE,
hgcalHEsil and hgcalHEmix of v17); the weights are `dEdX.weights` of `HGCalRecHit_cfi.py`. The depths are summed from
the sheets with the radiation and interaction lengths of the Particle Data Group; those of V10, whose sheets are not
listed here, are nominal: 26 radiation lengths and 1.5 interaction lengths of CE-E.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float64

from recon.errors import ConfigError

GeometryName = Literal["v10", "v16"]

SENSITIVE_FRONT = 314.0
"""Inner radius of the sensitive area of CE-E, mm."""
_INNER_STEPS = ((0.0, SENSITIVE_FRONT), (3640.0, 348.6), (4194.0, 418.6), (4843.0, 483.4))
"""(z, inner radius from there on), mm: rMinHGCal2, 4, 6, 8; a step is taken where it stays below eta = 3."""
_OUTER_CONE = np.array([(3210.5, 1523.3), (3877.5, 1753.2), (4562.0, 2634.5), (5200.0, 2634.5)])
"""(z, outer radius), mm, joined by straight lines: zPosV and rPosV."""
_MIXED_RADIUS = (1537.05,) * 4 + (1378.52,) * 2 + (1207.60,) * 4 + (1045.90,) * 4
"""Radius where the scintillator begins in the last 14 layers, mm: radMixL0 to radMixL13."""
_FINE_RADIUS, _MEDIUM_RADIUS = 700.0, 1000.0
"""Where 120 um and where 200 um sensors end, mm: nominal radii, rounded.

Deposits of the Geant4 reference rise by half, as from 200 to 300 um, at 990 mm (layer 24 at eta = 2); the first radius
has no such test. The fits rad100200 and rad200300 of CMSSW's v17, 720 and 1180 mm in CE-E, put the second elsewhere.
"""


class Layers(NamedTuple):
    """The layers of one endcap, from the interaction point outwards; lengths in mm.

    Attributes:
        z: position of the sensors.
        weight: energy lost by a minimum ionising particle between the sensors of the layer before and this one, MeV.
        x0: material in front of the sensors, summed from the face of the calorimeter, radiation lengths.
        interaction: the same in nuclear interaction lengths.
        radius: inner and outer edge of the sensitive area.
        fine_radius: wafers centred below have 120 um sensors.
        medium_radius: wafers centred below have 200 um sensors, those above 300 um.
        mixed_radius: scintillator from here outwards; infinite where a layer has none.
        n_electromagnetic: layers of CE-E; the rest is CE-H.
    """

    z: Float64[np.ndarray, " l"]
    weight: Float64[np.ndarray, " l"]
    x0: Float64[np.ndarray, " l"]
    interaction: Float64[np.ndarray, " l"]
    radius: Float64[np.ndarray, "l 2"]
    fine_radius: Float64[np.ndarray, " l"]
    medium_radius: Float64[np.ndarray, " l"]
    mixed_radius: Float64[np.ndarray, " l"]
    n_electromagnetic: int


def endcap_layers(name: GeometryName) -> Layers:
    """Return the layers of a geometry.

    Args:
        name: `v10` (28 + 22 layers) or `v16` (26 + 21 layers; V17 has the same).

    Returns:
        The table.

    Raises:
        ConfigError: another name.

    Example:
        >>> from recon.hgcal_clustering.layers import endcap_layers
        >>> endcap_layers("v16").z[:3].tolist()
        [3221.55, 3231.49, 3252.12]
    """
    if name == "v16":
        columns, n_electromagnetic = (_V16_Z, _V16_WEIGHT, _V16_X0, _V16_LAMBDA), 26
    elif name == "v10":
        columns, n_electromagnetic = (_V10_Z, _V10_WEIGHT, _V10_X0, _V10_LAMBDA), 28
    else:
        raise ConfigError(f"geometry of the HGCAL is {name!r}; allowed: {', '.join(get_args(GeometryName))}")
    z, weight, x0, interaction = (np.array(column) for column in columns)
    mixed = np.full(len(z), np.inf)
    mixed[-len(_MIXED_RADIUS) :] = _MIXED_RADIUS
    inner = np.select([z >= low for low, _ in reversed(_INNER_STEPS)], [r for _, r in reversed(_INNER_STEPS)])
    outer = np.interp(z, *_OUTER_CONE.T)
    return Layers(
        z=z,
        weight=weight,
        x0=np.cumsum(x0),
        interaction=np.cumsum(interaction),
        radius=np.stack([inner, outer], axis=1),
        fine_radius=np.full(len(z), _FINE_RADIUS),
        medium_radius=np.full(len(z), _MEDIUM_RADIUS),
        mixed_radius=mixed,
        n_electromagnetic=n_electromagnetic,
    )


def select_layers(layers: Layers, stop: int) -> Layers:
    """Return the first layers of a table."""
    columns = {
        name: values[:stop] for name, values in layers._asdict().items() if name != "n_electromagnetic"
    }
    return Layers(**columns, n_electromagnetic=min(layers.n_electromagnetic, stop))


def _cassettes(first: float, step: float, distance: float, n: int) -> list[float]:
    """Positions of both sensors of cassettes that carry one on either side of the cooling plate, mm."""
    return [round(first + step * i + side, 3) for i in range(n) for side in (0.0, distance)]


_V16_Z = (
    _cassettes(3221.55, 30.57, 9.94, 9)
    + _cassettes(3499.93, 33.82, 9.94, 4)
    + [round(3679.76 + 63.05 * i, 3) for i in range(7)]
    + [round(4119.16 + 63.05 * i, 3) for i in range(4)]
    + [round(4390.56 + 82.25 * i, 3) for i in range(10)]
)
_V16_WEIGHT = [5.55] + [12.86, 9.4] * 8 + [12.86] + [13.54, 12.86] * 4 + [58.63] + [60.7] * 10 + [83.08] * 2
_V16_WEIGHT += [83.43] + [83.61] * 7

# Millimetres of lead, copper, steel, tungsten-copper (75 : 25) and circuit board between a sensor and the one before.
_LEAD, _COPPER, _STEEL, _TUNGSTEN, _BOARD = np.eye(5)
_COVER = 0.2 * _COPPER + 0.6 * _STEEL
_COOLING = 6.05 * _COPPER + 2.8 * _TUNGSTEN
_V16_SHEETS = np.array(
    [2.77 * _LEAD + _COVER + 3.2 * _BOARD, _COOLING]
    + [4.97 * _LEAD + _COVER + 6.4 * _BOARD, _COOLING] * 8
    + [8.22 * _LEAD + _COVER + 6.4 * _BOARD, _COOLING] * 4
    + [48.5 * _STEEL + 6.4 * _BOARD]
    + [44.0 * _STEEL + 6.35 * _COPPER + 4.8 * _BOARD] * 10
    + [63.2 * _STEEL + 6.35 * _COPPER + 4.8 * _BOARD] * 10
)
_RADIATION_LENGTH = np.array([5.612, 14.35, 17.5, 5.13, 180.0])
_INTERACTION_LENGTH = np.array([175.9, 153.2, 166.0, 116.8, 480.0])
_V16_X0 = (_V16_SHEETS / _RADIATION_LENGTH).sum(axis=1)
_V16_LAMBDA = (_V16_SHEETS / _INTERACTION_LENGTH).sum(axis=1)

_V10_Z = (
    _cassettes(3221.03, 29.7, 9.44, 14)
    + [round(3676.99 + 54.5 * i, 3) for i in range(12)]
    + [round(4361.99 + 85.5 * i, 3) for i in range(10)]
)
_V10_WEIGHT = [8.894541] + [10.937907] * 26 + [32.332097] + [51.574301] + [51.444192] * 10 + [69.513118]
_V10_WEIGHT += [87.582044] * 5 + [87.214571, 86.888309] + [86.929520] * 3
_V10_X0 = np.array([0.9] + [0.93] * 27 + [2.6] + [2.2] * 11 + [4.2] * 10)
_V10_LAMBDA = np.array([0.06] + [0.052] * 27 + [0.33] + [0.25] * 11 + [0.47] * 10)
