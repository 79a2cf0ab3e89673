"""Sums and nearest neighbours over windows: contiguous ranges of sorted points that hold all that are close enough.

Points that are close in space lie close to each other after a sort into tiles (`recon.hgcal_clustering.tiles`), so
all that a point can have as neighbours are a few ranges, its windows. The loops here visit them slot by slot, for
blocks of points at a time, with one gather for each field and no array larger than a block: on a CPU everything a
loop touches stays in the nearest cache. What is counted or compared is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from recon.types import Array

BLOCK = 1024
"""Points that a CPU works on at a time; other devices take all at once."""

Fields = Any
"""A tree of arrays with one row a point."""


class Windows(NamedTuple):
    """Where points search.

    Attributes:
        query: row of the point that searches; the number of points for padding. Points with windows of about the
            same total length should be next to each other: a block takes as long as its longest.
        low: first slot of every window.
        high: one past its last slot; not above `low` for an empty window. Windows of a point do not overlap.
    """

    query: Int32[Array, " q"]
    low: Int32[Array, "r q"]
    high: Int32[Array, "r q"]


def sum_over(
    windows: Windows, fields: Fields, contribution: Callable[[Fields, Fields], Float[Array, " b"]]
) -> Float[Array, " q"]:
    """Sum over all points in the windows of every query, itself included where it lies in them.

    Args:
        windows: ranges of rows of `fields`.
        fields: arrays with one row a point.
        contribution: given the fields of queries and those of one candidate each, what each candidate adds.
    """
    fields = jax.tree.map(jnp.asarray, fields)

    def block(here: Fields, slots: _Slots) -> Array:
        def visit(slot: Array, total: Array) -> Array:
            candidate = slots.candidate(slot)
            added = contribution(here, _rows(fields, jnp.maximum(candidate, 0)))
            return total + jnp.where(candidate >= 0, added, 0)

        return jax.lax.fori_loop(0, slots.longest, visit, jnp.zeros(slots.end.shape[1]))

    return _by_blocks(windows, fields, block)


def nearest_over(
    windows: Windows,
    fields: Fields,
    distance: Callable[[Fields, Fields], Float[Array, " b"]],
    rank: Int32[Array, " n"],
) -> tuple[Int32[Array, " q"], Float[Array, " q"]]:
    """Row of the nearest point in the windows of every query and its distance; -1 and infinity where there is none.

    Args:
        windows: ranges of rows of `fields`.
        fields: arrays with one row a point.
        distance: given the fields of queries and those of one candidate each, how far each is; infinite for
            those that do not count.
        rank: breaks ties: of points at the same distance the one of lowest rank is taken.
    """
    fields, rank = jax.tree.map(jnp.asarray, (fields, rank))

    def block(here: Fields, slots: _Slots) -> tuple[Array, Array]:
        size = slots.end.shape[1]

        def look(candidate: Array) -> tuple[Array, Array]:
            there = jnp.maximum(candidate, 0)
            apart = distance(here, _rows(fields, there))
            return jnp.where(candidate >= 0, apart, jnp.inf), rank[there]

        def visit(slot: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            # XLA computes what a loop carries once for each array. What is costly, the look at a candidate and the
            # way to it, is therefore carried itself and used one turn later.
            best, best_rank, best_slot, apart, its_rank, candidate = state
            better = (apart < best) | ((apart == best) & (its_rank < best_rank))
            return (
                jnp.minimum(best, apart),
                jnp.where(better, its_rank, best_rank),
                jnp.where(better, slot - 2, best_slot),
                *look(candidate),
                slots.candidate(slot),
            )

        nothing, no_row = jnp.full(size, jnp.inf), jnp.full(size, -1, jnp.int32)
        # An infinite distance never wins: the rank it is compared with is lower than any.
        start = (nothing, no_row, no_row, nothing, no_row, no_row)
        best, _, slot, *_ = jax.lax.fori_loop(0, slots.longest + 2, visit, start)
        return jnp.where(slot >= 0, slots.candidate(slot), -1), best

    return _by_blocks(windows, fields, block)


def by_row(column: Array, row_at: Int32[Array, " n"], query: Int32[Array, " q"], values: Array) -> Array:
    """The column with the values of some queries, which are places in a list of rows."""
    n = column.shape[0]
    row = jnp.where(query < n, row_at[jnp.minimum(query, n - 1)], n)
    return column.at[row].set(values, mode="drop")


class _Slots(NamedTuple):
    """The windows of a block of points, joined end to end: slot k of a point lies in the window it falls into."""

    shift: Int32[Array, "r b"]
    end: Int32[Array, "r b"]
    longest: Int32[Array, ""]

    def candidate(self, slot: Array) -> Array:
        """Row of the point in a slot, -1 where there is none."""
        shift = self.shift[0]
        for window in range(1, self.shift.shape[0]):
            shift = jnp.where(slot >= self.end[window - 1], self.shift[window], shift)
        return jnp.where(slot < self.end[-1], shift + slot, -1)


def _slots(low: Array, high: Array) -> _Slots:
    length = jnp.maximum(high - low, 0)
    end = jnp.cumsum(length, 0)
    return _Slots(low - (end - length), end, jnp.max(end[-1], initial=0))


def _rows(fields: Fields, row: Array) -> Fields:
    return jax.tree.map(lambda column: column[row], fields)


def _by_blocks(windows: Windows, fields: Fields, block: Callable[[Fields, _Slots], Any]) -> Any:
    """Apply `block` to blocks of queries, on the kind of device that runs the program."""
    n_queries = windows.query.shape[0]
    if n_queries == 0 or n_queries <= BLOCK:
        return _in_blocks(windows, fields, block=block, size=n_queries)
    return jax.lax.platform_dependent(
        windows,
        fields,
        cpu=partial(_in_blocks, block=block, size=BLOCK),
        default=partial(_in_blocks, block=block, size=n_queries),
    )


def _in_blocks(windows: Windows, fields: Fields, *, block: Callable[[Fields, _Slots], Any], size: int) -> Any:
    n_queries = windows.query.shape[0]
    if n_queries <= size:
        return block(_rows(fields, windows.query), _slots(windows.low, windows.high))
    n_blocks = -(-n_queries // size)
    spare = n_blocks * size - n_queries

    def cut(column: Array) -> Array:
        padded = jnp.pad(column, [(0, 0)] * (column.ndim - 1) + [(0, spare)])
        return jnp.moveaxis(padded.reshape(*column.shape[:-1], n_blocks, size), -2, 0)

    def one(part: Windows) -> Any:
        return block(_rows(fields, part.query), _slots(part.low, part.high))

    found = jax.lax.map(one, Windows(*(cut(column) for column in windows)))
    return jax.tree.map(lambda column: column.reshape(-1)[:n_queries], found)
