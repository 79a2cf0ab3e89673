"""Directions, boosts and decays of single particles, compiled."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_random import State, uniform

Vector = tuple[float, float, float]
FourVector = tuple[float, float, float, float]


@compiled
def rotated(ux: float, uy: float, uz: float, cosine: float, phi: float) -> Vector:
    """Turn a unit vector by a polar angle and an azimuth about itself.

    Args:
        ux: x of the unit vector.
        uy: y of it.
        uz: z of it.
        cosine: of the polar angle.
        phi: azimuth, rad.
    """
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    a, b = sine * math.cos(phi), sine * math.sin(phi)
    transverse = math.sqrt(ux * ux + uy * uy)
    if transverse < 1e-9:
        return a, b * math.copysign(1.0, uz), cosine * math.copysign(1.0, uz)
    vx = (ux * uz * a - uy * b) / transverse + cosine * ux
    vy = (uy * uz * a + ux * b) / transverse + cosine * uy
    vz = cosine * uz - transverse * a
    norm = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
    return vx * norm, vy * norm, vz * norm


@compiled
def isotropic(state: State) -> Vector:
    """A direction without preference."""
    cosine, phi = 2.0 * uniform(state) - 1.0, 2.0 * math.pi * uniform(state)
    sine = math.sqrt(1.0 - cosine * cosine)
    return sine * math.cos(phi), sine * math.sin(phi), cosine


@compiled
def boosted(p: Vector, energy: float, bx: float, by: float, bz: float) -> FourVector:
    """Four-momentum (px, py, pz, E) as seen when its frame moves with a velocity.

    Args:
        p: momentum, GeV.
        energy: GeV.
        bx: velocity of the frame along x, in units of c.
        by: along y.
        bz: along z.
    """
    square = bx * bx + by * by + bz * bz
    if square < 1e-18:
        return p[0], p[1], p[2], energy
    gamma = 1.0 / math.sqrt(max(1.0 - square, 1e-15))
    along = bx * p[0] + by * p[1] + bz * p[2]
    k = (gamma - 1.0) * along / square + gamma * energy
    return p[0] + k * bx, p[1] + k * by, p[2] + k * bz, gamma * (energy + along)


@compiled
def two_body_momentum(mass: float, m1: float, m2: float) -> float:
    """Momentum of both particles of a decay in its rest frame; 0 where the mass does not suffice. GeV."""
    square = (mass**2 - (m1 + m2) ** 2) * (mass**2 - (m1 - m2) ** 2)
    return math.sqrt(square) / (2.0 * mass) if square > 0.0 and mass > m1 + m2 else 0.0


@compiled
def scattered_lepton(energy: float, target: float, final: float, q2: float, lepton: float) -> FourVector:
    """Lepton of a neutrino that strikes a nucleon at rest, in the plane y = 0; z is along the neutrino.

    Args:
        energy: of the neutrino, GeV.
        target: mass of the nucleon, GeV.
        final: mass of the hadrons afterwards, GeV.
        q2: squared momentum transfer, GeV^2.
        lepton: mass of the outgoing lepton, GeV.

    Returns:
        px, py, pz, E; E is 0 where no such reaction exists.
    """
    transfer = (final**2 + q2 - target**2) / (2.0 * target)
    e = energy - transfer
    if e <= lepton:
        return 0.0, 0.0, 0.0, 0.0
    p = math.sqrt(e * e - lepton * lepton)
    cosine = (2.0 * energy * e - lepton**2 - q2) / (2.0 * energy * p)
    if abs(cosine) > 1.0:
        return 0.0, 0.0, 0.0, 0.0
    return p * math.sqrt(1.0 - cosine * cosine), 0.0, p * cosine, e
