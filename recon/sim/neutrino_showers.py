"""Reactions of electrons and photons: knocked-out electrons, bremsstrahlung, pairs, Compton scattering."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import ELECTRON, ELECTRON_MASS, HALF_WIDTH, LENGTH, PHOTON, RADIATION_LENGTH
from recon.sim.neutrino_kinematics import Vector, rotated
from recon.sim.neutrino_light import Light, deposit
from recon.sim.neutrino_matter import LOSS_CONSTANT, SOFT_DELTA, SOFT_PHOTON, Matter, looked_up, table_place
from recon.sim.neutrino_random import State, exponential, uniform
from recon.sim.neutrino_stack import Stack, push

FOLLOWED_DELTA = 5e-3
"""Knocked-out electrons above this are followed, GeV; those below stay where they are."""
LEAST_PHOTON = 0.3e-3
"""Photons below leave their energy where they are, GeV."""
_MINIMUM_LOSS = 1.8e-4


@compiled
def inside(x: float, y: float, z: float) -> bool:
    """Whether a place is in the detector."""
    return abs(x) < HALF_WIDTH and abs(y) < HALF_WIDTH and 0.0 < z < LENGTH


@compiled
def delta_limit(kind: int, kinetic: float, mass: float) -> float:
    """Largest energy that a charged particle gives to an electron, GeV; of two electrons the slower is the target."""
    if kind == ELECTRON:
        return 0.5 * kinetic
    gamma = 1.0 + kinetic / mass
    ratio = ELECTRON_MASS / mass
    return 2 * ELECTRON_MASS * (gamma * gamma - 1) / (1 + 2 * gamma * ratio + ratio * ratio)


@compiled
def delta_rate(limit: float, beta2: float) -> float:
    """Electrons above `SOFT_DELTA` that are knocked out a mm."""
    return 0.5 * LOSS_CONSTANT / beta2 * max(1 / SOFT_DELTA - 1 / limit, 0.0)


@compiled
def knock_out(
    stack: Stack, light: Light, position: Vector, direction: Vector, limit: float, beta2: float
) -> float:
    """Knock out one electron, with the density (1 - beta^2 T / T_max) / T^2.

    Returns:
        Its energy, GeV; 0 where there was none after all.
    """
    state = stack.random
    t = 1 / (1 / SOFT_DELTA - uniform(state) * (1 / SOFT_DELTA - 1 / limit))
    if uniform(state) > 1 - beta2 * t / limit:
        return 0.0
    if t < FOLLOWED_DELTA:
        deposit(light, position[0], position[1], position[2], t, _MINIMUM_LOSS)
    else:
        cosine = math.sqrt(t / (t + 2 * ELECTRON_MASS))
        turned = rotated(direction[0], direction[1], direction[2], cosine, 2 * math.pi * uniform(state))
        push(stack, ELECTRON, position, turned, t)
    return t


@compiled
def radiation_rate(kinetic: float) -> float:
    """Upper limit of the photons above `SOFT_PHOTON` that an electron radiates a mm."""
    return 4 / 3 * math.log(kinetic / SOFT_PHOTON) / RADIATION_LENGTH if kinetic > SOFT_PHOTON else 0.0


@compiled
def radiate(stack: Stack, position: Vector, direction: Vector, kinetic: float) -> float:
    """Radiate one photon, with the density (4/3 - 4/3 y + y^2)/y of complete screening.

    Returns:
        Its energy, GeV; 0 where there was none after all.
    """
    state = stack.random
    k = SOFT_PHOTON * (kinetic / SOFT_PHOTON) ** uniform(state)
    y = k / kinetic
    if uniform(state) > 1 - y + 0.75 * y * y:
        return 0.0
    push(stack, PHOTON, position, direction, k)
    return k


@compiled
def fly_photon(
    stack: Stack, matter: Matter, light: Light, position: Vector, direction: Vector, energy: float
) -> None:
    """Follow a photon until it makes a pair, is too slow, or leaves.

    Args:
        stack: receives electrons.
        matter: the tables.
        light: receives what is too slow to be followed.
        position: mm.
        direction: unit vector.
        energy: GeV.
    """
    state = stack.random
    x, y, z = position
    ux, uy, uz = direction
    while energy > LEAST_PHOTON:
        place = table_place(energy)
        step = exponential(state) / looked_up(matter.rate[PHOTON], place)
        x, y, z = x + step * ux, y + step * uy, z + step * uz
        if not inside(x, y, z):
            return
        if uniform(state) < looked_up(matter.hydrogen[PHOTON], place):
            free = energy - 2 * ELECTRON_MASS
            share = uniform(state)
            push(stack, ELECTRON, (x, y, z), (ux, uy, uz), share * free)
            push(stack, ELECTRON, (x, y, z), (ux, uy, uz), (1 - share) * free)
            return
        left, cosine = compton(state, energy)
        vx, vy, vz = rotated(ux, uy, uz, cosine, 2 * math.pi * uniform(state))
        px, py, pz = energy * ux - left * vx, energy * uy - left * vy, energy * uz - left * vz
        p = math.sqrt(px * px + py * py + pz * pz)
        if p > 0.0:
            push(stack, ELECTRON, (x, y, z), (px / p, py / p, pz / p), energy - left)
        ux, uy, uz, energy = vx, vy, vz, left
    deposit(light, x, y, z, energy, _MINIMUM_LOSS)


@compiled
def compton(state: State, energy: float) -> tuple[float, float]:
    """Energy of a photon after Compton scattering on an electron at rest, and the cosine of its angle.

    The Klein-Nishina formula by the mixture that EGS and Geant4 use (Butcher and Messel, 1960).
    """
    kappa = energy / ELECTRON_MASS
    least = 1 / (1 + 2 * kappa)
    a, b = -math.log(least), 0.5 * (1 - least * least)
    while True:
        if uniform(state) * (a + b) < a:
            part = least ** uniform(state)
        else:
            part = math.sqrt(least * least + (1 - least * least) * uniform(state))
        t = (1 - part) / (kappa * part)
        if uniform(state) < 1 - part * t * (2 - t) / (1 + part * part):
            return part * energy, 1 - t
