"""Electromagnetic showers in the HGCAL, as a parametrisation: no particle is followed through the material.

The form is that of Grindhammer and Peters (hep-ex/0001020): a gamma distribution along the shower, whose maximum and
shape fluctuate together, and a radial profile with a core and a tail that widen with depth. What the sensors see are
spots, the deposits of one or a few charged particles. Their number and energy give the sampling fluctuations, the
spread of maximum and shape gives the constant term. The numbers were tuned to Geant4 photons of 5, 50 and 500 GeV in
the 47-layer geometry (`benchmarks/hgcal_geant4.py` shows the agreement). Against the published numbers for the
HGCAL, which hold for electrons in an older geometry, a photon converts first and the fluctuations are twice as large.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import gammainc

from recon.hgcal_clustering.layers import Layers
from recon.sim.calorimeter_particles import Incident

CRITICAL_ENERGY = 5.36e-3
"""GeV, of the mixture of materials in CE-E (jbsauvan/HGCAL-FastShower)."""
CONVERSION_DEPTH = 9.0 / 7.0
"""Mean depth that a photon goes before it converts, radiation lengths."""
SIGNAL = 69.5
"""Minimum ionising particles a GeV and radiation length where a shower of unit length would be sampled."""
SIGNAL_BEHIND_COPPER, SIGNAL_BEHIND_THICK_LEAD, SIGNAL_IN_STEEL = 0.892, 1.03, 0.532
"""Relative to sensors behind lead: sensors behind the cooling plates of CE-E, behind its last, thicker sheets of lead
(more than 1.2 radiation lengths), and those of CE-H. They decide whether deeper showers give more signal or less, and
with it the constant term of the resolution."""
SPOT, SPOT_SHAPE = 2.17, 2.0
"""Mean energy of a spot in minimum ionising particles, and the shape of its gamma distribution."""

# Maximum T and shape a of the longitudinal profile against l = ln(E / E_c).
_MAXIMUM = (-1.735, 1.075)
_SHAPE = (1.051, 0.537)
_MAXIMUM_SPREAD = (2.06, -2.506, 1.245)
_SHAPE_SPREAD = (2.44, -0.0844, 0.790)
_CORRELATION = 0.805
_MAXIMUM_FLOOR, _SHAPE_FLOOR, _SPREAD_CEILING = 0.8, 1.4, 0.7
"""Below 0.3 GeV the formulae would leave the range they were made for."""

# Radial profile against the depth tau in units of the maximum; lengths in mm.
_DEPTH_POWER, _DEPTH_UNIT = 0.853, 6.9
_DEPTH_RANGE = (0.05, 4.0)
_CORE = (2.28, 1.91)
_TAIL = (13.1, 0.235)
_TAIL_SHARE = (0.145, 0.550, 0.100)
_HALO_SHARE, _HALO_LENGTH = 0.0351, 30.5
_FARTHEST = 600.0

# Soft particles that come back out of the shower: mean number in the first layer at 50 GeV, and how it grows.
_ALBEDO, _ALBEDO_POWER, _ALBEDO_LAYERS, _ALBEDO_LENGTH, _ALBEDO_SPOT = 0.45, 0.35, 6.0, 30.0, 0.8


class Spots(NamedTuple):
    """Deposits in the planes of the sensors.

    Attributes:
        particle: row of the incident particle.
        layer: of the calorimeter.
        x: mm.
        y: mm.
        energy: in units of a minimum ionising particle.
    """

    particle: Int64[np.ndarray, " n"]
    layer: Int64[np.ndarray, " n"]
    x: Float64[np.ndarray, " n"]
    y: Float64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]


class Sources(NamedTuple):
    """Electromagnetic showers to be laid along the paths of incident particles.

    Attributes:
        particle: row of the incident particle.
        energy: GeV.
        start: depth along the path where the shower begins, radiation lengths.
        dx: displacement from the path, mm.
        dy: the same.
    """

    particle: Int64[np.ndarray, " s"]
    energy: Float64[np.ndarray, " s"]
    start: Float64[np.ndarray, " s"]
    dx: Float64[np.ndarray, " s"]
    dy: Float64[np.ndarray, " s"]


def electromagnetic_spots(
    incident: Incident, sources: Sources, layers: Layers, rng: np.random.Generator
) -> Spots:
    """Make the spots of electromagnetic showers.

    Args:
        incident: the particles, for their paths.
        sources: the showers.
        layers: of the calorimeter.
        rng: random numbers.

    Returns:
        The spots, with the energy of all of them a fixed fraction of the showers' on average.
    """
    slope = path_factor(incident)[sources.particle]
    maximum, shape = _longitudinal(sources.energy, rng)
    borders = layer_borders(layers.x0)
    depth = np.maximum(borders * slope[:, None] - sources.start[:, None], 0.0)
    share = layer_shares(maximum, shape, depth)
    expected = SIGNAL * sources.energy[:, None] * share * (_layer_signal(layers) / np.diff(borders))
    source, layer, count = draw_counts(expected / SPOT, rng)
    reached = layers.x0[layer] * slope[source] - sources.start[source]
    tau = reached / (maximum[source] ** _DEPTH_POWER * _DEPTH_UNIT ** (1.0 - _DEPTH_POWER))
    radius = _radii(np.repeat(np.clip(tau, *_DEPTH_RANGE), count), rng)
    source, layer = np.repeat(source, count), np.repeat(layer, count)
    particle = sources.particle[source]
    x, y = around_path(incident, particle, layers.z[layer], radius, rng)
    energy = rng.gamma(SPOT_SHAPE, SPOT / SPOT_SHAPE, len(source))
    return Spots(particle, layer, x + sources.dx[source], y + sources.dy[source], energy)


def albedo_spots(
    incident: Incident, energy: Float64[np.ndarray, " p"], layers: Layers, rng: np.random.Generator
) -> Spots:
    """Make the soft deposits that a shower leaves in the first layers, far in front of its maximum.

    Args:
        incident: the particles.
        energy: of the electromagnetic shower that begins at the face, GeV; 0 for none.
        layers: of the calorimeter.
        rng: random numbers.
    """
    first = np.exp(-np.arange(min(12, len(layers.z))) / _ALBEDO_LAYERS)
    expected = _ALBEDO * (energy[:, None] / 50.0) ** _ALBEDO_POWER * first
    particle, layer, count = draw_counts(expected, rng)
    particle, layer = np.repeat(particle, count), np.repeat(layer, count)
    radius = rng.gamma(2.0, _ALBEDO_LENGTH, len(particle))
    x, y = around_path(incident, particle, layers.z[layer], radius, rng)
    return Spots(particle, layer, x, y, rng.exponential(_ALBEDO_SPOT, len(particle)))


def around_path(
    incident: Incident,
    particle: Int64[np.ndarray, " n"],
    z: Float64[np.ndarray, " n"],
    radius: Float64[np.ndarray, " n"],
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Place points at a distance from the paths of particles, at random azimuth; x and y in mm."""
    azimuth = rng.uniform(0.0, 2.0 * np.pi, len(radius))
    x = incident.x0[particle] + z * incident.slope_x[particle] + radius * np.cos(azimuth)
    y = incident.y0[particle] + z * incident.slope_y[particle] + radius * np.sin(azimuth)
    return x, y


