"""What the tracking chain asks of its input, checked on the host before anything is compiled."""

from __future__ import annotations

import numpy as np

from recon.errors import DataError
from recon.padding import bucket_size, pad_event
from recon.tracking.detector import n_layers
from recon.types import NOISE, Detector, Hits

LEAST_HITS = 512


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
    if hits.position.ndim != 2 or hits.position.shape[1:] != (3,):
        raise DataError(f"hits.position has shape {hits.position.shape}; needed is one event, (hits, 3)")
    if hits.features.shape[1] < 2:
        raise DataError(
            f"hits.features has {hits.features.shape[1]} columns; needed are the cluster sizes along u and v first"
        )
    used = np.asarray(hits.valid)
    for name in ("position", "local", "variance", "features"):
        column = np.asarray(getattr(hits, name))
        bad = np.flatnonzero(used & ~np.isfinite(column).all(1))
        if bad.size:
            row = int(bad[0])
            raise DataError(
                f"hits.{name} is not finite in row {row}: {column[row].tolist()} ({bad.size} such rows)"
            )
    _check_range("layer", np.asarray(hits.layer), used, 0, n_layers(detector))
    _check_range("module", np.asarray(hits.module), used, NOISE, len(detector.layer))


def _check_range(name: str, values: np.ndarray, used: np.ndarray, low: int, high: int) -> None:
    bad = np.flatnonzero(used & ((values < low) | (values >= high)))
    if bad.size:
        row = int(bad[0])
        raise DataError(f"hits.{name} is {int(values[row])} in row {row}; allowed are {low} to {high - 1}")


def pad_hits(hits: Hits, length: int | None = None) -> Hits:
    """Pad the hits of one event to the next size of the ladder, or to `length`."""
    # A fine ladder: the cost of the search grows faster than the number of hits.
    size = bucket_size(max(len(hits.layer), LEAST_HITS), steps_per_octave=8) if length is None else length
    return pad_event(hits, {"n": size})
