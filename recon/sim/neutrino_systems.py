"""Systems of hadrons that decay: nucleons and pions that conserve charge, energy and momentum fill the phase space.

One model, with limited transverse momenta, serves pion production by neutrinos, final-state interactions and secondary
interactions.
"""

from __future__ import annotations

import math

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    CHARGES,
    MASSES,
    NEUTRON,
    NUCLEON_MASS,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PION_MASS,
    PROTON,
)
from recon.sim.neutrino_kinematics import Vector, boosted, isotropic
from recon.sim.neutrino_random import State, exponential, gamma8, uniform
from recon.sim.neutrino_stack import MOST_PRODUCTS, Stack

TYPICAL_TRANSVERSE = 0.35
"""Mean transverse momentum of hadrons in strings, GeV."""
BARYON_BACKWARD = 0.8
"""Probability that the nucleon is the slowest of the hadrons along the momentum transfer."""
_ROUNDS = 3


@compiled
def multiplicity(state: State, mass: float, on_proton: bool) -> int:
    """Number of hadrons that a system of baryon number 1 decays to.

    Mean numbers are those of neutrino reactions: n_charged = a + 1.42 ln W^2 with a = 0.40 on protons and -0.20 on
    neutrons (AGKY; T. Yang et al., Eur. Phys. J. C 63 (2009) 1), half as many neutral ones, spread by 35 %.

    Args:
        state: of the random numbers.
        mass: W of the system, GeV.
        on_proton: whether the target was a proton.
    """
    charged = (0.40 if on_proton else -0.20) + 1.42 * math.log(mass * mass)
    n = int(1.5 * charged * gamma8(state) + 0.5)
    room = int((mass - NUCLEON_MASS - 0.03) / PION_MASS) + 1
    return max(2, min(n, room, MOST_PRODUCTS))


@compiled
def choose_products(stack: Stack, baryons: int, n: int, charge: int) -> bool:
    """Draw nucleons and pions of a total charge into `product_kind`.

    A nucleon with one pion is a Delta: isospin 3/2 gives N pi0 twice the weight of the other charges.

    Args:
        stack: is changed.
        baryons: 1 or 2, the first of the products.
        n: number of products.
        charge: of all of them.

    Returns:
        False where no such products were found.
    """
    state, kinds = stack.random, stack.product_kind
    if baryons == 1 and n == 2 and 0 <= charge <= 1:
        neutral = uniform(state) < 2.0 / 3.0
        as_proton = (charge == 1) == neutral
        kinds[0] = PROTON if as_proton else NEUTRON
        kinds[1] = PI_ZERO if neutral else (PI_PLUS if charge == 1 else PI_MINUS)
        return True
    for _ in range(500):
        total = 0
        for i in range(n):
            if i < baryons:
                kinds[i] = PROTON if uniform(state) < 0.5 else NEUTRON
            else:
                u = uniform(state)
                kinds[i] = PI_PLUS if u < 1.0 / 3.0 else (PI_MINUS if u < 2.0 / 3.0 else PI_ZERO)
            total += CHARGES[kinds[i]]
        if total == charge:
            return True
    return False


@compiled
def fill_phase_space(stack: Stack, n: int, mass: float, axis: Vector, limited: bool) -> bool:
    """Momenta of the products in their rest frame.

    Uniform in massless phase space (RAMBO; Kleiss, Stirling and Ellis, 1986), transverse momenta about the axis made
    smaller on demand where they exceed the typical one, then scaled so that the energies of massive products add up:
    the momenta balance exactly.

    Args:
        stack: `product_kind` says the kinds, `product` is changed.
        n: number of products.
        mass: of the system, GeV.
        axis: unit vector.
        limited: whether transverse momenta are limited.

    Returns:
        False where the mass does not suffice.
    """
    products, kinds, state = stack.product, stack.product_kind, stack.random
    rest = 0.0
    for i in range(n):
        rest += MASSES[kinds[i]]
    if rest >= mass:
        return False
    px, py, pz, e = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        ux, uy, uz = isotropic(state)
        energy = exponential(state) + exponential(state)
        products[i, 0], products[i, 1], products[i, 2] = energy * ux, energy * uy, energy * uz
        px, py, pz, e = px + energy * ux, py + energy * uy, pz + energy * uz, e + energy
    scale = mass / math.sqrt(max(e * e - px * px - py * py - pz * pz, 1e-12))
    for i in range(n):
        p = products[i]
        energy = math.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2])
        qx, qy, qz, _ = boosted((p[0], p[1], p[2]), energy, -px / e, -py / e, -pz / e)
        p[0], p[1], p[2] = qx * scale, qy * scale, qz * scale
    _scale_to_mass(stack, n, mass, rest)
    if limited:
        for _ in range(_ROUNDS):
            # Scaling to the mass makes transverse momenta grow again, each time by less.
            _limit_transverse(stack, n, axis)
            _scale_to_mass(stack, n, mass, rest)
        _turn_baryon_back(stack, n, axis)
        _scale_to_mass(stack, n, mass, rest)
    return True


