"""The particles that reach an endcap calorimeter: guns, pile-up, and the way through the magnetic field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32

from recon.errors import ConfigError
from recon.sim.mixing import GeneratedParticles
from recon.sim.pool import Pool

FIELD = 3.8
"""T, along z, uniform up to the face of the calorimeter and absent inside."""
_BENDING = 0.299792458e-3
"""GeV / (T mm): a unit charge in 1 T and at 1 GeV turns by this angle a millimetre."""

GUNS = {
    "photon": (22, 0, 0.0),
    "electron": (11, -1, 0.000511),
    "muon": (13, -1, 0.105658),
    "pion": (211, 1, 0.139570),
    "kaon": (130, 0, 0.497611),
    "neutron": (2112, 0, 0.939565),
}
"""Name of a gun to particle code, charge and mass; charged ones come with both signs."""


class Incident(NamedTuple):
    """Particles at the face of the endcap at z > 0.

    Attributes:
        row: of the particle among those that were generated.
        pdg: particle code.
        charge: in units of e.
        energy: what a shower can become: total energy, kinetic energy of baryons, plus twice the mass of antibaryons.
        x0: position at z = 0 if the path inside the calorimeter is drawn back straight, mm.
        y0: the same.
        slope_x: dx/dz inside the calorimeter.
        slope_y: the same.
    """

    row: Int32[np.ndarray, " p"]
    pdg: Int32[np.ndarray, " p"]
    charge: Int32[np.ndarray, " p"]
    energy: Float64[np.ndarray, " p"]
    x0: Float64[np.ndarray, " p"]
    y0: Float64[np.ndarray, " p"]
    slope_x: Float64[np.ndarray, " p"]
    slope_y: Float64[np.ndarray, " p"]


def parse_particles(particles: str) -> tuple[str, ...]:
    """Split the names of guns, as in `photon,pion`.

    Raises:
        ConfigError: an unknown name or none.
    """
    names = tuple(name.strip() for name in particles.split(","))
    unknown = [name for name in names if name not in GUNS]
    if unknown:
        allowed = ", ".join([*GUNS, "ttbar", "none"])
        raise ConfigError(
            f"particles are {particles!r}, of which {unknown[0]!r} is unknown; allowed: {allowed}"
        )
    return names


def gun(
    names: tuple[str, ...],
    n: int,
    energy: tuple[float, float],
    eta: tuple[float, float],
    rng: np.random.Generator,
    *,
    both_sides: bool,
) -> Pool:
    """Shoot single particles from the origin, flat in energy, pseudorapidity and azimuth.

    Args:
        names: keys of `GUNS`, drawn with equal probability.
        n: number of particles.
        energy: lowest and highest, GeV.
        eta: the same of the pseudorapidity.
        rng: random numbers.
        both_sides: half of them to z < 0.

    Returns:
        A pool of one collision.
    """
    kinds = np.array([GUNS[name] for name in names]).reshape(-1, 3)
    code, charge, mass = kinds[rng.integers(0, max(len(names), 1), n)].T
    sign = np.where((charge != 0) & (rng.random(n) < 0.5), -1, 1)
    total = rng.uniform(*energy, n)
    momentum = np.sqrt(np.maximum(total**2 - mass**2, 0.0))
    pseudorapidity = rng.uniform(*eta, n) * (rng.choice([-1.0, 1.0], n) if both_sides else 1.0)
    phi = rng.uniform(-np.pi, np.pi, n)
    transverse = momentum / np.cosh(pseudorapidity)
    vectors = np.stack(
        [transverse * np.cos(phi), transverse * np.sin(phi), momentum * np.tanh(pseudorapidity)], axis=1
    )
    return Pool(
        pdg=(code * sign).astype(np.int32),
        charge=(charge * sign).astype(np.int32),
        mass=mass.astype(np.float32),
        momentum=vectors.astype(np.float32),
        vertex=np.zeros((n, 3), np.float32),
        time=np.zeros(n, np.float32),
        tracked=np.ones(n, bool),
        offsets=np.array([0, n], np.int64),
    )


_HAGEDORN = (
    (211, 1, 0.13957, 6.6, 0.135, 6.8),
    (22, 0, 0.0, 6.6, 0.085, 6.6),
    (130, 0, 0.4976, 0.9, 0.22, 7.0),
)
"""Code, charge, mass; particles a collision and unit of pseudorapidity; temperature in GeV, power of the spectrum."""
_HAGEDORN_ETA = (1.3, 3.3)


def hagedorn_pool(n: int, seed: int) -> Pool:
    """Make inelastic collisions without an event generator: independent particles with Hagedorn's spectrum of pT.

    dN/dpT is proportional to pT (1 + pT / (m T))^-m. Charged pions, photons and neutral kaons at 1.3 < |eta| < 3.3
    come in the numbers of 14 TeV collisions; there are no jets, no correlations, no decays in flight.

    Args:
        n: number of collisions.
        seed: of the pool.
    """
    rng = np.random.default_rng([seed, 2, n])
    low, high = _HAGEDORN_ETA
    parts = []
    for code, unit, mass, density, temperature, power in _HAGEDORN:
        owner = np.repeat(np.arange(n), rng.poisson(density * 2.0 * (high - low), n))
        k = len(owner)
        share = rng.beta(2.0, power - 2.0, k)
        pt = power * temperature * share / (1.0 - share)
        eta, phi = rng.uniform(low, high, k) * rng.choice([-1.0, 1.0], k), rng.uniform(-np.pi, np.pi, k)
        sign = rng.choice([-1, 1], k) if unit else np.ones(k, np.int64)
        vectors = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
        parts.append((owner, code * sign, unit * sign, np.full(k, mass), vectors))
    collision, pdg, charge, masses, momentum = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(collision, kind="stable")
    total = len(order)
    return Pool(
        pdg=pdg[order].astype(np.int32),
        charge=charge[order].astype(np.int32),
        mass=masses[order].astype(np.float32),
        momentum=momentum[order].astype(np.float32),
        vertex=np.zeros((total, 3), np.float32),
        time=np.zeros(total, np.float32),
        tracked=np.ones(total, bool),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(collision, minlength=n))]).astype(np.int64),
    )


def reach_endcap(
    particles: GeneratedParticles, face: float, radius: tuple[float, float], side: int
) -> Incident:
    """Carry particles through the magnetic field to the face of an endcap.

    Charged particles follow a helix in a uniform field of 3.8 T without material; inside the calorimeter all paths
    are straight. Those that miss the face are left out.

    Args:
        particles: of one event.
        face: z of the face, mm.
        radius: innermost and outermost radius to keep at the face, mm.
        side: 1 for the endcap at z > 0, -1 for its mirror image, which is returned at z > 0.

    Returns:
        The particles at the face.
    """
    momentum = particles.momentum * (1.0, 1.0, side)
    vertex = particles.vertex * (1.0, 1.0, side)
    toward = (momentum[:, 2] > 0.0) & (vertex[:, 2] < face)
    row = np.flatnonzero(toward)
    px, py, pz = momentum[row].T
    x, y, z = vertex[row].T
    # The mirror leaves a field along z as it is, and with it the sense in which a charge turns.
    turn = -particles.charge[row] * FIELD * _BENDING * (face - z) / pz
    along, across = _arc(turn)
    length = (face - z) / pz
    x += length * (along * px - across * py)
    y += length * (across * px + along * py)
    cosine, sine = np.cos(turn), np.sin(turn)
    slope_x, slope_y = (cosine * px - sine * py) / pz, (sine * px + cosine * py) / pz
    at_face = np.hypot(x, y)
    keep = (at_face > radius[0]) & (at_face < radius[1])
    energy = _shower_energy(particles, row)
    return Incident(
        row=row[keep].astype(np.int32),
        pdg=particles.pdg[row][keep],
        charge=particles.charge[row][keep],
        energy=energy[keep],
        x0=(x - face * slope_x)[keep],
        y0=(y - face * slope_y)[keep],
        slope_x=slope_x[keep],
        slope_y=slope_y[keep],
    )


def _arc(turn: Float64[np.ndarray, " n"]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """sin(a) / a and (1 - cos(a)) / a, also at 0."""
    half = 0.5 * turn
    sinc = np.sinc(half / np.pi)
    return np.sinc(turn / np.pi), sinc * np.sin(half)


def _shower_energy(particles: GeneratedParticles, row: np.ndarray) -> Float64[np.ndarray, " n"]:
    mass, pdg = particles.mass[row], particles.pdg[row]
    total = np.sqrt((particles.momentum[row] ** 2).sum(axis=1) + mass**2)
    return total - np.where(is_baryon(pdg), np.sign(pdg) * mass, 0.0)


def is_baryon(pdg: Int32[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Tell baryons from mesons and leptons by their code of four digits without a zero among the quarks."""
    code = np.abs(pdg)
    return (code > 1000) & (code < 10000) & (code // 10 % 10 > 0)
