"""Simulated events of a tracking detector: collisions, Fatras, digitisation and noise."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from recon.errors import ConfigError
from recon.sim import import_extra
from recon.sim.assembly import assemble_event
from recon.sim.collisions import (
    CHARGED_PT_MIN,
    POOL_ETA_MAX,
    generate_pool,
    seen_by_tracker,
    single_collision,
)
from recon.sim.detector import GenericGeometry, generic_tracking_geometry
from recon.sim.digitisation import Digitisation, acts_digitisation
from recon.sim.mixing import GeneratedParticles, mix
from recon.sim.pool import Pool, empty_pool
from recon.tracking.detector import load_detector
from recon.types import Event

PileupDistribution = Literal["fixed", "poisson"]

Progress = Callable[[str, int, int], None]
"""Called with (`collisions` or `events`, done, total)."""

_COLLISIONS_PER_CHUNK = 400
"""Events are simulated in chunks of about this many collisions: a chunk costs 0.1 s on its own."""
_MAX_CHUNK = 50
_CHUNKS_AHEAD = 2
"""Chunks in flight per process: enough to keep it busy, few enough to bound the memory."""


@dataclass(frozen=True, kw_only=True)
class TrackerSimulation:
    """Settings of a simulation.

    Event `number` depends on every setting except `events`, `first_event` and `workers`.

    Attributes:
        pileup: collisions beside the hard scatter, or their mean.
        pileup_distribution: `fixed` for exactly `pileup` collisions, `poisson` for a Poisson number.
        events: number of events.
        first_event: number of the first event.
        seed: of the events.
        noise_fraction: noise hits per real hit.
        pt_min: particles below are not simulated, GeV (at least 0.1; photons never below 0.2).
        eta_max: particles outside in absolute pseudorapidity are not simulated (at most 4.5).
        digitisation: `geometric` (cells and clusters) or `smeared` (Gaussian, no cluster shapes).
        minbias_pool: number of distinct pile-up collisions to draw from.
        pool_seed: of the pile-up collisions; give independent samples independent pools.
        workers: processes; with more than one, call from under `if __name__ == "__main__":`.

    Raises:
        ConfigError: a setting out of range.
    """

    pileup: int = 40
    pileup_distribution: PileupDistribution = "fixed"
    events: int = 10
    first_event: int = 0
    seed: int = 1
    noise_fraction: float = 0.15
    pt_min: float = 0.15
    eta_max: float = 4.0
    digitisation: Digitisation = "geometric"
    minbias_pool: int = 10_000
    pool_seed: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("pileup", 0, 1000),
            ("events", 0, 2**31),
            ("first_event", 0, 2**31),
            ("seed", 0, 2**32 - 1),
            ("noise_fraction", 0.0, 10.0),
            ("pt_min", CHARGED_PT_MIN, 100.0),
            ("eta_max", 0.1, POOL_ETA_MAX),
            ("minbias_pool", 1, 10_000_000),
            ("pool_seed", 0, 2**32 - 1),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} of the tracker simulation is {value}; allowed: {low} to {high}")
        for name, allowed in (
            ("pileup_distribution", get_args(PileupDistribution)),
            ("digitisation", get_args(Digitisation)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} of the tracker simulation is {getattr(self, name)!r}; "
                    f"allowed: {', '.join(allowed)}"
                )


def simulate_events(config: TrackerSimulation, progress: Progress | None = None) -> Iterator[Event]:
    """Simulate t tbar events with pile-up in the generic detector, in event order.

    Collisions missing from the cache are generated first. Hits come in random order; real hits and noise
    cannot be told apart by their place, variance or cluster shape.

    Args:
        config: the settings.
        progress: called as collisions and events are done.

    Yields:
        Events with numbers `first_event` to `first_event + events - 1`. `particle_id` is the packed ACTS
        barcode (12 bits collision, 1 for the hard scatter; 12 secondary vertex; 16 particle; 8 generation, 0
        for what the generator made; 16 sub-particle); `hit_id` counts from 1.

    Raises:
        ConfigError: the `sim` extra is missing.

    Example:
        >>> from recon.sim.tracker import TrackerSimulation, simulate_events
        >>> for event in simulate_events(TrackerSimulation(pileup=0, events=2)):  # doctest: +SKIP
        ...     print(event.number, event.hits.position.shape)
        0 (2202, 3)
        1 (4191, 3)
    """
    for package in ("acts.examples", "pythia8mc"):
        import_extra(package)
    return _simulate(config, progress)


def _simulate(config: TrackerSimulation, progress: Progress | None) -> Iterator[Event]:
    if config.events == 0:
        return
    _prepare_collisions(config, progress)
    done = 0
    for events in _run_chunks(config):
        for event in events:
            done += 1
            yield event
            if progress is not None:
                progress("events", done, config.events)


def _prepare_collisions(config: TrackerSimulation, progress: Progress | None) -> None:
    """Generate what the cache lacks, so that the workers only read."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress("collisions", done, total)

    if config.pileup:
        generate_pool(
            "minbias", config.minbias_pool, config.pool_seed, workers=config.workers, progress=report
        )
    generate_pool(
        "ttbar",
        config.events,
        config.seed,
        first=config.first_event,
        workers=config.workers,
        progress=report,
    )


