"""Reactions of neutrinos with moving nucleons: the lepton and what the nucleon becomes, compiled."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import BINDING_ENERGY, FERMI_MOMENTUM, NUCLEON_MASS, PION_MASS
from recon.sim.neutrino_hadrons import fermi_motion
from recon.sim.neutrino_kinematics import Vector, boosted, rotated, scattered_lepton
from recon.sim.neutrino_quasielastic import QuasiElastic, cross_section_at, draw_q2
from recon.sim.neutrino_random import State, uniform
from recon.tagging.labels import NEUTRINO_MODES

QE, RES, DIS = range(len(NEUTRINO_MODES))
DELTA_SHARE, DELTA_MASS, DELTA_WIDTH = 0.8, 1.232, 0.117
"""Share of the resonances before the edges of its line are cut; the others are heavier. GeV."""
RESONANCE_MASS2 = 1.05**2
"""Of the dipole in Q^2, GeV^2."""
DIS_LEAST_W, DIS_LEAST_Q2 = 1.7, 0.15
_TRIES = 1000

Reaction = tuple[bool, tuple[float, float, float, float], tuple[float, float, float, float]]


@compiled
def react(
    state: State,
    beam: Vector,
    energy: float,
    w: float,
    q2: float,
    lepton: float,
    motion: Vector,
    bound: float,
) -> Reaction:
    """A neutrino strikes a moving nucleon: lepton and hadrons as the detector sees them.

    The reaction is exact two-body kinematics in the rest frame of the nucleon, whose mass is reduced by its binding.

    Args:
        state: of the random numbers.
        beam: direction of the neutrino.
        energy: of it, GeV.
        w: mass of the hadrons, GeV.
        q2: GeV^2.
        lepton: mass of the lepton, GeV.
        motion: momentum of the nucleon, GeV.
        bound: binding energy, GeV.

    Returns:
        Whether such a reaction exists; px, py, pz, E of the lepton; of the hadrons.
    """
    nowhere = (0.0, 0.0, 0.0, 0.0)
    e, mass, star, direction = at_rest(beam, energy, motion, bound)
    local = scattered_lepton(star, mass, w, q2, lepton)
    if local[3] == 0.0:
        return False, nowhere, nowhere
    p = math.sqrt(local[0] ** 2 + local[2] ** 2)
    ux, uy, uz = rotated(direction[0], direction[1], direction[2], local[2] / p, 2 * math.pi * uniform(state))
    out = boosted((p * ux, p * uy, p * uz), local[3], motion[0] / e, motion[1] / e, motion[2] / e)
    hadrons = (
        energy * beam[0] + motion[0] - out[0],
        energy * beam[1] + motion[1] - out[1],
        energy * beam[2] + motion[2] - out[2],
        energy + e - out[3],
    )
    return True, out, hadrons


@compiled
def at_rest(beam: Vector, energy: float, motion: Vector, bound: float) -> tuple[float, float, float, Vector]:
    """A neutrino as its target sees it: energy and mass of the target, energy and direction of the neutrino."""
    square = motion[0] ** 2 + motion[1] ** 2 + motion[2] ** 2
    e = math.sqrt(NUCLEON_MASS**2 + square) - bound
    mass = math.sqrt(e * e - square)
    incoming = (energy * beam[0], energy * beam[1], energy * beam[2])
    kx, ky, kz, star = boosted(incoming, energy, -motion[0] / e, -motion[1] / e, -motion[2] / e)
    return e, mass, star, (kx / star, ky / star, kz / star)


@compiled
def quasi_elastic_reaction(
    state: State, tables: QuasiElastic, beam: Vector, energy: float, lepton: float, on_carbon: bool
) -> Reaction:
    """One nucleon in, one out, above the Fermi sea if it is bound; as `react`."""
    none = (0.0, 0.0, 0.0, 0.0)
    bound = BINDING_ENERGY if on_carbon else 0.0
    most = max(cross_section_at(tables, 1.4 * energy), 1e-9)
    for _ in range(_TRIES):
        motion = fermi_motion(state) if on_carbon else (0.0, 0.0, 0.0)
        _, _, star, _ = at_rest(beam, energy, motion, bound)
        # Nucleons that come towards the neutrino are struck more often, and harder.
        if 1.4 * uniform(state) > star / energy * cross_section_at(tables, star) / most:
            continue
        q2 = draw_q2(state, tables, star)
        found, out, nucleon = react(state, beam, energy, NUCLEON_MASS, q2, lepton, motion, bound)
        square = nucleon[0] ** 2 + nucleon[1] ** 2 + nucleon[2] ** 2
        if found and (not on_carbon or square > FERMI_MOMENTUM**2):
            return True, out, nucleon
    return False, none, none


@compiled
def resonance_mass(state: State) -> float:
    """Mass of a resonance: the Delta(1232), or one of the heavier ones; GeV."""
    while True:
        if uniform(state) > DELTA_SHARE:
            return 1.35 + 0.4 * uniform(state)
        w = DELTA_MASS + 0.5 * DELTA_WIDTH * math.tan(math.pi * (uniform(state) - 0.5))
        if NUCLEON_MASS + PION_MASS + 0.01 < w < 1.8:
            return w


@compiled
def inelastic_reaction(
    state: State, mode: int, beam: Vector, energy: float, lepton: float, on_carbon: bool
) -> Reaction:
    """A nucleon becomes a resonance or breaks up; as `react`.

    Resonances have a dipole in Q^2. Quarks have a fraction x of the momentum with density x^-0.1 (1 - x)^2.2 (x times
    their number), antiquarks make the density in y fall by 35 %.
    """
    none = (0.0, 0.0, 0.0, 0.0)
    bound = BINDING_ENERGY if on_carbon else 0.0
    for _ in range(_TRIES):
        motion = fermi_motion(state) if on_carbon else (0.0, 0.0, 0.0)
        if mode == RES:
            w = resonance_mass(state)
            q2 = RESONANCE_MASS2 * ((1 - 0.995 * uniform(state)) ** (-1 / 3) - 1)
        else:
            x, y = uniform(state) ** (1 / 0.9), uniform(state)
            if uniform(state) > (1 - x) ** 2.2 * (1 - 0.35 * y):
                continue
            _, _, star, _ = at_rest(beam, energy, motion, bound)
            q2 = 2 * NUCLEON_MASS * star * x * y
            w2 = NUCLEON_MASS**2 + 2 * NUCLEON_MASS * star * y - q2
            if w2 < DIS_LEAST_W**2 or q2 < DIS_LEAST_Q2:
                continue
            w = math.sqrt(w2)
        found, out, hadrons = react(state, beam, energy, w, q2, lepton, motion, bound)
        if found:
            return True, out, hadrons
    return False, none, none
