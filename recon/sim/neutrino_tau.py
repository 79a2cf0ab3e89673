"""Decays of muons and of tau leptons, whose flight of a fraction of a millimetre is not seen."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    ELECTRON,
    ELECTRON_MASS,
    MUON,
    MUON_MASS,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PION_MASS,
    TAU_MASS,
)
from recon.sim.neutrino_kinematics import Vector, boosted, rotated, two_body_momentum
from recon.sim.neutrino_random import State, normals, uniform
from recon.sim.neutrino_stack import Stack, push_momentum
from recon.sim.neutrino_systems import fill_phase_space

CHANNELS = ("e", "mu", "pi", "pi pi0", "pi 2pi0", "3pi", "3pi pi0")
BRANCHING = (0.1782, 0.1739, 0.1082, 0.2549, 0.0926, 0.0931, 0.0462)
"""Particle Data Group (2022), neutrinos left out; the other 5 % (kaons, five prongs) are shared out in proportion."""
_CUMULATIVE = tuple(sum(BRANCHING[: i + 1]) / sum(BRANCHING) for i in range(len(BRANCHING)))
_NEUTRAL = (0, 0, 0, 1, 2, 0, 1)
_CHARGED = (0, 0, 1, 1, 1, 3, 3)
RHO_MASS, RHO_WIDTH, A1_MASS, A1_WIDTH = 0.775, 0.075, 1.23, 0.15
"""Means and widths of the normal distributions that stand for the resonances, GeV."""
RHO_ANALYSING = (TAU_MASS**2 - 2 * RHO_MASS**2) / (TAU_MASS**2 + 2 * RHO_MASS**2)


@compiled
def lepton_decay(state: State, polarisation: float) -> tuple[float, float]:
    """Electron of a decaying muon, or lepton of a decaying tau, its mass left out.

    Density x^2 (3 - 2x - P cos(theta) (2x - 1)) for a negative lepton of polarisation P along its flight.

    Args:
        state: of the random numbers.
        polarisation: -1 for a left-handed lepton, 0 for none.

    Returns:
        Energy as a part x of half the mass, cosine of the angle to the flight.
    """
    while True:
        x, cosine = uniform(state), 2 * uniform(state) - 1
        if 2 * uniform(state) < x * x * (3 - 2 * x - polarisation * cosine * (2 * x - 1)):
            return x, cosine


@compiled
def biased_cosine(state: State, slope: float) -> float:
    """A cosine of density (1 + slope cos)/2."""
    while True:
        cosine = 2 * uniform(state) - 1
        if 2 * uniform(state) < 1 + slope * cosine:
            return cosine


@compiled
def decay_tau(stack: Stack, position: Vector, p: Vector) -> int:
    """Let a left-handed tau lepton decay; its visible products wait on the stack.

    Args:
        stack: is changed.
        position: mm.
        p: momentum of the tau lepton, GeV.

    Returns:
        Row of `CHANNELS`.
    """
    state = stack.random
    size = math.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2)
    energy = math.sqrt(size * size + TAU_MASS**2)
    axis = (p[0] / max(size, 1e-9), p[1] / max(size, 1e-9), p[2] / max(size, 1e-9))
    velocity = (p[0] / energy, p[1] / energy, p[2] / energy)
    u, channel = uniform(state), 0
    while channel < len(CHANNELS) - 1 and u > _CUMULATIVE[channel]:
        channel += 1
    if channel < 2:
        mass = ELECTRON_MASS if channel == 0 else MUON_MASS
        x, cosine = lepton_decay(state, -1.0)
        e = max(0.5 * TAU_MASS * x, mass * 1.001)
        q = _moving(state, axis, velocity, cosine, math.sqrt(e * e - mass * mass), e)
        push_momentum(stack, ELECTRON if channel == 0 else MUON, position, (q[0], q[1], q[2]))
        return channel
    _hadronic(stack, channel, position, axis, velocity)
    return channel


@compiled
def _moving(
    state: State, axis: Vector, velocity: Vector, cosine: float, p: float, e: float
) -> tuple[float, float, float, float]:
    """Four-momentum of a decay product at an angle to the flight, as the detector sees it."""
    ux, uy, uz = rotated(axis[0], axis[1], axis[2], cosine, 2 * math.pi * uniform(state))
    return boosted((p * ux, p * uy, p * uz), e, velocity[0], velocity[1], velocity[2])


@compiled
def _hadronic(stack: Stack, channel: int, position: Vector, axis: Vector, velocity: Vector) -> None:
    """One pion, or a resonance that decays to pions."""
    state = stack.random
    charged, neutral = _CHARGED[channel], _NEUTRAL[channel]
    mass, slope = PION_MASS, -1.0
    if charged + neutral == 2:
        mass, slope = _resonance_mass(state, RHO_MASS, RHO_WIDTH, 0.40), -RHO_ANALYSING
    elif charged + neutral > 2:
        mass, slope = _resonance_mass(state, A1_MASS, A1_WIDTH, 0.75), 0.0
    p = two_body_momentum(TAU_MASS, mass, 0.0)
    q = _moving(state, axis, velocity, biased_cosine(state, slope), p, math.sqrt(p * p + mass * mass))
    if charged + neutral == 1:
        push_momentum(stack, PI_MINUS, position, (q[0], q[1], q[2]))
        return
    n = charged + neutral
    for i in range(n):
        stack.product_kind[i] = PI_ZERO if i >= charged else (PI_PLUS if i == 2 else PI_MINUS)
    if fill_phase_space(stack, n, mass, axis, False):
        for i in range(n):
            r = stack.product[i]
            kx, ky, kz, _ = boosted((r[0], r[1], r[2]), r[3], q[0] / q[3], q[1] / q[3], q[2] / q[3])
            push_momentum(stack, stack.product_kind[i], position, (kx, ky, kz))


@compiled
def _resonance_mass(state: State, mean: float, width: float, least: float) -> float:
    while True:
        mass = mean + width * normals(state)[0]
        if least < mass < TAU_MASS - 0.01:
            return mass
