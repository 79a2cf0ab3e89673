"""Simulated events of an HGCAL endcap: a parametrisation of showers, not a simulation of the particles in them.

Collisions, or a gun, give the particles; the magnetic field bends them to the face; showers are drawn from formulae
tuned to Geant4 (`calorimeter_showers`, `calorimeter_hadrons`); noise, zero suppression and times (`calorimeter_time`)
follow. There is no material in front of the calorimeter, no saturation, and no correlation between showers.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from recon.errors import ConfigError
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.layers import GeometryName
from recon.hgcal_clustering.lookup import load_lookup
from recon.hgcal_clustering.sensors import SENSORS
from recon.sim.calorimeter_assembly import assemble
from recon.sim.calorimeter_deposits import collect
from recon.sim.calorimeter_hadrons import shower_spots
from recon.sim.calorimeter_noise import read_out
from recon.sim.calorimeter_particles import gun, hagedorn_pool, parse_particles, reach_endcap
from recon.sim.calorimeter_time import hit_times
from recon.sim.collisions import generate_pool, single_collision
from recon.sim.mixing import GeneratedParticles, mix
from recon.sim.pool import Pool, empty_pool
from recon.types import CalorimeterEvent

PileupSource = Literal["pythia", "hagedorn", "auto"]
Endcaps = Literal["positive", "both"]
Progress = Callable[[str, int, int], None]
"""Called with (`collisions` or `events`, done, total)."""

DESCRIPTION = (
    "showers by parametrisation (Grindhammer-Peters and a hadronic counterpart, tuned to Geant4), "
    "not by following particles through the material; charged particles reach the face on helices in 3.8 T"
)
ETA_MAX = 3.3
"""Particles beyond miss the endcap by far."""
_RADIUS_MARGIN = 60.0
"""mm; showers of particles that pass the edge this close are still seen."""
_CHUNKS_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class CalorimeterSimulation:
    """Settings of a simulation.

    Event `number` depends on every setting except `events`, `first_event` and `workers`.

    Attributes:
        geometry: `v16` (47 layers) or `v10` (50 layers).
        endcaps: the one at z > 0, or both.
        particles: guns of `calorimeter_particles.GUNS` separated by commas, `ttbar`, or `none`.
        n_particles: particles of the gun in an event.
        energy_min: lowest energy of the gun, GeV; a fixed energy where it equals `energy_max`.
        energy_max: highest energy of the gun, GeV.
        eta_min: lowest absolute pseudorapidity of the gun.
        eta_max: highest absolute pseudorapidity of the gun.
        pileup: simultaneous collisions beside the hard scatter.
        pileup_source: `pythia`, `hagedorn` (independent particles) or `auto`: Pythia where it is installed.
        events: number of events.
        first_event: number of the first event.
        seed: of the events.
        noise: false for a detector without noise; the threshold stays.
        threshold: zero suppression, in standard deviations of the noise.
        minbias_pool: number of distinct pile-up collisions to draw from.
        pool_seed: of the pile-up collisions.
        workers: processes; with more than one, call from under `if __name__ == "__main__":`.

    Raises:
        ConfigError: a setting out of range.
    """

    geometry: GeometryName = "v16"
    endcaps: Endcaps = "positive"
    particles: str = "photon,pion"
    n_particles: int = 20
    energy_min: float = 20.0
    energy_max: float = 200.0
    eta_min: float = 1.6
    eta_max: float = 2.9
    pileup: int = 0
    pileup_source: PileupSource = "auto"
    events: int = 10
    first_event: int = 0
    seed: int = 1
    noise: bool = True
    threshold: float = 3.0
    minbias_pool: int = 10_000
    pool_seed: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("n_particles", 0, 10_000),
            ("energy_min", 0.05, 7000.0),
            ("energy_max", self.energy_min, 7000.0),
            ("eta_min", 1.3, 3.2),
            ("eta_max", self.eta_min, 3.2),
            ("pileup", 0, 1000),
            ("events", 0, 2**31),
            ("first_event", 0, 2**31),
            ("seed", 0, 2**32 - 1),
            ("threshold", 0.0, 100.0),
            ("minbias_pool", 1, 10_000_000),
            ("pool_seed", 0, 2**32 - 1),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name} of the calorimeter simulation is {value}; allowed: {low} to {high}"
                )
        for name, allowed in (
            ("geometry", get_args(GeometryName)),
            ("endcaps", get_args(Endcaps)),
            ("pileup_source", get_args(PileupSource)),
        ):
            if getattr(self, name) not in allowed:
                given, listed = getattr(self, name), ", ".join(allowed)
                raise ConfigError(f"{name} of the calorimeter simulation is {given!r}; allowed: {listed}")
        if self.particles not in ("ttbar", "none"):
            parse_particles(self.particles)


def pileup_source(config: CalorimeterSimulation) -> Literal["pythia", "hagedorn"]:
    """Say where the pile-up comes from: `auto` takes Pythia where it is installed."""
    if config.pileup_source == "auto":
        return "pythia" if importlib.util.find_spec("pythia8mc") else "hagedorn"
    return config.pileup_source


def simulate_calorimeter(
    config: CalorimeterSimulation, progress: Progress | None = None
) -> Iterator[CalorimeterEvent]:
    """Simulate events in event order.

    Args:
        config: the settings.
        progress: called as collisions and events are done.

    Yields:
        Events with numbers `first_event` to `first_event + events - 1`, hits sorted by endcap and cell, with times and
        truth.
        `truth` lists the particles that reach an endcap.

    Raises:
        ConfigError: Pythia is asked for and not installed.

    Example:
        >>> from recon.sim.calorimeter import CalorimeterSimulation, simulate_calorimeter
        >>> config = CalorimeterSimulation(particles="photon", n_particles=1, events=1)
        >>> [len(event.truth.pdg) for event in simulate_calorimeter(config)]  # doctest: +SKIP
        [1]
    """
    # What the workers read is made once, here.
    load_calorimeter(EndcapGeometry(name=config.geometry))
    _prepare_collisions(config, progress)
    for done, event in enumerate(_run(config), start=1):
        yield event
        if progress is not None:
            progress("events", done, config.events)


def simulate_event(config: CalorimeterSimulation, number: int) -> CalorimeterEvent:
    """Simulate one event in this process.

    Args:
        config: the settings.
        number: of the event.

    Returns:
        The event.
    """
    generated = _generate(config, number)
    geometry = EndcapGeometry(name=config.geometry)
    calorimeter, lookup = load_calorimeter(geometry), load_lookup(geometry)
    layers = geometry.layers()
    noise = np.array([sensor.noise_mip for sensor in SENSORS])[calorimeter.sensor]
    radius = (float(layers.radius[0, 0]) - _RADIUS_MARGIN, float(layers.radius[0, 1]) + _RADIUS_MARGIN)
    sides = []
    for side in (1, -1) if config.endcaps == "both" else (1,):
        incident = reach_endcap(generated, float(layers.z[0]), radius, side)
        spots = shower_spots(incident, layers, _rng(config, number, "showers", side))
        deposits = collect(spots, len(incident.row), lookup)
        rng = _rng(config, number, "noise", side)
        hits = read_out(deposits, noise, config.threshold, rng, noisy=config.noise)
        sides.append((side, incident, hits))
    event = assemble(number, generated, calorimeter, sides)
    times = hit_times(generated, calorimeter, sides, float(layers.z[0]), _rng(config, number, "time"))
    return event._replace(times=times)


def _prepare_collisions(config: CalorimeterSimulation, progress: Progress | None) -> None:
    """Generate what the cache lacks, so that the workers only read."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress("collisions", done, total)

    if config.events and config.pileup and pileup_source(config) == "pythia":
        generate_pool(
            "minbias", config.minbias_pool, config.pool_seed, workers=config.workers, progress=report
        )
    if config.events and config.particles == "ttbar":
        first, n, workers = config.first_event, config.events, config.workers
        generate_pool("ttbar", n, config.seed, first=first, workers=workers, progress=report)


