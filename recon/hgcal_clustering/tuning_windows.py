"""What parameters are tuned on: the layer clusters around one particle, and what it gave to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32

from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, project
from recon.hgcal_clustering.soft import neighbour_table
from recon.hgcal_clustering.training_data import TrainingEvent, sides
from recon.types import Array, Clusters

Choose = Callable[[Clusters], Int[np.ndarray, " k"]]
"""Rows of the layer clusters that an algorithm looks at."""

PLANE = ClusterClueConfig().plane
_TABLE_RADIUS = 70.0
_WINDOW = 130.0


class TuningWindow(NamedTuple):
    """Layer clusters around one particle, padded.

    Attributes:
        position: mm; that of padding is not in the plane z = 0.
        layer: number.
        energy: GeV; 0 for padding.
        own: what the particle gave, GeV.
        total: what it gave in all, GeV.
        neighbours: of `neighbour_table`.
    """

    position: Float32[Array, "n 3"]
    layer: Int32[Array, " n"]
    energy: Float32[Array, " n"]
    own: Float32[Array, " n"]
    total: Float32[Array, ""]
    neighbours: Int32[Array, "n k"]


def tuning_windows(
    event: TrainingEvent, choose: Choose, *, layer_step: float, energy_min: float, size: int, slots: int
) -> list[TuningWindow]:
    """Windows around the particles above an energy; what does not fit, the softest first, is left out.

    Args:
        event: with truth.
        choose: the layer clusters that the algorithm looks at.
        layer_step: how far apart two layers are where the nearest neighbours are chosen, mm.
        energy_min: of the particles, GeV.
        size: layer clusters of a window.
        slots: neighbours of a layer cluster; the nearest stay.
    """
    windows = []
    shares = event.shares
    for clusters in sides(event.clusters):
        rows = choose(clusters)
        place = project(clusters.position[rows], clusters.layer[rows], PLANE, layer_step)
        for particle in np.flatnonzero(event.energy >= energy_min):
            own = np.zeros(len(clusters.valid))
            mine = shares.particle == particle
            own[shares.cluster[mine]] = shares.energy[mine]
            given = own[rows]
            if np.count_nonzero(given) < 2:
                continue
            centre = np.average(place[:, :2], axis=0, weights=given)
            near = np.flatnonzero(np.hypot(*(place[:, :2] - centre).T) < _WINDOW)
            near = near[np.argsort(-clusters.energy[rows[near]], kind="stable")][:size]
            one = rows[near]
            columns = (clusters.position[one], clusters.layer[one], clusters.energy[one], given[near])
            windows.append(_window(columns, given.sum(), _nearest(place[near], slots), size))
    return windows


def _nearest(points: np.ndarray, slots: int) -> Int32[np.ndarray, "n k"]:
    """The table of neighbours with the nearest in its slots."""
    table = neighbour_table(points, _TABLE_RADIUS)
    apart = np.linalg.norm(points[:, None] - points[np.maximum(table, 0)], axis=2)
    order = np.argsort(np.where(table >= 0, apart, np.inf), 1, kind="stable")[:, :slots]
    found = np.take_along_axis(table, order, 1)
    return np.pad(found, ((0, 0), (0, slots - found.shape[1])), constant_values=-1)


def _window(columns: tuple[np.ndarray, ...], total: float, neighbours: np.ndarray, size: int) -> TuningWindow:
    spare = size - len(neighbours)
    position, layer, energy, own = (
        np.pad(column, [(0, spare), *[(0, 0)] * (column.ndim - 1)]) for column in columns
    )
    position[len(neighbours) :] = (0, 0, PLANE)
    return TuningWindow(
        position.astype(np.float32),
        layer.astype(np.int32),
        energy.astype(np.float32),
        own.astype(np.float32),
        np.float32(total),
        np.pad(neighbours, ((0, spare), (0, 0)), constant_values=-1),
    )
