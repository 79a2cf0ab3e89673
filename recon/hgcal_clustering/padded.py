"""The algorithms of this folder as traceable functions: to be jitted, mapped over events and exported.

Their namesakes without `_padded` find tiles on the host, which on a CPU is several times as fast as a sort inside a
program; both then run the same searches and find the same. Nothing can overflow here.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.hgcal_clustering.clue3d import Clue3dConfig, far_reach, near_reach, search_far, search_near
from recon.hgcal_clustering.clue_hits import HitClueConfig
from recon.hgcal_clustering.imaging import (
    Imaging,
    PlanePoints,
    imaging_clusters,
    imaging_density,
    imaging_nearest_higher,
)
from recon.hgcal_clustering.program import clue_padded, radii_of, tiles_padded
from recon.hgcal_clustering.projective import line_points, stretch
from recon.hgcal_clustering.tiles import Tiles
from recon.ranges import compact
from recon.types import Array, DensityClusters

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
    position = jnp.where(valid[:, None], position, jnp.array([1.0, 0.0, 1.0]))
    side = jnp.where(position[:, 2] > 0, layer, layer + _OTHER_SIDE)
    points = line_points(position, jnp.where(valid, energy, 0), side)
    plane = jnp.min(jnp.where(valid, points.z, jnp.inf), initial=jnp.inf)
    radius = jnp.min(jnp.where(valid, points.slope, jnp.inf), initial=jnp.inf) * plane
    across = position[:, :2] / points.z[:, None] * plane

    def tiles(reach: float) -> Tiles:
        scaled = across / (reach * stretch(reach, radius))
        levels = side.astype(jnp.float32)[:, None] / (config.sibling_layers + 0.5)
        return tiles_padded(jnp.concatenate([scaled, levels], 1), valid)

    near = search_near(points, valid, tiles(near_reach(config)), config)
    far = _of_rows(tiles(far_reach(config)), valid & ~near.settled)
    return search_far(points, valid, near, far, config)


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
    position = jnp.where(valid[:, None], position, jnp.array([1.0, 0.0, 1.0]))
    across = position[:, :2] / jnp.abs(position[:, 2:]) * config.plane
    points = jnp.concatenate([across, layer[:, None] * jnp.float32(config.layer_step)], 1)
    side = (position[:, 2] > 0).astype(jnp.int32)
    radii = radii_of(config.d_c, config.outlier_delta_factor)
    return clue_padded(points, energy, valid, side, rho_c=config.rho_c, radii=radii)


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
    the square of the hits of a layer. Ties are broken by row.

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
    row = jnp.arange(len(layer), dtype=jnp.int32)
    points = PlanePoints(xy[:, 0], xy[:, 1], side, jnp.where(valid, energy, 0), row, row)
    near = tiles_padded(xy / (d_c * (1 + 1e-5)), valid, side)
    rho = imaging_density(points, near, d_c)
    everywhere = tiles_padded(jnp.zeros_like(xy), valid, side)
    nearest, delta = imaging_nearest_higher(points, rho, everywhere, jnp.inf)
    return imaging_clusters(points, rho, nearest, delta, rho_c, valid, near, d_c)