def _run(config: CalorimeterSimulation) -> Iterator[CalorimeterEvent]:
    numbers = range(config.first_event, config.first_event + config.events)
    workers = min(config.workers, len(numbers))
    if workers <= 1:
        yield from (simulate_event(config, number) for number in numbers)
        return
    single = replace(config, workers=1)
    # Not fork: the parent may hold JAX threads.
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    pending: deque[Future[CalorimeterEvent]] = deque()
    try:
        for number in numbers:
            pending.append(executor.submit(simulate_event, single, number))
            if len(pending) >= workers * _CHUNKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _rng(
    config: CalorimeterSimulation,
    number: int,
    purpose: Literal["gun", "mixing", "showers", "noise", "time"],
    side: int = 1,
) -> np.random.Generator:
    """Random numbers of one event and purpose, whatever else is simulated."""
    stream = ("gun", "mixing", "showers", "noise", "time").index(purpose)
    return np.random.default_rng([config.seed, number, stream, 0 if side > 0 else 1])


@lru_cache(maxsize=2)
def _minbias(source: str, size: int, seed: int) -> Pool:
    return generate_pool("minbias", size, seed) if source == "pythia" else hagedorn_pool(size, seed)


def _generate(config: CalorimeterSimulation, number: int) -> GeneratedParticles:
    """Hard scatter and pile-up of one event."""
    if config.particles == "ttbar":
        hard_scatter = single_collision("ttbar", config.seed, number)
    else:
        names = () if config.particles == "none" else parse_particles(config.particles)
        hard_scatter = gun(
            names,
            config.n_particles if names else 0,
            (config.energy_min, config.energy_max),
            (config.eta_min, config.eta_max),
            _rng(config, number, "gun"),
            both_sides=config.endcaps == "both",
        )
    minbias = empty_pool()
    if config.pileup:
        minbias = _minbias(pileup_source(config), config.minbias_pool, config.pool_seed)
    rng = _rng(config, number, "mixing")
    return mix(hard_scatter, minbias, config.pileup, rng, pt_min=0.0, eta_max=ETA_MAX)
