"""The part of `recon reconstruct hgcal` that clusters points from a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recon.commands import console, is_csv, progress_bars
from recon.errors import ConfigError
from recon.hgcal_clustering.clue import clue
from recon.io.point_clouds import read_point_cloud, write_cluster_ids


def cluster_point_cloud(
    file: Path, output: Path, d_c: float | None, rho_c: float | None, outlier_delta_factor: float
) -> dict[str, Any]:
    """Cluster the points of a file with CLUE and write the cluster of each.

    Args:
        file: CSV with the columns x0, x1, ... (or x, y, z) and weight.
        output: CSV.
        d_c: radius of the density, in the unit of the file.
        rho_c: least density of a seed, in that of the weights.
        outlier_delta_factor: in units of `d_c`, how far points below `rho_c` look for a denser one.

    Returns:
        Settings and counts, for JSON.

    Raises:
        ConfigError: a setting is missing or out of range, or the output is no CSV file.
        DataError: a file that cannot be used, by line and column.
    """
    if not is_csv(output):
        raise ConfigError(f"the clusters of the points in {file} are written as CSV, not to {output}")
    if d_c is None or rho_c is None:
        raise ConfigError(f"points, as in {file}, have scales of their own: say --d-c and --rho-c")
    with progress_bars() as report:
        report("points", 0, 1)
        cloud = read_point_cloud(file)
        report("points", 0, len(cloud.points))
        found = clue(
            cloud.points, cloud.weight, d_c=d_c, rho_c=rho_c, outlier_delta_factor=outlier_delta_factor
        )
        write_cluster_ids(output, cloud, found.ids, found.is_seed)
        report("points", len(cloud.points), len(cloud.points))
    n, outliers = len(found.ids), int(np.sum(found.ids < 0))
    console.print(
        f"{int(found.n_clusters):,} clusters and {outliers:,} outliers of {n:,} points written to {output}"
    )
    settings = {"d_c": d_c, "rho_c": rho_c, "outlier_delta_factor": outlier_delta_factor}
    counts = {"points": n, "clusters": int(found.n_clusters), "outliers": outliers}
    return settings | counts | {"output": str(output)}
