"""From light to the hits of a pixel map: photo-electrons, threshold, slice, window, calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    CELL_PITCH,
    CELLS,
    ELECTRONIC_NOISE,
    HALF_WIDTH,
    LIGHT_YIELD,
    MAP_CELLS,
    MAP_PLANES,
    PLANES,
    THRESHOLD,
)
from recon.sim.neutrino_light import Light, attenuation
from recon.sim.neutrino_random import State, normals, poisson

BLOCK = 8
"""Planes and cells of a block; hits with fewer than two others in the nine blocks around them are in no slice."""
LEAST_NEIGHBOURS = 3
HIT_COLUMNS = 4
"""View, plane, cell (in the map), charge."""
_BLOCKS_DEEP, _BLOCKS_WIDE = PLANES // BLOCK, CELLS // BLOCK


class Readout(NamedTuple):
    """Memory of the readout.

    Attributes:
        plane: of the hits of the event at hand.
        cell: of the hits.
        charge: photo-electrons of the hits; 0 for those that are in no slice.
        blocks: hits by view and block, with a border.
        cells: hits of the slice by view and cell.
    """

    plane: Int64[np.ndarray, " n"]
    cell: Int64[np.ndarray, " n"]
    charge: Float64[np.ndarray, " n"]
    blocks: Int64[np.ndarray, "2 deep wide"]
    cells: Int64[np.ndarray, "2 cells"]


class Slice(NamedTuple):
    """Where the window of an event is.

    Attributes:
        hits: of the slice.
        first: plane that the window begins at.
        median_x: cell in the middle of the window of vertical cells; -1 where the view is empty.
        median_y: the same for horizontal cells.
    """

    hits: int
    first: int
    median_x: int
    median_y: int


def new_readout() -> Readout:
    """Memory for any event."""
    n = PLANES * CELLS
    return Readout(
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros(n),
        np.zeros((2, _BLOCKS_DEEP + 2, _BLOCKS_WIDE + 2), np.int64),
        np.zeros((2, CELLS), np.int64),
    )


@compiled
def digitise(state: State, light: Light, readout: Readout) -> int:
    """Draw photo-electrons and electronic noise; returns the number of cells above the threshold."""
    n = 0
    for i in range(light.size[0]):
        key = light.touched[i]
        plane, cell = key // CELLS, key % CELLS
        expected = light.expected[plane, cell]
        # What is 15 standard deviations below the threshold cannot reach it.
        if expected < 0.02 * THRESHOLD:
            continue
        charge = poisson(state, expected) + ELECTRONIC_NOISE * normals(state)[0]
        if charge > THRESHOLD:
            readout.plane[n], readout.cell[n], readout.charge[n] = plane, cell, charge
            n += 1
    return n


@compiled
def slice_hits(readout: Readout, n: int) -> int:
    """Set the charge of isolated hits to 0; returns the number of those left.

    The experiment clusters hits in space and time; here all hits of an event are at one time, and what is left to do is
    to drop those without company.
    """
    blocks = readout.blocks
    for i in range(n):
        plane, cell = readout.plane[i], readout.cell[i]
        blocks[plane % 2, plane // BLOCK + 1, cell // BLOCK + 1] += 1
    kept = 0
    for i in range(n):
        plane, cell = readout.plane[i], readout.cell[i]
        a, b, around = plane // BLOCK, cell // BLOCK, 0
        for j in range(3):
            for k in range(3):
                around += blocks[plane % 2, a + j, b + k]
        if around < LEAST_NEIGHBOURS:
            readout.charge[i] = 0.0
        else:
            kept += 1
    for i in range(n):
        plane, cell = readout.plane[i], readout.cell[i]
        blocks[plane % 2, plane // BLOCK + 1, cell // BLOCK + 1] = 0
    return kept


@compiled
def find_window(readout: Readout, n: int) -> Slice:
    """The region of interest of a pixel map: from the first plane with a hit, about the median cell of each view.

    Source:
        D. Rocco, PhD thesis, University of Minnesota (2016), chapter on the event classifier.
    """
    readout.cells[:] = 0
    first, hits = PLANES, 0
    for i in range(n):
        if readout.charge[i] > 0.0:
            first = min(first, readout.plane[i])
            hits += 1
    for i in range(n):
        if readout.charge[i] > 0.0 and readout.plane[i] < first + 2 * MAP_PLANES:
            readout.cells[readout.plane[i] % 2, readout.cell[i]] += 1
    return Slice(hits, first, _median(readout.cells[0]), _median(readout.cells[1]))


@compiled
def _median(counts: Int64[np.ndarray, " cells"]) -> int:
    """Upper median of a histogram; -1 of an empty one."""
    total = counts.sum()
    if total == 0:
        return -1
    seen = 0
    for cell in range(len(counts)):
        seen += counts[cell]
        if seen > total // 2:
            return cell
    return -1


@compiled
def write_hits(
    light: Light, readout: Readout, n: int, window: Slice, hits: Float64[np.ndarray, "h c"], start: int
) -> tuple[int, int]:
    """Write the calibrated hits within the window.

    The distance from the readout, which the calibration needs, is that of the mean position of all activity in the
    opposite view, as in the experiment.

    Args:
        light: for the attenuation.
        readout: the hits.
        n: number of hits.
        window: of `find_window`.
        hits: rows of view, plane, cell (both within the map), energy (GeV) are written here.
        start: first free row; what does not fit is counted but not written.

    Returns:
        Number of hits within and outside of the window.
    """
    distance = _distances(readout, n)
    inside, outside = 0, 0
    for i in range(n):
        if readout.charge[i] <= 0.0:
            continue
        view = readout.plane[i] % 2
        plane = (readout.plane[i] - window.first) // 2
        cell = readout.cell[i] - (window.median_x if view == 0 else window.median_y) + MAP_CELLS // 2
        if plane >= MAP_PLANES or cell < 0 or cell >= MAP_CELLS:
            outside += 1
            continue
        if start + inside < len(hits):
            row = hits[start + inside]
            row[0], row[1], row[2] = view, plane, cell
            arriving = attenuation(light, distance[1 - view])
            row[3] = 1e-3 * readout.charge[i] / (LIGHT_YIELD * arriving)
        inside += 1
    return inside, outside


@compiled
def _distances(readout: Readout, n: int) -> tuple[float, float]:
    """Mean distance from the side of the readout of the activity in both views, mm; the middle for an empty view."""
    total_x, total_y, n_x, n_y = 0.0, 0.0, 0, 0
    for i in range(n):
        if readout.charge[i] > 0.0:
            across = 2 * HALF_WIDTH - (readout.cell[i] + 0.5) * CELL_PITCH
            if readout.plane[i] % 2 == 0:
                total_x, n_x = total_x + across, n_x + 1
            else:
                total_y, n_y = total_y + across, n_y + 1
    return total_x / n_x if n_x else HALF_WIDTH, total_y / n_y if n_y else HALF_WIDTH
