"""Tracks in the columns of the `CsvTrackWriter` of the ACTS examples.

The writer of ACTS keeps pT, eta and phi only; the columns `PARAMETERS` after its own hold what it lacks, so
that a file of this package brings the parameters back. `Hits_ID` holds identifiers of the hits; those of ACTS
are numbers of measurements, which are the hit identifiers of an event simulated with it.
Columns: ACTS, Examples/Io/Csv/src/CsvTrackWriter.cpp.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file
from recon.io.checks import compact_tracks, track_hits
from recon.io.csv_table import find_rows
from recon.types import NOISE, Event, Tracks

COLUMNS = (
    "track_id",
    "seed_id",
    "particleId",
    "nStates",
    "nMajorityHits",
    "nMeasurements",
    "nOutliers",
    "nHoles",
    "nSharedHits",
    "chi2",
    "ndf",
    "chi2/ndf",
    "pT",
    "eta",
    "phi",
    "truthMatchProbability",
    "good/duplicate/fake",
    "Hits_ID",
)
PARAMETERS = ("d0", "z0", "theta", "qOverP")
_NEEDED = ("chi2", "pT", "eta", "phi", "Hits_ID")


def write_tracks_acts_csv(
    path: str | Path, event: Event, tracks: Tracks, *, truth_match_probability: float = 0.5
) -> None:
    """Write one event's tracks.

    Args:
        path: `.csv`.
        event: where the hits come from; without particles every track is a fake of particle 0.
        tracks: may be padded; only valid tracks are written, numbered from 0.
        truth_match_probability: share of the hits that the majority particle must own for a track not to be
            "fake"; of several such tracks of a particle the one with most of its hits, then the lowest chi2,
            is "good".

    Raises:
        DataError: tracks that do not belong to the event.
        ConfigError: missing folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    compact = compact_tracks(event, tracks, str(path))
    members = track_hits(event, compact)
    majority, n_majority = _majorities(event, members)
    kinds = _kinds(majority, n_majority, compact, truth_match_probability)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *PARAMETERS])
    for track, hits in enumerate(members):
        particle = int(event.particle_id[majority[track]]) if majority[track] != NOISE else 0
        fit = _fit_cells(compact, track)
        counts = [
            len(hits),
            0,
            0,
            0,
        ]  # measurements, outliers, holes, shared hits: a hit lies on one track at most
        identifiers = "[" + "".join(f"{int(hit)}," for hit in event.hit_id[hits]) + "]"
        share = n_majority[track] / max(len(hits), 1)
        row = [
            track,
            0,
            particle,
            len(hits),
            n_majority[track],
            *counts,
            *fit[:6],
            share,
            kinds[track],
            identifiers,
        ]
        writer.writerow([*row, *fit[6:]])
    replace_file(path, text.getvalue().encode())


def read_tracks_acts_csv(path: str | Path, event: Event) -> Tracks:
    """Read one event's tracks.

    Args:
        path: a file of `write_tracks_acts_csv` or of ACTS.
        event: to find the hits in.

    Returns:
        One track a line. What the file lacks is NaN: the covariance always; d0, z0 and q/p in a file of ACTS,
        which does not keep the charge.

    Raises:
        DataError: naming file, line and column: a missing column, a cell that is no number, a hit that the
            event does not have or that lies on two tracks.
    """
    path = Path(path)
    lines = _read_lines(path)
    hit_track = np.full(len(event.hit_id), NOISE, np.int32)
    parameters = np.full((len(lines), 5), np.nan, np.float32)
    chi2 = np.zeros(len(lines), np.float32)
    for track, (number, cells) in enumerate(lines):
        where = f"{path}, line {number}"
        rows = _hit_rows(cells["Hits_ID"], event, where)
        taken = rows[hit_track[rows] != NOISE]
        if taken.size or len(np.unique(rows)) < len(rows):
            raise DataError(f"{where}, column Hits_ID: a hit lies on two tracks or twice on this one")
        hit_track[rows] = track
        parameters[track] = _parameters(cells, where)
        chi2[track] = _number(cells, "chi2", where)
    return Tracks(
        hit_track=hit_track,
        parameters=parameters,
        covariance=np.full((len(lines), 5, 5), np.nan, np.float32),
        chi2=chi2,
        n_hits=np.bincount(hit_track[hit_track != NOISE], minlength=len(lines)).astype(np.int32),
        valid=np.ones(len(lines), bool),
    )


