"""Row by row functions of long arrays, cut into blocks that stay in a CPU's cache.

Run array by array, a network of many rows reads and writes every intermediate result in main memory, and its gradient
keeps them all. In blocks of rows they live in the cache, and the gradient keeps nothing but the inputs: it computes the
inside of a block again while that is at hand. On an accelerator all rows are one block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK = 16_384
"""Numbers in one array of a block on a CPU: the half dozen arrays of a block fit into half a megabyte."""


def block_rows(count: int, width: int) -> int:
    """Rows of a block on a CPU.

    Args:
        count: rows in all.
        width: numbers a row of the widest array has.
    """
    most = min(max(1, BLOCK // width), max(1, count))
    # A length that fits in whole is worth shorter blocks: the rest would have to be padded.
    return next((rows for rows in range(most, most // 2, -1) if count % rows == 0), most)


def on_platform(function: Callable[..., Any], count: int, width: int) -> Callable[..., Any]:
    """The function with `rows=` a block's on a CPU and all rows elsewhere, chosen when it is compiled."""
    small = partial(function, rows=block_rows(count, width))
    return partial(jax.lax.platform_dependent, cpu=small, default=partial(function, rows=max(1, count)))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def map_rows(
    function: Callable[[Any, Array], Array], width: int, weights: Any, inputs: Float[Array, "rows i"]
) -> Float[Array, "rows o"]:
    """`function(weights, inputs)` for a function that treats every row alike.

    Args:
        function: of weights and a block of rows; the same object at every call, so that programs are found again.
        width: numbers a row of its widest intermediate result has.
        weights: a tree of arrays.
        inputs: one row each.
    """
    return on_platform(partial(_forward, function), len(inputs), width)(weights, inputs)


def _map_forward(function: Any, width: int, weights: Any, inputs: Array) -> tuple[Array, tuple[Any, Array]]:
    return map_rows(function, width, weights, inputs), (weights, inputs)


def _map_backward(function: Any, width: int, saved: tuple[Any, Array], slope: Array) -> tuple[Any, Array]:
    return on_platform(partial(_backward, function), len(slope), width)(*saved, slope)


map_rows.defvjp(_map_forward, _map_backward)


def _start(number: Array, rows: int, count: int) -> Array:
    """First row of a block; the last one begins early rather than end late."""
    return jnp.minimum(number * rows, count - rows)


def _forward(function: Any, weights: Any, inputs: Array, *, rows: int) -> Array:
    count = len(inputs)
    if count <= rows:
        return function(weights, inputs)

    def block(number: Array, outputs: Array) -> Array:
        start = _start(number, rows, count)
        result = function(weights, jax.lax.dynamic_slice_in_dim(inputs, start, rows))
        return jax.lax.dynamic_update_slice_in_dim(outputs, result, start, 0)

    shape = jax.eval_shape(function, weights, inputs)
    return jax.lax.fori_loop(0, -(-count // rows), block, jnp.zeros(shape.shape, shape.dtype))


def _backward(function: Any, weights: Any, inputs: Array, slope: Array, *, rows: int) -> tuple[Any, Array]:
    count = len(inputs)
    if count <= rows:
        return jax.vjp(function, weights, inputs)[1](slope)

    def block(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
        start = _start(number, rows, count)
        # Rows that the last block has in common with the one before must not count twice in the weights.
        first = (start + jnp.arange(rows) >= number * rows)[:, None]
        part, behind = (jax.lax.dynamic_slice_in_dim(array, start, rows) for array in (inputs, slope))
        of_weights, of_inputs = jax.vjp(function, weights, part)[1](jnp.where(first, behind, 0))
        before = jax.lax.dynamic_slice_in_dim(carry[1], start, rows)
        of_inputs = jnp.where(first, of_inputs, before)
        return (
            jax.tree.map(jnp.add, carry[0], of_weights),
            jax.lax.dynamic_update_slice_in_dim(carry[1], of_inputs, start, 0),
        )

    zeros = jax.tree.map(jnp.zeros_like, weights), jnp.zeros_like(inputs)
    return jax.lax.fori_loop(0, -(-count // rows), block, zeros)


def each_item(function: Callable[[Any, Any], Array], weights: Any, items: Any) -> Array:
    """`function(weights, item)` for every item: on a CPU one after another, so that each stays in the cache.

    Args:
        function: of weights and one item.
        weights: a tree of arrays.
        items: a tree of arrays whose first axis counts the items.

    Returns:
        The results along a new first axis.
    """
    one = partial(function, weights)
    if jax.tree.leaves(items)[0].shape[0] == 1:
        return jax.vmap(one)(items)
    return jax.lax.platform_dependent(items, cpu=partial(jax.lax.map, one), default=jax.vmap(one))
