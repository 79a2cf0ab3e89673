"""Hadrons that strike nucleons: on the way out of the nucleus that they were made in, or in the detector."""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    BINDING_ENERGY,
    CHARGES,
    FERMI_MOMENTUM,
    MASSES,
    NEUTRON,
    NUCLEON_MASS,
    PION_MASS,
    PROTON,
)
from recon.sim.neutrino_kinematics import Vector, boosted, isotropic, rotated, two_body_momentum
from recon.sim.neutrino_random import State, poisson, uniform
from recon.sim.neutrino_stack import Stack, push_momentum
from recon.sim.neutrino_systems import decay_system, multiplicity

ABSORPTION_LOSS = 0.04
"""Separation energy of the two nucleons that absorb a pion, GeV."""


@compiled
def fermi_motion(state: State) -> Vector:
    """Momentum of a nucleon in carbon, GeV: a uniformly filled sphere."""
    ux, uy, uz = isotropic(state)
    p = FERMI_MOMENTUM * uniform(state) ** (1.0 / 3.0)
    return p * ux, p * uy, p * uz


@compiled
def absorption_probability(kinetic: float) -> float:
    """Share of the reactions of pions with carbon that leave no pion.

    A third at and below the Delta resonance, an eighth at 1 GeV (D. Ashery et al., Phys. Rev. C 23 (1981) 2173).
    """
    return 0.12 + 0.24 / (1.0 + (kinetic / 0.4) ** 3)


@compiled
def strike(stack: Stack, kind: int, p: Vector, position: Vector, on_carbon: bool) -> bool:
    """A hadron strikes a nucleon; what comes out waits on the stack.

    Args:
        stack: is changed.
        kind: of the hadron: a pion of any charge or a nucleon.
        p: its momentum, GeV.
        position: mm.
        on_carbon: the nucleon is bound; else it is a free proton.

    Returns:
        False where the reaction has no room; then nothing has happened.
    """
    state, mass = stack.random, MASSES[kind]
    square = p[0] * p[0] + p[1] * p[1] + p[2] * p[2]
    energy = math.sqrt(square + mass * mass)
    norm = 1.0 / math.sqrt(max(square, 1e-12))
    axis = (p[0] * norm, p[1] * norm, p[2] * norm)
    target_proton = not on_carbon or uniform(state) < 0.5
    charge = CHARGES[kind] + (1 if target_proton else 0)
    fx, fy, fz = fermi_motion(state) if on_carbon else (0.0, 0.0, 0.0)
    bound = BINDING_ENERGY if on_carbon else 0.0
    e = energy - bound + math.sqrt(NUCLEON_MASS**2 + fx * fx + fy * fy + fz * fz)
    total = (p[0] + fx, p[1] + fy, p[2] + fz, e)
    done = False
    if kind in (PROTON, NEUTRON):
        done, n = _nucleon_products(stack, kind, target_proton, charge, total, axis)
    elif on_carbon and uniform(state) < absorption_probability(energy - mass):
        # The second nucleon of the pair is most often of the other kind.
        both = (total[0], total[1], total[2], energy + 2.0 * NUCLEON_MASS - ABSORPTION_LOSS)
        n = 2
        done = decay_system(stack, 2, n, min(max(CHARGES[kind] + 1, 0), 2), both, axis)
    else:
        w = math.sqrt(max(total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2, 0.0))
        n = 2 if w < 1.3 else multiplicity(state, w, target_proton)
        done = decay_system(stack, 1, n, charge, total, axis)
    if done:
        push_products(stack, n, position)
    return done


@compiled
def _nucleon_products(
    stack: Stack,
    kind: int,
    target_proton: bool,
    charge: int,
    total: tuple[float, float, float, float],
    axis: Vector,
) -> tuple[bool, int]:
    """Two nucleons, with pions where there is energy for them; two alone scatter forward."""
    state = stack.random
    square = total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2
    w = math.sqrt(max(square, 0.0))
    free = w - 2.0 * NUCLEON_MASS - PION_MASS
    # One pion in seven of ten collisions at 1 GeV, 1.4 at 3 GeV.
    pions = poisson(state, 1.25 * free**0.75) if free > 0.0 else 0
    pions = min(pions, int(max(free, 0.0) / PION_MASS) + 1, 4)
    if free > 0.02 and pions:
        return decay_system(stack, 2, 2 + pions, charge, total, axis), 2 + pions
    p = two_body_momentum(w, NUCLEON_MASS, NUCLEON_MASS)
    if p <= 0.0:
        return False, 0
    # Squared momentum transfers fall with a slope that grows with energy: isotropic at low energy.
    slope = min(8.0, 3.0 * max(free + PION_MASS, 0.0) / 0.3)
    reach = 4.0 * p * p * slope
    u = uniform(state)
    t = -math.log(1.0 - u * (1.0 - math.exp(-reach))) / slope if reach > 1e-3 else 4.0 * p * p * u
    ux, uy, uz = rotated(axis[0], axis[1], axis[2], 1.0 - t / (2.0 * p * p), 2.0 * math.pi * uniform(state))
    for i, sign in enumerate((1.0, -1.0)):
        qx, qy, qz, energy = boosted(
            (sign * p * ux, sign * p * uy, sign * p * uz),
            math.sqrt(p * p + NUCLEON_MASS**2),
            total[0] / total[3],
            total[1] / total[3],
            total[2] / total[3],
        )
        q = stack.product[i]
        q[0], q[1], q[2], q[3] = qx, qy, qz, energy
    stack.product_kind[0] = kind
    stack.product_kind[1] = PROTON if target_proton else NEUTRON
    return True, 2


@compiled
def push_products(stack: Stack, n: int, position: Vector) -> None:
    """Put the products on the stack."""
    for i in range(n):
        p = stack.product[i]
        push_momentum(stack, stack.product_kind[i], position, (p[0], p[1], p[2]))


@compiled
def leave_nucleus(stack: Stack, n: int, position: Vector, on_carbon: bool) -> None:
    """Products of a neutrino's reaction leave the nucleus, or strike one more nucleon of it on the way.

    Args:
        stack: is changed.
        n: number of products.
        position: of the vertex, mm.
        on_carbon: a free proton has no nucleus to leave.
    """
    kinds, momenta = stack.product_kind[:n].copy(), stack.product[:n].copy()
    for i in range(n):
        p = (momenta[i, 0], momenta[i, 1], momenta[i, 2])
        struck = False
        if on_carbon and uniform(stack.random) < rescattering_probability(
            kinds[i], momenta[i, 3] - MASSES[kinds[i]]
        ):
            struck = strike(stack, kinds[i], p, position, True)
        if not struck:
            push_momentum(stack, kinds[i], position, p)


@compiled
def rescattering_probability(kind: int, kinetic: float) -> float:
    """Chance that a hadron made in carbon strikes another nucleon before it is outside.

    Pions follow their cross section, with half at the Delta resonance and a quarter above 1 GeV, where hadrons are
    formed late; nucleons a third (transparency of carbon in (e, e'p): 0.6 to 0.7; O. Benhar et al., RMP 80 (2008) 189).
    """
    if kind in (PROTON, NEUTRON):
        return 0.35
    return 0.25 + 0.30 * math.exp(-(((kinetic - 0.18) / 0.12) ** 2))
