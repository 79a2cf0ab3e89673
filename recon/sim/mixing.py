"""One hard scatter plus pile-up: rotate, reflect and displace collisions of the pools into one event."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from recon.sim.pool import Pool, concatenate, pool_size, select

BEAM_SPOT = (0.0125, 0.0125, 55.5)
"""Standard deviation of the collision point in x, y, z, mm."""
BEAM_SPOT_TIME = 5.0
"""Standard deviation of the collision time, ns."""
LIGHT_SPEED = 299.792458
"""mm / ns."""
WORLD_RADIUS, WORLD_HALF_LENGTH = 1050.0, 3000.0
"""mm; ACTS cannot place a particle outside this cylinder: what decays behind it is invisible anyway."""
DISPLACED = 1e-3
"""mm; particles produced farther from their collision get a secondary vertex."""


class GeneratedParticles(NamedTuple):
    """What enters the detector simulation: particles of all collisions of one event.

    Attributes:
        collision: 1 for the hard scatter, 2 and up for pile-up.
        secondary_vertex: 0 for the collision point, else the index of the decay vertex in its collision.
        particle: index of the particle within its collision in the pool, from 1.
        pdg: particle code.
        charge: in units of e.
        mass: GeV.
        momentum: GeV.
        vertex: mm.
        time: production time times the speed of light, mm.
    """

    collision: Int64[np.ndarray, " n"]
    secondary_vertex: Int64[np.ndarray, " n"]
    particle: Int64[np.ndarray, " n"]
    pdg: Int32[np.ndarray, " n"]
    charge: Int32[np.ndarray, " n"]
    mass: Float64[np.ndarray, " n"]
    momentum: Float64[np.ndarray, "n 3"]
    vertex: Float64[np.ndarray, "n 3"]
    time: Float64[np.ndarray, " n"]


def mix(
    hard_scatter: Pool,
    minbias: Pool,
    n_pileup: int,
    rng: np.random.Generator,
    *,
    pt_min: float,
    eta_max: float,
) -> GeneratedParticles:
    """Lay one hard scatter and pile-up on top of each other.

    Pile-up is drawn with replacement; each drawn collision is turned about the beam axis by a random angle
    and reflected in z with probability one half, so that its reuse shows in no particle direction. The hard
    scatter keeps its orientation. Every collision gets its own point in the beam spot.

    Args:
        hard_scatter: a pool of exactly one collision.
        minbias: the pool to draw pile-up from; may be empty when `n_pileup` is 0.
        n_pileup: number of pile-up collisions.
        rng: random numbers of this event.
        pt_min: particles below are left out, GeV.
        eta_max: particles outside in absolute pseudorapidity are left out.

    Returns:
        The particles, ordered by collision.
    """
    n = 1 + n_pileup
    picks = rng.integers(0, max(pool_size(minbias), 1), n_pileup)
    angle = np.where(np.arange(n) > 0, rng.uniform(0.0, 2.0 * np.pi, n), 0.0)
    sign = np.where(np.arange(n) > 0, rng.choice([-1.0, 1.0], n), 1.0)
    point = rng.normal(0.0, BEAM_SPOT, (n, 3))
    time = rng.normal(0.0, BEAM_SPOT_TIME * LIGHT_SPEED, n)

    parts = concatenate([hard_scatter, select(minbias, picks)]) if n_pileup else hard_scatter
    collision = np.repeat(np.arange(n), np.diff(parts.offsets))
    momentum = turn_about_beam(parts.momentum.astype(np.float64), angle[collision], sign[collision])
    decay = turn_about_beam(parts.vertex.astype(np.float64), angle[collision], sign[collision])
    vertex = decay + point[collision]
    generated = GeneratedParticles(
        collision=collision + 1,
        secondary_vertex=_number_secondary_vertices(collision, parts.vertex),
        particle=np.arange(len(collision)) - parts.offsets[:-1][collision] + 1,
        pdg=parts.pdg,
        charge=parts.charge,
        mass=parts.mass.astype(np.float64),
        momentum=momentum,
        vertex=vertex,
        time=parts.time.astype(np.float64) + time[collision],
    )
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    keep = (pt > pt_min) & (np.abs(np.arcsinh(momentum[:, 2] / pt)) < eta_max)
    keep &= np.hypot(vertex[:, 0], vertex[:, 1]) < WORLD_RADIUS
    keep &= np.abs(vertex[:, 2]) < WORLD_HALF_LENGTH
    return GeneratedParticles(*(column[keep] for column in generated))


def turn_about_beam(
    vectors: Float64[np.ndarray, "n 3"], angle: Float64[np.ndarray, " n"], sign: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 3"]:
    """Rotate about z, then multiply z by the sign."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y, z = vectors.T
    return np.stack([x * cosine - y * sine, x * sine + y * cosine, z * sign], axis=1)


def _number_secondary_vertices(
    collision: Int64[np.ndarray, " n"], vertex: Float32[np.ndarray, "n 3"]
) -> Int64[np.ndarray, " n"]:
    """Number the distinct decay vertices of each collision from 1; 0 for the collision point."""
    number = np.zeros(len(collision), np.int64)
    displaced = np.flatnonzero(np.linalg.norm(vertex, axis=1) > DISPLACED)
    keys = np.column_stack([collision[displaced], vertex[displaced].view(np.int32).reshape(-1, 3)])
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    first_of_collision = np.searchsorted(distinct[:, 0], distinct[:, 0])
    number[displaced] = (np.arange(len(distinct)) - first_of_collision + 1)[inverse.ravel()]
    return number
