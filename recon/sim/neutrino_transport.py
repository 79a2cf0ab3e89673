"""Particles in the detector, one after the other until none waits: energy loss, scattering, reactions, decays."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    ELECTRON,
    MASSES,
    MUON,
    MUON_MASS,
    NEUTRON,
    NUCLEON_MASS,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PION_MASS,
    PROTON,
    RADIATION_LENGTH,
)
from recon.sim.neutrino_hadrons import ABSORPTION_LOSS, push_products, strike
from recon.sim.neutrino_kinematics import Vector, isotropic, rotated
from recon.sim.neutrino_light import Light, deposit
from recon.sim.neutrino_matter import LOSS_CONSTANT, SOFT_DELTA, Matter, looked_up, table_place
from recon.sim.neutrino_random import exponential, uniform
from recon.sim.neutrino_showers import (
    delta_limit,
    delta_rate,
    fly_photon,
    inside,
    knock_out,
    radiate,
    radiation_rate,
)
from recon.sim.neutrino_stack import Stack, push
from recon.sim.neutrino_systems import decay_system
from recon.sim.neutrino_tau import lepton_decay

LONGEST_STEP, SHORTEST_STEP, STEP_ENERGY = 16.5, 3.0, 0.25
"""Steps of charged particles, mm; in between, a step costs this part of the kinetic energy."""
LEAST_CHARGED, LEAST_NEUTRON, SLOW_NEUTRON = 1e-3, 3e-3, 20e-3
"""Particles below leave their energy where they are; slow neutrons only push protons. GeV."""
LARGEST_ANGLE = 0.7
"""Of multiple scattering in one step, rad."""
IN_SLICE = 0.55
"""Part of the electrons of decaying muons that come early enough to be in the slice of the event."""


@compiled
def follow(stack: Stack, matter: Matter, light: Light) -> None:
    """Follow everything on the stack and all that comes of it.

    Args:
        stack: empty afterwards.
        matter: the tables of the detector.
        light: receives the energy.
    """
    while stack.size[0] > 0:
        n = stack.size[0] - 1
        stack.size[0] = n
        kind, ray = stack.kind[n], stack.ray[n]
        position, direction, kinetic = (ray[0], ray[1], ray[2]), (ray[3], ray[4], ray[5]), ray[6]
        if kind == PHOTON:
            fly_photon(stack, matter, light, position, direction, kinetic)
        elif kind == NEUTRON:
            _fly_neutron(stack, matter, position, direction, kinetic)
        else:
            _fly_charged(stack, matter, light, kind, position, direction, kinetic)


@compiled
def _fly_charged(
    stack: Stack, matter: Matter, light: Light, kind: int, position: Vector, direction: Vector, kinetic: float
) -> None:
    """Follow a charged particle in steps, each of which ends at a reaction or at its full length."""
    state, mass = stack.random, MASSES[kind]
    x, y, z = position
    while kinetic > LEAST_CHARGED:
        place = table_place(kinetic)
        loss = looked_up(matter.loss[kind], place)
        step = min(LONGEST_STEP, max(SHORTEST_STEP, STEP_ENERGY * kinetic / loss))
        gamma = 1 + kinetic / mass
        beta2 = 1 - 1 / (gamma * gamma)
        limit = delta_limit(kind, kinetic, mass)
        deltas = delta_rate(limit, beta2)
        photons = radiation_rate(kinetic) if kind == ELECTRON else 0.0
        nuclei = looked_up(matter.rate[kind], place) if kind > MUON else 0.0
        reaction = exponential(state) / max(deltas + photons + nuclei, 1e-12)
        reacts = reaction < step
        step = min(step, reaction)
        lost = _lost(uniform(state), loss, step, beta2, kinetic)
        ux, uy, uz = direction
        half = 0.5 * step
        deposit(light, x + half * ux, y + half * uy, z + half * uz, lost, loss)
        x, y, z = x + step * ux, y + step * uy, z + step * uz
        if not inside(x, y, z):
            return
        # Highland's angle without its logarithm, which does not add up over steps.
        width = 13.6e-3 * math.sqrt(step / RADIATION_LENGTH) / (beta2 * gamma * mass)
        angle = min(width * math.sqrt(2 * exponential(state)), LARGEST_ANGLE)
        direction = rotated(ux, uy, uz, math.cos(angle), 2 * math.pi * uniform(state))
        kinetic -= lost
        if not reacts or kinetic <= LEAST_CHARGED:
            continue
        choice = uniform(state) * (deltas + photons + nuclei)
        if choice < deltas:
            kinetic -= min(knock_out(stack, light, (x, y, z), direction, limit, beta2), kinetic)
        elif choice < deltas + photons:
            kinetic -= min(radiate(stack, (x, y, z), direction, kinetic), kinetic)
        elif _hadron_reacts(stack, matter, kind, (x, y, z), direction, kinetic, place):
            return
    if kinetic > 0.0:
        deposit(light, x, y, z, kinetic, looked_up(matter.loss[kind], table_place(kinetic)))
    _at_rest(stack, kind, (x, y, z))


@compiled
def _lost(u: float, loss: float, step: float, beta2: float, kinetic: float) -> float:
    """Energy lost in a step: the mean, spread by Bohr's variance of what is not drawn one by one (flat, for speed)."""
    variance = 0.5 * LOSS_CONSTANT / beta2 * step * SOFT_DELTA * (1 - 0.5 * beta2)
    return min(max(loss * step + math.sqrt(12 * variance) * (u - 0.5), 0.0), kinetic)


