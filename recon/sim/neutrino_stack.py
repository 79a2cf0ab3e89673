"""Particles that wait to be followed, and the memory that the compiled loops share."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import MASSES, PHOTON, PI_ZERO
from recon.sim.neutrino_kinematics import Vector, boosted, isotropic

CAPACITY = 8192
"""Particles of one event that can wait at once; the newest is followed first, so that few do."""
MOST_PRODUCTS = 12
"""Hadrons that one reaction can make."""


class Stack(NamedTuple):
    """What the compiled loops write to.

    Attributes:
        random: state of the random numbers.
        kind: of the waiting particles, as in `recon.sim.neutrino_detector`.
        ray: x, y, z (mm), direction, kinetic energy (GeV) of the waiting particles.
        size: number of waiting particles, and of those that did not fit.
        product_kind: hadrons of the reaction at hand.
        product: their px, py, pz, E; GeV.
    """

    random: UInt64[np.ndarray, " 4"]
    kind: Int64[np.ndarray, " c"]
    ray: Float64[np.ndarray, "c 7"]
    size: Int64[np.ndarray, " 2"]
    product_kind: Int64[np.ndarray, " h"]
    product: Float64[np.ndarray, "h 4"]


def new_stack(capacity: int = CAPACITY) -> Stack:
    """An empty stack."""
    return Stack(
        random=np.zeros(4, np.uint64),
        kind=np.zeros(capacity, np.int64),
        ray=np.zeros((capacity, 7)),
        size=np.zeros(2, np.int64),
        product_kind=np.zeros(MOST_PRODUCTS, np.int64),
        product=np.zeros((MOST_PRODUCTS, 4)),
    )


@compiled
def push(stack: Stack, kind: int, position: Vector, direction: Vector, kinetic: float) -> None:
    """Let a particle wait; where there is no room, it is counted in `size[1]`.

    Args:
        stack: is changed.
        kind: of the particle, not a neutral pion.
        position: mm.
        direction: unit vector.
        kinetic: energy, GeV.
    """
    n = stack.size[0]
    if n >= len(stack.kind):
        stack.size[1] += 1
        return
    stack.kind[n] = kind
    ray = stack.ray[n]
    for i in range(3):
        ray[i], ray[3 + i] = position[i], direction[i]
    ray[6] = kinetic
    stack.size[0] = n + 1


@compiled
def push_momentum(stack: Stack, kind: int, position: Vector, p: Vector) -> None:
    """Let a particle of a momentum wait; a neutral pion is its two photons.

    Args:
        stack: is changed.
        kind: of the particle.
        position: mm.
        p: momentum, GeV.
    """
    square = p[0] * p[0] + p[1] * p[1] + p[2] * p[2]
    if square <= 0.0:
        return
    mass = MASSES[kind]
    energy = math.sqrt(square + mass * mass)
    if kind == PI_ZERO:
        ux, uy, uz = isotropic(stack.random)
        half = 0.5 * mass
        for sign in (1.0, -1.0):
            photon = (sign * half * ux, sign * half * uy, sign * half * uz)
            qx, qy, qz, e = boosted(photon, half, p[0] / energy, p[1] / energy, p[2] / energy)
            push(stack, PHOTON, position, (qx / e, qy / e, qz / e), e)
        return
    norm = 1.0 / math.sqrt(square)
    push(stack, kind, position, (p[0] * norm, p[1] * norm, p[2] * norm), energy - mass)
