"""A detector in formulas: from particles to what particle flow makes of them.

Tracks with an efficiency, a resolution and impact parameters; photons in towers of an electromagnetic calorimeter,
neutral hadrons and the charged ones whose track was lost in those of a hadronic one. The numbers are close to CMS's
(resolutions of the Run 2 tracker and calorimeters); correlations within a track, conversions and nuclear
interactions are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from recon.geometry import wrap_phi

CHARGED_HADRON, NEUTRAL_HADRON, PHOTON, ELECTRON, MUON = range(5)
"""Kinds of candidates."""

MASSES = np.array([0.13957, 0.0, 0.0, 0.000511, 0.10566])
"""GeV, by kind: a charged hadron is taken for a pion."""

PARTICLE_PT_MIN, PARTICLE_ETA_MAX = 0.1, 3.0
"""GeV; particles outside leave nothing."""

TRACKER_ETA_MAX, BARREL_ETA_MAX = 2.5, 1.5
TRACK_PT_MIN = 0.2
ECAL_CELL, HCAL_CELL = 0.0174, 0.087
"""Size of a tower in eta and phi."""
TOWER_PT_MIN = 0.3
"""GeV; what is below is suppressed as noise."""

_INVISIBLE = (12, 14, 16)


class Particles(NamedTuple):
    """What enters the detector, sorted by collision.

    Attributes:
        event: row of the event.
        pdg: particle code.
        charge: in units of e.
        momentum: px, py, pz, E; GeV.
        vertex: production vertex relative to the primary vertex, mm.
        pileup: distance along the beam between the particle's collision and the primary vertex, mm; NaN for the
            hard scatter.
    """

    event: Int64[np.ndarray, " n"]
    pdg: Int32[np.ndarray, " n"]
    charge: Int32[np.ndarray, " n"]
    momentum: Float64[np.ndarray, "n 4"]
    vertex: Float64[np.ndarray, "n 3"]
    pileup: Float64[np.ndarray, " n"]


class Candidates(NamedTuple):
    """What the detector saw, sorted by event.

    Attributes:
        event: row of the event.
        kind: `CHARGED_HADRON` and so on.
        charge: in units of e.
        pt: GeV.
        eta: pseudorapidity.
        phi: rad.
        d0: transverse impact parameter x sin(phi) - y cos(phi), mm; 0 without a track.
        d0_error: mm; 0 without a track.
        dz: longitudinal impact parameter, mm.
        dz_error: mm.
        vertex: where the (hardest) particle was made, mm.
        pileup: as in `Particles`, of the hardest particle.
        weight: what pile-up removal leaves of the momentum, 0 to 1.
    """

    event: Int64[np.ndarray, " n"]
    kind: Int32[np.ndarray, " n"]
    charge: Int32[np.ndarray, " n"]
    pt: Float64[np.ndarray, " n"]
    eta: Float64[np.ndarray, " n"]
    phi: Float64[np.ndarray, " n"]
    d0: Float64[np.ndarray, " n"]
    d0_error: Float64[np.ndarray, " n"]
    dz: Float64[np.ndarray, " n"]
    dz_error: Float64[np.ndarray, " n"]
    vertex: Float64[np.ndarray, "n 3"]
    pileup: Float64[np.ndarray, " n"]
    weight: Float64[np.ndarray, " n"]


def directions(
    momentum: Float64[np.ndarray, "n k"],
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Transverse momentum, pseudorapidity and azimuth of px, py, pz in the first three columns."""
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    eta = np.arcsinh(momentum[:, 2] / np.maximum(pt, 1e-9))
    return pt, eta, np.arctan2(momentum[:, 1], momentum[:, 0])


def four_momenta(candidates: Candidates) -> Float64[np.ndarray, "n 4"]:
    """px, py, pz, E of candidates, after the removal of pile-up, GeV."""
    pt, mass = candidates.pt, MASSES[candidates.kind]
    energy = np.sqrt((pt * np.cosh(candidates.eta)) ** 2 + mass**2)
    columns = (
        pt * np.cos(candidates.phi),
        pt * np.sin(candidates.phi),
        pt * np.sinh(candidates.eta),
        energy,
    )
    return np.stack(columns, axis=1) * candidates.weight[:, None]


