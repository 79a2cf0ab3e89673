"""What a network makes of jets and images, computed once and kept in the cache: for classifiers trained alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from recon.cache import cache_directory
from recon.io.npz import read_arrays, write_arrays
from recon.io.weights import arrays_digest, model_arrays
from recon.tagging.cvn import EventScorer

CHUNK = 512
"""Images that are drawn at once."""
_BEHIND = ("classes", "hidden", "dropout", "weights")
"""Settings of a network that its features do not depend on: of the classifier, and where weights come from."""


class Kept(NamedTuple):
    """What lies in a file.

    Attributes:
        values: one row a jet or an image.
    """

    values: Float[np.ndarray, "n f"]


def kept_features(key: str, compute: Callable[[], Float[np.ndarray, "n f"]]) -> Float[np.ndarray, "n f"]:
    """Read features, or compute and keep them.

    Args:
        key: all that they depend on.
        compute: makes them.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = cache_directory() / "features" / f"{name}.npz"
    stored = read_arrays(path, Kept)
    if stored is None:
        stored = Kept(compute())
        write_arrays(path, stored)
    return stored.values


def image_features(
    network: Any,
    shown: Iterable[np.ndarray],
    count: int,
    draw: Callable[[np.ndarray], Float32[np.ndarray, "b h w v"]],
    report: Callable[[str, int, int], None] | None = None,
) -> Float32[np.ndarray, "n f"]:
    """Features of images by the featurizer of a network.

    Args:
        network: with `featurizer` and `classifier`; its `config` says how images are drawn.
        shown: what the images are drawn from.
        count: number of images.
        draw: row numbers to images.
        report: told how many are done.
    """
    drawn = {f"images/{row}": array for row, array in enumerate(shown)}
    config = {name: value for name, value in asdict(network.config).items() if name not in _BEHIND}
    key = f"{config} {arrays_digest(model_arrays(network.featurizer) | drawn)}"

    def compute() -> np.ndarray:
        scorer, parts = EventScorer(network), []
        for start in range(0, count, CHUNK):
            rows = np.arange(start, min(start + CHUNK, count))
            parts.append(scorer(draw(rows)).features)
            if report is not None:
                report("features", int(rows[-1]) + 1, count)
        return np.concatenate(parts)

    return kept_features(key, compute)
