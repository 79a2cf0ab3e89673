"""`recon simulate neutrino`."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recon import __version__
from recon.commands import Json, Output, console, progress_bars, write_json
from recon.io.pixel_maps import has_empty_view
from recon.io.root_pixel_maps import write_neutrino_events
from recon.sim.flux_table import FluxTable, read_flux
from recon.sim.neutrino import CLASSES, NeutrinoSimulation, simulate_neutrinos
from recon.sim.neutrino_flux import HIGHEST_ENERGY, LOWEST_ENERGY
from recon.tagging.labels import NEUTRINO_LABELS, NEUTRINO_MODES
from recon.types import NeutrinoEvents

ClassName = Literal["numu", "nue", "nutau", "nc", "cosmic"]


def simulate(
    *,
    output: Output,
    events: int = 1000,
    classes: tuple[ClassName, ...] = ("numu", "nue", "nutau", "nc", "cosmic"),
    seed: int = 1,
    min_hits: int = 20,
    flux: Path | None = None,
    flux_column: int = 1,
    layout: Literal["ttree", "rntuple"] = "ttree",
    workers: int = 1,
    json: Json = None,
) -> None:
    """Simulate neutrino events and cosmic rays in the NOvA far detector, as the hits of pixel maps.

    Args:
        output: ROOT file to write.
        events: number of events that are kept, shared out evenly among the classes.
        classes: charged currents of muon, electron and tau neutrinos, neutral currents, cosmic rays.
        seed: of the random numbers; the same seed begins with the same events, whatever their number and the processes.
        min_hits: events with fewer hits are not kept.
        flux: text with energies (GeV) and fluxes in columns, in place of the built-in beam.
        flux_column: that holds the flux; 0 is the energy.
        layout: of the file, TTree or RNTuple.
        workers: processes.
        json: write settings, totals and the rate here.
    """
    config = NeutrinoSimulation(
        events=events,
        classes=tuple(classes),
        seed=seed,
        min_hits=min_hits,
        flux=None if flux is None else _read(flux, flux_column),
        # The events do not depend on it: no more than about as many as are wanted.
        chunk_events=max(10, min(400, events // max(len(classes), 1))),
        workers=workers,
    )
    metadata = {"program": f"recon {__version__}", "simulation": settings(config)}
    totals = Totals()
    begin, cpu = time.monotonic(), _cpu_seconds()
    output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bars() as report:
        tables = totals.counted(simulate_neutrinos(config, report))
        written = write_neutrino_events(output, tables, layout=layout, metadata=metadata)
    cpu_seconds = _cpu_seconds() - cpu
    listed = ", ".join(f"{name} {count}" for name, count in totals.labels.items() if count)
    console.print(f"{written:,} events in {output}: {listed}")
    console.print(
        f"{totals.hits:,} hits in the windows, {totals.outside:,} outside; {totals.empty_views} events with an empty "
        f"view; {written / max(cpu_seconds, 1e-9):,.0f} events a CPU second"
    )
    result = totals.tree() | {"cpu_seconds": cpu_seconds, "seconds": time.monotonic() - begin}
    write_json(json, metadata | result | {"output": str(output)})


def _read(path: Path, column: int) -> FluxTable:
    table = read_flux(path, column)
    part = table.part_within(LOWEST_ENERGY, HIGHEST_ENERGY)
    if part < 1:
        console.print(
            f"{100 * (1 - part):.2g} % of the neutrinos of {path} are left out: their energies are not within "
            f"{LOWEST_ENERGY:g} to {HIGHEST_ENERGY:g} GeV"
        )
    return table


def settings(config: NeutrinoSimulation) -> dict[str, Any]:
    """What a sample depends on."""
    return asdict(config) | {"versions": {"numba": importlib.metadata.version("numba")}}


class Totals:
    """Counts over all events that pass by."""

    def __init__(self) -> None:
        self.labels = dict.fromkeys((CLASSES[name] for name in CLASSES), 0)
        self.modes = dict.fromkeys(NEUTRINO_MODES, 0)
        self.hits = self.outside = self.empty_views = 0

    def counted(self, tables: Iterator[NeutrinoEvents]) -> Iterator[NeutrinoEvents]:
        """The same tables, counted."""
        for events in tables:
            for row, name in enumerate(NEUTRINO_LABELS):
                self.labels[name] += int(np.sum(events.label == row))
            if events.truth is not None:
                for row, name in enumerate(NEUTRINO_MODES):
                    self.modes[name] += int(np.sum(events.truth.mode == row))
            self.hits += len(events.charge)
            self.outside += int(events.outside.sum())
            self.empty_views += int(has_empty_view(events).sum())
            yield events

    def tree(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "events": sum(self.labels.values()),
            "labels": self.labels,
            "modes": self.modes,
            "hits": self.hits,
            "hits_outside": self.outside,
            "events_with_empty_view": self.empty_views,
        }


def _cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
