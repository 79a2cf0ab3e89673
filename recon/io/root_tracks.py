"""Reconstructed tracks in ROOT files, one entry an event.

`track_*` are jagged with `n_tracks` values. The hits of all tracks follow each other in `trackhit_id`
(`n_trackhits` identifiers of the event's file): those of track t are `trackhit_id[track_first_hit[t] :
track_first_hit[t] + track_n_hits[t]]`, the innermost first. A TTree cannot hold a list of lists in plain
branches; these two columns read the same everywhere. Covariances are the upper triangle, `track_var_d0`,
`track_cov_d0_z0`, ...; NaN where a fit failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt64

from recon.errors import DataError
from recon.io import root_file, root_table
from recon.io.checks import compact_tracks, track_hits
from recon.io.csv_table import find_rows
from recon.io.root_table import Layout
from recon.types import NOISE, Event, Tracks

TREE = "tracks"
SCHEMA, SCHEMA_VERSION = "recon.tracks", 1
UNITS = {"d0, z0": "mm", "phi, theta": "rad", "qoverp": "1/GeV", "pt": "GeV"}

PARAMETERS = ("d0", "z0", "phi", "theta", "qoverp")
_PAIRS = [(i, i) for i in range(5)] + list(combinations(range(5), 2))
_COVARIANCE = [
    f"track_var_{PARAMETERS[i]}" if i == j else f"track_cov_{PARAMETERS[i]}_{PARAMETERS[j]}"
    for i, j in _PAIRS
]
_FLOATS = [*(f"track_{name}" for name in PARAMETERS), *_COVARIANCE, "track_chi2"]
_INTEGERS = ["track_n_hits", "track_first_hit"]
_DERIVED = {"track_pt": "float32", "track_eta": "float32", "track_ndof": "int32"}
_COLUMNS = {**dict.fromkeys(_FLOATS, "float32"), **dict.fromkeys(_INTEGERS, "int32"), "trackhit_id": "uint64"}
_COUNTERS = {"track": "n_tracks", "trackhit": "n_trackhits"}


class StoredTracks(NamedTuple):
    """The tracks of one event as they lie in a file.

    Attributes:
        number: event number.
        parameters: d0 mm, z0 mm, phi rad, theta rad, q/p 1/GeV.
        covariance: of `parameters`.
        chi2: of the fit.
        n_hits: number of hits.
        first_hit: where the hits of a track start in `hit_id`.
        hit_id: identifiers of the hits of all tracks.
    """

    number: int
    parameters: Float32[np.ndarray, "t 5"]
    covariance: Float32[np.ndarray, "t 5 5"]
    chi2: Float32[np.ndarray, " t"]
    n_hits: Int32[np.ndarray, " t"]
    first_hit: Int32[np.ndarray, " t"]
    hit_id: UInt64[np.ndarray, " h"]


def write_tracks(
    path: str | Path,
    items: Iterable[tuple[Event, Tracks]],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
) -> int:
    """Write the valid tracks of every event; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        items: every event with its tracks, which may be padded; taken one by one.
        layout: "ttree" or "rntuple".
        metadata: configuration, model, versions: anything JSON.

    Returns:
        The number of tracks written.

    Raises:
        DataError: tracks that do not belong to their event (`recon.io.checks.compact_tracks`).
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    written = 0
    with root_file.created(path) as file:
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
        root_file.put_metadata(file, metadata or {}, own)
        lists = {**_COLUMNS, **_DERIVED}
        tree = root_table.new_table(file, layout, TREE, lists, _COUNTERS)
        entries = ((event.number, _columns(event, tracks, path)) for event, tracks in items)
        for group in root_table.grouped(entries, lambda entry: len(entry[1]["trackhit_id"])):
            numbers, columns = zip(*group, strict=True)
            root_table.extend(tree, list(numbers), list(columns), _COUNTERS)
            written += sum(len(event["track_d0"]) for event in columns)
    return written


