"""`recon demo nova`: a neutrino event, its picture and what it is, asked of a server with two models."""

from __future__ import annotations

import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from recon.commands import Json, console, progress_bars, write_json
from recon.display.pixel_maps import Picture, plot_events, write_events_page
from recon.io.root_pixel_maps import read_neutrino_events
from recon.report import console_table
from recon.server_process import served_models
from recon.tagging.commands.evaluate_neutrino import title_of
from recon.tagging.cvn import DEFAULT, load_model
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import score_events
from recon.tagging.neutrino_remote import MODEL, classify_remotely, export_neutrino_model
from recon.tagging.pixel_maps import images_of
from recon.tagging.two_part_engine import connect_parts
from recon.types import NeutrinoEvents

SAMPLE = Path(__file__).parents[2] / "data" / "neutrinos.root"
"""Simulated events that ship with the package, for installations without the `sim` extra."""
PATIENCE_S = 120.0


def demo(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/demo/nova"),
    events: int = 5,
    seed: int = 4,
    model: str = DEFAULT,
    json: Json = None,
) -> None:
    """Simulate neutrino events, ask a server in a second process what they are, and draw them.

    The server holds the network as two models, featurizer and classifier.

    Args:
        output: directory of the models and the pictures.
        events: number of events, one of each class in turn.
        seed: of the simulation.
        model: shipped, or the directory of your own.
        json: write the probabilities here.
    """
    begin = time.monotonic()
    sample, network = _events(events, seed), load_model(model)
    export_neutrino_model(output / "models", network, batches=(8,), overwrite=True)
    with (
        served_models(output / "models") as url,
        closing(connect_parts(url, model=MODEL, timeout=PATIENCE_S)) as engine,
    ):
        answers = classify_remotely([sample], engine, batch=8)
        scores = np.concatenate([there for _, there in answers])
    here = score_events(sample, network)
    difference = float(np.abs(scores - here).max(initial=0.0))
    titles = [title_of(sample, row) for row in range(len(scores))]
    rows = [(title, [f"{p:.3f}" for p in scores[row]]) for row, title in enumerate(titles)]
    console.print(
        console_table(NEUTRINO_LABELS, rows, "Probabilities, by featurizer and classifier on a server")
    )
    images = images_of(sample, np.arange(len(scores)))
    pictures = [Picture(*each) for each in zip(titles, images, scores, strict=True)]
    plot_events(output / "events.png", pictures, NEUTRINO_LABELS)
    write_events_page(output / "events.html", pictures, NEUTRINO_LABELS, "Neutrino events")
    for name in ("events.png", "events.html"):
        console.print(f"wrote {output / name}")
    console.print(f"largest difference from the network in this process: {difference:.1e}")
    found = [dict(zip(NEUTRINO_LABELS, map(float, row), strict=True)) for row in scores]
    write_json(json, {"events": titles, "probabilities": found, "largest_difference": difference})
    console.print(f"from neutrinos to classes in {time.monotonic() - begin:.0f} s")


def _events(count: int, seed: int) -> NeutrinoEvents:
    if find_spec("numba") is None:
        console.print(f"the sim extra is not installed: reading {SAMPLE.name}, which ships with the package")
        return next(read_neutrino_events(SAMPLE, entry_stop=count))
    from recon.sim.neutrino import NeutrinoSimulation, simulate_neutrinos  # noqa: PLC0415  the sim extra is optional

    with progress_bars() as report:
        simulation = NeutrinoSimulation(events=count, seed=seed, chunk_events=min(50, max(count, 5)))
        return next(simulate_neutrinos(simulation, report))
