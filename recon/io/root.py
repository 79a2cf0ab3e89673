"""Events and tracks in ROOT files, as TTree or RNTuple; `root_layout` and `root_tracks` list the columns.

Written in small groups of events and read back the same way, so that memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import DataError
from recon.io import root_file, root_table
from recon.io.checks import check_event
from recon.io.root_layout import (
    GEOMETRY,
    HIT_PARTICLE,
    HITS,
    N_FEATURES,
    PARTICLES,
    SCHEMA,
    SCHEMA_VERSION,
    TRUTH,
    UNITS,
    columns_of,
    event_of,
)
from recon.io.root_table import Layout
from recon.io.root_tracks import StoredTracks, read_tracks, tracks_of_event, write_tracks
from recon.types import Detector, Event

__all__ = [
    "StoredTracks",
    "count_events",
    "read_events",
    "read_metadata",
    "read_tracks",
    "tracks_of_event",
    "write_events",
    "write_tracks",
]

TREE = "events"
_COUNTERS = {"hit": "n_hits", "particle": "n_particles"}


def write_events(
    path: str | Path,
    events: Iterable[Event],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
    detector: Detector | None = None,
) -> int:
    """Write events, one entry each; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        events: taken one by one; the first decides which truth the file holds.
        layout: "ttree" or "rntuple".
        metadata: seeds, configuration, versions: anything JSON.
        detector: adds the sensors' identifiers for other programs and the bounds that reading checks against.

    Returns:
        The number of events written.

    Raises:
        DataError: an event that `recon.io.checks.check_event` refuses, or truth in some events only.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    bounds = _bounds(detector)
    written = 0
    with root_file.created(path) as file:
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS, **bounds}
        root_file.put_metadata(file, metadata or {}, own)
        tree = None
        for group in root_table.grouped(events, lambda event: len(event.hit_id)):
            for event in group:
                _check_writable(event, f"{path}, event {event.number}", bounds)
            columns = [columns_of(event, detector) for event in group]
            if tree is None:
                tree = _new_tree(file, layout, columns[0])
                names = set(columns[0])
            _check_same_columns(group, columns, names, path)
            root_table.extend(tree, [event.number for event in group], columns, _COUNTERS)
            written += len(group)
        if tree is None:
            _new_tree(file, layout, HITS)
    return written


def read_events(
    path: str | Path,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    detector: Detector | None = None,
) -> Iterator[Event]:
    """Read events lazily, a small group at a time.

    Args:
        path: a file of `write_events`, either layout.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry; at most the number of entries counts.
        detector: check layers and sensors against it; otherwise against the bounds in the file, if any.

    Yields:
        Unpadded events; `particles` and `truth` are `None` where the file holds none.

    Raises:
        DataError: a file that is missing, truncated, damaged or someone else's; an event that
            `recon.io.checks.check_event` refuses.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        tree = root_table.table(file, path, TREE)
        types = _expected_columns(tree, path)
        bounds = {**_stored_bounds(file, path), **_bounds(detector)}
        start, stop, _ = slice(entry_start, entry_stop).indices(tree.num_entries)
        for step in root_table.steps(tree, path, "n_hits", start, stop):
            for where, number, columns in root_table.read_columns(tree, path, types, step):
                event = event_of(columns, number)
                check_event(event, where, **bounds)
                yield event


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata given to the writer; the entry `recon` holds schema, units and software.

    Raises:
        DataError: a file that is missing, damaged or not written by this package.
    """
    with root_file.opened(Path(path)) as file:
        return root_file.get_metadata(file, Path(path))


def count_events(path: str | Path) -> int:
    """Return the number of events without reading them.

    Raises:
        DataError: a file that is missing, damaged or holds no events.
    """
    with root_file.opened(Path(path)) as file:
        return int(root_table.table(file, Path(path), TREE).num_entries)


def _check_writable(event: Event, where: str, bounds: Mapping[str, int]) -> None:
    check_event(event, where, **bounds)
    if event.hits.features.shape[1] != N_FEATURES:
        given = event.hits.features.shape[1]
        raise DataError(f"{where}: {given} hit features; the file holds size_u, size_v and charge")
    if event.number < 0:
        raise DataError(f"{where}: the event number must not be negative")


def _check_same_columns(
    group: list[Event], columns: list[dict[str, np.ndarray]], names: set[str], path: Path
) -> None:
    for event, given in zip(group, columns, strict=True):
        differing = sorted(names ^ set(given))
        if differing:
            problem = f"columns {differing} are not in all events"
            raise DataError(
                f"{path}, event {event.number}: {problem}; give all events the same truth or none"
            )


def _new_tree(file: Any, layout: Layout, names: Iterable[str]) -> Any:
    declared = {**HITS, **GEOMETRY, **HIT_PARTICLE, **TRUTH, **PARTICLES}
    lists = {name: declared[name] for name in names}
    return root_table.new_table(file, layout, TREE, lists, _COUNTERS)


def _expected_columns(tree: Any, path: Path) -> dict[str, str]:
    """Choose the columns to read: the hits always, each kind of truth whole or not at all."""
    root_table.require_columns(tree, path, [root_table.NUMBER, "n_hits", *HITS])
    wanted = dict(HITS)
    for kind in ({**PARTICLES, **HIT_PARTICLE}, TRUTH):
        if len(root_table.missing_columns(tree, path, kind)) < len(kind):
            root_table.require_columns(tree, path, list(kind))
            wanted |= kind
    return wanted


def _bounds(detector: Detector | None) -> dict[str, int]:
    if detector is None or detector.layer.size == 0:
        return {}
    return {"n_layers": int(detector.layer.max()) + 1, "n_modules": int(detector.layer.size)}


def _stored_bounds(file: Any, path: Path) -> dict[str, int]:
    stored = root_file.own_metadata(file, path, SCHEMA, SCHEMA_VERSION)
    return {name: int(stored[name]) for name in ("n_layers", "n_modules") if name in stored}
