"""`recon demo tracking`: from collisions to tracks on the screen in a few minutes."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon.io.root import read_events, write_tracks
from recon.tracking.checks import padded_length
from recon.tracking.commands.display import draw
from recon.tracking.commands.evaluate import compare
from recon.tracking.commands.options import Json, console, progress_bars, write_json
from recon.tracking.commands.served import served_difference
from recon.tracking.metrics import CandidateSelection, TargetSelection
from recon.tracking.pipeline import find_tracks
from recon.tracking.report import summary_table, to_json, write_report
from recon.tracking.shipped import load_model
from recon.types import Event

SAMPLE = Path(__file__).parents[2] / "data" / "ttbar_pu40.root"
"""A simulated sample that ships with the package, for installations without the `sim` extra."""


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/demo"),
    events: int = 5,
    pileup: int = 40,
    seed: int = 11,
    json: Json = None,
) -> None:
    """Simulate events, find their tracks, compare with ACTS and draw one of them.

    Args:
        output: directory of the report, the tracks and the pictures.
        events: number of events.
        pileup: collisions beside the hard scatter.
        seed: of the simulation.
        json: write the report here as JSON, too.
    """
    begin = time.monotonic()
    with_acts = all(find_spec(package) for package in ("acts", "pythia8mc"))
    sample = _simulate(events, pileup, seed) if with_acts else list(read_events(SAMPLE, entry_stop=events))
    if not with_acts:
        console.print(f"the sim extra is not installed: reading {SAMPLE.name}, which ships with the package")
    points = ("default", "tuned") if with_acts else ()
    title = f"Track finding in {len(sample)} t tbar events with {pileup} pile-up collisions"
    model = load_model()
    # One length for all: compiling for each would take longer than everything else.
    length = padded_length(event.hits for event in sample)
    results = compare(sample, model, points, TargetSelection(), length=length)
    written = write_report(output, results, title=title)
    console.print(summary_table(results, title))
    found = [find_tracks(event, model, length=length) for event in sample]
    write_tracks(output / "tracks.root", zip(sample, found, strict=True))
    pictures = draw(sample[0], found[0], model, output / "event")
    for path in (written["report"], output / "tracks.root", *pictures):
        console.print(f"wrote {path}")
    segments, difference = served_difference(sample[0], model, output / "models", length)
    console.print(
        f"a server in a second process scored {segments:,} segments: largest difference {difference:.1e} from the "
        "scores here"
    )
    write_json(
        json, to_json(results, title=title, selection=TargetSelection(), candidates=CandidateSelection())
    )
    console.print(f"from collisions to tracks in {time.monotonic() - begin:.0f} s")


def _simulate(events: int, pileup: int, seed: int) -> list[Event]:
    from recon.sim.tracker import TrackerSimulation, simulate_events  # noqa: PLC0415  the sim extra is optional

    config = TrackerSimulation(
        pileup=pileup,
        events=events,
        seed=seed,
        pool_seed=seed,
        # A small pool is quick to make; with so few events no collision is met twice in one of them.
        minbias_pool=1000,
        workers=min(events, os.cpu_count() or 1),
    )
    with progress_bars() as report:
        return list(simulate_events(config, report))
