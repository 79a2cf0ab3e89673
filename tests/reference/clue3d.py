"""Slow twin of `recon.hgcal_clustering.clue3d`: every layer cluster looks at every other, in double precision."""

from __future__ import annotations

import math

import numpy as np


def transverse2(position):
    """Squared distance of j from i in the plane of i, mm^2: along the radius, and along the arc at j's radius."""
    slope = np.hypot(position[:, 0], position[:, 1]) / np.abs(position[:, 2])
    phi = np.arctan2(position[:, 1], position[:, 0])
    turn = np.angle(np.exp(1j * (phi[:, None] - phi[None])))
    line, arc = slope[:, None] - slope[None], slope[None] * turn
    return position[:, 2, None] ** 2 * (line**2 + arc**2)


def clue3d(position, energy, layer, config):
    """(ids, rho, nearest_higher, is_seed) with the defaults' meaning of CMSSW; ids of small tracksters are -1."""
    n = len(energy)
    position, energy = position.astype(float), energy.astype(float)
    layers = np.abs(layer[:, None].astype(int) - layer[None]).tolist()
    apart = transverse2(position).tolist()
    rho = energy.copy()
    for i in range(n):
        for j in range(n):
            allowed = config.same_layer_density or layers[i][j] > 0
            if (
                i != j
                and allowed
                and layers[i][j] <= config.sibling_layers
                and apart[i][j] < config.density_radius**2
            ):
                rho[i] += config.kernel_factor * energy[j]
    reach = config.critical_distance * config.outlier_multiplier
    nearest, is_seed = np.full(n, -1), np.zeros(n, bool)
    for i in range(n):
        best = None
        for j in range(n):
            higher = rho[j] > rho[i] or (rho[j] == rho[i] and j > i)
            if i != j and higher and layers[i][j] <= config.sibling_layers and apart[i][j] <= reach**2:
                distance = apart[i][j] + (position[i, 2] - position[j, 2]) ** 2
                best = min(best or (math.inf, n), (distance, j))
        far = best is None
        if best is not None:
            nearest[i] = best[1]
            far = (
                apart[i][best[1]] > config.critical_distance**2 or layers[i][best[1]] > config.critical_layers
            )
        dense = rho[i] >= config.critical_density
        is_seed[i] = far and dense and energy[i] > config.critical_self_density * rho[i]
    ids, kept = number(nearest, is_seed, config)
    return ids, rho, nearest, kept


def number(nearest, is_seed, config):
    """(ids, seeds) of the tracksters in the order of their seeds; those with too few members are dissolved."""
    n = len(nearest)
    ends = [end_of(i, nearest, is_seed) for i in range(n)]
    kept = [i for i in np.flatnonzero(is_seed) if ends.count(i) >= config.min_layer_clusters]
    names = {seed: number for number, seed in enumerate(kept)}
    return np.array([names.get(end, -1) for end in ends], int), np.isin(np.arange(n), kept)


def end_of(i, nearest, is_seed):
    while not is_seed[i] and nearest[i] >= 0:
        i = nearest[i]
    return i if is_seed[i] else None
