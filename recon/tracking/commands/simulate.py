"""`recon simulate tracking`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from recon import __version__
from recon.io.root import write_events
from recon.io.trackml import write_event
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.commands.options import Json, Output, console, is_csv, progress_bars, write_json
from recon.tracking.detector import load_detector
from recon.types import Event


def simulate(
    *,
    output: Output,
    pileup: int = 40,
    pileup_distribution: Literal["fixed", "poisson"] = "fixed",
    events: int = 100,
    first_event: int = 0,
    seed: int = 1,
    pool_seed: int = 1,
    minbias_pool: int = 10_000,
    noise_fraction: float = 0.15,
    pt_min: float = 0.15,
    eta_max: float = 4.0,
    digitisation: Literal["geometric", "smeared"] = "geometric",
    layout: Literal["ttree", "rntuple"] = "ttree",
    workers: int = max(1, min(4, os.cpu_count() or 1)),
    json: Json = None,
) -> None:
    """Simulate t tbar events at 14 TeV with pile-up in the generic detector; writes hits, particles and truth.

    Args:
        output: ROOT file to write; TrackML CSV files with this prefix if it ends in .csv or .csv.gz.
        pileup: collisions beside the hard scatter, or their mean.
        pileup_distribution: whether that number is fixed or the mean of a Poisson distribution.
        events: number of events.
        first_event: number of the first; event N is the same whatever else is simulated.
        seed: of the events.
        pool_seed: of the pile-up collisions; independent samples want independent pools.
        minbias_pool: distinct pile-up collisions to draw from, made once and kept in the cache.
        noise_fraction: noise hits per real hit.
        pt_min: softer particles are not simulated, GeV.
        eta_max: particles outside are not simulated.
        digitisation: cells and clusters, or Gaussian smearing.
        layout: TTree or RNTuple.
        workers: processes.
        json: write settings and totals here.
    """
    config = TrackerSimulation(
        pileup=pileup,
        pileup_distribution=pileup_distribution,
        events=events,
        first_event=first_event,
        seed=seed,
        pool_seed=pool_seed,
        minbias_pool=minbias_pool,
        noise_fraction=noise_fraction,
        pt_min=pt_min,
        eta_max=eta_max,
        digitisation=digitisation,
        workers=min(workers, max(events, 1)),
    )
    totals: dict[str, int] = {"events": 0, "hits": 0, "noise_hits": 0, "particles": 0}

    def counted(source: Iterator[Event]) -> Iterator[Event]:
        for event in source:
            particles = event.particles
            totals["events"] += 1
            totals["hits"] += len(event.hits.layer)
            totals["noise_hits"] += 0 if particles is None else int((particles.hit_particle < 0).sum())
            totals["particles"] += 0 if particles is None else len(particles.charge)
            yield event

    metadata = {"program": f"recon {__version__}", "simulation": asdict(config)}
    with progress_bars() as report:
        stream = counted(simulate_events(config, report))
        if is_csv(output):
            _write_csv(output, stream)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_events(output, stream, layout=layout, metadata=metadata, detector=load_detector())
    console.print(f"{totals['events']} events with {totals['hits']:,} hits in {output}")
    write_json(json, metadata | totals | {"output": str(output)})


def _write_csv(output: Path, events: Iterator[Event]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    name, compress = output.name.partition(".csv")[0], output.suffix == ".gz"
    for event in events:
        prefix = output.with_name(f"{name}{event.number:09d}")
        write_event(prefix, event, load_detector(), compress=compress)
