"""CLUE with soft decisions: density, seeds and the way to them as functions with gradients.

Every comparison of CLUE becomes a logistic function of what is compared, on a scale given by a temperature t:

    near_ij = sigmoid((d_c - d_ij) / (t d_c))          instead of d_ij <= d_c
    rho_i = w_i + sum_j factor near_ij w_j
    higher_ij = sigmoid((rho_j - rho_i) / (t rho_c))   instead of rho_j > rho_i
    dense_i = sigmoid((rho_i - rho_c) / (t rho_c))     instead of rho_i >= rho_c
    seed_i = dense_i prod_j (1 - higher_ij near_ij)
    outlier_i = (1 - dense_i) prod_j (1 - higher_ij out_ij), out_ij as near_ij with the outlier radius
    follow_ij = softmax_j(log higher_ij + log out_ij - d_ij / (sqrt(t) d_c))

The root keeps a near point of lower density from winning against a higher one. For t to 0 these go to the density,
the seeds, the outliers and the nearest higher points of `recon.hgcal_clustering.clue`, wherever nothing is tied and
nothing lies on a radius or a threshold; gradients then vanish nearly everywhere. For large t every point is a bit of
everything. A point that is not dense may follow one up to the outlier radius, a dense one up to `d_c`: `follow` is
the sum of both cases, each with its probability.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32

from recon.errors import CapacityError
from recon.hgcal_clustering.points import position_rank, read_points
from recon.hgcal_clustering.tiles import search_tiles
from recon.types import Array

_CERTAIN = 1 - 1e-6
"""Probabilities above are taken as this: the logarithm of what is left has a gradient."""


class SoftClusters(NamedTuple):
    """What soft decisions say about every point.

    Attributes:
        rho: local density.
        delta: -s log(sum_j higher_ij out_ij exp(-d_ij / s) + exp(-r / s)), the smooth minimum of the distances to
            higher points and the outlier radius r, with s = sqrt(t) d_c.
        seed: score between 0 and 1 for being a seed.
        outlier: score for being an outlier.
        follow: for every neighbour of the table, the share with which the point follows it; sums to 1 - seed -
            outlier up to rounding, 0 for empty slots.
    """

    rho: Float[Array, " n"]
    delta: Float[Array, " n"]
    seed: Float[Array, " n"]
    outlier: Float[Array, " n"]
    follow: Float[Array, "n k"]


def neighbour_table(
    points: Any, radius: float, *, batch: Any = None, capacity: int | None = None
) -> Int32[np.ndarray, "n k"]:
    """Rows of all other points within a radius of every point, -1 in empty slots.

    Args:
        points: coordinates, (n, 1 to 10).
        radius: for `soft_clue` the largest radius it will use, and a few temperatures more.
        batch: integers; points of different batches are no neighbours.
        capacity: number of slots; what is needed by default.

    Raises:
        CapacityError: a point has more neighbours than slots.
        DataError: points or batches that cannot be used, see `read_points`.
    """
    cloud = read_points(points, None, batch)
    n, n_axes = cloud.points.shape
    if n == 0:
        return np.full((0, capacity or 1), -1, np.int32)
    rank = position_rank(cloud.points, cloud.weights)
    tiles = search_tiles(cloud.points, np.full(n_axes, float(radius)), rank=rank, batch=cloud.batch)
    low, high = tiles.windows.low, tiles.windows.high
    length = np.maximum(high - low, 0).ravel()
    query = np.repeat(np.tile(tiles.order[tiles.windows.query], len(low)), length)
    slot = np.arange(length.sum()) + np.repeat(low.ravel() - (np.cumsum(length) - length), length)
    other = tiles.order[slot]
    apart = np.sqrt(((cloud.points[query].astype(float) - cloud.points[other]) ** 2).sum(1))
    keep = (apart <= radius) & (query != other)
    query, other = query[keep], other[keep]
    order = np.lexsort((other, query))
    query, other = query[order], other[order]
    count = np.bincount(query, minlength=n)
    needed = max(int(count.max(initial=0)), 1)
    if capacity is not None and needed > capacity:
        raise CapacityError("neighbours of a point", capacity, needed, "capacity of neighbour_table")
    table = np.full((n, capacity or needed), -1, np.int32)
    table[query, np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)] = other
    return table


def soft_clue(
    points: Float[Array, "n d"],
    weights: Float[Array, " n"],
    neighbours: Int32[Array, "n k"],
    *,
    d_c: float | Array,
    rho_c: float | Array,
    outlier_delta_factor: float | Array = 2.0,
    temperature: float | Array = 0.1,
    factor: float | Array = 0.5,
) -> SoftClusters:
    """Soft CLUE; it has gradients with respect to everything but the table of neighbours.

    Args:
        points: coordinates; distances are Euclidean.
        weights: what a point adds to the density.
        neighbours: of `neighbour_table`; pairs that it lacks count as infinitely far apart.
        d_c: radius of the density.
        rho_c: least density of a seed, one number or one a point, above 0.
        outlier_delta_factor: how far points that are not dense look, in units of `d_c`.
        temperature: scale of all decisions, relative to `d_c` and `rho_c`.
        factor: what a neighbour adds to the density, as a factor on its weight.

    Example:
        >>> import jax, numpy as np
        >>> points = np.array([[0.0], [0.8], [5.0]], np.float32)
        >>> table = neighbour_table(points, 3.0)
        >>> loss = lambda d_c: soft_clue(points, np.ones(3), table, d_c=d_c, rho_c=1.2).rho.sum()
        >>> bool(jax.grad(loss)(1.0) > 0)
        True
    """
    there, row = neighbours >= 0, jnp.maximum(neighbours, 0)
    distance = _distance(points, row, there)
    d_c, rho_c = jnp.asarray(d_c), jnp.asarray(rho_c)
    outlier_radius = jnp.asarray(outlier_delta_factor) * d_c
    near = jnp.where(there, jax.nn.sigmoid((d_c - distance) / (temperature * d_c)), 0)
    out_logit = (outlier_radius - distance) / (temperature * d_c)
    rho = weights + factor * (near * weights[row]).sum(1)

    scale = jnp.broadcast_to(temperature * rho_c, rho.shape)
    higher_logit = (rho[row] - rho[:, None]) / scale[:, None]
    higher = jax.nn.sigmoid(higher_logit)
    dense = jax.nn.sigmoid((rho - rho_c) / scale)
    out = jnp.where(there, jax.nn.sigmoid(out_logit), 0)
    seed = dense * none_of(higher * near)
    outlier = (1 - dense) * none_of(higher * out)

    length = jnp.sqrt(temperature) * d_c
    log_higher = jax.nn.log_sigmoid(higher_logit)
    near_score = log_higher + jax.nn.log_sigmoid((d_c - distance) / (temperature * d_c)) - distance / length
    far_score = log_higher + jax.nn.log_sigmoid(out_logit) - distance / length
    follow = (dense - seed)[:, None] * shares(near_score, there)
    follow += (1 - dense - outlier)[:, None] * shares(far_score, there)
    # The smallest distance, and the outlier radius where there is none.
    none = jnp.broadcast_to(-outlier_radius / length, (len(rho), 1))
    scores = jnp.concatenate([jnp.where(there, far_score, -jnp.inf), none], 1)
    delta = -length * jax.nn.logsumexp(scores, axis=1)
    return SoftClusters(rho, delta, seed, outlier, follow)


def _distance(points: Array, row: Array, there: Array) -> Array:
    """Distances to the neighbours; without a gradient where two points are one."""
    square = ((points[:, None] - points[row]) ** 2).sum(-1)
    # A square root of 0 has an infinite gradient, and infinity times 0 is no number.
    apart = there & (square > 0)
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def none_of(probability: Array) -> Array:
    """Probability that none of independent things is so."""
    return jnp.exp(jnp.log1p(-jnp.minimum(probability, _CERTAIN)).sum(1))


def shares(score: Array, there: Array) -> Array:
    """Softmax of scores; zeros for a point without neighbours."""
    any_there = there.any(1, keepdims=True)
    logit = jnp.where(any_there, jnp.where(there, score, -jnp.inf), 0)
    return jnp.where(any_there, jax.nn.softmax(logit, axis=1), 0)
