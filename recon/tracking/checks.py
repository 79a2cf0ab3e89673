"""What the tracking chain asks of its input, checked on the host before anything is compiled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recon.errors import DataError
from recon.padding import bucket_size, pad_event
from recon.tracking.detector import n_layers
from recon.types import NOISE, Detector, Hits

LEAST_HITS = 512
LARGE = 65_536

# Shape of one row; the number of features is free.
_ROW_SHAPES = {"position": (3,), "layer": (), "module": (), "local": (2,), "variance": (2,), "valid": ()}


def check_hits(hits: Hits, detector: Detector) -> None:
    """Refuse hits that the chain would misread.

    Raises:
        DataError: names the column, the row and the value.
    """
    n = len(hits.layer)
    for name, column in hits._asdict().items():
        if len(column) != n:
            raise DataError(
                f"hits.{name} has {len(column)} rows, hits.layer has {n}: all columns must be as long"
            )
        row = _ROW_SHAPES.get(name)
        if row is not None and column.shape[1:] != row:
            raise DataError(f"hits.{name} has shape {column.shape}; needed is one event, {(n, *row)}")
    if hits.features.ndim != 2 or hits.features.shape[1] < 2:
        raise DataError(
            f"hits.features has shape {hits.features.shape}; "
            "needed are the cluster sizes along u and v as the first two columns"
        )
    used = np.asarray(hits.valid)
    for name in ("position", "local", "variance", "features"):
        column = np.asarray(getattr(hits, name))
        bad = np.flatnonzero(used & ~np.isfinite(column).all(1))
        if bad.size:
            first = int(bad[0])
            raise DataError(
                f"hits.{name} is not finite in row {first}: {column[first].tolist()} ({bad.size} such rows)"
            )
    _check_range("layer", np.asarray(hits.layer), used, 0, n_layers(detector))
    _check_range("module", np.asarray(hits.module), used, NOISE, len(detector.layer))


def _check_range(name: str, values: np.ndarray, used: np.ndarray, low: int, high: int) -> None:
    bad = np.flatnonzero(used & ((values < low) | (values >= high)))
    if bad.size:
        row = int(bad[0])
        raise DataError(f"hits.{name} is {int(values[row])} in row {row}; allowed are {low} to {high - 1}")


def padded_length(events: Iterable[Hits]) -> int:
    """The next size of the ladder that holds each of some events."""
    n = max((len(hits.layer) for hits in events), default=0)
    # The search grows with the square of a large event: there, finer steps are worth more programs.
    return bucket_size(max(n, LEAST_HITS), steps_per_octave=8 if n > LARGE else 4)


def pad_hits(hits: Hits, length: int | None = None) -> Hits:
    """Pad the hits of one event to the next size of the ladder, or to `length`."""
    return pad_event(hits, {"n": padded_length([hits]) if length is None else length})
