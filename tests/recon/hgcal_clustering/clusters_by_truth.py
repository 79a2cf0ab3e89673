"""Density clusters that are known beforehand: the hits of one particle in one layer."""

from __future__ import annotations

import numpy as np

from recon.types import NOISE, DensityClusters
from tests.reference.toy_showers import dominant_particle


def group(labels, energy):
    """DensityClusters of the hits with equal labels, numbered by label; the hit with most energy is the seed."""
    labels = np.asarray(labels)
    kept = labels != NOISE
    names, number = np.unique(labels[kept], return_inverse=True)
    ids = np.full(len(labels), NOISE, np.int32)
    ids[kept] = number
    is_seed = np.zeros(len(labels), bool)
    for cluster in range(len(names)):
        rows = np.flatnonzero(ids == cluster)
        is_seed[rows[np.argmax(np.asarray(energy)[rows])]] = True
    n = len(labels)
    return DensityClusters(
        ids,
        np.asarray(energy, np.float32),
        np.zeros(n, np.float32),
        np.full(n, -1, np.int32),
        is_seed,
        np.int32(len(names)),
        np.bool_(False),
    )


def by_particle_and_layer(event):
    """The layer clusters that a perfect algorithm would find."""
    particle = dominant_particle(event)
    label = np.where(particle == NOISE, NOISE, particle * 1000 + event.hits.layer)
    return group(label, event.hits.energy)


def pad_density(density, n):
    """More points that belong to nothing."""
    extra = n - len(density.ids)
    fills = (NOISE, 0, np.inf, -1, False)
    columns = [
        np.pad(column, (0, extra), constant_values=fill)
        for column, fill in zip(density[:5], fills, strict=True)
    ]
    return DensityClusters(*columns, *density[5:])
