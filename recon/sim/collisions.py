"""Proton collisions from Pythia 8, kept in a cache on disk, and their mixing with pile-up.

Generating an event with 200 simultaneous collisions anew takes a second. Instead a pool of collisions is
generated once; an event is one hard scatter of its own plus pile-up drawn from the pool, each collision with
its own rotation about the beam axis, reflection and vertex.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Int32

from recon.cache import cache_directory
from recon.errors import ConfigError
from recon.sim import import_extra
from recon.sim.pool import Pool, concatenate, empty_pool, keep_particles, read_pool, select, write_pool

Kind = Literal["ttbar", "minbias"]

PROCESSES: dict[str, tuple[str, ...]] = {
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "minbias": ("SoftQCD:inelastic = on",),
}
"""Pythia settings of every kind of collision; 14 TeV protons throughout."""

CHUNK_SIZE = {"ttbar": 50, "minbias": 500}
"""Collisions in one cache file. Each file has its own seed: a pool grows without changing what it holds."""

CHARGED_PT_MIN = 0.1
"""GeV; softer charged particles are not kept in the pool."""
PHOTON_PT_MIN = 0.2
"""GeV; softer photons are not kept in the pool, but for those of `CALORIMETER_ENERGY_MIN`."""
CALORIMETER_ENERGY_MIN, CALORIMETER_ETA_MIN = 0.5, 1.3
"""GeV and absolute pseudorapidity: photons and neutral hadrons are kept above both, for calorimeters."""
NEUTRAL_HADRONS = (130, 2112)
"""K_L and n, also anti-n: what is left of the neutral hadrons when they reach a detector."""
POOL_ETA_MAX = 4.5
POOL_RADIUS_MAX, POOL_Z_MAX = 1200.0, 3200.0
"""mm; particles produced outside are not kept."""

_MAX_PYTHIA_SEED = 900_000_000
_POOL_FORMAT = 2

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def generate_pool(
    kind: Kind, n: int, seed: int, *, first: int = 0, workers: int = 1, progress: Progress | None = None
) -> Pool:
    """Return collisions of one kind, from the cache as far as it has them.

    Collision `i` depends on (kind, seed, i, version of Pythia) alone: neither on `n`, nor on the number of
    processes, nor on what the cache already held.

    Args:
        kind: `ttbar` or `minbias` (inelastic soft QCD).
        n: number of collisions.
        seed: of the pool.
        first: index of the first collision.
        workers: processes that generate what is missing (at least 1; 1 means this process).
        progress: called with (cache files done, cache files needed).

    Returns:
        The collisions `first` to `first + n - 1`.

    Raises:
        ConfigError: a setting out of range, or the `sim` extra is missing.

    Example:
        >>> from recon.sim.collisions import generate_pool
        >>> from recon.sim.pool import pool_size
        >>> pool_size(generate_pool("ttbar", 3, seed=1))  # doctest: +SKIP
        3
    """
    check_pool_settings(kind, n=n, seed=seed, first=first, workers=workers)
    if n == 0:
        return empty_pool()
    size = CHUNK_SIZE[kind]
    chunks = range(first // size, (first + n - 1) // size + 1)
    missing = [index for index in chunks if read_pool(_chunk_path(kind, seed, index)) is None]
    total, done = len(chunks), len(chunks) - len(missing)
    for _ in _make_chunks(kind, seed, missing, workers):
        done += 1
        if progress is not None:
            progress(done, total)
    pool = concatenate([load_chunk(kind, seed, index) for index in chunks])
    start = first - chunks[0] * size
    return select(pool, np.arange(start, start + n))


def single_collision(kind: Kind, seed: int, number: int) -> Pool:
    """Return the collision `number` alone; neighbours come from memory."""
    size = CHUNK_SIZE[kind]
    return select(_remembered_chunk(kind, seed, number // size), np.array([number % size]))


def load_chunk(kind: Kind, seed: int, index: int) -> Pool:
    """Return one cache file of collisions; generate it in this process when it is missing or damaged."""
    path = _chunk_path(kind, seed, index)
    pool = read_pool(path)
    if pool is None:
        pool = generate_chunk(kind, seed, index)
        write_pool(path, pool)
    return pool


def generate_chunk(kind: Kind, seed: int, index: int) -> Pool:
    """Run Pythia for the collisions of one cache file.

    The generator of a process is set up once (five seconds for `minbias`) and reseeded for every chunk, which
    restarts its sequence entirely.

    Args:
        kind: `ttbar` or `minbias`.
        seed: of the pool.
        index: of the chunk.

    Returns:
        `CHUNK_SIZE[kind]` collisions.
    """
    awkward = import_extra("awkward")
    pythia = _generator(kind)
    pythia.rndm.init(_chunk_seed(kind, seed, index))
    size = CHUNK_SIZE[kind]
    batch = pythia.nextBatch(size)
    final = batch.prt[batch.prt.status > 0]
    count = awkward.to_numpy(awkward.num(final))
    particles = awkward.flatten(final)

    def column(field: Any) -> np.ndarray:
        return awkward.to_numpy(awkward.fill_none(field, 0.0))

    momentum = np.stack([column(particles.p[axis]) for axis in ("px", "py", "pz")], axis=1)
    vertex = np.stack([column(particles.vProd[axis]) for axis in ("px", "py", "pz")], axis=1)
    pdg = column(particles.id).astype(np.int32)
    charge = _charges(pythia, pdg)
    keep = _kept(pdg, charge, momentum, vertex)
    kept_per_collision = np.bincount(np.repeat(np.arange(size), count)[keep], minlength=size)
    return Pool(
        pdg=pdg[keep],
        charge=charge[keep],
        mass=column(particles.m)[keep].astype(np.float32),
        momentum=momentum[keep].astype(np.float32),
        vertex=vertex[keep].astype(np.float32),
        time=column(particles.vProd.e)[keep].astype(np.float32),
        tracked=_tracked(pdg, charge, momentum)[keep],
        offsets=np.concatenate([[0], np.cumsum(kept_per_collision)]).astype(np.int64),
    )


def check_pool_settings(kind: str, *, n: int, seed: int, first: int, workers: int) -> None:
    """Raise a `ConfigError` for a setting of `generate_pool` out of range."""
    if kind not in get_args(Kind):
        raise ConfigError(f"kind of collision {kind!r}; allowed: {', '.join(get_args(Kind))}")
    for name, value, low in (("n", n, 0), ("seed", seed, 0), ("first", first, 0), ("workers", workers, 1)):
        if value < low:
            raise ConfigError(f"{name} of the {kind} pool is {value}; at least {low} is needed")


@lru_cache(maxsize=4)
def _remembered_chunk(kind: Kind, seed: int, index: int) -> Pool:
    return load_chunk(kind, seed, index)


def _chunk_path(kind: str, seed: int, index: int) -> Path:
    try:
        version = importlib.metadata.version("pythia8mc")
    except importlib.metadata.PackageNotFoundError:
        import_extra("pythia8mc")  # says how to install it, unless it came without metadata
        version = "unknown"
    folder = f"{kind}-seed{seed}-pythia{version}-format{_POOL_FORMAT}"
    return cache_directory() / "pools" / folder / f"{index:06d}.npz"


def _make_chunk_file(kind: Kind, seed: int, index: int) -> int:
    write_pool(_chunk_path(kind, seed, index), generate_chunk(kind, seed, index))
    return index


def _make_chunks(kind: Kind, seed: int, indices: list[int], workers: int) -> Iterator[int]:
    workers = min(workers, len(indices))
    if workers <= 1:
        yield from (_make_chunk_file(kind, seed, index) for index in indices)
        return
    # Not fork: the parent may hold JAX threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield from executor.map(_make_chunk_file, *zip(*((kind, seed, i) for i in indices), strict=True))


def _chunk_seed(kind: str, seed: int, index: int) -> int:
    sequence = np.random.SeedSequence([seed, get_args(Kind).index(kind), index])
    return int(sequence.generate_state(1)[0]) % _MAX_PYTHIA_SEED + 1


@lru_cache(maxsize=2)
def _generator(kind: str) -> Any:
    pythia = import_extra("pythia8mc").Pythia("", False)
    settings = ("Beams:eCM = 14000.", "Print:quiet = on", "Random:setSeed = on", "Random:seed = 1")
    for setting in settings + PROCESSES[kind]:
        if not pythia.readString(setting):
            raise ConfigError(f"this version of Pythia refuses the setting {setting!r}")
    if not pythia.init():
        raise ConfigError(f"Pythia cannot be set up for {kind} collisions")
    return pythia


def _charges(pythia: Any, pdg: Int32[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    codes, inverse = np.unique(pdg, return_inverse=True)
    charges = [round(pythia.particleData.charge(int(code))) for code in codes]
    return np.array(charges, np.int32)[inverse.ravel()]


def seen_by_tracker(pool: Pool) -> Pool:
    """Return what of a pool a tracking detector is given: charged particles, and photons that may convert.

    Args:
        pool: any pool.

    Returns:
        The same collisions without neutral hadrons and the soft photons that only a calorimeter sees.
    """
    return keep_particles(pool, pool.tracked)


def _tracked(pdg: np.ndarray, charge: np.ndarray, momentum: np.ndarray) -> Bool[np.ndarray, " n"]:
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    return ((charge != 0) & (pt > CHARGED_PT_MIN)) | ((pdg == 22) & (pt > PHOTON_PT_MIN))


def _kept(
    pdg: np.ndarray, charge: np.ndarray, momentum: np.ndarray, vertex: np.ndarray
) -> Bool[np.ndarray, " n"]:
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    eta = np.arcsinh(momentum[:, 2] / np.maximum(pt, 1e-9))
    neutral = np.isin(np.abs(pdg), (22, *NEUTRAL_HADRONS)) & (np.abs(eta) > CALORIMETER_ETA_MIN)
    visible = _tracked(pdg, charge, momentum) | (
        neutral & (np.linalg.norm(momentum, axis=1) > CALORIMETER_ENERGY_MIN)
    )
    inside = np.hypot(vertex[:, 0], vertex[:, 1]) < POOL_RADIUS_MAX
    return visible & inside & (np.abs(vertex[:, 2]) < POOL_Z_MAX) & (np.abs(eta) < POOL_ETA_MAX)