def is_visible(pdg: Int32[np.ndarray, " n"], momentum: Float64[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
    """Whether particles that do not decay may leave anything."""
    pt, eta, _ = directions(momentum)
    seen = (pt > PARTICLE_PT_MIN) & (np.abs(eta) < PARTICLE_ETA_MAX)
    return seen & ~np.isin(np.abs(pdg), _INVISIBLE)


def detect(particles: Particles, rng: np.random.Generator) -> Candidates:
    """Make candidates of particles.

    Args:
        particles: visible ones.
        rng: random numbers.

    Returns:
        Candidates with weight 1, sorted by event.
    """
    tracked = rng.random(len(particles.pdg)) < _track_efficiency(particles)
    code = np.abs(particles.pdg)
    electromagnetic = (code == 22) | (~tracked & (code == 11))
    # A muon without a track leaves next to nothing.
    hadronic = ~tracked & ~electromagnetic & (code != 13)
    parts = (
        _tracks(_take(particles, tracked), rng),
        _towers(_take(particles, electromagnetic), rng, PHOTON),
        _towers(_take(particles, hadronic), rng, NEUTRAL_HADRON),
    )
    joined = Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(joined.event, kind="stable")
    return Candidates(*(column[order] for column in joined))


def _take(particles: Particles, rows: np.ndarray) -> Particles:
    return Particles(*(column[rows] for column in particles))


def _track_efficiency(particles: Particles) -> Float64[np.ndarray, " n"]:
    pt, eta, _ = directions(particles.momentum)
    central, inside = np.abs(eta) < BARREL_ETA_MAX, np.abs(eta) < TRACKER_ETA_MAX
    hard = np.where(central, 0.95, 0.85)
    soft = np.where(central, 0.70, 0.60)
    seen = (particles.charge != 0) & inside & (pt > TRACK_PT_MIN)
    return np.where(seen, np.where(pt > 1.0, hard, soft), 0.0)


def _tracks(particles: Particles, rng: np.random.Generator) -> Candidates:
    true_pt, true_eta, true_phi = directions(particles.momentum)
    n = len(true_pt)
    resolution = np.hypot(0.01, 1.5e-4 * true_pt) * np.where(np.abs(true_eta) < BARREL_ETA_MAX, 1.0, 2.0)
    pt = np.maximum(true_pt * (1 + resolution * rng.normal(size=n)), 0.1)
    eta, phi = true_eta + 3e-4 * rng.normal(size=n), true_phi + 3e-4 * rng.normal(size=n)
    code = np.abs(particles.pdg)
    d0, dz = _impact_parameters(particles.vertex, true_eta, true_phi)
    d0_error, dz_error = impact_parameter_errors(pt, eta)
    return Candidates(
        event=particles.event,
        kind=np.select([code == 11, code == 13], [ELECTRON, MUON], CHARGED_HADRON).astype(np.int32),
        charge=particles.charge,
        pt=pt,
        eta=eta,
        phi=wrap_phi(phi),
        d0=d0 + d0_error * rng.normal(size=n),
        d0_error=d0_error,
        dz=dz + dz_error * rng.normal(size=n),
        dz_error=dz_error,
        vertex=particles.vertex,
        pileup=particles.pileup,
        weight=np.ones(n),
    )


def impact_parameter_errors(
    pt: Float64[np.ndarray, " n"], eta: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Resolution of the impact parameters: that of the sensors and, over momentum, of multiple scattering.

    Args:
        pt: GeV.
        eta: pseudorapidity.

    Returns:
        Errors of d0 and dz, mm.
    """
    slow = np.maximum(pt, TRACK_PT_MIN)
    transverse = np.hypot(0.012, 0.070 / slow * np.cosh(eta) ** 0.25)
    return transverse, np.hypot(0.020, 0.100 / slow * np.sqrt(np.cosh(eta)))


def _impact_parameters(
    vertex: Float64[np.ndarray, "n 3"], eta: Float64[np.ndarray, " n"], phi: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Of straight lines: over the millimetres of a decay length a track is hardly bent."""
    sine, cosine = np.sin(phi), np.cos(phi)
    d0 = vertex[:, 0] * sine - vertex[:, 1] * cosine
    along = vertex[:, 0] * cosine + vertex[:, 1] * sine
    return d0, vertex[:, 2] - along * np.sinh(eta)


def _towers(particles: Particles, rng: np.random.Generator, kind: int) -> Candidates:
    """Sum energies in towers and smear them; the direction is the centre of the energy in the tower."""
    cell = ECAL_CELL if kind == PHOTON else HCAL_CELL
    stochastic, constant = (0.05, 0.007) if kind == PHOTON else (1.0, 0.05)
    _, eta, phi = directions(particles.momentum)
    energy = particles.momentum[:, 3]
    row_eta, row_phi = np.floor(eta / cell).astype(np.int64), np.floor(phi / cell).astype(np.int64)
    key = (particles.event * 2048 + row_eta + 1024) * 2048 + row_phi + 1024
    order = np.lexsort((-energy, key))
    _, first, count = np.unique(key[order], return_index=True, return_counts=True)
    hardest = order[first]
    tower = np.repeat(np.arange(len(first)), count)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(tower, weights=values[order], minlength=len(first))

    true_energy = total(energy)
    n = len(first)
    resolution = np.hypot(stochastic / np.sqrt(np.maximum(true_energy, 0.1)), constant)
    measured = true_energy * (1 + resolution * rng.normal(size=n))
    # Within a tower nothing wraps around, so the mean of the azimuths is one.
    tower_eta = total(energy * eta) / true_energy + 0.15 * cell * rng.normal(size=n)
    tower_phi = total(energy * phi) / true_energy + 0.15 * cell * rng.normal(size=n)
    pt = measured / np.cosh(tower_eta)
    keep = pt > TOWER_PT_MIN
    nothing = np.zeros(int(keep.sum()))
    return Candidates(
        event=particles.event[hardest][keep],
        kind=np.full(len(nothing), kind, np.int32),
        charge=np.zeros(len(nothing), np.int32),
        pt=pt[keep],
        eta=tower_eta[keep],
        phi=wrap_phi(tower_phi)[keep],
        d0=nothing,
        d0_error=nothing,
        dz=nothing,
        dz_error=nothing,
        vertex=particles.vertex[hardest][keep],
        pileup=particles.pileup[hardest][keep],
        weight=nothing + 1.0,
    )
