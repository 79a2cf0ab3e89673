"""`recon reconstruct tracking`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tyro.conf import Positional

from recon.io.root import write_tracks
from recon.io.trackml import write_submissions
from recon.tracking.commands.options import (
    Json,
    ModelName,
    Output,
    console,
    count,
    is_csv,
    progress_bars,
    read,
    write_json,
)
from recon.tracking.pipeline import find_tracks
from recon.tracking.shipped import DEFAULT, load_model
from recon.types import Event, Tracks


def reconstruct(
    file: Positional[Path],
    *,
    output: Output,
    model: ModelName = DEFAULT,
    json: Json = None,
) -> None:
    """Find and fit the tracks of every event in a file.

    Args:
        file: ROOT file of hits, or the hits file of a TrackML event (.csv or .csv.gz).
        output: ROOT file of tracks; a TrackML submission if it ends in .csv.
        model: a shipped model or the directory of your own.
        json: write the number of tracks of every event here.
    """
    finder = load_model(model)
    total = count(file)
    found: list[int] = []
    with progress_bars() as report:

        def tracks() -> Iterator[tuple[Event, Tracks]]:
            for event in read(file):
                result = find_tracks(event, finder)
                found.append(len(result.valid))
                report("events", len(found), total)
                yield event, result

        output.parent.mkdir(parents=True, exist_ok=True)
        if is_csv(output):
            write_submissions(output, tracks())
        else:
            write_tracks(output, tracks())
    console.print(f"{sum(found):,} tracks in {len(found)} events of {file} written to {output}")
    write_json(json, {"events": len(found), "tracks": found, "model": str(model), "output": str(output)})
