"""What the commands of the tracking task share: models and input files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from recon.commands import Json, Output, Report, console, is_csv, progress_bars, write_json
from recon.io.root import count_events, read_events
from recon.io.trackml import read_event
from recon.tracking.detector import load_detector
from recon.types import Event

__all__ = [
    "Json",
    "ModelName",
    "Output",
    "Report",
    "console",
    "count",
    "is_csv",
    "progress_bars",
    "read",
    "write_json",
]

ModelName = Annotated[str, arg(help="a shipped model or the directory of your own")]


def count(path: Path) -> int:
    """Number of events in a ROOT file, or 1 for a TrackML hits file."""
    return 1 if is_csv(path) else count_events(path)


def read(path: Path, *, limit: int | None = None) -> Iterator[Event]:
    """Events of a ROOT file, or the one of a TrackML hits file."""
    if is_csv(path):
        yield read_event(path, load_detector())
        return
    yield from read_events(path, entry_stop=limit)
