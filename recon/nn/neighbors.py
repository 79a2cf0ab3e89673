"""Nearest neighbours of every point of a small cloud, without a sort.

XLA sorts slowly on a CPU, and `lax.top_k` is a sort there: k successive minima take half of its time. Each is
two reductions, one for the distance and one for the row that has it. Distance and row packed into one integer would be
one, but the bits that the row takes decide near ties, and a neighbour exchanged moves a score by 1e-3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from recon.errors import ConfigError

_PADDING = 1e30
"""Distance of padding: nobody's neighbour while a valid point is left."""


def nearest_neighbors(points: Float32[Array, "n d"], valid: Bool[Array, " n"], k: int) -> Int32[Array, "n k"]:
    """Rows of the k points nearest to every point, the nearest first, without the point itself.

    Args:
        points: coordinates; squared distances must stay below 1e30.
        valid: false for padding, which is taken only where fewer than k other valid points exist.
        k: number of neighbours.

    Returns:
        The lower row first where distances are equal.

    Raises:
        ConfigError: k is not between 1 and n - 1.

    Source:
        The neighbours of ParticleNet (arXiv:1902.08570) by the expanded square |a|^2 + |b|^2 - 2 a b.
    """
    n = len(points)
    if not 1 <= k < n:
        raise ConfigError(f"{k} neighbours of each of {n} points were asked for; allowed: 1 to {n - 1}")
    points = jax.lax.stop_gradient(points)
    norm = jnp.square(points).sum(-1)
    distance = jnp.maximum(norm[:, None] + norm[None] - 2 * points @ points.T, 0)
    distance = jnp.where(valid[:, None], distance, _PADDING)
    distance = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, distance)
    rows = jnp.arange(n, dtype=jnp.int32)[:, None]
    # The matrix is symmetric: minima down the columns work on whole rows at a time.
    found, last, row = [], jnp.full(n, -1.0), jnp.full(n, -1, jnp.int32)
    for _ in range(k):
        # From the distances themselves at every step: a matrix that lost an entry each would be computed k times over.
        left = (distance > last) | ((distance == last) & (rows > row))
        last = jnp.where(left, distance, jnp.inf).min(0)
        row = jnp.where(left & (distance == last), rows, n - 1).min(0)
        found.append(row)
    return jnp.stack(found, -1)
