"""Slow twin of `recon.hgcal_clustering.layer_clusters`: one cluster after the other, in double precision."""

from __future__ import annotations

import math

import numpy as np

from recon.types import Clusters


def layer_clusters(hits, density, config, scintillator=None):
    """Unpadded clusters of the valid hits."""
    rows = {}
    for row in np.flatnonzero(hits.valid & (density.ids >= 0)).tolist():
        rows.setdefault(int(density.ids[row]), []).append(row)
    count = int(density.n_clusters)
    made = [one_cluster(hits, density, rows[cluster], config, scintillator) for cluster in range(count)]
    position, energy, size, layer, seed = (
        map(np.array, zip(*made, strict=True)) if made else [np.zeros(0)] * 5
    )
    member = np.where(hits.valid & (density.ids >= 0), density.ids, -1)
    return Clusters(member, position, energy, size, layer, seed, np.ones(count, bool))


def one_cluster(hits, density, rows, config, scintillator):
    energy = [float(hits.energy[row]) for row in rows]
    total = math.fsum(energy)
    hottest = rows[energy.index(max(energy))]
    x0, y0, z0 = hits.position[hottest].astype(float)
    tile = scintillator is not None and scintillator[hottest]
    logarithmic = {}
    for row, value in zip(rows, energy, strict=True):
        x, y, _ = hits.position[row].astype(float)
        if math.hypot(x - x0, y - y0) <= config.window and value > 0:
            logarithmic[row] = max(0.0, config.log_offset + math.log(value / total))
    weights = dict(zip(rows, energy, strict=True)) if tile or sum(logarithmic.values()) == 0 else logarithmic
    norm = sum(weights.values())
    mean = [sum(w * float(hits.position[row, axis]) for row, w in weights.items()) / norm for axis in (0, 1)]
    seed = next(row for row in rows if density.is_seed[row])
    return [*mean, z0], total, len(rows), int(hits.layer[hottest]), seed
