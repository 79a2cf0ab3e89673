"""`recon simulate hgcal`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

from recon import __version__
from recon.commands import Json, Output, console, progress_bars, write_json
from recon.hgcal_clustering.geometry import EndcapGeometry, calorimeter_path, load_calorimeter
from recon.io.root_rechits import write_rechits
from recon.sim.calorimeter import DESCRIPTION, CalorimeterSimulation, pileup_source, simulate_calorimeter
from recon.types import CalorimeterEvent


def simulate(
    *,
    output: Output,
    particles: str = "photon,pion",
    n_particles: int = 20,
    energy_min: float = 20.0,
    energy_max: float = 200.0,
    eta_min: float = 1.6,
    eta_max: float = 2.9,
    pileup: int = 0,
    pileup_source: Literal["pythia", "hagedorn", "auto"] = "auto",
    events: int = 100,
    first_event: int = 0,
    seed: int = 1,
    pool_seed: int = 1,
    minbias_pool: int = 10_000,
    geometry: Literal["v16", "v10"] = "v16",
    endcaps: Literal["positive", "both"] = "positive",
    noise: bool = True,
    threshold: float = 3.0,
    layout: Literal["ttree", "rntuple"] = "ttree",
    workers: int = max(1, min(4, os.cpu_count() or 1)),
    json: Json = None,
) -> None:
    """Simulate hits of an HGCAL endcap, with times and truth. Showers are a parametrisation tuned to Geant4.

    Args:
        output: ROOT file to write.
        particles: of the hard scatter: photon, electron, muon, pion, kaon, neutron, with commas; or ttbar, none.
        n_particles: single particles in an event.
        energy_min: of the single particles, GeV; the same as energy-max for a fixed energy.
        energy_max: of the single particles, GeV.
        eta_min: of the single particles.
        eta_max: of the single particles.
        pileup: simultaneous collisions.
        pileup_source: Pythia, independent particles with Hagedorn's spectrum, or Pythia where it is installed.
        events: number of events.
        first_event: number of the first; event N is the same whatever else is simulated.
        seed: of the events.
        pool_seed: of the pile-up collisions; independent samples want independent pools.
        minbias_pool: distinct pile-up collisions to draw from, made once and kept in the cache.
        geometry: 47 layers (V16, V17) or 50 (V10).
        endcaps: the one at z > 0, or both.
        noise: electronic noise.
        threshold: of the zero suppression, in standard deviations of the noise.
        layout: TTree or RNTuple.
        workers: processes.
        json: write settings and totals here.
    """
    config = CalorimeterSimulation(
        geometry=geometry,
        endcaps=endcaps,
        particles=particles,
        n_particles=n_particles,
        energy_min=energy_min,
        energy_max=energy_max,
        eta_min=eta_min,
        eta_max=eta_max,
        pileup=pileup,
        pileup_source=pileup_source,
        events=events,
        first_event=first_event,
        seed=seed,
        noise=noise,
        threshold=threshold,
        minbias_pool=minbias_pool,
        pool_seed=pool_seed,
        workers=min(workers, max(events, 1)),
    )
    console.print(f"a parametrisation: {DESCRIPTION}")
    n_cells, n_layers = _prepare_cells(EndcapGeometry(name=geometry))
    totals: dict[str, int | float] = {"events": 0, "hits": 0, "energy": 0.0, "particles": 0}
    metadata = {"program": f"recon {__version__}", **_describe(config)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with progress_bars() as report:
        stream = _counted(simulate_calorimeter(config, report), totals)
        write_rechits(output, stream, layout=layout, metadata=metadata, n_layers=n_layers, n_cells=n_cells)
    tev = totals["energy"] / 1e3
    console.print(f"{totals['events']} events with {totals['hits']:,} hits, {tev:,.2f} TeV, in {output}")
    write_json(json, metadata | totals | {"output": str(output)})


def _describe(config: CalorimeterSimulation) -> dict[str, object]:
    settings = asdict(config) | {"pileup_source": pileup_source(config)}
    return {"simulation": settings, "method": DESCRIPTION}


def _prepare_cells(geometry: EndcapGeometry) -> tuple[int, int]:
    """Make the table of cells where the cache lacks it; return the numbers of cells and layers."""
    path, begin = calorimeter_path(geometry), time.perf_counter()
    missing = not path.exists()
    calorimeter = load_calorimeter(geometry)
    if missing and path.exists():
        took, size = time.perf_counter() - begin, path.stat().st_size / 1e6
        console.print(f"{len(calorimeter.layer):,} cells made in {took:.1f} s, {size:.0f} MB in {path}")
    return len(calorimeter.layer), len(calorimeter.layer_z)


def _counted(
    source: Iterator[CalorimeterEvent], totals: dict[str, int | float]
) -> Iterator[CalorimeterEvent]:
    for event in source:
        totals["events"] += 1
        totals["hits"] += len(event.hits.energy)
        totals["energy"] += float(event.hits.energy.sum())
        totals["particles"] += 0 if event.truth is None else len(event.truth.pdg)
        yield event
