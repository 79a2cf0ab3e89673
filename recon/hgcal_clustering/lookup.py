"""From a point in a layer to the cell it lies in."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64

from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter, wafer_sensor
from recon.hgcal_clustering.lattice import NEIGHBOURS, cell_centre, cell_of
from recon.hgcal_clustering.layers import Layers
from recon.hgcal_clustering.sensors import COARSE, FINE, SCINTILLATOR, TILE_ANGLE, cell_pitch
from recon.types import Calorimeter

NO_CELL = -1

_N_SECTORS = round(2.0 * np.pi / TILE_ANGLE)
_BORDER = 4
"""Cells of margin around a grid, so that a step to a neighbour stays inside."""


class Grid(NamedTuple):
    """Rows of the cells of one lattice in all layers, by lattice coordinate.

    Attributes:
        pitch: of the lattice, mm.
        reach: the coordinate 0 stands at this index.
        rows: row of the table of cells; `NO_CELL` where there is none.
    """

    pitch: float
    reach: int
    rows: Int32[np.ndarray, "l s s"]


class CellLookup(NamedTuple):
    """What `cell_at` needs beside the table of cells.

    Attributes:
        geometry: which endcap.
        layers: its layers.
        fine: cells of 120 um silicon.
        coarse: cells of 200 and 300 um silicon.
        tiles: row of the scintillator tile by layer, ring and sector; `NO_CELL` where there is none.
        n_rings: rings of tiles of every layer.
    """

    geometry: EndcapGeometry
    layers: Layers
    fine: Grid
    coarse: Grid
    tiles: Int32[np.ndarray, "l r p"]
    n_rings: Int64[np.ndarray, " l"]


def build_lookup(geometry: EndcapGeometry, calorimeter: Calorimeter) -> CellLookup:
    """Index the cells of a calorimeter (under a second for a whole endcap, 40 MB).

    Args:
        geometry: which endcap.
        calorimeter: its table of cells, of `build_calorimeter`.

    Returns:
        The index.
    """
    layers = geometry.layers()
    tiles = _tile_rows(calorimeter, layers)
    return CellLookup(
        geometry=geometry,
        layers=layers,
        fine=_grid(calorimeter, layers, calorimeter.sensor == FINE, cell_pitch(FINE)),
        coarse=_grid(
            calorimeter,
            layers,
            (calorimeter.sensor != FINE) & (calorimeter.sensor != SCINTILLATOR),
            cell_pitch(COARSE),
        ),
        tiles=tiles,
        n_rings=(tiles != NO_CELL).any(axis=2).sum(axis=1),
    )


@lru_cache(maxsize=2)
def load_lookup(geometry: EndcapGeometry) -> CellLookup:
    """Return the index of the cells of `load_calorimeter`, made once a process."""
    return build_lookup(geometry, load_calorimeter(geometry))


def cell_at(
    lookup: CellLookup,
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    layer: Int[np.ndarray, " n"],
) -> Int32[np.ndarray, " n"]:
    """Find the cell that each point lies in.

    Args:
        lookup: of `build_lookup`.
        x: mm.
        y: mm.
        layer: 0 to n_layers - 1.

    Returns:
        Row in the table of cells: of the silicon cells of the kind that the wafer under the point carries, the one
        whose centre is nearest (within two cells; where there is none, of the other kind), or the tile around the
        point. `NO_CELL` outside the sensitive area, the wedge or the layers.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    layers, geometry = lookup.layers, lookup.geometry
    radius, phi = np.hypot(x, y), np.arctan2(y, x)
    row = np.full(len(x), NO_CELL, np.int32)
    known = (layer >= 0) & (layer < len(layers.z))
    layer = np.where(known, layer, 0).astype(np.int64)
    inside = known & (radius >= layers.radius[layer, 0]) & (radius <= layers.radius[layer, 1])
    inside &= (phi >= geometry.phi_min) & (phi <= geometry.phi_max)
    tile = inside & (radius >= layers.mixed_radius[layer])
    silicon = np.flatnonzero(inside & ~tile)
    fine = wafer_sensor(layers, layer[silicon], x[silicon], y[silicon]) == FINE
    own, other = (lookup.fine, lookup.coarse), (lookup.coarse, lookup.fine)
    for grids, picked in ((own, silicon[fine]), (other, silicon[~fine])):
        row[picked] = _nearest(grids[0], x[picked], y[picked], layer[picked])
        # The corner of a wafer may reach into the sensitive area without a cell of its own there.
        lost = picked[row[picked] == NO_CELL]
        row[lost] = _nearest(grids[1], x[lost], y[lost], layer[lost])
    picked = np.flatnonzero(tile)
    row[picked] = _tile_at(lookup, radius[picked], phi[picked], layer[picked])
    return row