@compiled
def _limit_transverse(stack: Stack, n: int, axis: Vector) -> None:
    """Make all transverse momenta smaller by one factor, so that their mean is at most the typical one."""
    products = stack.product
    mean = 0.0
    for i in range(n):
        p = products[i]
        along = p[0] * axis[0] + p[1] * axis[1] + p[2] * axis[2]
        mean += math.sqrt(max(p[0] * p[0] + p[1] * p[1] + p[2] * p[2] - along * along, 0.0)) / n
    shrink = min(1.0, TYPICAL_TRANSVERSE / max(mean, 1e-9))
    for i in range(n):
        p = products[i]
        along = p[0] * axis[0] + p[1] * axis[1] + p[2] * axis[2]
        for j in range(3):
            p[j] = shrink * p[j] + (1.0 - shrink) * along * axis[j]


@compiled
def _turn_baryon_back(stack: Stack, n: int, axis: Vector) -> None:
    """Let the first product, a nucleon, exchange its momentum with the slowest along the axis."""
    products = stack.product
    slowest, least = 0, 1e9
    for i in range(n):
        along = products[i, 0] * axis[0] + products[i, 1] * axis[1] + products[i, 2] * axis[2]
        if along < least:
            slowest, least = i, along
    if slowest and uniform(stack.random) < BARYON_BACKWARD:
        for j in range(3):
            products[0, j], products[slowest, j] = products[slowest, j], products[0, j]


@compiled
def _scale_to_mass(stack: Stack, n: int, mass: float, rest: float) -> None:
    """Multiply all momenta by the number that makes the energies add up to the mass (Newton's method)."""
    products, kinds = stack.product, stack.product_kind
    scale = math.sqrt(max(1.0 - (rest / mass) ** 2, 1e-4))
    for _ in range(25):
        total, slope = 0.0, 0.0
        for i in range(n):
            p, m = products[i], MASSES[kinds[i]]
            square = p[0] * p[0] + p[1] * p[1] + p[2] * p[2]
            energy = math.sqrt(m * m + scale * scale * square)
            total += energy
            slope += scale * square / max(energy, 1e-12)
        change = (total - mass) / max(slope, 1e-12)
        scale = max(scale - change, 0.1 * scale)
        if abs(change) < 1e-9 * scale:
            break
    for i in range(n):
        p, m = products[i], MASSES[kinds[i]]
        for j in range(3):
            p[j] *= scale
        p[3] = math.sqrt(m * m + p[0] * p[0] + p[1] * p[1] + p[2] * p[2])


@compiled
def decay_system(
    stack: Stack, baryons: int, n: int, charge: int, total: tuple[float, float, float, float], axis: Vector
) -> bool:
    """Decay a system of hadrons into `product`, `product_kind`.

    Args:
        stack: is changed.
        baryons: 1 or 2.
        n: number of products.
        charge: of the system.
        total: its px, py, pz, E; GeV.
        axis: unit vector about which transverse momenta are limited.

    Returns:
        False where charge or mass do not allow it.
    """
    px, py, pz, e = total
    square = e * e - px * px - py * py - pz * pz
    if square <= 0.0 or not choose_products(stack, baryons, n, charge):
        return False
    if not fill_phase_space(stack, n, math.sqrt(square), axis, n > 2):
        return False
    for i in range(n):
        p = stack.product[i]
        qx, qy, qz, energy = boosted((p[0], p[1], p[2]), p[3], px / e, py / e, pz / e)
        p[0], p[1], p[2], p[3] = qx, qy, qz, energy
    return True
