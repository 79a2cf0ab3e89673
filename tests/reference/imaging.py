"""Slow twins of the imaging algorithm: every hit of a layer looks at every other; showers are taken one by one."""

from __future__ import annotations

import math

import numpy as np


def one_layer(xy, energy, rho_c, d_c, rank):
    """(rho, nearest higher, delta, centres) of the hits of one layer."""
    n = len(energy)
    xy, energy = np.asarray(xy, float), np.asarray(energy, float)
    apart = np.hypot(xy[:, None, 0] - xy[None, :, 0], xy[:, None, 1] - xy[None, :, 1]).reshape(n, n)
    rho = np.array([energy[apart[i] < d_c].sum() for i in range(n)])
    nearest, delta = np.full(n, -1), np.full(n, np.inf)
    for i in range(n):
        for j in range(n):
            higher = rho[j] > rho[i] or (rho[j] == rho[i] and rank[j] > rank[i])
            nearer = (apart[i, j], rank[j]) < (delta[i], rank[nearest[i]])
            if higher and nearer:
                nearest[i], delta[i] = j, apart[i, j]
    return rho, nearest, delta, (delta >= d_c) & (rho >= rho_c), apart


def root(i, nearest, centre):
    while not centre[i]:
        if nearest[i] < 0:
            return -1
        i = nearest[i]
    return i


def imaging(xy, energy, layer, rho_c, d_c, rank):
    """{field: array} over all hits: root (row of the centre, -1 for none), rho, delta, nearest, halo."""
    n = len(energy)
    result = {
        "root": np.full(n, -1),
        "rho": np.zeros(n),
        "delta": np.full(n, np.inf),
        "nearest": np.full(n, -1),
        "halo": np.zeros(n, bool),
    }
    for name in np.unique(layer):
        rows = np.flatnonzero(layer == name)
        rho, nearest, delta, centre, apart = one_layer(xy[rows], energy[rows], rho_c[rows], d_c, rank[rows])
        roots = np.array([root(i, nearest, centre) for i in range(len(rows))])
        result["rho"][rows], result["delta"][rows] = rho, delta
        result["nearest"][rows] = np.append(rows, -1)[nearest]
        result["root"][rows] = np.append(rows, -1)[roots]
        result["halo"][rows] = halo(rho, roots, apart, d_c)
    return result


def halo(rho, roots, apart, d_c):
    n = len(rho)
    densest_border = {}
    for i in range(n):
        near = [j for j in range(n) if j != i and apart[i, j] < d_c and roots[j] >= 0]
        if roots[i] >= 0 and (
            any(roots[j] != roots[i] for j in near) or all(roots[j] != roots[i] for j in near)
        ):
            densest_border[roots[i]] = max(densest_border.get(roots[i], -math.inf), rho[i])
    return np.array(
        [roots[i] >= 0 and rho[i] <= densest_border.get(roots[i], -math.inf) for i in range(n)], bool
    )


def multiclusters(position, energy, radius, least):
    """Row of the seed that took every layer cluster; -1 where too few went with it."""
    slope, depth = position[:, :2].astype(float) / np.abs(position[:, 2:]), np.abs(position[:, 2])
    taken = np.full(len(energy), -1)
    for seed in np.argsort(-energy, kind="stable"):
        if taken[seed] < 0:
            distance = depth * np.hypot(*(slope - slope[seed]).T)
            taken[(taken < 0) & (distance < radius)] = seed
    return np.array([seed if (taken == seed).sum() >= least else -1 for seed in taken], int)