def layer_shares(
    maximum: Float64[np.ndarray, " s"], shape: Float64[np.ndarray, " s"], depth: Float64[np.ndarray, "s b"]
) -> Float64[np.ndarray, "s l"]:
    """Integrate the gamma distribution t^(a-1) exp(-(a-1) t / T) over the slices between depths.

    Args:
        maximum: depth T of the maximum.
        shape: a, above 1.
        depth: borders of the slices, in the unit of the maximum.

    Returns:
        The share of every slice in the whole integral.
    """
    return np.diff(gammainc(shape[:, None], ((shape - 1.0) / maximum)[:, None] * depth), axis=1)


def layer_borders(depth: Float64[np.ndarray, " l"]) -> Float64[np.ndarray, " l+1"]:
    """Cut the depth halfway between the sensors: what is deposited in a slice is what its sensor samples."""
    middle = 0.5 * (depth[1:] + depth[:-1])
    last = depth[-1] + 0.5 * (depth[-1] - depth[-2]) if len(depth) > 1 else 1.5 * depth[-1]
    return np.concatenate([[0.0], middle, [last]])


def join(parts: list[Spots]) -> Spots:
    """Concatenate spots."""
    return Spots(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def path_factor(incident: Incident) -> Float64[np.ndarray, " p"]:
    """Length of a path a unit of z."""
    return np.sqrt(1.0 + incident.slope_x**2 + incident.slope_y**2)


def _longitudinal(
    energy: Float64[np.ndarray, " s"], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    """Maximum, in radiation lengths, and shape of every shower: correlated log-normal numbers."""
    scale = np.log(np.maximum(energy, 10.0 * CRITICAL_ENERGY) / CRITICAL_ENERGY)
    first, second = rng.standard_normal((2, len(energy)))
    second = _CORRELATION * first + np.sqrt(1.0 - _CORRELATION**2) * second
    maximum = np.log(np.maximum(_MAXIMUM[0] + _MAXIMUM[1] * scale, _MAXIMUM_FLOOR))
    shape = np.log(np.maximum(_SHAPE[0] + _SHAPE[1] * scale, _SHAPE_FLOOR))
    maximum += _spread(_MAXIMUM_SPREAD, scale) * first
    shape += _spread(_SHAPE_SPREAD, scale) * second
    return np.exp(maximum), np.maximum(np.exp(shape), 1.05)


def _spread(
    numbers: tuple[float, float, float], scale: Float64[np.ndarray, " s"]
) -> Float64[np.ndarray, " s"]:
    factor, constant, slope = numbers
    return np.minimum(factor / np.maximum(constant + slope * scale, 1e-3), _SPREAD_CEILING)


def _layer_signal(layers: Layers) -> Float64[np.ndarray, " l"]:
    """How much the sensors of a layer see of a shower, relative to sensors behind lead."""
    layer = np.arange(len(layers.z))
    behind_lead = np.where(np.diff(layers.x0, prepend=0.0) > 1.2, SIGNAL_BEHIND_THICK_LEAD, 1.0)
    in_front = np.where(layer % 2 == 1, SIGNAL_BEHIND_COPPER, behind_lead)
    return np.where(layer < layers.n_electromagnetic, in_front, SIGNAL_IN_STEEL)


def draw_counts(
    expected: Float64[np.ndarray, "s l"], rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Poisson numbers; row, layer and number of those that are not zero."""
    # Most layers of most showers are empty: no random number is spent on them.
    row, layer = np.nonzero(expected > 1e-6)
    count = rng.poisson(expected[row, layer])
    some = count > 0
    return row[some], layer[some], count[some]


def _radii(tau: Float64[np.ndarray, " n"], rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """Distance of spots from the axis, mm: core and tail of Grindhammer and Peters, and an exponential halo."""
    which, uniform = rng.random(len(tau)), rng.random(len(tau))
    beyond = tau - 1.0
    tail_share = np.clip(_TAIL_SHARE[0] + _TAIL_SHARE[1] * beyond + _TAIL_SHARE[2] * beyond**2, 0.02, 0.95)
    scale = np.where(which < tail_share, _TAIL[0] * np.exp(_TAIL[1] * beyond), _CORE[0] + _CORE[1] * tau)
    radius = scale * np.sqrt(uniform / (1.0 - uniform))
    halo = np.flatnonzero(which > 1.0 - _HALO_SHARE * tau)
    radius[halo] = rng.gamma(2.0, _HALO_LENGTH, len(halo))
    return np.minimum(radius, _FARTHEST)
