"""Ragged ranges in static shapes: the one building block behind every candidate search.

A search that finds a variable number of partners for each of `q` queries is a list of ranges into a sorted
table. XLA wants rectangles, so the ranges are cut into chunks of `width` slots, the chunks are laid out one
after the other in an array of fixed capacity, and what does not fit raises a flag.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32


class Chunks(NamedTuple):
    """Ranges cut into chunks, in the order of the queries.

    Attributes:
        row: query that the chunk belongs to; padding repeats the last one.
        offset: place of the chunk's first slot within its query's range; past the range for padding.
        needed: number of chunks that all ranges need; more than the capacity means overflow.
    """

    row: Int32[Array, " c"]
    offset: Int32[Array, " c"]
    needed: Int32[Array, ""]


_BLOCK = 64
_SHORT = 512


def cumulative(x: Int32[Array, " n"], kind: str = "sum") -> Int32[Array, " n"]:
    """Inclusive running sum or maximum of a long vector.

    `jnp.cumsum` costs n log n on a CPU. Here the vector is folded into columns, a scan runs down all columns
    at once, and the totals of the columns are combined in a second, short pass.

    Args:
        x: values; for `"max"` they must not be negative.
        kind: `"sum"` or `"max"`.
    """
    combine = jnp.add if kind == "sum" else jnp.maximum
    short = jnp.cumsum if kind == "sum" else jax.lax.cummax
    n = x.shape[0]
    if n <= _SHORT:
        return short(x)
    columns = -(-n // _BLOCK)
    folded = jnp.pad(x, (0, columns * _BLOCK - n)).reshape(columns, _BLOCK)

    def step(carry: Array, value: Array) -> tuple[Array, Array]:
        carry = combine(carry, value)
        return carry, carry

    total, inner = jax.lax.scan(step, jnp.zeros(columns, x.dtype), folded.T)
    before = jnp.concatenate([jnp.zeros(1, x.dtype), cumulative(total, kind)[:-1]])
    return combine(inner.T, before[:, None]).reshape(-1)[:n]


def chunk_ranges(count: Int32[Array, " q"], width: int, capacity: int) -> Chunks:
    """Cut one range a query into chunks of `width` slots.

    Args:
        count: length of every query's range.
        width: slots a chunk; the last chunk of a range may be partly empty.
        capacity: number of chunks to lay out.
    """
    n_chunks = (count + (width - 1)) // width
    end = cumulative(n_chunks)
    start = end - n_chunks
    query = jnp.arange(count.shape[0], dtype=jnp.int32)
    # A query marks the place of its first chunk, and a running maximum carries the mark over the rest.
    place = jnp.where(n_chunks > 0, start, capacity)
    row = cumulative(jnp.zeros(capacity, jnp.int32).at[place].max(query, mode="drop"), "max")
    offset = (jnp.arange(capacity, dtype=jnp.int32) - start[row]) * width
    return Chunks(row, offset, end[-1])


def compact(keep: Bool[Array, " n"], capacity: int) -> tuple[Int32[Array, " c"], Int32[Array, ""]]:
    """Positions of the true entries, in order, padded with `n` (out of range); and how many there are."""
    n = keep.shape[0]
    padded = jnp.pad(keep, (0, -n % _BITS)).reshape(-1, _BITS)
    chunk, slot, needed = compact_slots(padded, capacity)
    present = jnp.arange(capacity) < needed
    return jnp.where(present, chunk * _BITS + slot, n), needed


_BITS = 8
# For every byte the positions of its set bits, lowest first: the k-th true slot of a chunk is one look-up.
_SET_BITS = np.zeros((1 << _BITS, _BITS), np.int32)
for _byte in range(1 << _BITS):
    _places = [bit for bit in range(_BITS) if _byte >> bit & 1]
    _SET_BITS[_byte, : len(_places)] = _places


def compact_slots(
    keep: Bool[Array, "c 8"], capacity: int
) -> tuple[Int32[Array, " k"], Int32[Array, " k"], Int32[Array, ""]]:
    """(chunk, slot) of the true entries of eight-slot chunks, in order, and how many there are.

    Nothing longer than the number of chunks is scanned and nothing longer than `capacity` is gathered, which
    makes this several times faster than ranking every slot. Entries past the count repeat the last chunk.
    """
    bits = (keep.astype(jnp.int32) << jnp.arange(_BITS)).sum(1)
    kept = chunk_ranges(jax.lax.population_count(bits), 1, capacity)
    slot = jnp.asarray(_SET_BITS)[bits[kept.row], jnp.clip(kept.offset, 0, _BITS - 1)]
    return kept.row, slot, kept.needed
