"""Who neighbours whom in a calorimeter: a table made once, so that clustering an event is nothing but look-ups.

Cells never move. Their neighbours within the radius of the density, sorted by distance, are six for nearly all
silicon cells; cells at the border of two sensors and many scintillator tiles have more, which are kept apart. The
neighbours beyond, up to the outlier radius, are a list of their own: few hits ever need it.

Distances are those of CMSSW's HGCalCLUEAlgo: (x, y) in silicon, (eta, phi) in scintillator; cells of different
layers or of both kinds do not neighbour each other.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from recon.cache import cache_directory
from recon.errors import ConfigError
from recon.geometry import eta as pseudorapidity
from recon.hgcal_clustering.sensors import SCINTILLATOR
from recon.hgcal_clustering.tiles import search_tiles
from recon.io.npz import read_arrays, write_arrays
from recon.types import Array, Calorimeter

SILICON_RADIUS = 13.0
"""mm, `deltac` of hgcalLayerClusters_cfi."""

SCINTILLATOR_RADIUS = 0.0315
"""In (eta, phi), the same."""

OUTLIER_DELTA_FACTOR = 2.0

SLOTS = 6
_STEPS = 1000
"""Distances are told apart in steps of a thousandth of the radius: equal ones on a lattice are equal then."""

_FORMAT = 3
_log = logging.getLogger(__name__)


class CellGraph(NamedTuple):
    """Neighbours of all cells, each list sorted by distance and, at equal distance, by cell. Arrays on the device.

    Attributes:
        cells: what every hit needs of its cell, in one stretch of memory: `near` and the bits of `place`.
        more: the sixth and further neighbours where there are more than six; free slots hold the number of cells.
        far_start: where the list of a cell begins in `far`; one entry more than cells.
        far: cells beyond that radius and within the outlier radius, and one entry that is no cell.
        is_tile: true for scintillator.
    """

    cells: Int32[Array, "c 8"]
    more: Int32[Array, "e m"]
    far_start: Int32[Array, " c1"]
    far: Int32[Array, " f"]
    is_tile: Array

    @property
    def near(self) -> Int32[Array, "c 6"]:
        """Cells within the radius of the density; free slots hold the number of cells.

        Where there are more than six, the last slot is -1 - k, and the sixth and further ones are row k of `more`.
        """
        return self.cells[:, :SLOTS]

    @property
    def place(self) -> Float32[Array, "c 2"]:
        """X and y in mm for silicon, eta and phi for scintillator."""
        return places(self.cells)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cells.shape[0]

    @property
    def n_bytes(self) -> int:
        """Size of all tables."""
        return sum(column.nbytes for column in self)

    @classmethod
    def from_calorimeter(
        cls,
        calorimeter: Calorimeter,
        d_c: float = SILICON_RADIUS,
        *,
        tile_d_c: float = SCINTILLATOR_RADIUS,
        outlier_delta_factor: float = OUTLIER_DELTA_FACTOR,
        cache: bool = True,
    ) -> CellGraph:
        """Return the graph of a calorimeter from the cache, which is filled first where it lacks it.

        Args:
            calorimeter: its table of cells.
            d_c: radius of the density in silicon, mm.
            tile_d_c: the same in scintillator, in (eta, phi).
            outlier_delta_factor: the outlier radius in units of those; 1 for no such search.
            cache: whether to keep the graph on disk.

        Raises:
            ConfigError: radii that are not positive, an outlier radius that is smaller than that of the density.
        """
        _check_radii(d_c, tile_d_c, outlier_delta_factor)
        path = _path(calorimeter, d_c, tile_d_c, outlier_delta_factor)
        graph = read_arrays(path, CellGraph) if cache else None
        if graph is None:
            begin = time.perf_counter()
            graph = build_cell_graph(calorimeter, d_c, tile_d_c, outlier_delta_factor)
            took = time.perf_counter() - begin
            _log.info("graph of %d cells: %.1f s, %.0f MB", graph.n_cells, took, graph.n_bytes / 1e6)
            if cache:
                write_arrays(path, graph)
        return jax.tree.map(jnp.asarray, graph)


def places(cells: Int32[Array, "k 8"]) -> Float32[Array, "k 2"]:
    """The places in rows of `CellGraph.cells`."""
    return jax.lax.bitcast_convert_type(cells[:, SLOTS:], jnp.float32)


def build_cell_graph(
    calorimeter: Calorimeter, d_c: float, tile_d_c: float, outlier_delta_factor: float
) -> CellGraph:
    """Make the graph, in host arrays; arguments as for `CellGraph.from_calorimeter`."""
    n_cells = len(calorimeter.layer)
    is_tile = calorimeter.sensor == SCINTILLATOR
    place = _places(calorimeter, is_tile)
    radius = np.where(is_tile, tile_d_c, d_c)[:, None]
    near = np.full((n_cells, SLOTS), n_cells, np.int32)
    far_count = np.zeros(n_cells, np.int64)
    many, far = [], []
    for cells in _layers(calorimeter.layer):
        pairs = _sorted_pairs(
            cells, place[cells] / radius[cells], is_tile[cells], tile_d_c, outlier_delta_factor
        )
        close = pairs.steps <= _STEPS
        many.append(_fill_near(near, pairs.cell[close], pairs.neighbour[close]))
        far_count += np.bincount(pairs.cell[~close], minlength=n_cells)
        far.append(pairs.neighbour[~close].astype(np.int32))
    more = _fill_more(near, many)
    far_start = np.r_[0, np.cumsum(far_count)].astype(np.int32)
    # One entry past the last list, so that there is one.
    far.append(np.full(1, n_cells, np.int32))
    cells = np.concatenate([near, place.astype(np.float32).view(np.int32)], 1)
    return CellGraph(cells, more, far_start, np.concatenate(far), is_tile)


class _Pairs(NamedTuple):
    """Ordered pairs of neighbours, sorted by cell, distance, neighbour; `steps` is the rounded distance."""

    cell: np.ndarray
    neighbour: np.ndarray
    steps: np.ndarray


def _places(calorimeter: Calorimeter, is_tile: np.ndarray) -> np.ndarray:
    position = calorimeter.position.astype(float)
    tiles = position[is_tile]
    place = position[:, :2].copy()
    place[is_tile] = np.c_[pseudorapidity(tiles), np.arctan2(tiles[:, 1], tiles[:, 0])]
    return place


def _layers(layer: np.ndarray) -> Iterator[np.ndarray]:
    """The cells of one layer after the other."""
    starts = [0, *(np.flatnonzero(np.diff(layer)) + 1).tolist(), len(layer)]
    for begin, end in pairwise(starts):
        if end > begin:
            yield np.arange(begin, end)


def _sorted_pairs(
    cells: np.ndarray, scaled: np.ndarray, is_tile: np.ndarray, tile_d_c: float, reach: float
) -> _Pairs:
    """All pairs of one layer; `scaled` are places in units of the radius of the density."""
    found = [np.zeros((3, 0), np.int64)]
    for kind, period in ((False, np.inf), (True, 2 * np.pi / tile_d_c)):
        members = np.flatnonzero(is_tile == kind)
        if members.size:
            one, other = _candidates(scaled[members], reach, period)
            apart = np.abs(scaled[members[one]] - scaled[members[other]])
            apart[:, 1] = np.minimum(apart[:, 1], period - apart[:, 1])
            steps = np.rint(np.hypot(*apart.T) * _STEPS).astype(np.int64)
            keep = (steps <= round(reach * _STEPS)) & (one != other)
            found.append(np.stack([members[one[keep]], steps[keep], members[other[keep]]]))
    one, steps, other = np.concatenate(found, 1)
    bits = max(len(cells) - 1, 1).bit_length()
    wide = int(steps.max(initial=1)).bit_length()
    packed = np.sort((((one << wide) | steps) << bits) | other)
    mask = (1 << bits) - 1
    return _Pairs(cells[packed >> (bits + wide)], cells[packed & mask], (packed >> bits) & ((1 << wide) - 1))


def _candidates(points: np.ndarray, reach: float, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that may be close enough, as indices."""
    # Rounding to steps lets in what is half a step too far.
    tiles = search_tiles(
        points, reach + 1 / _STEPS, rank=np.arange(len(points)), periods=np.array([np.inf, period])
    )
    low, high = tiles.windows.low, tiles.windows.high
    length = np.maximum(high - low, 0).ravel()
    query = np.repeat(np.tile(tiles.windows.query, len(low)), length)
    begin = np.cumsum(length) - length
    slot = np.arange(length.sum()) + np.repeat(low.ravel() - begin, length)
    return tiles.order[query].astype(np.int64), tiles.order[slot].astype(np.int64)


