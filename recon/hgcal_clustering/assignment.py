"""From nearest higher points to clusters: seeds, the way to them, and their numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.ranges import cumulative
from recon.types import NOISE, Array, DensityClusters


def follow(nearest_higher: Int32[Array, " n"]) -> Int32[Array, " n"]:
    """Row at the end of the way that leads from every point to its nearest higher point, to that one's, and so on.

    All ways are halved in every round, so that a few rounds do for the longest.

    Args:
        nearest_higher: -1 where a way ends. Densities rise along a way, so none comes back to where it was.
    """
    n = nearest_higher.shape[0]
    here = jnp.where(nearest_higher < 0, jnp.arange(n, dtype=jnp.int32), nearest_higher)

    def shorten(state: tuple[Array, Array]) -> tuple[Array, Array]:
        at, _ = state
        ahead = at[at]
        return ahead, jnp.any(ahead != at)

    return jax.lax.while_loop(lambda state: state[1], shorten, (here, jnp.asarray(n > 0)))[0]


def assign(
    rho: Float32[Array, " n"],
    delta: Float32[Array, " n"],
    nearest_higher: Int32[Array, " n"],
    rho_c: Float32[Array, ...],
    valid: Bool[Array, " n"],
    overflow: Bool[Array, ""] | bool = False,
) -> DensityClusters:
    """Make every dense point without a nearest higher one a seed, and give its number to all that lead to it.

    Args:
        rho: local densities.
        delta: distance to `nearest_higher`.
        nearest_higher: row of the nearest point of higher density within the reach of a point; -1 for none.
        rho_c: least density of a seed, one number or one a point.
        valid: false for padding.
        overflow: whether what was given is incomplete.
    """
    is_seed = valid & (nearest_higher < 0) & (rho >= rho_c)
    number = jnp.where(is_seed, cumulative(is_seed.astype(jnp.int32)) - 1, NOISE)
    ids = jnp.where(valid, number[follow(nearest_higher)], NOISE)
    count = jnp.sum(is_seed, dtype=jnp.int32)
    return DensityClusters(ids, rho, delta, nearest_higher, is_seed, count, jnp.asarray(overflow))
