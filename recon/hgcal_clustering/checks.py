"""What the clustering of showers asks of its input, checked on the host before anything is compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from recon.errors import DataError
from recon.types import Clusters, RecHits

LEAST_ROWS = 1024
"""Shortest array of a program: small events share one."""

_ROW_SHAPES = {"position": (3,), "energy": (), "layer": (), "cell": (), "sigma_noise": (), "valid": ()}


def check_rechits(hits: RecHits) -> None:
    """Refuse hits that the chain would misread.

    Raises:
        DataError: columns of different lengths; a valid hit that is not finite, has negative energy or noise, a layer
            below 0, or lies in the plane z = 0. Names the column, the row and the value.
    """
    n = len(hits.layer)
    for name, column in hits._asdict().items():
        if column.shape != (n, *_ROW_SHAPES[name]):
            raise DataError(
                f"hits.{name} has shape {column.shape}; needed is one event, {(n, *_ROW_SHAPES[name])}"
            )
    rows = np.flatnonzero(hits.valid)
    check_points("hits", hits.position[rows], hits.energy[rows], rows, one_side=False)
    for name, least in (("layer", 0), ("sigma_noise", 0.0)):
        values = np.asarray(getattr(hits, name))[rows]
        _refuse(~(values >= least) | ~np.isfinite(values), f"hits.{name}", values, rows, f"{least} or more")


def check_points(
    what: str,
    position: Float[np.ndarray, "n 3"],
    energy: Float[np.ndarray, " n"],
    rows: Int[np.ndarray, " n"],
    *,
    one_side: bool = True,
) -> None:
    """Refuse points that no shower can be made of.

    Args:
        what: the points are.
        position: mm.
        energy: GeV.
        rows: numbers of the points for the message.
        one_side: whether all must lie on one side of the plane z = 0.

    Raises:
        DataError: a position or an energy is not finite, an energy below 0, a point in the plane z = 0, or points on
            both sides of it.
    """
    z = position[:, 2]
    _refuse(~np.isfinite(position).all(1), f"{what}: position", position, rows, "finite")
    _refuse(~(np.isfinite(energy) & (energy >= 0)), f"{what}: energy", energy, rows, "0 or more")
    _refuse(z == 0, f"{what}: z", z, rows, "not 0: showers are seen from the interaction point")
    if one_side and len(z):
        _refuse(
            np.sign(z) != np.sign(z[0]),
            f"{what}: z",
            z,
            rows,
            "on one side of the plane z = 0, one endcap a call",
        )


def large_clusters(
    clusters: Clusters, min_size: int
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k 3"], Float[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Rows, positions, energies and layers of the layer clusters with enough hits, checked.

    Args:
        clusters: of one endcap, on the host.
        min_size: least number of hits of a layer cluster.

    Raises:
        DataError: see `check_points`.
    """
    rows = np.flatnonzero(clusters.valid & (clusters.size >= min_size))
    position, energy, layer = (
        np.asarray(column)[rows] for column in (clusters.position, clusters.energy, clusters.layer)
    )
    check_points("layer clusters", position, energy, rows)
    return rows, position, energy, layer


def _refuse(bad: np.ndarray, what: str, values: np.ndarray, rows: np.ndarray, allowed: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{what} is {values[first].tolist()} in row {int(rows[first])}; allowed is {allowed} "
            f"({int(bad.sum())} such rows)"
        )


def pad_rows(column: Shaped[np.ndarray, n * row], length: int) -> Shaped[np.ndarray, m * row]:
    """Add rows of zeros."""
    return np.pad(column, [(0, length - len(column))] + [(0, 0)] * (column.ndim - 1))
