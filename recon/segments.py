"""Sums, means, maxima and softmax over groups of rows, and connected components, in static shapes.

A segment is the set of rows with the same identifier: the edges into one hit, the hits of one particle. Rows where
`valid` is false belong to no segment. Identifiers of valid rows lie in 0 to count - 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, Shaped

from recon.types import Array

Values = Float[Array, "rows *features"]
Segments = Int32[Array, " rows"]
Valid = Bool[Array, " rows"]


def segment_sum(
    values: Values, segments: Segments, count: int, *, valid: Valid, is_sorted: bool = False
) -> Array:
    """Sum of the valid rows of every segment; 0 for a segment without any.

    Args:
        values: one row an item.
        segments: the segment of every row.
        count: number of segments.
        valid: false for padding; what such a row holds (NaN too) is not looked at.
        is_sorted: promise that `segments` ascends, padding included.
    """
    kept = jnp.where(_beside(valid, values), values, 0)
    return jax.ops.segment_sum(kept, segments, count, indices_are_sorted=is_sorted)


def segment_mean(
    values: Values, segments: Segments, count: int, *, valid: Valid, is_sorted: bool = False
) -> Array:
    """Mean of the valid rows of every segment; 0 for a segment without any. Arguments as in `segment_sum`."""
    total = segment_sum(values, segments, count, valid=valid, is_sorted=is_sorted)
    size = jax.ops.segment_sum(valid.astype(values.dtype), segments, count, indices_are_sorted=is_sorted)
    return total / jnp.maximum(_beside(size, total), 1)


def segment_max(
    values: Values,
    segments: Segments,
    count: int,
    *,
    valid: Valid,
    empty: float = 0.0,
    is_sorted: bool = False,
) -> Array:
    """Largest valid row of every segment; `empty` for a segment without any. Arguments as in `segment_sum`."""
    kept = jnp.where(_beside(valid, values), values, -jnp.inf)
    largest = jax.ops.segment_max(kept, segments, count, indices_are_sorted=is_sorted)
    size = jax.ops.segment_sum(valid.astype(jnp.int32), segments, count, indices_are_sorted=is_sorted)
    return jnp.where(_beside(size > 0, largest), largest, empty)


def segment_softmax(
    logits: Values, segments: Segments, count: int, *, valid: Valid, is_sorted: bool = False
) -> Array:
    """Softmax within every segment; 0 for padding. Arguments as in `segment_sum`.

    The largest logit is subtracted first, without a gradient of its own: it cancels.
    """
    largest = segment_max(jax.lax.stop_gradient(logits), segments, count, valid=valid, is_sorted=is_sorted)
    shifted = jnp.where(_beside(valid, logits), logits - largest[segments], -jnp.inf)
    weights = jnp.exp(shifted)
    total = segment_sum(weights, segments, count, valid=valid, is_sorted=is_sorted)[segments]
    # A padded row may name a segment without valid rows: 0 / 0.
    return weights / jnp.where(total > 0, total, 1)


def connected_components(
    senders: Int32[Array, " e"], receivers: Int32[Array, " e"], valid: Bool[Array, " e"], count: int
) -> Int32[Array, " count"]:
    """For every node the smallest node that valid edges lead to; a node without edges is its own.

    Pointer jumping as in FastSV (Zhang, Azad, Hu, arXiv:1910.05971): every node points to a smaller one of its
    component, each round hooks the pointers of both ends of every edge to the smaller grandparent and shortens all
    paths. About log2 of the diameter rounds.

    Args:
        senders: one end of every edge; the direction is of no account.
        receivers: the other end.
        valid: false for edges to leave out.
        count: number of nodes.
    """
    if count == 0 or senders.shape[0] == 0:
        return jnp.arange(count, dtype=jnp.int32)
    # An edge that is left out joins node 0 to itself.
    one, other = jnp.where(valid, senders, 0), jnp.where(valid, receivers, 0)

    def hook(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        parent, _ = state
        grandparent = parent[parent]
        smaller = jnp.minimum(grandparent[one], grandparent[other])
        hooked = parent.at[parent[one]].min(smaller).at[parent[other]].min(smaller)
        hooked = hooked.at[one].min(smaller).at[other].min(smaller)
        hooked = jnp.minimum(hooked, hooked[hooked])
        hooked = hooked[hooked]
        return hooked, jnp.any(hooked != parent)

    start = (jnp.arange(count, dtype=jnp.int32), jnp.asarray(True))
    return jax.lax.while_loop(lambda state: state[1], hook, start)[0]


def _beside(flags: Shaped[Array, " rows"], values: Array) -> Array:
    """Gives `flags` as many axes as `values`."""
    return flags.reshape(flags.shape + (1,) * (values.ndim - 1))
