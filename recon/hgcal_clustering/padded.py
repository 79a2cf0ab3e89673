"""The algorithms of this folder as traceable functions: to be jitted, mapped over events and exported.

Their namesakes without `_padded` find tiles on the host, which on a CPU is several times as fast as a sort inside a
program; both then run the same searches and find the same. Nothing can overflow here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.clue3d import Clue3dConfig, far_reach, near_reach, search_far, search_near
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, project
from recon.hgcal_clustering.clue_hits import HitClueConfig
from recon.hgcal_clustering.imaging import (
    Imaging,
    ImagingConfig,
    PlanePoints,
    imaging_clusters,
    imaging_density,
    imaging_nearest_higher,
)
from recon.hgcal_clustering.multiclusters import ALL_LAYERS, multicluster_program
from recon.hgcal_clustering.program import clue_padded, position_rank_padded, radii_of, tiles_padded
from recon.hgcal_clustering.projective import line_points, stretch
from recon.hgcal_clustering.tiles import Tiles
from recon.ranges import compact, cumulative
from recon.types import NOISE, Array, DensityClusters

_OTHER_SIDE = 4096
"""Added to the layers of one endcap, so that it does not see the other."""


def clue3d_padded(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    config: Clue3dConfig,
) -> DensityClusters:
    """CLUE3D on the layer clusters of both endcaps; see `recon.hgcal_clustering.clue3d.clue3d`.

    Args:
        position: mm, none of the valid ones in the plane z = 0.
        energy: GeV, not negative.
        layer: 0 or more.
        valid: false for padding and for layer clusters to leave out; their other fields may be anything.
        config: parameters; static.
    """
    position = _off_plane(position, valid)
    side = jnp.where(position[:, 2] > 0, layer, layer + _OTHER_SIDE)
    points = line_points(position, jnp.where(valid, energy, 0), side)

    def tiles(reach: float) -> Tiles:
        return _line_tiles(position, side, valid, reach, config.sibling_layers)

    near = search_near(points, valid, tiles(near_reach(config)), config)
    far = _of_rows(tiles(far_reach(config)), valid & ~near.settled)
    return search_far(points, valid, near, far, config)


def multiclusters_padded(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    config: ImagingConfig,
) -> DensityClusters:
    """Layer clusters along lines of sight, both endcaps; see `recon.hgcal_clustering.multiclusters.multiclusters`.

    Arguments as for `clue3d_padded`.
    """
    position = _off_plane(position, valid)
    side = jnp.where(position[:, 2] > 0, layer, layer + _OTHER_SIDE)
    row = jnp.arange(len(layer), dtype=jnp.int32)
    order = jax.lax.sort((jnp.where(valid, -energy, jnp.inf), row), num_keys=2)[1]
    priority = jnp.zeros_like(row).at[order].set(row, unique_indices=True)
    tiles = _line_tiles(position, side, valid, config.radius, ALL_LAYERS)
    return multicluster_program(position, energy, priority, valid, tiles, config)


def clue_clusters_padded(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    config: ClusterClueConfig,
) -> DensityClusters:
    """CLUE on the layer clusters of both endcaps; see `recon.hgcal_clustering.clue_clusters.clue_clusters`.

    Arguments as for `clue3d_padded`.
    """
    return _clue_along_lines(position, energy, layer, valid & (energy >= config.energy_min), config)


def _off_plane(position: Array, valid: Array) -> Float32[Array, "n 3"]:
    """Positions; those of padding are not in the plane z = 0 either."""
    return jnp.where(valid[:, None], position, jnp.array([1.0, 0.0, 1.0]))


def _line_tiles(position: Array, side: Array, valid: Array, reach: float, layers: int) -> Tiles:
    """Do what `recon.hgcal_clustering.projective.find_tiles` does, for both endcaps."""
    depth = jnp.abs(position[:, 2:])
    slope = jnp.hypot(position[:, 0], position[:, 1]) / depth[:, 0]
    plane = jnp.min(jnp.where(valid, depth[:, 0], jnp.inf), initial=jnp.inf)
    radius = jnp.min(jnp.where(valid, slope, jnp.inf), initial=jnp.inf) * plane
    scaled = position[:, :2] / depth * plane / (reach * stretch(reach, radius))
    levels = side.astype(jnp.float32)[:, None] / (layers + 0.5)
    return tiles_padded(jnp.concatenate([scaled, levels], 1), valid)


def _of_rows(tiles: Tiles, searching: Bool[Array, " n"]) -> Tiles:
    """Only some rows search: theirs are the first windows, and all others are empty."""
    n = searching.shape[0]
    query, _ = compact(searching[tiles.order], n)
    there = query < n
    place = jnp.minimum(query, n - 1)
    low, high = tiles.windows.low[:, place], tiles.windows.high[:, place]
    return Tiles(tiles.order, tiles.windows._replace(query=query, low=low, high=jnp.where(there, high, low)))


def clue_hits_padded(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    config: HitClueConfig,
) -> DensityClusters:
    """CLUE on the hits of both endcaps in three dimensions; see `recon.hgcal_clustering.clue_hits.clue_hits`.

    Arguments as for `clue3d_padded`.
    """
    return _clue_along_lines(position, energy, layer, valid, config)


def _clue_along_lines(
    position: Array, energy: Array, layer: Array, used: Array, config: ClusterClueConfig | HitClueConfig
) -> DensityClusters:
    """CLUE in three dimensions, both endcaps apart; what is not used belongs to nothing."""
    position = _off_plane(position, used)
    points = project(position, layer, config.plane, config.layer_step)
    side = (position[:, 2] > 0).astype(jnp.int32)
    radii = radii_of(config.d_c, config.outlier_delta_factor)
    return clue_padded(points, energy, used, side, rho_c=config.rho_c, radii=radii)


def imaging_padded(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    rho_c: Float32[Array, " n"],
    valid: Bool[Array, " n"],
    *,
    d_c: float,
) -> Imaging:
    """Density peaks and their halo in the layers of both endcaps; see `recon.hgcal_clustering.imaging.imaging`.

    The nearest higher hit may be anywhere in the layer, and all of it is searched for every hit: the cost grows with
    the square of the hits of a layer.

    Args:
        position: mm.
        energy: GeV, not negative.
        layer: 0 or more.
        rho_c: least density of a centre, GeV.
        valid: false for padding, whose other fields may be anything.
        d_c: radius of the density, mm.
    """
    xy = jnp.where(valid[:, None], position[:, :2], 0)
    side = 2 * layer + (position[:, 2] > 0)
    weight = jnp.where(valid, energy, 0)
    row = jnp.arange(len(layer), dtype=jnp.int32)
    rank = position_rank_padded((~valid).astype(jnp.int32), xy, weight)
    points = PlanePoints(xy[:, 0], xy[:, 1], side, weight, row, rank)
    near = tiles_padded(xy / (d_c * (1 + 1e-5)), valid, side)
    rho = imaging_density(points, near, d_c)
    everywhere = tiles_padded(jnp.zeros_like(xy), valid, side)
    nearest, delta = imaging_nearest_higher(points, rho, everywhere, jnp.inf)
    return imaging_clusters(points, rho, nearest, delta, rho_c, valid, near, d_c)


def imaging_cores(
    position: Float32[Array, "n 3"],
    energy: Float32[Array, " n"],
    layer: Int32[Array, " n"],
    sigma_noise: Float32[Array, " n"],
    valid: Bool[Array, " n"],
    is_tile: Bool[Array, " n"],
    config: ImagingConfig,
) -> DensityClusters:
    """The layer clusters that the imaging algorithm makes of all hits, without their halo.

    Args:
        position: mm.
        energy: GeV, not negative.
        layer: 0 or more.
        sigma_noise: of the cells, GeV.
        valid: false for padding, whose other fields may be anything.
        is_tile: hits in scintillator tiles, which do not see those in silicon.
        config: parameters; static.
    """

    def found(kind: Array, d_c: float) -> tuple[DensityClusters, Array]:
        image = imaging_padded(position, energy, layer, config.kappa * sigma_noise, valid & kind, d_c=d_c)
        clusters = image.clusters
        # Clusters go by the row of their seed until those of both kinds are numbered.
        there = jnp.where(clusters.is_seed, clusters.ids, n)
        seed = jnp.append(jnp.zeros(n, jnp.int32).at[there].set(row, mode="drop"), NOISE)
        return clusters._replace(ids=seed[clusters.ids]), image.halo

    n = energy.shape[0]
    row = jnp.arange(n, dtype=jnp.int32)
    silicon, tiles = found(~is_tile, config.d_c), found(is_tile, config.d_c_tiles)
    every, halo = jax.tree.map(
        lambda one, other: jnp.where(is_tile, other, one) if one.ndim else one, silicon, tiles
    )
    is_seed = every.is_seed & ~halo
    number = jnp.append(jnp.where(is_seed, cumulative(is_seed.astype(jnp.int32)) - 1, NOISE), NOISE)
    return every._replace(
        ids=jnp.where(halo, NOISE, number[every.ids]),
        is_seed=is_seed,
        n_clusters=jnp.sum(is_seed, dtype=jnp.int32),
    )
