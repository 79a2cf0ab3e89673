"""Events and answers in the CSV files of the TrackML challenge."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recon.errors import DataError
from recon.io.checks import check_event, compact_tracks
from recon.io.csv_table import write_table
from recon.io.trackml_truth import MOMENTUM, NOISE_ID, TRUTH_MOMENTUM, TRUTH_POSITION, VERTEX
from recon.io.trackml_weights import trackml_weights
from recon.types import NOISE, Detector, Event, Particles, Tracks


def write_event(prefix: str | Path, event: Event, detector: Detector, *, compress: bool = True) -> None:
    """Write hits, cluster features and, where the event has them, truth with weights and particles.

    The cells of a cluster are not kept in an event: their number along u and v and their charge go to
    `<prefix>-features.csv` instead of `-cells.csv`.

    Args:
        prefix: `.../event000000001`.
        event: unpadded; every hit on a known sensor.
        detector: where `Hits.module` points.
        compress: write `.csv.gz`.

    Raises:
        DataError: an event that `check_event` refuses, a hit on no sensor, particle identifier 0.
        ConfigError: missing folder.
    """
    where = f"{prefix}, event {event.number}"
    check_event(event, where, n_modules=len(detector.layer))
    unknown = np.flatnonzero(event.hits.module == NOISE)
    if unknown.size:
        raise DataError(
            f"{where}: hit row {unknown[0]} lies on no known sensor; TrackML needs one for every hit"
        )
    ending = ".csv.gz" if compress else ".csv"
    write_table(Path(f"{prefix}-hits{ending}"), _hit_columns(event, detector))
    sizes = dict(zip(("size_u", "size_v", "charge"), np.asarray(event.hits.features).T, strict=True))
    write_table(Path(f"{prefix}-features{ending}"), {"hit_id": event.hit_id, **sizes})
    if event.particles is not None:
        if (event.particle_id == NOISE_ID).any():
            raise DataError(f"{where}: particle_id {NOISE_ID} means noise in TrackML; renumber the particles")
        write_table(Path(f"{prefix}-particles{ending}"), _particle_columns(event, event.particles))
        write_table(Path(f"{prefix}-truth{ending}"), _truth_columns(event, event.particles))


def write_submission(path: str | Path, event: Event, tracks: Tracks) -> None:
    """Write the challenge's answer for one event; `write_submissions` for several in one file.

    Args:
        path: `.csv` or `.csv.gz`.
        event: where the hits come from.
        tracks: may be padded; only valid tracks count.

    Raises:
        DataError: tracks that do not belong to the event.
        ConfigError: missing folder.
    """
    write_submissions(path, [(event, tracks)])


def write_submissions(path: str | Path, items: Iterable[tuple[Event, Tracks]]) -> int:
    """Write the challenge's answer: event_id, hit_id, track_id of every hit; track_id 0 is no track.

    Args:
        path: `.csv` or `.csv.gz`.
        items: every event with its tracks, which may be padded; only valid tracks count.

    Returns:
        The number of events written.

    Raises:
        DataError: tracks that do not belong to their event.
        ConfigError: missing folder.
    """
    parts = [_submission(event, tracks, f"{path}, event {event.number}") for event, tracks in items]
    names, types = ("event_id", "hit_id", "track_id"), (np.int64, np.uint64, np.int64)
    empty = [np.zeros(0, dtype) for dtype in types]
    write_table(
        Path(path), dict(zip(names, map(np.concatenate, zip(empty, *parts, strict=True)), strict=True))
    )
    return len(parts)


def _submission(event: Event, tracks: Tracks, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    track = np.asarray(compact_tracks(event, tracks, where).hit_track).astype(np.int64)
    number = np.full(len(event.hit_id), event.number, np.int64)
    return number, event.hit_id, track + 1  # NOISE becomes 0


def _hit_columns(event: Event, detector: Detector) -> dict[str, np.ndarray]:
    x, y, z = np.asarray(event.hits.position).T
    module = np.asarray(event.hits.module)
    return {
        "hit_id": event.hit_id,
        "x": x,
        "y": y,
        "z": z,
        "volume_id": detector.volume_id[module],
        "layer_id": detector.layer_id[module],
        "module_id": detector.module_id[module],
    }


def _particle_columns(event: Event, particles: Particles) -> dict[str, np.ndarray]:
    owner = np.asarray(particles.hit_particle)
    return {
        "particle_id": event.particle_id,
        "particle_type": np.asarray(particles.pdg),
        **dict(zip(VERTEX, np.asarray(particles.vertex).T, strict=True)),
        **dict(zip(MOMENTUM, np.asarray(particles.momentum).T, strict=True)),
        "q": np.asarray(particles.charge),
        "nhits": np.bincount(owner[owner != NOISE], minlength=len(event.particle_id)),
        "primary": np.asarray(particles.primary).astype(np.int32),
    }


def _truth_columns(event: Event, particles: Particles) -> dict[str, np.ndarray]:
    """True crossings, or the measured positions and zero momenta where the event does not hold them."""
    owner = np.asarray(particles.hit_particle)
    particle_id = np.full(len(owner), NOISE_ID, np.uint64)
    particle_id[owner != NOISE] = event.particle_id[owner[owner != NOISE]]
    position, momentum = np.asarray(event.hits.position), np.zeros((len(owner), 3), np.float32)
    if event.truth is not None:
        known = owner[:, None] != NOISE
        position = np.where(known, event.truth.position, position)
        momentum = np.where(known, event.truth.momentum, momentum)
    return {
        "hit_id": event.hit_id,
        "particle_id": particle_id,
        **dict(zip(TRUTH_POSITION, position.T, strict=True)),
        **dict(zip(TRUTH_MOMENTUM, momentum.T, strict=True)),
        "weight": trackml_weights(event),
    }
