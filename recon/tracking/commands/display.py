"""`recon display tracking`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recon.display.event import write_event_png
from recon.display.event_html import write_event_html
from recon.errors import DataError
from recon.tracking.commands.options import ModelName, console, count, read
from recon.tracking.matching import from_tracks
from recon.tracking.pipeline import find_tracks
from recon.tracking.scene import track_scene
from recon.tracking.shipped import DEFAULT, TrackingModel, load_model
from recon.types import Event, Tracks


def display(
    file: Positional[Path],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/display"),
    entry: int = 0,
    model: ModelName = DEFAULT,
) -> None:
    """Find the tracks of one event and draw it as PNG and as a page to turn in 3D.

    Args:
        file: ROOT file of hits, or the hits file of a TrackML event.
        output: path of the pictures without their endings.
        entry: place of the event in the file, from 0.
        model: a shipped model or the directory of your own.
    """
    events = list(islice(read(file), entry, entry + 1)) if entry >= 0 else []
    if not events:
        raise DataError(f"{file} has no entry {entry}; it has {count(file)}, counted from 0")
    finder = load_model(model)
    for path in draw(events[0], find_tracks(events[0], finder), finder, output):
        console.print(f"wrote {path}")


def draw(event: Event, tracks: Tracks, model: TrackingModel, output: Path) -> tuple[Path, Path]:
    """Draw an event with the tracks that a model found; returns the two files."""
    scene = track_scene(
        event, from_tracks(tracks), tracks.parameters, chi2=tracks.chi2, detector=model.detector
    )
    png, html = (output.with_name(output.name + ending) for ending in (".png", ".html"))
    write_event_png(png, scene)
    write_event_html(html, scene)
    return png, html
