"""Events from the CSV files of the TrackML challenge."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt64

from recon.errors import DataError
from recon.io.checks import check_event
from recon.io.csv_table import (
    Table,
    find_rows,
    read_table,
    refuse_lines,
    require_finite,
    require_unique,
    rows_of,
)
from recon.io.sensors import EDGE_TOLERANCE, PLANE_TOLERANCE, locate
from recon.io.trackml_truth import read_truth
from recon.types import NOISE, Detector, Event, Hits

HITS = {
    "hit_id": "u8",
    "x": "f8",
    "y": "f8",
    "z": "f8",
    "volume_id": "i4",
    "layer_id": "i4",
    "module_id": "i4",
}
CELLS = {"hit_id": "u8", "ch0": "i8", "ch1": "i8", "value": "f8"}
FEATURES = {"hit_id": "u8", "size_u": "f8", "size_v": "f8", "charge": "f8"}

PITCH = {
    **dict.fromkeys((7, 8, 9), (0.05, 0.05625)),
    **dict.fromkeys((12, 13, 14), (0.08, 1.2)),
    **dict.fromkeys((16, 18), (0.12, 10.4)),
    17: (0.12, 10.8),
}
"""Cell size along u and v in mm by volume, from the challenge's detectors.csv."""


def read_event(prefix_or_hits_path: str | Path, detector: Detector) -> Event:
    """Read one event.

    Args:
        prefix_or_hits_path: `.../event000000001`, or the path of its hits file; the other files lie beside
            it. Cells (or the features file of `write_event`) are optional: cluster sizes and charge are 0
            without. Truth and particles are optional together.
        detector: the sensors to find the hits on.

    Returns:
        The event: `variance` is pitch^2 / 12; `order` counts along the distance from the production vertex;
        `primary` is read from the particle's identifier unless the file has a column `primary`.

    Raises:
        DataError: naming file, line and column: missing columns, cells that are no numbers, NaN, identifiers
            that occur twice or do not exist, a volume and layer the detector has not, a hit on none of the
            layer's sensors.
    """
    prefix = _prefix(Path(prefix_or_hits_path))
    table = read_table(_required_part(prefix, "hits"), HITS)
    require_finite(table, "x", "y", "z")
    require_unique(table, "hit_id")
    hits = _hits(table, detector, _features(prefix, table))
    number = _event_number(prefix)
    truth_path, particles_path = _part(prefix, "truth"), _part(prefix, "particles")
    if truth_path is None and particles_path is None:
        return Event(number, hits, None, None, table["hit_id"], np.zeros(0, np.uint64))
    if truth_path is None or particles_path is None:
        lacking = "truth" if truth_path is None else "particles"
        raise DataError(f"{prefix}-{lacking}.csv: no such file, but its companion exists; give both or none")
    particles, truth, particle_id = read_truth(truth_path, particles_path, table)
    event = Event(number, hits, particles, truth, table["hit_id"], particle_id)
    check_event(event, str(prefix))
    return event


