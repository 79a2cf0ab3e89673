"""Slow twin of `recon.hgcal_clustering.tracksters`: one trackster after the other, with LAPACK, in double precision."""

from __future__ import annotations

import math

import numpy as np

from recon.types import Tracksters


def make_tracksters(position, energy, layer, density, config):
    """Unpadded; the signs of the axes are left as they come."""
    made = [
        one_trackster(position, energy, layer, density, np.flatnonzero(density.ids == name), config)
        for name in range(int(density.n_clusters))
    ]
    columns = [np.array(column) for column in zip(*made, strict=True)]
    return Tracksters(density.ids, *columns, np.ones(len(made), bool))


def one_trackster(position, energy, layer, density, rows, config):
    weights, points = energy[rows].astype(float), position[rows].astype(float)
    total = math.fsum(weights)
    centre = (weights[:, None] * points).sum(0) / total
    covariance = (
        sum(w * np.outer(p - centre, p - centre) for w, p in zip(weights, points, strict=True)) / total
    )
    values, vectors = np.linalg.eigh(covariance)
    behind = math.fsum(weights[layer[rows] >= config.front_layers]) / total
    same_side = np.sign(position[:, 2]) == np.sign(centre[2])
    soft = math.fsum(min(float(e), 1.0) for e in energy[same_side]) / 1000
    seed = next(row for row in rows if density.is_seed[row])
    return (
        centre,
        vectors.T[::-1],
        values[::-1],
        total,
        regressed(total, centre, behind, soft, config),
        len(rows),
        seed,
    )


def regressed(energy, centre, behind, soft, config):
    eta = math.asinh(centre[2] / math.hypot(*centre[:2]))
    logarithm = math.log(energy / 50.0)
    response = config.scale + config.energy * logarithm + config.pseudorapidity * (abs(eta) - 2.25)
    response += behind * (config.hadronic + config.hadronic_energy * logarithm)
    response += soft * (config.pileup + config.pileup_energy * logarithm)
    response += soft * config.pileup_pseudorapidity * (abs(eta) - 2.25)
    return energy / max(response, 0.1)
