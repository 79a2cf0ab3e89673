"""Results of a part of the points among those of all: for algorithms that look at some only. Host NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from recon.types import NOISE, DensityClusters


def to_rows(found: DensityClusters, rows: Int[np.ndarray, " k"], n: int) -> DensityClusters:
    """Spread the results of some rows over all of them; the others belong to nothing."""
    k = len(rows)

    def spread(column: np.ndarray, fill: Any) -> np.ndarray:
        full = np.full(n, fill, column.dtype)
        full[rows] = column[:k]
        return full

    through = np.append(rows.astype(np.int32), NOISE).astype(np.int32)
    return DensityClusters(
        spread(found.ids, NOISE),
        spread(found.rho, 0),
        spread(found.delta, np.inf),
        # NOISE is the last entry of the table.
        spread(through[found.nearest_higher[:k]], NOISE),
        spread(found.is_seed, False),
        found.n_clusters,
        found.overflow,
    )


def join_rows(parts: Sequence[tuple[DensityClusters, np.ndarray]], n: int) -> DensityClusters:
    """Put together the results of parts of the points that do not see each other (endcaps, kinds of sensors).

    Args:
        parts: results, and which rows they belong to; no row twice.
        n: number of all points.

    Returns:
        One result, with clusters numbered in the order of all seeds.
    """
    whole = [to_rows(found, rows, n) for found, rows in parts]
    joined = nothing(n)
    for spread, (_, rows) in zip(whole, parts, strict=True):
        for column, values in zip(joined[:5], spread[:5], strict=True):
            column[rows] = values[rows]
    number = np.cumsum(joined.is_seed) - 1
    ids = np.full(n, NOISE, np.int32)
    for spread in whole:
        # The cluster of a part is found again by its seed.
        seed = np.flatnonzero(spread.is_seed)
        seed = seed[np.argsort(spread.ids[seed])]
        member = spread.ids >= 0
        ids[member] = number[seed[spread.ids[member]]]
    return joined._replace(
        ids=ids,
        n_clusters=np.int32(joined.is_seed.sum()),
        overflow=np.bool_(any(bool(found.overflow) for found, _ in parts)),
    )


def nothing(n: int) -> DensityClusters:
    """The result for points that belong to nothing."""
    return DensityClusters(
        np.full(n, NOISE, np.int32),
        np.zeros(n, np.float32),
        np.full(n, np.inf, np.float32),
        np.full(n, NOISE, np.int32),
        np.zeros(n, bool),
        np.int32(0),
        np.bool_(False),
    )
