"""Which hit lies in a cell: a bit for every cell, and for every eight of them how many hits come before.

A few cells in a hundred have a hit. A row number for each would be a table of many megabytes, filled anew for every
event; this one has an eighth of the size, and the number of a hit is a count of bits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32

from recon.ranges import cumulative
from recon.types import Array

_WORD = 3
"""Cells of a word, as a power of two."""
_BITS = 24
"""The lower bits of a word count hits: up to 16 million."""


class CellTable(NamedTuple):
    """Hits by cell.

    Attributes:
        words: for eight cells, in the upper bits which of them have a hit, below the number of hits before them.
        row_of: row of every hit in the order of the cells; `None` where the rows are in that order.
    """

    words: Int32[Array, " w"]
    row_of: Int32[Array, " n"] | None

    def find(self, cell: Int32[Array, ...], nothing: int) -> Int32[Array, ...]:
        """The rows of the hits in some cells, all of which exist; `nothing` where there is none."""
        word = take(self.words, cell >> _WORD)
        bit = cell & ((1 << _WORD) - 1)
        # Shifting twice keeps all of this in one loop; with the upper bits as a value of their own XLA writes them out.
        shift = jax.lax.shift_right_logical
        before = jax.lax.population_count(shift(word, _BITS) & ((1 << bit) - 1))
        rank = (word & ((1 << _BITS) - 1)) + before
        row = rank if self.row_of is None else self.row_of.at[rank].get(mode="clip")
        return jnp.where((shift(word, _BITS + bit) & 1) > 0, row, nothing)


def cell_table(
    cell: Int32[Array, " n"], valid: Bool[Array, " n"], n_cells: int, *, ordered: bool = False
) -> CellTable:
    """Make the table of an event.

    Args:
        cell: of every hit, 0 to `n_cells` - 1, no two alike. Of two hits in a cell at most one finds itself there.
        valid: false for padding, which is in no cell.
        n_cells: number of cells.
        ordered: whether the valid hits come first, in the order of their cells.

    Example:
        >>> import jax.numpy as jnp
        >>> table = cell_table(jnp.array([9, 3]), jnp.ones(2, bool), 12)
        >>> table.find(jnp.arange(12), -1).tolist()
        [-1, -1, -1, 1, -1, -1, -1, -1, -1, 0, -1, -1]
    """
    n = cell.shape[0]
    row = jnp.arange(n, dtype=jnp.int32)
    n_words = (n_cells >> _WORD) + 1
    word = jnp.where(valid, cell >> _WORD, n_words)
    there = jnp.int32(1) << (_BITS + (cell & ((1 << _WORD) - 1)))
    empty = jnp.zeros(n_words, jnp.int32)
    if ordered:
        # The first hit of a word says how many are before it.
        first = jnp.append(jnp.ones(min(n, 1), bool), word[1:] != word[:-1])
        return CellTable(empty.at[word].add(there + jnp.where(first, row, 0), mode="drop"), None)
    words = empty.at[word].add(there, mode="drop")
    count = jax.lax.population_count(words)
    words += cumulative(count) - count
    rank = CellTable(words, None).find(jnp.where(valid, cell, 0), n)
    row_of = jnp.zeros(n, jnp.int32).at[jnp.where(valid, rank, n)].set(row, mode="drop")
    return CellTable(words, row_of)


def take(table: Array, index: Int32[Array, ...]) -> Array:
    """Rows of a table that are known to exist: no look at the sign of the index."""
    return table.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