def _majorities(event: Event, members: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Find the particle with the most hits on every track (`NOISE` for none), and how many they are."""
    majority = np.full(len(members), NOISE, np.int64)
    n_majority = np.zeros(len(members), np.int64)
    if event.particles is not None:
        owner = np.asarray(event.particles.hit_particle)
        for track, hits in enumerate(members):
            owners, counts = np.unique(owner[hits][owner[hits] != NOISE], return_counts=True)
            if owners.size:
                majority[track] = owners[counts.argmax()]
                n_majority[track] = counts.max()
    return majority, n_majority


def _kinds(majority: np.ndarray, n_majority: np.ndarray, tracks: Tracks, least: float) -> list[str]:
    share = n_majority / np.maximum(np.asarray(tracks.n_hits), 1)
    kinds = np.where((majority != NOISE) & (share >= least), "duplicate", "fake")
    best_first = np.lexsort((np.asarray(tracks.chi2), -n_majority, majority))
    matched = best_first[kinds[best_first] == "duplicate"]
    _, first = np.unique(majority[matched], return_index=True)
    kinds[matched[first]] = "good"
    return kinds.tolist()


def _fit_cells(tracks: Tracks, track: int) -> list[float | int]:
    d0, z0, phi, theta, q_over_p = (float(value) for value in np.asarray(tracks.parameters)[track])
    chi2, ndf = float(np.asarray(tracks.chi2)[track]), 2 * int(np.asarray(tracks.n_hits)[track]) - 5
    transverse = math.sin(theta) / abs(q_over_p) if q_over_p else math.inf
    eta = -math.log(math.tan(theta / 2)) if 0 < theta < math.pi else math.nan
    return [chi2, ndf, chi2 / ndf if ndf > 0 else math.nan, transverse, eta, phi, d0, z0, theta, q_over_p]


def _read_lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open(newline="") as stream:
        reader = csv.reader(stream)
        try:
            header = next(reader, [])
            missing = [name for name in _NEEDED if name not in header]
            if missing:
                raise DataError(f"{path}, line 1: columns {missing} are missing; found {header}")
            lines = []
            for cells in reader:
                if len(cells) != len(header):
                    given = f"{len(cells)} cells where the header has {len(header)} columns"
                    raise DataError(f"{path}, line {reader.line_num}: {given}")
                lines.append((reader.line_num, dict(zip(header, cells, strict=True))))
        except (csv.Error, UnicodeDecodeError) as problem:
            raise DataError(f"{path}, line {reader.line_num}: {problem}") from problem
    return lines


def _hit_rows(cell: str, event: Event, where: str) -> np.ndarray:
    try:
        ids = np.array([int(text) for text in cell.strip("[] ").split(",") if text.strip()], np.uint64)
    except (ValueError, OverflowError) as problem:
        raise DataError(
            f"{where}, column Hits_ID: '{cell}' is no list of identifiers like [1,2,]"
        ) from problem
    rows, found = find_rows(ids, event.hit_id)
    if not found.all():
        raise DataError(f"{where}, column Hits_ID: event {event.number} has no hit {ids[~found][0]}")
    return rows


def _parameters(cells: dict[str, str], where: str) -> list[float]:
    phi = _number(cells, "phi", where)
    if all(name in cells for name in PARAMETERS):
        d0, z0, theta, q_over_p = (_number(cells, name, where) for name in PARAMETERS)
        return [d0, z0, phi, theta, q_over_p]
    theta = 2 * math.atan(math.exp(-_number(cells, "eta", where)))
    return [math.nan, math.nan, phi, theta, math.nan]


def _number(cells: dict[str, str], column: str, where: str) -> float:
    try:
        return float(cells[column])
    except ValueError as problem:
        raise DataError(f"{where}, column {column}: '{cells[column]}' is not a number") from problem
