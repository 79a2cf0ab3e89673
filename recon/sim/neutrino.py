"""Neutrino events and cosmic rays in the NOvA far detector, as hits of pixel maps.

This is a parametrised simulation. The beam comes from two-body decays of pions and kaons; neutrinos react by
Llewellyn Smith's formula on a Fermi gas, by a Delta and a broad resonance, and by parton densities of one shape;
hadrons fill phase space, inside the nucleus and in the detector, with cross sections read off published curves;
showers are made of bremsstrahlung, pairs, Compton scattering and energy loss in one material, where scintillator and
PVC differ only in whether their light is seen.

Left out: coherent production, strange particles and charm, antineutrinos and oscillations, neutrinos that react in the
rock, positron annihilation, photo-nuclear reactions, radiation of muons, decays in flight, several events in one time
window, saturation and sag of the electronics, dead channels. Time is not simulated: a fixed part of the electrons of
decaying muons counts as part of the event.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from recon.errors import CapacityError, ConfigError
from recon.io.pixel_maps import join_events, take_events
from recon.sim.flux_table import FluxTable
from recon.sim.neutrino_cosmics import PHOTON_MODE, cosmics
from recon.sim.neutrino_detector import ELECTRON_MASS, MAP_CELLS, MAP_PLANES, MUON_MASS, TAU_MASS
from recon.sim.neutrino_events import COUNTS, TRUTH, Memory, simulate_events
from recon.sim.neutrino_interactions import Neutrinos, neutrinos
from recon.sim.neutrino_light import new_light
from recon.sim.neutrino_matter import matter
from recon.sim.neutrino_readout import HIT_COLUMNS, new_readout
from recon.sim.neutrino_stack import new_stack
from recon.tagging.labels import NEUTRINO_LABELS
from recon.types import NOISE, NeutrinoEvents, NeutrinoTruth

Progress = Callable[[str, int, int], None]
"""Called with (`events`, done, total)."""

CLASSES = dict(zip(("numu", "nue", "nutau", "nc", "cosmic"), NEUTRINO_LABELS, strict=True))
"""What a user types, and the label."""

_LEPTON = {"numu": MUON_MASS, "nue": ELECTRON_MASS, "nutau": TAU_MASS, "nc": 0.0, "cosmic": MUON_MASS}
_FLAVOUR = {"numu": 14, "nue": 12, "nutau": 16, "nc": 14, "cosmic": 13}
_PHOTON = 22
_CHUNKS_AHEAD = 2
_HITS_PER_EVENT = 600
"""Room for hits; where it does not suffice, the chunk is repeated with more."""
_GROUP = 2000
"""Events that are handed over together."""
_EMPTY_CHUNKS = 20


@dataclass(frozen=True, kw_only=True)
class NeutrinoSimulation:
    """Settings of a simulation.

    Attributes:
        events: number of events that are kept.
        classes: of `CLASSES`; event `i` is of the class `i` modulo their number.
        seed: of the sample.
        min_hits: slices with fewer hits are not kept.
        flux: of the neutrinos; that of the off-axis NuMI beam, see `neutrino_flux`, if not given.
        chunk_events: events that are simulated together; changes nothing but the speed.
        workers: processes; with more than one, call from under `if __name__ == "__main__":`.

    Raises:
        ConfigError: a setting out of range.
    """

    events: int = 1000
    classes: tuple[str, ...] = tuple(CLASSES)
    seed: int = 1
    min_hits: int = 20
    flux: FluxTable | None = None
    chunk_events: int = 400
    workers: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("events", 0, 2**31),
            ("seed", 0, 2**32 - 1),
            ("min_hits", 1, 10_000),
            ("chunk_events", 1, 100_000),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} of the neutrino simulation is {value}; allowed: {low} to {high}")
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown or not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                f"classes of the neutrino simulation are {', '.join(self.classes) or 'none'}; allowed: one or more of "
                f"{', '.join(CLASSES)}, each once"
            )


def simulate_neutrinos(
    config: NeutrinoSimulation, progress: Progress | None = None
) -> Iterator[NeutrinoEvents]:
    """Simulate events, some thousand at a time.

    Every event has random numbers of its own, by the seed, its class and its number within the class: the events
    depend neither on `chunk_events` nor on `workers`, and more events begin with the same ones.

    Args:
        config: the settings.
        progress: called as events are done.

    Yields:
        Host arrays; `config.events` in all, the classes one after the other in turn.

    Raises:
        ConfigError: the `sim` extra is missing, or no event has enough hits.
        CapacityError: an event with more particles than can wait at once.

    Example:
        >>> from recon.sim.neutrino import NeutrinoSimulation, simulate_neutrinos
        >>> for events in simulate_neutrinos(NeutrinoSimulation(events=100)):  # doctest: +SKIP
        ...     print(len(events.label), "events,", len(events.charge), "hits")
    """
    done = 0
    with closing(_interleaved(config)) as groups:
        for group in groups:
            numbered = group._replace(number=np.arange(done, done + len(group.label), dtype=np.uint64))
            done += len(group.label)
            yield numbered
            if progress is not None:
                progress("events", done, config.events)


def simulate_chunk(config: NeutrinoSimulation, name: str, index: int) -> NeutrinoEvents:
    """Simulate `chunk_events` events of one class and keep those with enough hits.

    Args:
        config: the settings; `events`, `classes` and `workers` do not matter.
        name: of the class, in `CLASSES`.
        index: of the chunk, from 0.

    Returns:
        The events that are kept; their numbers count all events of the class.

    Raises:
        CapacityError: an event with more particles than can wait at once.
    """
    n, label = config.chunk_events, list(CLASSES).index(name)
    truth, counts = np.zeros((n, len(TRUTH))), np.zeros((n, len(COUNTS)), np.int64)
    memory, room = _memory(), n * _HITS_PER_EVENT
    memory.stack.size[1] = 0
    while True:
        hits = np.empty((room, HIT_COLUMNS))
        kept, filled = simulate_events(
            memory,
            matter(),
            _reactions(config, name),
            cosmics(),
            config.seed,
            label,
            name == "cosmic",
            (index * n, (index + 1) * n),
            config.min_hits,
            truth,
            counts,
            hits,
        )
        if filled <= room:
            break
        room = filled
    if lost := int(memory.stack.size[1]):
        capacity = len(memory.stack.kind)
        raise CapacityError(
            "particles that wait", capacity, capacity + lost, "recon.sim.neutrino_stack.CAPACITY"
        )
    return _as_events(name, truth[:kept], counts[:kept], hits[:filled])


def _reactions(config: NeutrinoSimulation, name: str) -> Neutrinos:
    try:
        # Cosmic rays have no use for a flux, which may be one that makes no muon.
        return neutrinos(_LEPTON[name], None if name == "cosmic" else config.flux)
    except ConfigError as problem:
        raise ConfigError(f"class {name}: {problem}") from problem


def _as_events(name: str, truth: np.ndarray, counts: np.ndarray, hits: np.ndarray) -> NeutrinoEvents:
    """Name the columns, and sort the hits of every event by view, plane and cell."""
    row = np.repeat(np.arange(len(counts)), counts[:, 1])
    view, plane, cell = hits[:, :3].astype(np.int64).T
    order = np.argsort(((row * 2 + view) * MAP_PLANES + plane) * MAP_CELLS + cell, kind="stable")
    column = {key: truth[:, place] for place, key in enumerate(TRUTH)}
    photon = column["mode"] == PHOTON_MODE
    return NeutrinoEvents(
        number=counts[:, 0].astype(np.uint64),
        label=np.full(len(counts), NEUTRINO_LABELS.index(CLASSES[name]), np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts[:, 1])]).astype(np.int64),
        view=view[order].astype(np.int32),
        plane=plane[order].astype(np.int32),
        cell=cell[order].astype(np.int32),
        charge=hits[order, 3].astype(np.float32),
        outside=counts[:, 2].astype(np.int32),
        window=_columns(column, "first_plane", "median_x", "median_y").astype(np.int32),
        truth=NeutrinoTruth(
            mode=np.maximum(column["mode"], NOISE).astype(np.int32),
            flavour=np.where(photon, _PHOTON, _FLAVOUR[name]).astype(np.int32),
            energy=column["neutrino_energy"].astype(np.float32),
            visible_energy=column["visible_energy"].astype(np.float32),
            lepton=_columns(column, "lepton_px", "lepton_py", "lepton_pz").astype(np.float32),
            vertex=_columns(column, "vertex_x", "vertex_y", "vertex_z").astype(np.float32),
        ),
    )


def _columns(column: dict[str, np.ndarray], *names: str) -> np.ndarray:
    return np.stack([column[name] for name in names], axis=1)


@lru_cache(maxsize=1)
def _memory() -> Memory:
    return Memory(new_stack(), new_light(), new_readout())


def _interleaved(config: NeutrinoSimulation) -> Generator[NeutrinoEvents, None, None]:
    """Groups of events in their final order."""
    # Not fork: the parent may hold JAX threads.
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(config.workers, mp_context=spawn) if config.workers > 1 else None
    n_classes, done = len(config.classes), 0
    streams = [_Stream(config, name, executor) for name in config.classes]
    try:
        while done < config.events:
            # A multiple of the number of classes, so that every group begins with the first class.
            size = min(max(_GROUP // n_classes, 1) * n_classes, config.events - done)
            shares = [len(range(place, size, n_classes)) for place in range(n_classes)]
            starts = np.cumsum([0, *shares[:-1]])
            tables = [stream.take(share) for stream, share in zip(streams, shares, strict=True) if share]
            event = np.arange(size)
            yield take_events(join_events(tables), starts[event % n_classes] + event // n_classes)
            done += size
    finally:
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)


class _Stream:
    """The kept events of one class, chunk by chunk in their order."""

    def __init__(self, config: NeutrinoSimulation, name: str, executor: ProcessPoolExecutor | None) -> None:
        self.config, self.name, self.executor = config, name, executor
        self.next_chunk = 0
        self.pending: deque[Future[NeutrinoEvents]] = deque()
        self.left: NeutrinoEvents | None = None

    def take(self, n: int) -> NeutrinoEvents:
        """The next events.

        Raises:
            ConfigError: no event is kept.
        """
        tables = [self.left] if self.left is not None else []
        held, empty = sum(len(table.label) for table in tables), 0
        while held < n:
            table = self._chunk()
            tables.append(table)
            held += len(table.label)
            empty = 0 if len(table.label) else empty + 1
            if empty == _EMPTY_CHUNKS:
                tried = empty * self.config.chunk_events
                raise ConfigError(
                    f"none of {tried} events of class {self.name} has {self.config.min_hits} hits; lower min_hits"
                )
        joined = join_events(tables)
        self.left = take_events(joined, np.arange(n, held))
        return take_events(joined, np.arange(n))

    def _chunk(self) -> NeutrinoEvents:
        if self.executor is None:
            self.next_chunk += 1
            return simulate_chunk(self.config, self.name, self.next_chunk - 1)
        while len(self.pending) < _CHUNKS_AHEAD:
            self.pending.append(self.executor.submit(simulate_chunk, self.config, self.name, self.next_chunk))
            self.next_chunk += 1
        return self.pending.popleft().result()
