"""The imaging algorithm: density peaks in every layer, with a halo around each.

A. Rodriguez, A. Laio, Science 344 (2014) 1492, as CMS first used it for the HGCAL (`HGCalImagingAlgo` in CMSSW): the
density of a hit is the energy within d_c, delta the distance to the nearest hit of higher density anywhere in the
layer. Hits with large delta and density are centres, all others belong to the cluster of their nearest higher. Hits of
a cluster that have one of another cluster within d_c, or none of their own, are its border; what is not denser than
the densest of its border is the halo, whose energy does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from recon.errors import ConfigError
from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.checks import LEAST_ROWS, check_rechits, pad_rows
from recon.hgcal_clustering.points import position_rank
from recon.hgcal_clustering.projective import pad_tiles
from recon.hgcal_clustering.rows import join_rows
from recon.hgcal_clustering.tiles import Tiles, search_tiles
from recon.hgcal_clustering.windows import by_row, nearest_over, sum_over
from recon.padding import bucket_size
from recon.segments import segment_max
from recon.types import NOISE, Array, DensityClusters, RecHits


@dataclass(frozen=True, kw_only=True)
class ImagingConfig:
    """Parameters of the imaging algorithm; the defaults are CMS's.

    Attributes:
        d_c: radius of the density and least delta of a centre, in silicon, mm.
        d_c_tiles: the same in scintillator, mm.
        kappa: least density of a centre, in units of the noise of its cell.
        radius: layer clusters within this distance of the line of sight of a stronger one join it, mm.
        min_layer_clusters: showers of fewer layer clusters are dissolved.
    """

    d_c: float = 20.0
    d_c_tiles: float = 50.0
    kappa: float = 9.0
    radius: float = 20.0
    min_layer_clusters: int = 3

    def __post_init__(self) -> None:
        for name in ("d_c", "d_c_tiles", "kappa", "radius"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"ImagingConfig.{name} = {getattr(self, name)}; allowed is more than 0")
        if self.min_layer_clusters < 1:
            raise ConfigError(
                f"ImagingConfig.min_layer_clusters = {self.min_layer_clusters}; allowed is 1 or more"
            )


class Imaging(NamedTuple):
    """What the imaging algorithm says about every hit.

    Attributes:
        clusters: hits of the halo belong to their cluster, too; `delta` is that of the algorithm, infinite for the
            densest hit of a layer.
        halo: true for hits whose energy does not count.
    """

    clusters: DensityClusters
    halo: Bool[Array, "*b n"]

    def core(self) -> DensityClusters:
        """The clusters without their halo; those that are nothing but halo (single hits) are dissolved. Host NumPy."""
        clusters = self.clusters
        is_seed = np.asarray(clusters.is_seed) & ~np.asarray(self.halo)
        number = np.full(int(clusters.n_clusters) + 1, NOISE, np.int32)
        number[np.asarray(clusters.ids)[is_seed]] = np.arange(is_seed.sum())
        return clusters._replace(
            # NOISE is the last entry of the table.
            ids=np.where(self.halo, NOISE, number[clusters.ids]).astype(np.int32),
            is_seed=is_seed,
            n_clusters=np.int32(is_seed.sum()),
        )


class PlanePoints(NamedTuple):
    """Points in layers, in the order of the input or of tiles.

    Attributes:
        x: mm.
        y: mm.
        layer: or any number of those that see each other.
        energy: GeV.
        row: in the order of the input.
        rank: unique numbers that decide ties.
    """

    x: Float32[Array, "*b n"]
    y: Float32[Array, "*b n"]
    layer: Int32[Array, "*b n"]
    energy: Float32[Array, "*b n"]
    row: Int32[Array, "*b n"]
    rank: Int32[Array, "*b n"]


def _apart2(here: Mapping[str, Array], there: Mapping[str, Array]) -> Array:
    """Squared distance; infinite between layers."""
    apart = (here["x"] - there["x"]) ** 2 + (here["y"] - there["y"]) ** 2
    return jnp.where(here["layer"] == there["layer"], apart, jnp.inf)


def imaging_density(
    points: PlanePoints, near: Tiles, d_c: Float32[Array, ""] | float
) -> Float32[Array, " n"]:
    """Energy within `d_c` of every point, itself included.

    Points that see the same others, as all hits of a small cluster do, get equal sums to the last bit: all sums are
    taken in the order of the tiles.

    Args:
        points: padded.
        near: tiles for `d_c`, padded.
        d_c: mm.
    """
    here = PlanePoints(*(column[near.order] for column in points))

    def contribution(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
        return jnp.where(_apart2(one, other) < d_c**2, other["energy"], 0)

    total = sum_over(near.windows, here._asdict(), contribution)
    return by_row(jnp.zeros(len(points.row)), here.row, near.windows.query, total)


def imaging_nearest_higher(
    points: PlanePoints, rho: Float32[Array, " n"], tiles: Tiles, reach: Float32[Array, ""] | float
) -> tuple[Int32[Array, " n"], Float32[Array, " n"]]:
    """(nearest higher, its distance) of the points that search, within `reach`; -1 and infinity for all others.

    Of points of equal density that of highest rank is the higher one, at equal distance that of lowest rank the nearer.

    Args:
        points: padded.
        rho: densities, by row.
        tiles: for `reach`, padded.
        reach: mm.
    """
    n = len(points.row)
    here = PlanePoints(*(column[tiles.order] for column in points))

    def distance2(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
        tied = (other["rho"] == one["rho"]) & (other["rank"] > one["rank"])
        apart = _apart2(one, other)
        return jnp.where(((other["rho"] > one["rho"]) | tied) & (apart <= reach**2), apart, jnp.inf)

    place, apart2 = nearest_over(tiles.windows, here._asdict() | {"rho": rho[here.row]}, distance2, here.rank)
    found = jnp.where(place >= 0, here.row[jnp.maximum(place, 0)], NOISE)
    query = tiles.windows.query
    nearest = by_row(jnp.full(n, NOISE, jnp.int32), here.row, query, found)
    return nearest, by_row(jnp.full(n, jnp.inf), here.row, query, jnp.sqrt(apart2))


def imaging_clusters(
    points: PlanePoints,
    rho: Float32[Array, " n"],
    nearest: Int32[Array, " n"],
    delta: Float32[Array, " n"],
    rho_c: Float32[Array, " n"],
    valid: Bool[Array, " n"],
    near: Tiles,
    d_c: Float32[Array, ""] | float,
) -> Imaging:
    """Centres, what follows them, and their halo.

    Args:
        points: padded.
        rho: densities, by row.
        nearest: nearest higher of every point in its layer; -1 for the densest of a layer.
        delta: its distance, mm.
        rho_c: least density of a centre, by row.
        valid: false for padding.
        near: tiles for `d_c`, padded.
        d_c: mm.
    """
    is_centre = valid & (delta >= d_c) & (rho >= rho_c)
    threshold = jnp.where(is_centre, rho_c, jnp.inf)
    found = assign(rho, delta, jnp.where(is_centre, NOISE, nearest), threshold, valid)
    found = found._replace(nearest_higher=jnp.where(valid, nearest, NOISE))
    here = PlanePoints(*(column[near.order] for column in points))
    fields = here._asdict() | {"id": found.ids[here.row]}

    def count(same: bool) -> Array:
        def contribution(one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
            counts = (_apart2(one, other) < d_c**2) & (one["row"] != other["row"]) & (other["id"] >= 0)
            counts &= (other["id"] == one["id"]) if same else (other["id"] != one["id"])
            return jnp.where(counts, 1.0, 0.0)

        return by_row(
            jnp.zeros(len(points.row)),
            here.row,
            near.windows.query,
            sum_over(near.windows, fields, contribution),
        )

    member = found.ids >= 0
    border = member & ((count(False) > 0) | (count(True) == 0))
    cluster = jnp.maximum(found.ids, 0)
    border_density = segment_max(rho, cluster, len(points.row), valid=border, empty=-jnp.inf)
    return Imaging(found, member & (rho <= border_density[cluster]))


_density = jax.jit(imaging_density)
_nearest_higher = jax.jit(imaging_nearest_higher)
_clusters = jax.jit(imaging_clusters)

STEPS = (_density, _nearest_higher, _clusters)


def imaging(
    hits: RecHits, config: ImagingConfig | None = None, *, scintillator: Bool[np.ndarray, " n"] | None = None
) -> Imaging:
    """Cluster the hits of every layer of both endcaps with the imaging algorithm.

    Args:
        hits: on the host; those that are not valid belong to nothing.
        config: parameters; CMS's if not given.
        scintillator: true for hits in tiles, which do not see those in silicon; none if not given.

    Returns:
        Host arrays, one row a hit. Ties are broken by position and energy, not by the order of the hits.

    Raises:
        DataError: hits that cannot be used; see `check_rechits`.
    """
    config = config or ImagingConfig()
    check_rechits(hits)
    tile = np.zeros(len(hits.valid), bool) if scintillator is None else scintillator
    parts, halo = [], np.zeros(len(hits.valid), bool)
    for kind, d_c in ((~tile, config.d_c), (tile, config.d_c_tiles)):
        rows = np.flatnonzero(kind & hits.valid)
        found = _image(
            hits.position[rows, :2],
            hits.energy[rows],
            (2 * hits.layer[rows] + (hits.position[rows, 2] > 0)).astype(np.int32),
            (config.kappa * hits.sigma_noise[rows]).astype(np.float32),
            d_c,
        )
        halo[rows] = found.halo[: len(rows)]
        parts.append((found.clusters, rows))
    return Imaging(join_rows(parts, len(hits.valid)), halo)


def _image(
    xy: Float32[np.ndarray, "n 2"],
    energy: Float32[np.ndarray, " n"],
    layer: Int[np.ndarray, " n"],
    rho_c: Float32[np.ndarray, " n"],
    d_c: float,
) -> Imaging:
    """The result for hits of one kind; padded."""
    n = len(energy)
    length = bucket_size(n, LEAST_ROWS)
    x, y, number, weight = (pad_rows(column, length) for column in (xy[:, 0], xy[:, 1], layer, energy))
    row = np.arange(length, dtype=np.int32)
    rank = np.concatenate([position_rank(xy, energy).astype(np.int32), row[n:]])
    points = PlanePoints(x, y, number, weight, row, rank)
    valid = np.arange(length) < n
    radius = np.float32(d_c)
    near = _tiles(xy, layer, rank[:n], d_c, length)
    rho = np.asarray(_density(points, near, radius))
    nearest, delta = map(np.array, _nearest_higher(points, rho, near, radius))
    reach = d_c
    extent = float(np.ptp(xy, axis=0).max()) if n else 0.0
    # Those that found none look twice as far, until nobody is left or the whole layer has been seen. Few do.
    while reach < 2 * extent and (searching := np.flatnonzero(valid & (nearest < 0))).size:
        reach *= 2
        tiles = _tiles(xy, layer, rank[:n], reach, length, searching)
        further, distance = map(np.asarray, _nearest_higher(points, rho, tiles, np.float32(reach)))
        nearest[searching], delta[searching] = further[searching], distance[searching]
    thresholds = pad_rows(rho_c, length)
    return jax.device_get(_clusters(points, rho, nearest, delta, thresholds, valid, near, radius))


def _tiles(
    xy: Float32[np.ndarray, "n 2"],
    layer: Int[np.ndarray, " n"],
    rank: Int[np.ndarray, " n"],
    reach: float,
    length: int,
    query: Int[np.ndarray, " q"] | None = None,
) -> Tiles:
    tiles = search_tiles(xy, reach, rank=rank, batch=layer, query=query)
    # Sizes of the later rounds are powers of two, so that all rounds share few programs.
    return pad_tiles(tiles, length, length if query is None else bucket_size(len(query), LEAST_ROWS, 1))