def read_tracks(
    path: str | Path, *, entry_start: int | None = None, entry_stop: int | None = None
) -> Iterator[StoredTracks]:
    """Read the tracks of one event after the other; `tracks_of_event` turns them into `Tracks`.

    Args:
        path: a file of `write_tracks`, either layout.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry.

    Yields:
        The tracks of each event.

    Raises:
        DataError: a file that is missing, truncated, damaged or someone else's.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        tree = root_table.table(file, path, TREE)
        root_file.own_metadata(file, path, SCHEMA, SCHEMA_VERSION)
        root_table.require_columns(tree, path, [root_table.NUMBER, *_COUNTERS.values(), *_COLUMNS])
        start, stop, _ = slice(entry_start, entry_stop).indices(tree.num_entries)
        for step in root_table.steps(tree, path, "n_trackhits", start, stop):
            for where, number, columns in root_table.read_columns(tree, path, _COLUMNS, step):
                yield _stored(columns, number, where)


def tracks_of_event(stored: StoredTracks, event: Event) -> Tracks:
    """Find the hits of stored tracks in their event.

    Args:
        stored: from `read_tracks`.
        event: the same event.

    Returns:
        The tracks, all valid, with `hit_track` for the event's hits.

    Raises:
        DataError: another event, a hit that it does not have, a hit on two tracks.
    """
    where = f"tracks of event {stored.number}"
    if stored.number != event.number:
        raise DataError(f"{where} cannot belong to event {event.number}")
    rows, found = find_rows(stored.hit_id, event.hit_id)
    if not found.all():
        raise DataError(f"{where}: the event has no hit {stored.hit_id[~found][0]}")
    if len(np.unique(rows)) < len(rows):
        raise DataError(f"{where}: a hit lies on two tracks")
    hit_track = np.full(len(event.hit_id), NOISE, np.int32)
    hit_track[rows] = np.repeat(np.arange(len(stored.n_hits), dtype=np.int32), stored.n_hits)
    valid = np.ones(len(stored.n_hits), bool)
    return Tracks(hit_track, stored.parameters, stored.covariance, stored.chi2, stored.n_hits, valid)


def _columns(event: Event, tracks: Tracks, path: Path) -> dict[str, np.ndarray]:
    compact = compact_tracks(event, tracks, f"{path}, event {event.number}")
    parameters, covariance = np.asarray(compact.parameters), np.asarray(compact.covariance)
    n_hits = np.asarray(compact.n_hits)
    theta, q_over_p = parameters[:, 3].astype(np.float64), parameters[:, 4].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a straight track has infinite momentum
        transverse = np.sin(theta) / np.abs(q_over_p)
        eta = -np.log(np.tan(theta / 2))
    rows = np.concatenate([*track_hits(event, compact), np.zeros(0, np.int64)]).astype(np.int64)
    values = [*parameters.T, *(covariance[:, i, j] for i, j in _PAIRS), compact.chi2]
    columns = dict(zip(_FLOATS, values, strict=True))
    columns |= {"track_n_hits": n_hits, "track_first_hit": np.cumsum(n_hits) - n_hits}
    columns |= {"trackhit_id": event.hit_id[rows]}
    columns |= {"track_pt": transverse, "track_eta": eta, "track_ndof": 2 * n_hits - 5}
    declared = {**_COLUMNS, **_DERIVED}
    return {name: np.asarray(array, declared[name]) for name, array in columns.items()}


def _stored(columns: Mapping[str, np.ndarray], number: int, where: str) -> StoredTracks:
    n_hits, first_hit = columns["track_n_hits"], columns["track_first_hit"]
    total = len(columns["trackhit_id"])
    expected = np.cumsum(n_hits, dtype=np.int64) - n_hits
    if (n_hits < 0).any() or not np.array_equal(first_hit, expected) or n_hits.sum() != total:
        raise DataError(
            f"{where}: track_first_hit and track_n_hits do not cover the {total} values of trackhit_id"
        )
    covariance = np.empty((len(n_hits), 5, 5), np.float32)
    for name, (i, j) in zip(_COVARIANCE, _PAIRS, strict=True):
        covariance[:, i, j] = covariance[:, j, i] = columns[name]
    parameters = np.stack([columns[f"track_{name}"] for name in PARAMETERS], axis=1)
    return StoredTracks(
        number, parameters, covariance, columns["track_chi2"], n_hits, first_hit, columns["trackhit_id"]
    )