def _nearest(
    grid: Grid, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"], layer: Int64[np.ndarray, " n"]
) -> Int32[np.ndarray, " n"]:
    """Row of the nearest cell of a lattice; the hexagon under the point may be cut off by a border."""
    i, j = cell_of(x, y, grid.pitch)
    row = grid.rows[layer, i + grid.reach, j + grid.reach]
    cut = np.flatnonzero(row == NO_CELL)
    if cut.size:
        around_i, around_j = (i[cut, None] + NEIGHBOURS[:, 0]), (j[cut, None] + NEIGHBOURS[:, 1])
        candidate = grid.rows[layer[cut, None], around_i + grid.reach, around_j + grid.reach]
        centre_x, centre_y = cell_centre(around_i, around_j, grid.pitch)
        distance = (centre_x - x[cut, None]) ** 2 + (centre_y - y[cut, None]) ** 2
        best = np.argmin(np.where(candidate == NO_CELL, np.inf, distance), axis=1)
        row[cut] = candidate[np.arange(len(cut)), best]
    return row


def _tile_at(
    lookup: CellLookup,
    radius: Float64[np.ndarray, " n"],
    phi: Float64[np.ndarray, " n"],
    layer: Int64[np.ndarray, " n"],
) -> Int32[np.ndarray, " n"]:
    ring = np.floor(np.log(radius / lookup.layers.mixed_radius[layer]) / TILE_ANGLE).astype(np.int64)
    sector = np.floor((phi + np.pi) / TILE_ANGLE).astype(np.int64) % _N_SECTORS
    # The logarithm is rounded: at the very edges it may name a ring that is none.
    return lookup.tiles[layer, np.clip(ring, 0, lookup.n_rings[layer] - 1), sector]


def _grid(calorimeter: Calorimeter, layers: Layers, picked: np.ndarray, pitch: float) -> Grid:
    rows = np.flatnonzero(picked)
    x, y = calorimeter.position[rows, :2].astype(np.float64).T
    # The centre of a cell in single precision is still far from its border.
    i, j = cell_of(x, y, pitch)
    # Points are looked up on the wafers of this lattice alone: less than a cell farther out than its cells.
    reach = int(max(np.abs(i).max(initial=0), np.abs(j).max(initial=0))) + _BORDER
    table = np.full((len(layers.z), 2 * reach + 1, 2 * reach + 1), NO_CELL, np.int32)
    table[calorimeter.layer[rows], i + reach, j + reach] = rows
    return Grid(pitch, reach, table)


def _tile_rows(calorimeter: Calorimeter, layers: Layers) -> Int32[np.ndarray, "l r p"]:
    rows = np.flatnonzero(calorimeter.sensor == SCINTILLATOR)
    x, y = calorimeter.position[rows, :2].astype(np.float64).T
    layer = calorimeter.layer[rows]
    ring = np.floor(np.log(np.hypot(x, y) / layers.mixed_radius[layer]) / TILE_ANGLE).astype(np.int64)
    sector = np.floor((np.arctan2(y, x) + np.pi) / TILE_ANGLE).astype(np.int64)
    table = np.full((len(layers.z), int(ring.max(initial=0)) + 1, _N_SECTORS), NO_CELL, np.int32)
    table[layer, ring, sector] = rows
    return table
