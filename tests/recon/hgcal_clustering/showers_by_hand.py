"""Layer clusters of showers along lines of sight."""

from __future__ import annotations

import numpy as np

from recon.types import Clusters

PLANES = 3210.0 + np.cumsum(np.r_[0, np.tile([9.4, 20.3], 12), np.full(10, 54.5)])


def layer_clusters(position, energy, layer, size=None):
    n = len(energy)
    return Clusters(
        np.zeros(0, np.int32),
        np.asarray(position, np.float32).reshape(n, 3),
        np.asarray(energy, np.float32),
        np.full(n, 3, np.int32) if size is None else np.asarray(size, np.int32),
        np.asarray(layer, np.int32),
        np.arange(n, dtype=np.int32),
        np.ones(n, bool),
    )


def along_a_line(slope, phi, layers, energy, offset=0.0):
    """Layer clusters of one shower, moved by an offset in x."""
    z = PLANES[layers]
    x, y = slope * np.cos(phi) * z + offset, slope * np.sin(phi) * z
    return np.stack([x, y, z], 1), np.full(len(layers), energy), np.asarray(layers)


def join(*showers):
    return layer_clusters(*(np.concatenate(columns) for columns in zip(*showers, strict=True)))


def random_event(seed, showers=12, noise=90, crowd=0.25):
    """Showers close to one another, and single layer clusters."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(showers):
        layers = np.unique(rng.normal(rng.uniform(4, 25), 4, rng.integers(4, 30)).astype(int).clip(0, 34))
        position, energy, layers = along_a_line(
            rng.uniform(0.15, 0.15 + crowd), rng.uniform(-0.5, 0.5), layers, 1.0
        )
        position[:, :2] += rng.normal(0, 8, (len(layers), 2))
        parts.append((position, energy * rng.gamma(2.0, 0.5, len(layers)), layers))
    layers = rng.integers(0, 35, noise)
    position = along_a_line(rng.uniform(0.1, 0.5, noise), rng.uniform(-np.pi, np.pi, noise), layers, 1.0)[0]
    parts.append((position, rng.exponential(0.1, noise), layers))
    return join(*parts)
