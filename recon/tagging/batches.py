"""Compiled programs on any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recon.padding import bucket_size


def in_batches(program: Callable[[Any], Any], rows: Any, batch: int) -> Any:
    """Apply a program to rows, in parts of few sizes.

    Args:
        program: tree of arrays to tree of arrays, all with an axis of rows in front.
        rows: tree of host arrays; of no rows at all the program sees padding alone.
        batch: most rows at once; fewer are padded with zeros to a ladder of sizes.

    Returns:
        Host arrays.
    """
    count = len(jax.tree.leaves(rows)[0])
    parts = [
        _in_one(program, jax.tree.map(lambda array, at=start: array[at : at + batch], rows), batch)
        for start in range(0, max(count, 1), batch)
    ]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def _in_one(program: Callable[[Any], Any], rows: Any, batch: int) -> Any:
    count = len(jax.tree.leaves(rows)[0])
    # One is the commonest call of all: it has a program of its own.
    size = count if count == 1 else min(bucket_size(count, 8, steps_per_octave=1), batch)

    def padded(array: np.ndarray) -> jax.Array:
        return jnp.asarray(np.pad(array, [(0, size - count)] + [(0, 0)] * (array.ndim - 1)))

    return jax.tree.map(lambda array: np.asarray(array)[:count], program(jax.tree.map(padded, rows)))
