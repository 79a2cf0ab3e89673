"""Hadronic showers and tracks in the HGCAL, as a parametrisation: no particle is followed through the material.

A hadron flies to its first interaction and, if it is charged, ionises until then. There its energy is shared between
an electromagnetic part (neutral pions, of which some come from a second interaction farther in) and a hadronic part
with a gamma distribution in interaction lengths, after Bock et al. (NIM 186, 533, 1981). The electromagnetic share
grows as 1 - E^(k-1) (Gabriel, Groom et al., NIM A 338, 336, 1994) and fluctuates. Spots of the hadronic part are
few and heavy: slow protons and nuclear fragments. The numbers were tuned to Geant4 pions of 50 GeV in the 47-layer
geometry (`benchmarks/hgcal_geant4.py` shows the agreement); other energies follow from the formulae.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import gammainc

from recon.hgcal_clustering.layers import Layers
from recon.sim.calorimeter_particles import Incident
from recon.sim.calorimeter_showers import (
    CONVERSION_DEPTH,
    Sources,
    Spots,
    albedo_spots,
    around_path,
    draw_counts,
    electromagnetic_spots,
    join,
    layer_borders,
    path_factor,
)

PHOTON, ELECTRON, MUON = 22, 11, 13
ENERGY_PER_LENGTH = 0.2
"""GeV that a minimum ionising particle loses an interaction length, in all parts of the HGCAL."""
REFERENCE_ENERGY = 50.0
"""GeV; what depends on energy does so relative to this one."""

_INTERACTION = 1.200
"""Mean depth to the first interaction in units of the tabulated interaction length."""
_ELECTROMAGNETIC_POWER, _ELECTROMAGNETIC_SPREAD = 0.824, 0.176
_FIRST_SHARE, _FIRST_SHARE_SPREAD = 0.572, 0.25
"""Of the electromagnetic energy, what the first interaction makes."""
_SECOND_INTERACTION = 0.735
"""Mean distance from the first to the second interaction, interaction lengths."""
_PION_DISPLACEMENT = (6.7, 13.5)
"""How far neutral pions of the first and second interaction lie from the path, mm."""
_SHAPE, _RATE = 1.444, 0.953
_SHAPE_GROWTH, _RATE_GROWTH = 0.3183, -0.0237
"""Of the longitudinal profile with the logarithm of the energy (Bock)."""
_LENGTH_SHAPE = 4.38
"""Of the gamma distribution that lengths fluctuate with."""
_VISIBLE = 0.587
"""Of the hadronic energy, what ionises: the rest breaks nuclei or leaves with neutrons and neutrinos."""
_SPOT, _SPOT_SHAPE = 1.72, 0.54
_FRAGMENT_SHARE, _FRAGMENT = 0.0175, 50.0
"""Spots of nuclear fragments: their share, and their mean energy in minimum ionising particles."""
_BACKWARD_SHARE, _BACKWARD_LENGTH = 0.0285, 0.288
"""Spots in front of the first interaction, and how far, interaction lengths."""
_NARROW = (14.8, 33.9)
"""Radius at the vertex and its growth an interaction length, mm."""
_WIDE_SHARE, _WIDE = 0.329, 82.1
_FARTHEST = 900.0
_SCINTILLATOR_EXTRA, _SCINTILLATOR_SPOT, _SCINTILLATOR_RADIUS = 0.9, 0.609, 40.0
"""Neutrons knock on protons in scintillator: more spots, each smaller, around the others."""


def shower_spots(incident: Incident, layers: Layers, rng: np.random.Generator) -> Spots:
    """Make what all incident particles leave in the planes of the sensors.

    Photons and electrons make electromagnetic showers, muons tracks, everything else hadronic showers.

    Args:
        incident: particles at the face.
        layers: of the calorimeter.
        rng: random numbers.

    Returns:
        The spots of all of them.
    """
    code = np.abs(incident.pdg)
    electromagnetic, muon = np.isin(code, (PHOTON, ELECTRON)), code == MUON
    hadron = np.flatnonzero(~electromagnetic & ~muon)
    showering = np.flatnonzero(electromagnetic)
    conversion = np.where(code[showering] == PHOTON, rng.exponential(CONVERSION_DEPTH, len(showering)), 0.0)
    zero = np.zeros(len(showering))
    sources = Sources(showering, incident.energy[showering], conversion, zero, zero)
    parts = [
        electromagnetic_spots(incident, sources, layers, rng),
        albedo_spots(incident, np.where(electromagnetic, incident.energy, 0.0), layers, rng),
        track_spots(incident, np.where(muon, np.inf, 0.0), layers, rng),
        *hadronic_spots(incident, hadron, layers, rng),
    ]
    return join(parts)


def hadronic_spots(
    incident: Incident, hadron: Int64[np.ndarray, " h"], layers: Layers, rng: np.random.Generator
) -> list[Spots]:
    """Make the spots of hadronic showers and of the tracks in front of them.

    A charged hadron that would lose all of its energy before it interacts stops.

    Args:
        incident: all incident particles.
        hadron: rows of the hadrons.
        layers: of the calorimeter.
        rng: random numbers.

    Returns:
        Track, electromagnetic and hadronic part.
    """
    n = len(hadron)
    energy, charged = incident.energy[hadron], incident.charge[hadron] != 0
    interaction = rng.exponential(_INTERACTION, n)
    reach = np.where(charged, energy / ENERGY_PER_LENGTH, np.inf)
    showers = interaction < reach
    left = np.where(showers, energy - np.where(charged, ENERGY_PER_LENGTH * interaction, 0.0), 0.0)
    track = np.zeros(len(incident.row))
    track[hadron] = np.where(charged, np.minimum(interaction, reach), 0.0)
    share = _electromagnetic_share(left, rng)
    sources = _pion_sources(incident, hadron, interaction, left * share, layers, rng)
    hadronic = left * (1.0 - share)
    spots = _scintillation(_ionisation(incident, hadron, interaction, hadronic, layers, rng), layers, rng)
    return [
        track_spots(incident, track, layers, rng),
        electromagnetic_spots(incident, sources, layers, rng),
        spots,
    ]


def track_spots(
    incident: Incident, length: Float64[np.ndarray, " p"], layers: Layers, rng: np.random.Generator
) -> Spots:
    """Make the spots of ionising tracks, with a Landau-like spread (Moyal's approximation).

    Args:
        incident: the particles.
        length: depth along the path that each gets to, interaction lengths; 0 for no track.
        layers: of the calorimeter.
        rng: random numbers.
    """
    crossed = layers.interaction * path_factor(incident)[:, None] < length[:, None]
    particle, layer = np.nonzero(crossed)
    x, y = around_path(incident, particle, layers.z[layer], np.zeros(len(particle)), rng)
    # Most probable value 0.9, mean 1: in the units of the calibration.
    normal = rng.standard_normal(len(particle))
    energy = np.minimum(0.78 - 0.17 * np.log(np.maximum(normal**2, 1e-12)), 10.0)
    return Spots(particle, layer, x, y, energy * path_factor(incident)[particle])


def _electromagnetic_share(
    energy: Float64[np.ndarray, " h"], rng: np.random.Generator
) -> Float64[np.ndarray, " h"]:
    mean = 1.0 - np.maximum(energy, 1.0) ** (_ELECTROMAGNETIC_POWER - 1.0)
    # Soft hadrons make few neutral pions: the spread shrinks with the mean.
    spread = _ELECTROMAGNETIC_SPREAD * np.minimum(mean / 0.3, 1.0)
    return np.clip(mean + spread * rng.standard_normal(len(energy)), 0.0, 0.97)


def _pion_sources(
    incident: Incident,
    hadron: Int64[np.ndarray, " h"],
    interaction: Float64[np.ndarray, " h"],
    energy: Float64[np.ndarray, " h"],
    layers: Layers,
    rng: np.random.Generator,
) -> Sources:
    """Electromagnetic showers of the first and of a second interaction."""
    n = len(hadron)
    first_share = np.clip(rng.normal(_FIRST_SHARE, _FIRST_SHARE_SPREAD, n), 0.0, 1.0)
    second = interaction + rng.exponential(_SECOND_INTERACTION, n)
    depth = np.concatenate([interaction, second])
    slope = np.tile(path_factor(incident)[hadron], 2)
    start = _radiation_depth(depth / slope, layers) * slope + rng.exponential(CONVERSION_DEPTH, 2 * n)
    scale = np.repeat(_PION_DISPLACEMENT, n)
    distance, azimuth = scale * np.sqrt(rng.exponential(1.0, 2 * n)), rng.uniform(0.0, 2.0 * np.pi, 2 * n)
    shared = np.concatenate([energy * first_share, energy * (1.0 - first_share)])
    some = shared > 0.0
    sources = Sources(
        np.tile(hadron, 2), shared, start, distance * np.cos(azimuth), distance * np.sin(azimuth)
    )
    return Sources(*(column[some] for column in sources))


def _radiation_depth(interaction: Float64[np.ndarray, " k"], layers: Layers) -> Float64[np.ndarray, " k"]:
    """Depth in radiation lengths where there is so much material in interaction lengths; far behind the last layer."""
    depths = np.concatenate([[0.0], layers.interaction])
    return np.interp(interaction, depths, np.concatenate([[0.0], layers.x0]), right=1e3)


def _ionisation(
    incident: Incident,
    hadron: Int64[np.ndarray, " h"],
    interaction: Float64[np.ndarray, " h"],
    energy: Float64[np.ndarray, " h"],
    layers: Layers,
    rng: np.random.Generator,
) -> Spots:
    """Spots of the hadronic part, in front of and behind the first interaction."""
    slope = path_factor(incident)[hadron]
    borders = layer_borders(layers.interaction)
    scale = np.log(np.maximum(energy, 0.5) / (0.5 * REFERENCE_ENERGY))
    shape = np.maximum(_SHAPE + _SHAPE_GROWTH * scale, 1.0)
    rate = (_RATE + _RATE_GROWTH * scale) * rng.gamma(_LENGTH_SHAPE, 1.0 / _LENGTH_SHAPE, len(hadron))
    depth = np.maximum(borders * slope[:, None] - interaction[:, None], 0.0)
    profile = np.diff(gammainc(shape[:, None], rate[:, None] * depth), axis=1) / np.diff(borders)
    expected = energy[:, None] * (_VISIBLE / ENERGY_PER_LENGTH / _SPOT) * profile
    row, layer, count = draw_counts(expected, rng)
    row, layer = np.repeat(row, count), np.repeat(layer, count)
    back_row = np.repeat(np.arange(len(hadron)), rng.poisson(_BACKWARD_SHARE * expected.sum(axis=1)))
    back = interaction[back_row] - rng.exponential(_BACKWARD_LENGTH, len(back_row))
    back_layer = np.searchsorted(borders, back / slope[back_row]) - 1
    inside = (back_layer >= 0) & (back_layer < len(layers.z))
    row, layer = np.concatenate([row, back_row[inside]]), np.concatenate([layer, back_layer[inside]])
    distance = np.abs(layers.interaction[layer] * slope[row] - interaction[row])
    x, y = around_path(incident, hadron[row], layers.z[layer], _hadronic_radii(distance, rng), rng)
    fragment = rng.random(len(row)) < _FRAGMENT_SHARE
    spot = rng.gamma(_SPOT_SHAPE, _SPOT / _SPOT_SHAPE, len(row))
    return Spots(hadron[row], layer, x, y, np.where(fragment, rng.exponential(_FRAGMENT, len(row)), spot))


def _hadronic_radii(
    distance: Float64[np.ndarray, " n"], rng: np.random.Generator
) -> Float64[np.ndarray, " n"]:
    """Distance of spots from the path, mm: a part that opens up behind the vertex, and a wide one."""
    uniform = rng.random(len(distance))
    radius = (_NARROW[0] + _NARROW[1] * distance) * np.sqrt(uniform / (1.0 - uniform))
    wide = np.flatnonzero(rng.random(len(distance)) < _WIDE_SHARE)
    radius[wide] = rng.gamma(2.0, _WIDE, len(wide))
    return np.minimum(radius, _FARTHEST)


def _scintillation(spots: Spots, layers: Layers, rng: np.random.Generator) -> Spots:
    """Make hadronic spots in the scintillator more numerous and smaller."""
    inside = _in_scintillator(spots, layers)
    energy = np.where(inside, spots.energy * _SCINTILLATOR_SPOT, spots.energy)
    extra = np.flatnonzero(inside)
    extra = extra[rng.random(len(extra)) < _SCINTILLATOR_EXTRA]
    shift = rng.normal(0.0, _SCINTILLATOR_RADIUS, (2, len(extra)))
    return join(
        [
            spots._replace(energy=energy),
            Spots(
                spots.particle[extra],
                spots.layer[extra],
                spots.x[extra] + shift[0],
                spots.y[extra] + shift[1],
                energy[extra] * rng.exponential(1.0, len(extra)),
            ),
        ]
    )


def _in_scintillator(spots: Spots, layers: Layers) -> Bool[np.ndarray, " n"]:
    return np.hypot(spots.x, spots.y) > layers.mixed_radius[spots.layer]