def _run_chunks(config: TrackerSimulation) -> Iterator[list[Event]]:
    size = min(max(_COLLISIONS_PER_CHUNK // (config.pileup + 4), 1), _MAX_CHUNK)
    stop = config.first_event + config.events
    chunks = [
        replace(config, first_event=first, events=min(size, stop - first))
        for first in range(config.first_event, stop, size)
    ]
    workers = min(config.workers, len(chunks))
    if workers == 1:
        yield from map(simulate_chunk, chunks)
        return
    # Not fork: the parent may hold JAX threads.
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    pending: deque[Future[list[Event]]] = deque()
    try:
        for chunk in chunks:
            pending.append(executor.submit(simulate_chunk, chunk))
            if len(pending) >= workers * _CHUNKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def simulate_chunk(config: TrackerSimulation) -> list[Event]:
    """Simulate all events of a configuration in this process, in one run of the ACTS sequencer."""
    from recon.sim.fatras import run_fatras  # noqa: PLC0415 - needs the optional extra

    detector = load_detector("generic")
    simulated = run_fatras(
        _geometry(),
        _digitisation(config.digitisation),
        lambda number: _generate(config, number),
        first_event=config.first_event,
        events=config.events,
        seed=config.seed,
    )
    return [
        assemble_event(
            arrays,
            detector,
            noise_fraction=config.noise_fraction,
            kind=config.digitisation,
            noise_rng=_rng(config, arrays.number, "noise"),
            order_rng=_rng(config, arrays.number, "order"),
        )
        for arrays in simulated
    ]


@lru_cache(maxsize=1)
def _geometry() -> GenericGeometry:
    return generic_tracking_geometry()


@lru_cache(maxsize=2)
def _digitisation(kind: Digitisation) -> object:
    return acts_digitisation(load_detector("generic"), kind)


@lru_cache(maxsize=2)
def _minbias(size: int, seed: int) -> Pool:
    return seen_by_tracker(generate_pool("minbias", size, seed))


def _rng(
    config: TrackerSimulation, number: int, purpose: Literal["mixing", "noise", "order"]
) -> np.random.Generator:
    """Random numbers of one event and purpose, whatever else is simulated."""
    stream = ("mixing", "noise", "order").index(purpose)
    return np.random.default_rng([config.seed, number, stream])


def _generate(config: TrackerSimulation, number: int) -> GeneratedParticles:
    rng = _rng(config, number, "mixing")
    n_pileup = int(rng.poisson(config.pileup)) if config.pileup_distribution == "poisson" else config.pileup
    hard_scatter = seen_by_tracker(single_collision("ttbar", config.seed, number))
    minbias = _minbias(config.minbias_pool, config.pool_seed) if n_pileup else empty_pool()
    return mix(hard_scatter, minbias, n_pileup, rng, pt_min=config.pt_min, eta_max=config.eta_max)
