"""Simulated jets for taggers: Pythia, a detector in formulas, fastjet, and the class of every jet."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from recon.errors import ConfigError
from recon.sim import import_extra
from recon.sim.collisions import generate_pool
from recon.sim.jets_clustering import ClusteredJets, cluster, take_jets
from recon.sim.jets_detector import Candidates, Particles, detect, directions, four_momenta, is_visible
from recon.sim.jets_generation import Collisions, Process, charges, generate_collisions
from recon.sim.jets_pileup import Removal, mix_pileup, remove_pileup
from recon.sim.jets_table import JetEvents, jet_table
from recon.sim.jets_truth import JetTruth, label_jets
from recon.sim.jets_vertices import find_vertices
from recon.sim.pool import Pool

Progress = Callable[[str, int, int], None]
"""Called with (`collisions` or `jets`, done, total)."""

_CHUNKS_AHEAD = 2
"""Chunks in flight per process: enough to keep it busy, few enough to bound the memory."""
_EMPTY_CHUNKS = 50
"""In a row, after which the settings are taken to allow no jet."""


@dataclass(frozen=True, kw_only=True)
class JetSimulation:
    """Settings of a simulation.

    Attributes:
        process: `qcd`, `top` (t tbar), `wz` (W Z, to quarks) or `hz` (H Z; H to b or c, Z to quarks).
        jets: number of jets.
        seed: of the collisions.
        pt_min: of the jets, GeV.
        pt_max: of the jets, GeV.
        eta_max: largest absolute pseudorapidity of the jets.
        pileup: mean number of collisions under every hard scatter, Poisson.
        removal: of pile-up: `puppi`, `chs` or `none`.
        minbias_pool: number of distinct pile-up collisions to draw from.
        pool_seed: of the pile-up collisions; give independent samples independent pools.
        chunk_events: collisions in a chunk. Each chunk has its own seeds: a sample grows without changing what it
            holds.
        workers: processes; with more than one, call from under `if __name__ == "__main__":`.

    Raises:
        ConfigError: a setting out of range.
    """

    process: Process = "qcd"
    jets: int = 1000
    seed: int = 1
    pt_min: float = 400.0
    pt_max: float = 1200.0
    eta_max: float = 2.0
    pileup: float = 0.0
    removal: Removal = "puppi"
    minbias_pool: int = 10_000
    pool_seed: int = 1
    chunk_events: int = 200
    workers: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("jets", 0, 2**31),
            ("seed", 0, 2**32 - 1),
            ("pt_min", 100.0, 3000.0),
            ("pt_max", 110.0, 5000.0),
            ("eta_max", 0.1, 2.2),
            ("pileup", 0.0, 300.0),
            ("minbias_pool", 1, 10_000_000),
            ("pool_seed", 0, 2**32 - 1),
            ("chunk_events", 1, 10_000),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} of the jet simulation is {value}; allowed: {low} to {high}")
        if self.pt_max < 1.1 * self.pt_min:
            raise ConfigError(
                f"pt_max of the jet simulation is {self.pt_max}; at least 1.1 times pt_min ({self.pt_min}) is needed"
            )
        for name, allowed in (("process", get_args(Process)), ("removal", get_args(Removal))):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} of the jet simulation is {getattr(self, name)!r}; allowed: {', '.join(allowed)}"
                )


def simulate_jets(config: JetSimulation, progress: Progress | None = None) -> Iterator[Any]:
    """Simulate labelled jets, a chunk at a time.

    Jets that belong to no class, as one with a single quark of a W, are left out.

    Args:
        config: the settings.
        progress: called as collisions of the pile-up pool and jets are done.

    Yields:
        Awkward arrays with one record a jet, `recon.sim.jets_table` lists the columns; `config.jets` in all. They
        depend on no setting of how the work is done (`workers`), and more jets begin with the same ones.

    Raises:
        ConfigError: the `sim` extra is missing, or the settings allow no jet.

    Example:
        >>> from recon.sim.jets import JetSimulation, simulate_jets
        >>> for table in simulate_jets(JetSimulation(process="top", jets=100)):  # doctest: +SKIP
        ...     print(len(table), table.jet_sdmass)
    """
    for package in ("awkward", "fastjet", "pythia8mc"):
        import_extra(package)
    return _simulate(config, progress)


def simulate_chunk(config: JetSimulation, index: int) -> Any:
    """Simulate the jets of one chunk of collisions.

    Args:
        config: the settings; `jets` and `workers` do not matter.
        index: of the chunk, from 0.

    Returns:
        All jets of the chunk, as in `simulate_jets`.
    """
    process, n = get_args(Process).index(config.process), config.chunk_events
    rngs = [np.random.default_rng([config.seed, process, index, stream]) for stream in range(3)]
    collisions = generate_collisions(
        config.process,
        n,
        (config.seed, process, index),
        pt_min=config.pt_min,
        pt_max=config.pt_max,
    )
    n_pileup = rngs[0].poisson(config.pileup, n)
    particles = _visible(collisions)
    if config.pileup:
        particles = mix_pileup(particles, _minbias(config.minbias_pool, config.pool_seed), n_pileup, rngs[0])
    candidates = remove_pileup(detect(particles, rngs[1]), config.removal, n_pileup)
    jets, truth = _labelled(config, collisions, candidates)
    number = index * n + np.arange(n)
    events = JetEvents(number, collisions.weight, n_pileup)
    return jet_table(jets, candidates, find_vertices(candidates, jets, rngs[2]), truth, events)


def _visible(collisions: Collisions) -> Particles:
    final = np.flatnonzero(collisions.status > 0)
    rows = final[is_visible(collisions.pdg[final], collisions.momentum[final])]
    return Particles(
        event=collisions.event[rows],
        pdg=collisions.pdg[rows],
        charge=charges(collisions.pdg[rows]),
        momentum=collisions.momentum[rows],
        vertex=collisions.vertex[rows],
        pileup=np.full(len(rows), np.nan),
    )


def _labelled(
    config: JetSimulation, collisions: Collisions, candidates: Candidates
) -> tuple[ClusteredJets, JetTruth]:
    offsets = np.searchsorted(candidates.event, np.arange(config.chunk_events + 1)).astype(np.int64)
    jets = cluster(four_momenta(candidates), offsets, pt_min=config.pt_min)
    pt, eta, _ = directions(jets.momentum)
    jets = take_jets(jets, np.flatnonzero((pt < config.pt_max) & (np.abs(eta) < config.eta_max)))
    truth = label_jets(config.process, collisions, jets)
    known = np.flatnonzero(truth.label >= 0)
    return take_jets(jets, known), JetTruth(*(column[known] for column in truth))


@lru_cache(maxsize=1)
def _minbias(size: int, seed: int) -> Pool:
    return generate_pool("minbias", size, seed)


def _simulate(config: JetSimulation, progress: Progress | None) -> Iterator[Any]:
    def report(stage: Literal["collisions", "jets"], done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    if config.jets and config.pileup:
        generate_pool(
            "minbias",
            config.minbias_pool,
            config.pool_seed,
            workers=config.workers,
            progress=lambda done, total: report("collisions", done, total),
        )
    done = empty = 0
    if not config.jets:
        return
    # Closed at once when enough jets are there: the chunks ahead are not waited for.
    with closing(_chunks(config)) as chunks:
        for table in chunks:
            table = table[: config.jets - done]  # noqa: PLW2901
            empty = 0 if len(table) else empty + 1
            if empty == _EMPTY_CHUNKS:
                raise ConfigError(
                    f"no jet in {empty * config.chunk_events} collisions; widen pt_min, pt_max or eta_max"
                )
            done += len(table)
            if len(table):
                yield table
            report("jets", done, config.jets)
            if done == config.jets:
                return


def _chunks(config: JetSimulation) -> Generator[Any, None, None]:
    """Chunks in their order, without end."""
    index = 0
    if config.workers == 1:
        while True:
            yield simulate_chunk(config, index)
            index += 1
    # Not fork: the parent may hold JAX threads.
    executor = ProcessPoolExecutor(config.workers, mp_context=multiprocessing.get_context("spawn"))
    pending: deque[Future[Any]] = deque()
    try:
        while True:
            while len(pending) < config.workers * _CHUNKS_AHEAD:
                pending.append(executor.submit(simulate_chunk, config, index))
                index += 1
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
