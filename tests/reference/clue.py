"""Slow twin of CLUE: every pair of points is looked at, in double precision, one definition after the other.

The definitions are those of the CLUE paper (Rovere et al., Front. Big Data 3:591315, 2020) and of CLUEstering 2.11.0.
`fast_pairs` makes the list of pairs with a k-d tree where a test needs thousands of points; a test compares both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree


class TwinClusters(NamedTuple):
    """The fields of `recon.types.DensityClusters` in double precision."""

    ids: np.ndarray
    rho: np.ndarray
    delta: np.ndarray
    nearest_higher: np.ndarray
    is_seed: np.ndarray
    n_clusters: int


def axis_differences(one, other, metric, values):
    apart = np.abs(one - other)
    if metric == "periodic":
        for axis in np.flatnonzero(np.isfinite(values)):
            apart[..., axis] = np.minimum(apart[..., axis] % values[axis], -apart[..., axis] % values[axis])
    return apart


def distance(one, other, metric="euclidean", values=None):
    """Distances of points row by row."""
    apart = axis_differences(one, other, metric, values)
    if metric == "manhattan":
        return apart.sum(-1)
    if metric == "chebyshev":
        return apart.max(-1)
    if metric == "weighted_chebyshev":
        return (values * apart).max(-1)
    if metric == "weighted":
        return np.sqrt((values * apart**2).sum(-1))
    return np.sqrt((apart**2).sum(-1))


def kernel_value(apart, kernel, parameters):
    if kernel == "flat":
        return np.full(apart.shape, parameters[0])
    if kernel == "exponential":
        average, amplitude = parameters
        return amplitude * np.exp(-average * apart)
    average, deviation, amplitude = parameters
    return amplitude * np.exp(-((apart - average) ** 2) / (2 * deviation**2))


def all_pairs(points, radius, batch, metric="euclidean", values=None):
    """(i, j, distance) of all ordered pairs of different points of one batch that are no farther apart."""
    found = []
    for i in range(len(points)):
        apart = distance(points[i], points, metric, values)
        near = np.flatnonzero((apart <= radius) & (batch == batch[i]))
        near = near[near != i]
        found.append((np.full(len(near), i), near, apart[near]))
    if not found:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def fast_pairs(points, radius, batch, metric="euclidean"):
    """The same from a k-d tree, for metrics without parameters."""
    power = {"euclidean": 2, "manhattan": 1, "chebyshev": np.inf}[metric]
    pairs = cKDTree(points).query_pairs(radius * (1 + 1e-9), p=power, output_type="ndarray")
    i, j = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]]
    apart = distance(points[i], points[j], metric)
    keep = (apart <= radius) & (batch[i] == batch[j])
    order = np.lexsort((j[keep], i[keep]))
    return i[keep][order], j[keep][order], apart[keep][order]


def position_rank(points, weights):
    """Place of every point when all are sorted by the first coordinate, then the second, ..., weight, row."""
    order = sorted(range(len(points)), key=lambda row: (*points[row].tolist(), float(weights[row]), row))
    rank = np.empty(len(points), int)
    rank[order] = np.arange(len(points))
    return rank


def clue(
    points,
    weights,
    *,
    d_c,
    rho_c,
    outlier_delta_factor=2.0,
    seeding_distance=None,
    compat="paper",
    metric="euclidean",
    values=None,
    kernel="flat",
    parameters=(0.5,),
    batch=None,
    rank=None,
    pairs=None,
):
    """CLUE by its definitions. `rank` breaks ties; by default it is what the compatibility mode says."""
    points, weights = np.asarray(points, float), np.asarray(weights, float)
    n = len(points)
    batch = np.zeros(n, int) if batch is None else np.asarray(batch)
    outlier = outlier_delta_factor * d_c
    seeding = d_c if seeding_distance is None else seeding_distance
    if rank is None:
        rank = position_rank(points, weights) if compat == "paper" else np.arange(n)
    if pairs is None:
        pairs = all_pairs(points, max(d_c, outlier, seeding), batch, metric, values)
    i, j, apart = pairs
    rho = densities(n, weights, pairs, d_c, kernel, parameters)
    threshold = np.broadcast_to(np.asarray(rho_c, float), n)
    reach = np.where(rho >= threshold, seeding, outlier)
    if compat != "paper":
        # An outlier distance above the seeding distance is of no consequence in 2.11.0.
        reach[:] = min(outlier, seeding)
    tied = rho[j] == rho[i]
    if compat != "paper":
        tied &= rho[j] > 0
    higher = ((rho[j] > rho[i]) | (tied & (rank[j] > rank[i]))) & (apart <= reach[i])
    nearest, delta = nearest_of(n, i[higher], j[higher], apart[higher], rank)
    is_seed = (nearest < 0) & (rho >= threshold)
    ids = labels(nearest, is_seed)
    return TwinClusters(ids, rho, delta, nearest, is_seed, int(is_seed.sum()))


def densities(n, weights, pairs, d_c, kernel="flat", parameters=(0.5,)):
    i, j, apart = pairs
    near = apart <= d_c
    around = kernel_value(apart[near], kernel, parameters) * weights[j[near]]
    return weights + np.bincount(i[near], around, minlength=n)[:n]


def nearest_of(n, i, j, apart, rank):
    """For every i the j at the smallest distance, among equal distances the one of lowest rank."""
    order = np.lexsort((rank[j], apart, i))
    i, j, apart = i[order], j[order], apart[order]
    first = np.flatnonzero(np.r_[True, i[1:] != i[:-1]]) if len(i) else np.zeros(0, int)
    nearest, delta = np.full(n, -1), np.full(n, np.inf)
    nearest[i[first]], delta[i[first]] = j[first], apart[first]
    return nearest, delta


def labels(nearest, is_seed):
    """Follow the nearest higher point to a seed; seeds are numbered in the order of their rows."""
    number = np.cumsum(is_seed) - 1
    ids = np.full(len(nearest), -1)
    for row in range(len(nearest)):
        at = row
        while not is_seed[at] and nearest[at] >= 0:
            at = nearest[at]
        if is_seed[at]:
            ids[row] = number[at]
    return ids
