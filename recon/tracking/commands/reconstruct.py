"""`recon reconstruct tracking`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tyro.conf import Positional

from recon.commands import HERE, Remote
from recon.engines import Engine, connect
from recon.errors import ConfigError
from recon.io.root import write_tracks
from recon.io.trackml import write_submissions
from recon.pipeline import Job
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
from recon.tracking.detector import load_detector
from recon.tracking.pipeline import find_tracks
from recon.tracking.remote import MODEL, TrackFinder
from recon.tracking.shipped import DEFAULT, load_model
from recon.types import Event, Tracks


def reconstruct(
    file: Positional[Path],
    *,
    output: Output,
    model: ModelName = DEFAULT,
    remote: Remote = HERE,
    json: Json = None,
) -> None:
    """Find and fit the tracks of every event in a file.

    Args:
        file: ROOT file of hits, or the hits file of a TrackML event (.csv or .csv.gz).
        output: ROOT file of tracks; a TrackML submission if it ends in .csv.
        model: a shipped model or the directory of your own; with --server the name of the served one is "tracking".
        remote: finds the tracks in the place of this process.
        json: write the number of tracks of every event here.
    """
    total = count(file)
    found: list[int] = []
    settings = remote.settings()
    with progress_bars() as report, ExitStack() as stack:
        if remote.server is None:
            events = _here(file, model)
        else:
            if model != DEFAULT:
                raise ConfigError(f"--model {model} goes without --server: the server has its own")
            engine = stack.enter_context(closing(connect(remote.server, model=MODEL, **settings)))
            events = stack.enter_context(closing(_there(file, engine, remote.streams)))

        def tracks() -> Iterator[tuple[Event, Tracks]]:
            for event, result in events:
                found.append(len(result.valid))
                report("events", len(found), total)
                yield event, result

        output.parent.mkdir(parents=True, exist_ok=True)
        if is_csv(output):
            write_submissions(output, tracks())
        else:
            write_tracks(output, tracks())
    console.print(f"{sum(found):,} tracks in {len(found)} events of {file} written to {output}")
    source = {"server": remote.server} if remote.server else {"model": str(model)}
    write_json(json, {"events": len(found), "tracks": found, **source, "output": str(output)})


def _here(file: Path, model: str) -> Iterator[tuple[Event, Tracks]]:
    """Events and their tracks, one after the other in this process."""
    finder = load_model(model)
    for event in read(file):
        yield event, find_tracks(event, finder)


def _there(file: Path, engine: Engine, streams: int) -> Generator[tuple[Event, Tracks], None, None]:
    """Events and their tracks from an engine, several on their way at once."""
    job = Job(read(file), {"tracks": TrackFinder(engine, load_detector())}, streams=streams)
    with closing(job.results()) as results:
        for event, products in results:
            yield event, products["tracks"]
