"""Point clouds as CSV: one line a point, the coordinates `x0` to `x9` or `x`, `y`, `z`, and `weight`."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from recon.errors import DataError
from recon.io.csv_table import read_table, require_finite, write_table

MAX_DIMENSIONS = 10


class PointCloud(NamedTuple):
    """Weighted points.

    Attributes:
        points: coordinates, in the unit of the file.
        weight: of every point.
    """

    points: Float64[np.ndarray, "n d"]
    weight: Float64[np.ndarray, " n"]


def read_point_cloud(path: str | Path) -> PointCloud:
    r"""Read a point cloud; columns other than coordinates and weight are left out.

    Args:
        path: `.csv` or `.csv.gz` with a header line.

    Returns:
        The points in the order of the file.

    Raises:
        DataError: naming file, line and column: no coordinates, a gap among them, no weight, a cell that is no finite
            number, a damaged file.

    Example:
        >>> from pathlib import Path
        >>> from recon.io.point_clouds import read_point_cloud
        >>> _ = Path("cloud.csv").write_text("x0,x1,weight\n1,2,0.5\n")
        >>> read_point_cloud("cloud.csv").points
        array([[1., 2.]])
    """
    path = Path(path)
    names = _coordinates(path)
    table = read_table(path, dict.fromkeys([*names, "weight"], "float64"))
    require_finite(table, *names, "weight")
    return PointCloud(np.stack([table[name] for name in names], axis=1), table["weight"])


def write_point_cloud(path: str | Path, cloud: PointCloud) -> None:
    """Write a point cloud; reading it back gives the same numbers.

    Args:
        path: `.csv`, or `.csv.gz` to compress.
        cloud: with 1 to 10 dimensions.

    Raises:
        DataError: too many dimensions, or as many weights as points are not there.
        ConfigError: where the folder does not exist.
    """
    n, dimensions = cloud.points.shape
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise DataError(f"{path}: points have {dimensions} dimensions; allowed are 1 to {MAX_DIMENSIONS}")
    if len(cloud.weight) != n:
        raise DataError(f"{path}: {len(cloud.weight)} weights for {n} points")
    columns = {f"x{i}": cloud.points[:, i] for i in range(dimensions)}
    write_table(Path(path), {**columns, "weight": cloud.weight})


def _coordinates(path: Path) -> list[str]:
    """Names of the coordinates in the header line."""
    header = _header(path)
    for names in ([f"x{i}" for i in range(MAX_DIMENSIONS)], ["x", "y", "z"]):
        found = [name for name in names if name in header]
        if found and found == names[: len(found)]:
            break
    else:
        expected = "the columns x0, x1, ... (or x, y, z) without a gap, and weight"
        raise DataError(f"{path}, line 1: expected {expected}; found {header}")
    if f"x{MAX_DIMENSIONS}" in header:
        raise DataError(f"{path}, line 1: column x{MAX_DIMENSIONS}; allowed are {MAX_DIMENSIONS} dimensions")
    return found


def _header(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            line = stream.readline().decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read, truncated or damaged: {problem}") from problem
    return [name.strip() for name in line.split(",")]


def write_cluster_ids(
    path: str | Path, cloud: PointCloud, ids: Int[np.ndarray, " n"], is_seed: Bool[np.ndarray, " n"]
) -> None:
    """Write points with the cluster of each, in the columns of CLUEstering's files: `cluster_ids` and `is_seed`.

    Args:
        path: `.csv`, or `.csv.gz` to compress.
        cloud: the points.
        ids: cluster of every point; -1 for none.
        is_seed: true where a cluster begins.

    Raises:
        DataError: as many ids or seeds as points are not there.
        ConfigError: where the folder does not exist.
    """
    n = len(cloud.points)
    if not len(ids) == len(is_seed) == n:
        raise DataError(f"{path}: {len(ids)} ids and {len(is_seed)} seeds for {n} points")
    points = {f"x{axis}": column for axis, column in enumerate(cloud.points.T)}
    found = {"cluster_ids": np.asarray(ids, np.int32), "is_seed": np.asarray(is_seed, np.int32)}
    write_table(Path(path), {**points, "weight": cloud.weight, **found})