def _fill_near(
    near: np.ndarray, cell: np.ndarray, neighbour: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fill the slots of cells, and return (cell, slot, neighbour) of those that have more than six."""
    starts = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]]) if len(cell) else np.zeros(0, np.int64)
    count = np.diff(np.r_[starts, len(cell)])
    slot = np.arange(len(cell)) - np.repeat(starts, count)
    has_more = np.repeat(count > SLOTS, count)
    fits = slot < np.where(has_more, SLOTS - 1, SLOTS)
    near[cell[fits], slot[fits]] = neighbour[fits]
    return cell[~fits], slot[~fits] - (SLOTS - 1), neighbour[~fits]


def _fill_more(near: np.ndarray, many: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    """The table of the sixth and further neighbours, to which the last slot of their cells then points."""
    cell, slot, neighbour = (np.concatenate(column) for column in zip(*many, strict=True))
    special, row = np.unique(cell, return_inverse=True)
    # Never empty: a program may not look up a row that does not exist.
    more = np.full((max(len(special), 1), int(slot.max(initial=0)) + 1), len(near), np.int32)
    more[row, slot] = neighbour
    near[special, SLOTS - 1] = -1 - np.arange(len(special))
    return more


def _check_radii(d_c: float, tile_d_c: float, outlier_delta_factor: float) -> None:
    for name, value in (("d_c", d_c), ("tile_d_c", tile_d_c)):
        if not (np.isfinite(value) and value > 0):
            raise ConfigError(f"{name} = {value}: allowed are finite values above 0")
    if not 1 <= outlier_delta_factor <= 8:
        raise ConfigError(f"outlier_delta_factor = {outlier_delta_factor}: allowed are values from 1 to 8")


def _path(calorimeter: Calorimeter, *radii: float) -> Path:
    content = hashlib.blake2b(digest_size=8)
    for column in (calorimeter.position, calorimeter.layer, calorimeter.sensor):
        content.update(np.ascontiguousarray(column).data)
    content.update(repr((radii, _FORMAT)).encode())
    return cache_directory() / "calorimeters" / f"graph-{content.hexdigest()}.npz"
