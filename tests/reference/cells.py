"""Slow twin of the lookup of cells: look at every cell of the layer."""

from __future__ import annotations

import math

import numpy as np

from recon.hgcal_clustering.sensors import COARSE, FINE, MEDIUM, SCINTILLATOR, WAFER_SIZE, cell_pitch


def slow_wafer_centre(x, y):
    """Nearest point of the triangular lattice with steps of one wafer along x, by trying them all around."""
    row = round(y / (WAFER_SIZE * math.sqrt(3) / 2))
    best = None
    for j in range(row - 2, row + 3):
        offset = 0.5 * (j % 2)
        middle = round(x / WAFER_SIZE - offset)
        for i in range(middle - 2, middle + 3):
            centre = ((i + offset) * WAFER_SIZE, j * WAFER_SIZE * math.sqrt(3) / 2)
            distance = math.dist((x, y), centre)
            if best is None or distance < best[0]:
                best = (distance, centre)
    return best[1]


def slow_cell_at(calorimeter, layers, x, y, layer):
    """Row of the cell under one point, -1 for none; see `recon.hgcal_clustering.lookup.cell_at`."""
    if not 0 <= layer < len(layers.z):
        return -1
    radius = math.hypot(x, y)
    low, high = layers.radius[layer]
    if not low <= radius <= high:
        return -1
    rows = np.flatnonzero(calorimeter.layer == layer)
    centre = calorimeter.position[rows, :2].astype(np.float64)
    if radius >= layers.mixed_radius[layer]:
        return slow_tile(calorimeter, rows, centre, x, y)
    fine = math.hypot(*slow_wafer_centre(x, y)) < layers.fine_radius[layer]
    for kinds in ((FINE,), (MEDIUM, COARSE)) if fine else ((MEDIUM, COARSE), (FINE,)):
        own = np.isin(calorimeter.sensor[rows], kinds)
        distance = np.where(own, np.hypot(centre[:, 0] - x, centre[:, 1] - y), np.inf)
        if distance.min() < 2.0 * cell_pitch(kinds[0]):
            return int(rows[distance.argmin()])
    return -1


def slow_tile(calorimeter, rows, centre, x, y):
    """The tile that is nearest in azimuth and in the logarithm of the radius."""
    own = calorimeter.sensor[rows] == SCINTILLATOR
    turn = np.abs(np.angle(np.exp(1j * (np.arctan2(centre[:, 1], centre[:, 0]) - math.atan2(y, x)))))
    stretch = np.abs(np.log(np.hypot(*centre.T) / math.hypot(x, y)))
    return int(rows[np.where(own, np.maximum(turn, stretch), np.inf).argmin()])