@compiled
def _hadron_reacts(
    stack: Stack, matter: Matter, kind: int, position: Vector, direction: Vector, kinetic: float, place: float
) -> bool:
    on_carbon = uniform(stack.random) > looked_up(matter.hydrogen[kind], place)
    p = math.sqrt(kinetic * (kinetic + 2 * MASSES[kind]))
    momentum = (p * direction[0], p * direction[1], p * direction[2])
    return strike(stack, kind, momentum, position, on_carbon)


@compiled
def _at_rest(stack: Stack, kind: int, position: Vector) -> None:
    """Muons and positive pions end as an electron, negative pions are absorbed by two nucleons."""
    state = stack.random
    if kind in (MUON, PI_PLUS) and uniform(state) < IN_SLICE:
        x, _ = lepton_decay(state, 0.0)
        push(stack, ELECTRON, position, isotropic(state), 0.5 * MUON_MASS * x)
    elif kind == PI_MINUS:
        total = (0.0, 0.0, 1e-6, 2 * NUCLEON_MASS + PION_MASS - ABSORPTION_LOSS)
        if decay_system(stack, 2, 2, 0, total, (0.0, 0.0, 1.0)):
            push_products(stack, 2, position)


@compiled
def _fly_neutron(stack: Stack, matter: Matter, position: Vector, direction: Vector, kinetic: float) -> None:
    """Follow a neutron from reaction to reaction."""
    state = stack.random
    x, y, z = position
    while kinetic > LEAST_NEUTRON:
        place = table_place(kinetic)
        step = exponential(state) / looked_up(matter.rate[NEUTRON], place)
        ux, uy, uz = direction
        x, y, z = x + step * ux, y + step * uy, z + step * uz
        if not inside(x, y, z):
            return
        if kinetic > SLOW_NEUTRON:
            if _hadron_reacts(stack, matter, NEUTRON, (x, y, z), direction, kinetic, place):
                return
            continue
        if uniform(state) > looked_up(matter.hydrogen[NEUTRON], place):
            # A slow neutron that breaks carbon up leaves nothing that makes light.
            return
        # Isotropic in the common frame of two equal masses: the proton's share is uniform, the angle between is 90 deg.
        share, phi = uniform(state), 2 * math.pi * uniform(state)
        recoil = rotated(ux, uy, uz, math.sqrt(share), phi)
        push(stack, PROTON, (x, y, z), recoil, share * kinetic)
        direction = rotated(ux, uy, uz, math.sqrt(1 - share), phi + math.pi)
        kinetic *= 1 - share
