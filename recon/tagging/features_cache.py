"""Features of images by a frozen featurizer: computed once, kept in a file, used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8

from recon.io.npz import read_arrays, write_arrays
from recon.io.weights import arrays_digest, model_arrays

CHUNK = 512
"""Images that are drawn at once."""


class StoredFeatures(NamedTuple):
    """What lies in the file.

    Attributes:
        key: of featurizer and images.
        features: one row an image.
    """

    key: UInt8[np.ndarray, " 32"]
    features: Float32[np.ndarray, "n f"]


def features_key(featurizer: nnx.Module, arrays: Iterable[np.ndarray]) -> UInt8[np.ndarray, " 32"]:
    """What features depend on, as one number.

    Args:
        featurizer: whose weights count.
        arrays: what the images are drawn from.
    """
    drawn = {f"images/{row}": array for row, array in enumerate(arrays)}
    return np.frombuffer(bytes.fromhex(arrays_digest(model_arrays(featurizer) | drawn)), np.uint8)


def cached_features(
    path: Path,
    key: UInt8[np.ndarray, " 32"],
    rows: int,
    compute: Callable[[np.ndarray], np.ndarray],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Float32[np.ndarray, "n f"]:
    """Read features, or compute and keep them.

    Args:
        path: of the file.
        key: of `features_key`; a file of another one is replaced.
        rows: number of images.
        compute: row numbers to features.
        report: told how many are done.
    """
    stored = read_arrays(path, StoredFeatures)
    if stored is not None and np.array_equal(stored.key, key):
        return stored.features
    parts = []
    for start in range(0, rows, CHUNK):
        parts.append(compute(np.arange(start, min(start + CHUNK, rows))))
        report(min(start + CHUNK, rows), rows)
    made = StoredFeatures(key, np.concatenate(parts).astype(np.float32))
    write_arrays(path, made)
    return made.features
