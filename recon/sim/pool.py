"""Pools of generated collisions: flat arrays with offsets, and their files in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from recon.io.npz import read_arrays, write_arrays


class Pool(NamedTuple):
    """Final-state particles of many collisions, concatenated.

    Attributes:
        pdg: particle code.
        charge: in units of e.
        mass: GeV.
        momentum: GeV.
        vertex: production vertex relative to the collision, mm.
        time: production time relative to the collision, times the speed of light, mm.
        tracked: false for neutral hadrons and the softest photons, which a tracking detector is not given.
        offsets: collision `i` owns the particles `offsets[i]` to `offsets[i + 1]`.
    """

    pdg: Int32[np.ndarray, " n"]
    charge: Int32[np.ndarray, " n"]
    mass: Float32[np.ndarray, " n"]
    momentum: Float32[np.ndarray, "n 3"]
    vertex: Float32[np.ndarray, "n 3"]
    time: Float32[np.ndarray, " n"]
    tracked: Bool[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " c"]


PARTICLE_COLUMNS = Pool._fields[:-1]
"""The columns of a pool with one entry a particle."""


def pool_size(pool: Pool) -> int:
    """Count the collisions of a pool."""
    return len(pool.offsets) - 1


def select(pool: Pool, collisions: Int[np.ndarray, " k"]) -> Pool:
    """Return the given collisions of a pool, in the given order, repeats allowed."""
    count = np.diff(pool.offsets)[collisions]
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(pool.offsets[collisions] - offsets[:-1], count)
    columns = {name: getattr(pool, name)[rows] for name in PARTICLE_COLUMNS}
    return Pool(**columns, offsets=offsets)


def keep_particles(pool: Pool, keep: Bool[np.ndarray, " n"]) -> Pool:
    """Return the same collisions with some of their particles."""
    columns = {name: getattr(pool, name)[keep] for name in PARTICLE_COLUMNS}
    kept_before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    return Pool(**columns, offsets=kept_before[pool.offsets])


def concatenate(pools: list[Pool]) -> Pool:
    """Join pools one behind the other."""
    columns = {name: np.concatenate([getattr(pool, name) for pool in pools]) for name in PARTICLE_COLUMNS}
    counts = np.concatenate([np.diff(pool.offsets) for pool in pools])
    return Pool(**columns, offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def empty_pool() -> Pool:
    """Return a pool without collisions."""
    nothing, vectors = np.zeros(0, np.float32), np.zeros((0, 3), np.float32)
    no_codes = np.zeros(0, np.int32)
    no_flags = np.zeros(0, bool)
    return Pool(no_codes, no_codes, nothing, vectors, vectors, nothing, no_flags, np.zeros(1, np.int64))


def read_pool(path: Path) -> Pool | None:
    """Read a file of `write_pool`; `None` when there is none or it was cut short: make it again then."""
    return read_arrays(path, Pool)


def write_pool(path: Path, pool: Pool) -> None:
    """Write a pool into one file, whole or not at all."""
    write_arrays(path, pool)
