"""What the clustering of free points is given: checked, in single precision, with an order that breaks ties."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from recon.errors import DataError

MOST_AXES = 10


class PointCloud(NamedTuple):
    """Checked points.

    Attributes:
        points: coordinates, those of one axis next to each other in memory.
        weights: not negative.
        batch: number of the layer or event; `None` where all points belong together.
    """

    points: Float32[np.ndarray, "n d"]
    weights: Float32[np.ndarray, " n"]
    batch: Int32[np.ndarray, " n"] | None


def read_points(points: Any, weights: Any = None, batch: Any = None) -> PointCloud:
    """Check coordinates, weights (1 by default) and batches, and make arrays of single precision of them.

    Coordinates in double precision are first measured from the middle of their range: far from the origin, single
    precision would not tell them apart.

    Raises:
        DataError: shapes that do not fit, values that are not finite, weights below 0, batches that are not
            32-bit integers.
    """
    given = np.asarray(points)
    if given.ndim != 2 or not 1 <= given.shape[1] <= MOST_AXES:
        raise DataError(f"points have the shape {given.shape}: allowed is (n, 1 to {MOST_AXES})")
    _check_finite("points", given)
    if given.dtype != np.float32 and len(given):
        given = given.astype(float)
        given = given - _middle(given)
    n = len(given)
    weights = np.ones(n, np.float32) if weights is None else np.asarray(weights)
    if weights.shape != (n,):
        raise DataError(f"weights have the shape {weights.shape}: needed is one for each of {n} points")
    check_weights("weights", weights)
    return PointCloud(np.asfortranarray(given, np.float32), weights.astype(np.float32), _read_batch(batch, n))


def check_weights(name: str, weights: np.ndarray) -> None:
    """Refuse weights that are not finite in single precision or below 0.

    Raises:
        DataError: names the first such row.
    """
    _check_finite(name, weights)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise DataError(f"{name} is {weights[row]} in row {row}: allowed are values of 0 and more")


def position_rank(points: Float32[np.ndarray, "n d"], weights: Float32[np.ndarray, " n"]) -> np.ndarray:
    """Place of every point when they are sorted by the first coordinate, then by the second, ..., by weight, by row.

    Only points that agree in everything are told apart by their row: the rank does not depend on the order of the
    input otherwise.
    """
    n = len(points)
    # One integer sort is ten times as fast as a sort by several columns, which only equal first coordinates need.
    packed = np.sort((_ordered(points[:, 0]) << np.uint64(32)) | np.arange(n, dtype=np.uint64))
    order = (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = (packed[1:] >> np.uint64(32)) == (packed[:-1] >> np.uint64(32))
    unclear = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    if unclear.size:
        rows = order[unclear]
        columns = (rows, weights[rows], *(points[rows, axis] for axis in reversed(range(points.shape[1]))))
        order[unclear] = rows[np.lexsort(columns)]
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return rank


def _ordered(x: np.ndarray) -> np.ndarray:
    """Integers that compare as the numbers do; both zeros are one."""
    bits = (x + np.float32(0)).view(np.uint32)
    negative = bits >> np.uint32(31) != 0
    return np.where(negative, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)


def _middle(points: np.ndarray) -> np.ndarray:
    """Middle of the range along every axis; 0 where the range is near the origin anyway."""
    low, high = points.min(0), points.max(0)
    middle = (low + high) / 2
    return np.where(np.abs(middle) > high - low, middle, 0.0)


def _check_finite(name: str, values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        try:
            finite = np.isfinite(values.astype(np.float32, copy=False))
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} have the type {values.dtype}: allowed are numbers") from error
    if not finite.all():
        row = int(np.argmax(~finite.reshape(len(values), -1).all(1)))
        raise DataError(f"{name} are not finite (in single precision) in row {row}: {values[row].tolist()}")


def _read_batch(batch: Any, n: int) -> np.ndarray | None:
    if batch is None:
        return None
    batch = np.asarray(batch)
    if batch.shape != (n,):
        raise DataError(f"batch has the shape {batch.shape}: needed is one for each of {n} points")
    if n and (batch.dtype.kind not in "iu" or np.abs(batch.astype(np.int64)).max() >= 1 << 31):
        raise DataError(f"batch has the type {batch.dtype}: allowed are integers of 32 bits")
    return batch.astype(np.int32)