def read_weights(
    prefix_or_hits_path: str | Path, hit_id: UInt64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Read the column `weight` of the truth file.

    Args:
        prefix_or_hits_path: as in `read_event`.
        hit_id: the hits to return the weights of, for instance `Event.hit_id`.

    Returns:
        Weight of every hit, 0 for noise.

    Raises:
        DataError: no truth file, no such column, NaN, a hit without truth.
    """
    prefix = _prefix(Path(prefix_or_hits_path))
    table = read_table(_required_part(prefix, "truth"), {"hit_id": "u8", "weight": "f8"})
    require_finite(table, "weight")
    require_unique(table, "hit_id")
    hits = Table(path=table.path, columns={"hit_id": hit_id})
    return table["weight"][rows_of(hits, "hit_id", table["hit_id"], str(table.path))]


def _prefix(path: Path) -> Path:
    """Strip `-hits.csv` or `-hits.csv.gz`."""
    return path.with_name(re.sub(r"-hits\.csv(\.gz)?$", "", path.name))


def _part(prefix: Path, part: str) -> Path | None:
    for ending in (".csv", ".csv.gz"):
        path = prefix.with_name(f"{prefix.name}-{part}{ending}")
        if path.is_file():
            return path
    return None


def _required_part(prefix: Path, part: str) -> Path:
    path = _part(prefix, part)
    if path is None:
        raise DataError(f"{prefix}-{part}.csv: no such file, nor with .gz")
    return path


def _event_number(prefix: Path) -> int:
    digits = re.search(r"(\d+)$", prefix.name)
    if digits is None:
        raise DataError(f"{prefix}: the name must end with the event number, like event000000001")
    return int(digits.group(1))


def _hits(table: Table, detector: Detector, features: np.ndarray) -> Hits:
    position = np.stack([table["x"], table["y"], table["z"]], axis=1)
    layer = _layers(table, detector)
    located = locate(position, layer, detector)
    off = located.module == NOISE
    if off.any():
        furthest = located.distance[np.flatnonzero(off)[0]]
        rule = (
            f"the position is {furthest:.3g} mm away from every sensor of its layer; allowed are "
            f"{PLANE_TOLERANCE} mm from the plane and {EDGE_TOLERANCE} mm beyond the edge"
        )
        refuse_lines(table, "x", off, rule)
    variance = _pitch(table) ** 2 / 12
    return Hits(
        position=position.astype(np.float32),
        layer=layer,
        module=located.module,
        local=located.local,
        variance=variance.astype(np.float32),
        features=features,
        valid=np.ones(len(layer), bool),
    )


def _pitch(table: Table) -> np.ndarray:
    """Cell sizes of every hit's sensor."""
    volumes, inverse = np.unique(table["volume_id"], return_inverse=True)
    unknown = [int(volume) for volume in volumes if int(volume) not in PITCH]
    refuse_lines(
        table, "volume_id", np.isin(table["volume_id"], unknown), f"cell sizes are known for {sorted(PITCH)}"
    )
    return np.array([PITCH[int(volume)] for volume in volumes], np.float64).reshape(-1, 2)[inverse]


def _layers(table: Table, detector: Detector) -> np.ndarray:
    """Index of the detector layer for every pair of volume and layer identifier."""
    known, first = np.unique(_pair(detector.volume_id, detector.layer_id), return_index=True)
    rows, found = find_rows(_pair(table["volume_id"], table["layer_id"]), known)
    in_volume = np.isin(table["volume_id"], detector.volume_id)
    volumes = ", ".join(str(volume) for volume in np.unique(detector.volume_id))
    refuse_lines(table, "volume_id", ~in_volume, f"the detector has the volumes {volumes}")
    refuse_lines(table, "layer_id", ~found, "the detector has no such layer in this hit's volume")
    return detector.layer[first[rows]] if known.size else np.zeros(0, np.int32)


def _pair(volume: np.ndarray, layer: np.ndarray) -> np.ndarray:
    return (volume.astype(np.int64) << 32) | (layer.astype(np.int64) & 0xFFFFFFFF)


def _features(prefix: Path, hits: Table) -> np.ndarray:
    """Cluster sizes and charge of every hit, from the cells or else from what `write_event` stored."""
    features = np.zeros((len(hits["hit_id"]), 3), np.float32)
    cells_path, stored_path = _part(prefix, "cells"), _part(prefix, "features")
    if cells_path is not None:
        cells = read_table(cells_path, CELLS)
        require_finite(cells, "value")
        rows = rows_of(cells, "hit_id", hits["hit_id"], str(hits.path))
        features[:, 0] = _extent(rows, cells["ch0"], len(features))
        features[:, 1] = _extent(rows, cells["ch1"], len(features))
        features[:, 2] = np.bincount(rows, weights=cells["value"], minlength=len(features))
    elif stored_path is not None:
        stored = read_table(stored_path, FEATURES)
        require_finite(stored, "size_u", "size_v", "charge")
        require_unique(stored, "hit_id")
        rows = rows_of(stored, "hit_id", hits["hit_id"], str(hits.path))
        features[rows] = np.stack([stored["size_u"], stored["size_v"], stored["charge"]], axis=1)
    return features


def _extent(rows: np.ndarray, channel: np.ndarray, n_hits: int) -> np.ndarray:
    """Number of channels from the first to the last cell of every hit; 0 for a hit without cells."""
    low = np.full(n_hits, np.iinfo(np.int64).max)
    high = np.full(n_hits, np.iinfo(np.int64).min)
    np.minimum.at(low, rows, channel)
    np.maximum.at(high, rows, channel)
    has_cells = np.bincount(rows, minlength=n_hits) > 0
    return np.where(has_cells, np.where(has_cells, high, 0) - np.where(has_cells, low, 0) + 1, 0)
