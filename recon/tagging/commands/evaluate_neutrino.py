"""`recon evaluate nova`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, UseAppendAction, arg

from recon.commands import Json, console, progress_bars, write_json
from recon.display.pixel_maps import Picture, plot_events, write_events_page
from recon.errors import ConfigError
from recon.io.root_pixel_maps import count_neutrino_events, read_neutrino_events
from recon.tagging.cvn import DEFAULT, NeutrinoModel, load_model
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import judge_tables, score_events
from recon.tagging.neutrino_report import NetworkResult, neutrino_table, report_json, write_neutrino_report
from recon.tagging.pixel_maps import images_of
from recon.types import NeutrinoEvents

ModelName = Annotated[str, arg(help="a shipped model, or the directory of your own")]

CONFIDENT = 0.9
"""Probability above which an event is in the gallery."""


def evaluate(
    files: Positional[tuple[Path, ...]],
    *,
    model: UseAppendAction[tuple[ModelName, ...]] = (),
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/evaluation-nova"),
    gallery: int = 1,
    reflections: bool = False,
    json: Json = None,
) -> None:
    """Compare classifiers of neutrino events with the truth: accuracy, efficiency and purity, in bins of energy.

    Args:
        files: simulated events.
        model: shipped model, or directory of one of yours; give it several times to see several side by side.
        output: directory of the report (Markdown, JSON, plots, gallery).
        gallery: events of every class that the first model is confident of, to draw.
        reflections: classify every event twice, left and right exchanged, and take the mean; twice the time.
        json: write the report here as JSON, too.
    """
    if not files:
        raise ConfigError("no file was given; make one with `recon simulate neutrino`")
    models = {name: load_model(name) for name in model or (DEFAULT,)}
    named = {found.name if found.name != "model" else name: found for name, found in models.items()}
    count = sum(map(count_neutrino_events, files))
    title = f"{count:,} neutrino events and cosmic rays of {', '.join(file.name for file in files)}"
    write_report(
        output,
        lambda: chain.from_iterable(map(read_neutrino_events, files)),
        named,
        title,
        total=count,
        gallery=gallery,
        reflections=reflections,
        json=json,
    )


def write_report(
    output: Path,
    tables: Callable[[], Iterable[NeutrinoEvents]],
    models: Mapping[str, NeutrinoModel],
    title: str,
    *,
    total: int,
    gallery: int = 1,
    reflections: bool = False,
    json: Path | None = None,
) -> None:
    """Judge networks by events whose classes are known; write, print and draw what comes out.

    Args:
        output: directory of the report (Markdown, JSON, plots, gallery).
        tables: gives the events, once for every network and for the gallery.
        models: by the name that the report calls them.
        title: of the report.
        total: number of events.
        gallery: events of every class that the first model is confident of, to draw.
        reflections: see `recon.tagging.neutrino_evaluation.score_events`.
        json: write the report here as JSON, too.
    """
    results: dict[str, NetworkResult] = {}
    with progress_bars() as report:
        for name, found in models.items():
            results[name] = judge_tables(
                tables(), found, partial(report, name), total=total, reflections=reflections
            )
    numbers, written = write_neutrino_report(output, results, title=title)
    console.print(neutrino_table(results, numbers, title))
    console.print(f"report in {written['report']}")
    if gallery:
        for path in draw_gallery(tables(), next(iter(models.values())), output / "gallery", gallery):
            console.print(f"wrote {path}")
    write_json(json, report_json(results, numbers, title))


def draw_gallery(
    tables: Iterable[NeutrinoEvents], model: NeutrinoModel, target: Path, count: int = 1
) -> list[Path]:
    """Draw events of every class whose probability is above 0.9, both views, as PNG and as a page.

    Args:
        tables: of simulated events; the first two are looked at.
        model: the network.
        target: path without ending.
        count: events of every class.

    Returns:
        The files; none where the network is confident of nothing.
    """
    chosen: dict[int, list[Picture]] = {k: [] for k in range(len(NEUTRINO_LABELS))}
    for events in islice(tables, 2):
        scores = score_events(events, model)
        for k, pictures in chosen.items():
            sure = np.flatnonzero((scores.argmax(1) == k) & (scores[:, k] > CONFIDENT))
            for row in sure[: count - len(pictures)].tolist():
                views = images_of(events, np.array([row]))[0]
                pictures.append(Picture(title_of(events, row), views, scores[row]))
    pictures = [picture for each in chosen.values() for picture in each]
    if not pictures:
        return []
    paths = [target.with_suffix(".png"), target.with_suffix(".html")]
    plot_events(paths[0], pictures, NEUTRINO_LABELS)
    write_events_page(paths[1], pictures, NEUTRINO_LABELS, f"Events with a probability above {CONFIDENT:g}")
    return paths


def title_of(events: NeutrinoEvents, row: int) -> str:
    """What an event is, for above its picture."""
    label = int(events.label[row])
    name = NEUTRINO_LABELS[label] if label >= 0 else "unknown"
    truth = events.truth
    return f"true {name}" + (f", {truth.energy[row]:.1f} GeV" if truth is not None else "")
