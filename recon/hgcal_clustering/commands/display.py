"""`recon display hgcal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recon.commands import Report, console, progress_bars
from recon.display.shower import write_shower_png
from recon.display.shower_html import write_shower_html
from recon.errors import DataError
from recon.hgcal_clustering.commands.options import (
    Algorithm,
    GeometryChoice,
    Settings,
    cells_of,
    open_source,
    settings_of,
)
from recon.hgcal_clustering.pipeline import Showers, find_showers
from recon.hgcal_clustering.scene import shower_scene
from recon.types import CalorimeterEvent


def display(
    file: Positional[Path],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/display-hgcal"),
    entry: int = 0,
    algorithm: Algorithm = "clue3d",
    settings: Settings = None,
    geometry: GeometryChoice = "auto",
) -> None:
    """Find the showers of one event and draw them as PNG and as a page to turn in 3D, beside the true particles.

    Args:
        file: ROOT file of hits, ours or NanoAOD-like.
        output: path of the pictures without their endings.
        entry: place of the event in the file, from 0.
        algorithm: what to find showers with.
        settings: file of settings.
        geometry: of the hits.
    """
    source = open_source(file, geometry)
    events = list(source.events(start=entry, stop=entry + 1)) if entry >= 0 else []
    if not events:
        raise DataError(f"{file} has no entry {entry}; it has {source.file.n_events}, counted from 0")
    config = settings_of(algorithm, settings, source.geometry)
    with progress_bars() as report:
        cells = cells_of(source, config, report)
        report("showers", 0, 1)
        showers = find_showers(events[0], config, cells=cells)
        report("showers", 1, 1)
        written = draw(events[0], showers, output, report)
    for path in written:
        console.print(f"wrote {path}")


def draw(event: CalorimeterEvent, showers: Showers, output: Path, report: Report) -> tuple[Path, Path]:
    """Draw an event with the showers that were found; returns the two files."""
    report("pictures", 0, 2)
    scene = shower_scene(event, showers.hit_trackster, showers.tracksters)
    png, html = (output.with_name(output.name + ending) for ending in (".png", ".html"))
    write_shower_png(png, scene)
    report("pictures", 1, 2)
    write_shower_html(html, scene)
    report("pictures", 2, 2)
    return png, html
