"""Shower candidates among layer clusters: seeds of CLUE, their axes, and the energy around them layer by layer.

Everything is seen along lines of sight in one plane (`clue_clusters.project`), host NumPy. A candidate is compared with
the layer clusters within some reach of its axis; the pile-up under it is the mean energy per area at its distance from
the beam, layer by layer, so that nothing here has to be told how much pile-up there is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from recon.types import DensityClusters

RINGS = ((0.0, 10.0), (0.0, 20.0), (20.0, 60.0), (60.0, 120.0))
"""Inner and outer radius around the axis of the energies of a candidate, mm."""
_EDGES = np.geomspace(250.0, 2000.0, 17)
"""Of the rings around the beam in which pile-up is measured, mm in the plane."""
_HALF_WINDOW = 2
"""Layers on either side that energies are averaged over."""
_CORE = 15.0
_CORE_LAYERS = 10
_AMPLE = 1.0
"""GeV; layer clusters count at most this much as pile-up, so that a hard shower is none."""


class Points(NamedTuple):
    """Layer clusters that take part.

    Attributes:
        xy: projected, mm.
        energy: GeV.
        layer: number.
    """

    xy: Float[np.ndarray, "n 2"]
    energy: Float[np.ndarray, " n"]
    layer: Int[np.ndarray, " n"]


class Candidates(NamedTuple):
    """Shower candidates and their layer clusters; `p` pairs.

    Attributes:
        seed: row of the layer cluster that the candidate begins at.
        ring: energy above pile-up in every one of `RINGS` and layer, averaged over layers, GeV.
        member: row of the layer cluster of a pair.
        candidate: row of the candidate of a pair.
        distance: of the two, mm.
        pileup: energy per area at every layer cluster, GeV / mm^2.
    """

    seed: Int[np.ndarray, " s"]
    ring: Float[np.ndarray, "r s l"]
    member: Int[np.ndarray, " p"]
    candidate: Int[np.ndarray, " p"]
    distance: Float[np.ndarray, " p"]
    pileup: Float[np.ndarray, " n"]


def find_candidates(points: Points, density: DensityClusters, reach: float, n_layers: int) -> Candidates:
    """Candidates from the seeds of a density clustering.

    Args:
        points: layer clusters of one endcap.
        density: of the same.
        reach: how far from the axis layer clusters are looked at, mm.
        n_layers: of the calorimeter.
    """
    seed = np.flatnonzero(density.is_seed)
    seed = seed[np.argsort(density.ids[seed])]
    member, candidate, distance = _pairs(points.xy, points.xy[seed], reach)
    axis = _axes(points, seed, member, candidate, distance)
    distance = np.hypot(*(points.xy[member] - axis[candidate]).T)
    area = pileup_density(points, n_layers)
    zone = _zone(points.xy)
    rings = []
    for inner, outer in RINGS:
        inside = (distance >= inner) & (distance < outer)
        cell = candidate[inside] * n_layers + points.layer[member[inside]]
        sums = np.bincount(cell, weights=points.energy[member[inside]], minlength=len(seed) * n_layers)
        # Without anything, bincount counts in integers.
        sums = sums.reshape(len(seed), n_layers).astype(np.float64)
        rings.append(smooth(sums) - area[zone[seed]] * np.pi * (outer**2 - inner**2))
    return Candidates(seed, np.stack(rings), member, candidate, distance, area[zone, points.layer])


def pileup_density(points: Points, n_layers: int) -> Float[np.ndarray, "z l"]:
    """Mean energy per area in rings around the beam and in every layer, GeV / mm^2, averaged over layers."""
    sums = np.zeros((len(_EDGES) - 1, n_layers))
    np.add.at(sums, (_zone(points.xy), points.layer), np.minimum(points.energy, _AMPLE))
    area = np.pi * (_EDGES[1:] ** 2 - _EDGES[:-1] ** 2)
    return smooth(sums / area[:, None])


def smooth(rows: Float[np.ndarray, "s l"]) -> Float[np.ndarray, "s l"]:
    """Mean over each layer and two on either side; layers beyond the ends count as empty."""
    width = 2 * _HALF_WINDOW + 1
    sums = np.cumsum(np.pad(rows, ((0, 0), (_HALF_WINDOW + 1, _HALF_WINDOW))), 1)
    means: np.ndarray = (sums[:, width:] - sums[:, :-width]) / width
    return means


def best_pairs(
    found: Candidates, preference: Float[np.ndarray, " p"], n: int, slots: int
) -> tuple[Int[np.ndarray, "n k"], Bool[np.ndarray, "n k"]]:
    """For every layer cluster the rows of its preferred pairs, and which slots are filled.

    Args:
        found: with the pairs.
        preference: of every pair, the larger the better; the first of equals.
        n: number of layer clusters.
        slots: most pairs of a layer cluster; those of least preference are left out.
    """
    place, start = _rows_of(found.member, n)
    left = np.append(preference[place], -np.inf)
    some = np.flatnonzero(np.diff(start))
    table = np.zeros((n, slots), np.int64)
    filled = np.zeros((n, slots), bool)
    # Sorting millions of pairs takes several times as long as one search for the best of every row a slot.
    for slot in range(slots):
        most = np.maximum.reduceat(left[:-1], start[some]) if len(some) else left[:0]
        best = np.flatnonzero(left[:-1] == np.repeat(most, np.diff(start)[some]))
        row = found.member[place[best]]
        first = np.flatnonzero((np.diff(row, prepend=-1) != 0) & (left[best] > -np.inf))
        table[row[first], slot] = place[best[first]]
        filled[row[first], slot] = True
        left[best[first]] = -np.inf
    return table, filled


def _rows_of(row: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the entries of every row in their order, one row after the other, and where each begins: n + 1."""
    whole = csr_matrix((np.ones(len(row), bool), row, np.arange(len(row) + 1)), shape=(len(row), n)).tocsc()
    return whole.indices, whole.indptr


def _pairs(xy: np.ndarray, centre: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(layer cluster, candidate, distance) of all within reach, by candidate and layer cluster."""
    if len(centre) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    near = cKDTree(centre).sparse_distance_matrix(cKDTree(xy), reach, output_type="ndarray")
    table = csr_matrix((near["v"], (near["i"], near["j"])), shape=(len(centre), len(xy)))
    candidate = np.repeat(np.arange(len(centre)), np.diff(table.indptr))
    return table.indices.astype(np.int64), candidate, table.data


def _axes(
    points: Points, seed: np.ndarray, member: np.ndarray, candidate: np.ndarray, distance: np.ndarray
) -> Float[np.ndarray, "s 2"]:
    """Barycentres of what is close to the seeds: a better centre than one layer cluster."""
    near = distance < _CORE
    near &= np.abs(points.layer[member] - points.layer[seed][candidate]) < _CORE_LAYERS
    weight = points.energy[member[near]]
    total = np.bincount(candidate[near], weights=weight, minlength=len(seed))
    sums = [
        np.bincount(candidate[near], weights=weight * points.xy[member[near], axis], minlength=len(seed))
        for axis in (0, 1)
    ]
    return np.where(total[:, None] > 0, np.stack(sums, 1) / np.maximum(total, 1e-9)[:, None], points.xy[seed])


def _zone(xy: np.ndarray) -> Int[np.ndarray, " n"]:
    radius = np.hypot(*xy.T)
    return np.clip(np.searchsorted(_EDGES, radius, side="right") - 1, 0, len(_EDGES) - 2)
