"""CLUE3D: layer clusters to tracksters, as CMS's TICL does it (`PatternRecognitionbyCLUE3D` in CMSSW).

Distances are those of `recon.hgcal_clustering.projective`. The density is a layer cluster's energy and a part of that
of others close by in the five layers on either side; the nearest higher is nearest in three dimensions,
`t_ij + (z_i - z_j)^2`. Unlike CMS's search, which ends at the border of tiles in eta and phi, this one ends at the
distance beyond which a layer cluster is an outlier: what lies further away in the transverse plane is no nearest
higher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.errors import ConfigError
from recon.hgcal_clustering.assignment import assign
from recon.hgcal_clustering.checks import LEAST_ROWS, large_clusters, pad_rows
from recon.hgcal_clustering.projective import (
    LinePoints,
    find_tiles,
    line_points,
    ordered,
    pad_tiles,
    rows_of,
    transverse2,
)
from recon.hgcal_clustering.rows import to_rows
from recon.hgcal_clustering.tiles import Tiles
from recon.hgcal_clustering.windows import Windows, by_row, nearest_over, sum_over
from recon.padding import bucket_size
from recon.ranges import cumulative
from recon.types import NOISE, Array, Clusters, DensityClusters


@dataclass(frozen=True, kw_only=True)
class Clue3dConfig:
    """Parameters of CLUE3D; the defaults are CMS's.

    Attributes:
        critical_density: least density of a seed, GeV.
        critical_self_density: a seed has more than this part of its density itself.
        sibling_layers: layers on either side that are looked at.
        density_radius: transverse radius of the density, mm.
        kernel_factor: what the energy of others counts in the density.
        same_layer_density: whether others on the same layer count.
        critical_distance: seeds have no higher density within this transverse distance, mm,
        critical_layers: or within so many layers.
        outlier_multiplier: in units of `critical_distance`, how far the search for a higher density goes.
        min_layer_clusters: tracksters with fewer members are dissolved.
    """

    critical_density: float = 0.6
    critical_self_density: float = 0.15
    sibling_layers: int = 5
    density_radius: float = 40.0
    kernel_factor: float = 0.2
    same_layer_density: bool = False
    critical_distance: float = 40.0
    critical_layers: int = 5
    outlier_multiplier: float = 2.0
    min_layer_clusters: int = 2

    def __post_init__(self) -> None:
        for name in ("critical_density", "density_radius", "critical_distance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Clue3dConfig.{name} = {getattr(self, name)}; allowed is more than 0")
        for name in ("critical_self_density", "kernel_factor", "sibling_layers", "critical_layers"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"Clue3dConfig.{name} = {getattr(self, name)}; allowed is 0 or more")
        if not self.outlier_multiplier >= 1 or self.min_layer_clusters < 1:
            raise ConfigError(
                f"Clue3dConfig: outlier_multiplier = {self.outlier_multiplier} and min_layer_clusters = "
                f"{self.min_layer_clusters}; allowed is 1 or more"
            )


class Near(NamedTuple):
    """What the search within the radius of the density finds; rows of the input.

    Attributes:
        rho: density, GeV.
        nearest_higher: -1 for none.
        settled: no search further out can find a nearer one.
    """

    rho: Float32[Array, "*b n"]
    nearest_higher: Int32[Array, "*b n"]
    settled: Bool[Array, "*b n"]


def clue3d_densities(points: LinePoints, windows: Windows, config: Clue3dConfig) -> Float32[Array, " q"]:
    """Local density of the points that search."""

    def contribution(here: Mapping[str, Array], there: Mapping[str, Array]) -> Array:
        layers = jnp.abs(here["layer"] - there["layer"])
        counts = (transverse2(here, there) < config.density_radius**2) & (layers <= config.sibling_layers)
        counts &= (there["row"] != here["row"]) if config.same_layer_density else (layers > 0)
        return jnp.where(counts, there["energy"], 0)

    # A point's own energy comes last: neighbours of equal energies then give equal sums in any order.
    own = points.energy[jnp.minimum(windows.query, len(points.row) - 1)]
    return own + config.kernel_factor * sum_over(windows, points._asdict(), contribution)


def clue3d_nearest_higher(
    points: LinePoints, rho: Float32[Array, " n"], windows: Windows, reach: float, config: Clue3dConfig
) -> tuple[Int32[Array, " q"], Float32[Array, " q"]]:
    """Place of the nearest point of higher density within a transverse reach, and its squared distance, mm^2."""

    def distance2(here: Mapping[str, Array], there: Mapping[str, Array]) -> Array:
        higher = (there["rho"] > here["rho"]) | ((there["rho"] == here["rho"]) & (there["row"] > here["row"]))
        apart = transverse2(here, there)
        counts = higher & (apart <= reach**2)
        counts &= jnp.abs(here["layer"] - there["layer"]) <= config.sibling_layers
        return jnp.where(counts, apart + (here["z"] - there["z"]) ** 2, jnp.inf)

    return nearest_over(windows, points._asdict() | {"rho": rho}, distance2, points.row)


def search_near(points: LinePoints, valid: Bool[Array, " n"], near: Tiles, config: Clue3dConfig) -> Near:
    """Densities, and the nearest higher within the critical distance.

    Args:
        points: padded.
        valid: false for padding.
        near: tiles for `near_reach`, padded.
        config: parameters.
    """
    n = points.row.shape[0]
    here, queries = ordered(points, near.order), near.windows.query
    rho = by_row(jnp.zeros(n), here.row, queries, clue3d_densities(here, near.windows, config))
    higher, distance2 = clue3d_nearest_higher(
        here, rho[here.row], near.windows, config.critical_distance, config
    )
    nearest = by_row(jnp.full(n, NOISE, jnp.int32), here.row, queries, rows_of(here, higher))
    # Whatever lies outside the transverse radius is further away than that in three dimensions, too.
    settled = by_row(~valid, here.row, queries, distance2 <= config.critical_distance**2)
    return Near(rho, nearest, settled | ~valid)


def search_far(
    points: LinePoints, valid: Bool[Array, " n"], near: Near, far: Tiles, config: Clue3dConfig
) -> DensityClusters:
    """The nearest higher of what `search_near` did not settle, seeds, and the tracksters that follow them.

    Args:
        points: padded.
        valid: false for padding.
        near: what is known.
        far: tiles for `far_reach` whose windows belong to what is not settled, padded.
        config: parameters.

    Returns:
        Rows and seeds in the order of the input; `delta` is the transverse distance in mm.
    """
    there = ordered(points, far.order)
    higher, _ = clue3d_nearest_higher(there, near.rho[there.row], far.windows, far_reach(config), config)
    nearest = by_row(near.nearest_higher, there.row, far.windows.query, rows_of(there, higher))
    return _clusters(points, near.rho, nearest, valid, config)


def near_reach(config: Clue3dConfig) -> float:
    """Largest transverse distance that densities and seeds depend on, mm."""
    return max(config.density_radius, config.critical_distance)


def far_reach(config: Clue3dConfig) -> float:
    """Largest transverse distance of a nearest higher, mm."""
    return config.critical_distance * config.outlier_multiplier


def _clusters(
    points: LinePoints,
    rho: Float32[Array, " n"],
    nearest: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    config: Clue3dConfig,
) -> DensityClusters:
    """Seeds and the tracksters that follow them."""
    other = {name: column[jnp.maximum(nearest, 0)] for name, column in points._asdict().items()}
    none = nearest < 0
    delta = jnp.where(none, jnp.inf, jnp.sqrt(transverse2(points._asdict(), other)))
    layers = jnp.abs(points.layer - other["layer"])
    far = none | (delta > config.critical_distance) | (layers > config.critical_layers)
    core = points.energy > config.critical_self_density * rho
    start = far & core & (rho >= config.critical_density)
    # What is no seed although it has no higher density in reach leads nowhere.
    rho_c = jnp.where(start, config.critical_density, jnp.inf)
    found = assign(rho, delta, jnp.where(start, NOISE, nearest), rho_c, valid)
    return without_small(found, config.min_layer_clusters)._replace(
        nearest_higher=jnp.where(valid, nearest, NOISE)
    )


def without_small(found: DensityClusters, least: int) -> DensityClusters:
    """Dissolve clusters with too few members and number the others anew."""
    n = found.ids.shape[0]
    member = found.ids >= 0
    size = jax.ops.segment_sum(member.astype(jnp.int32), jnp.where(member, found.ids, n), n)
    kept = size >= least
    number = cumulative(kept.astype(jnp.int32)) - 1
    name = jnp.maximum(found.ids, 0)
    stays = member & kept[name] if n else member
    return found._replace(
        ids=jnp.where(stays, number[name], NOISE) if n else found.ids,
        is_seed=found.is_seed & stays,
        n_clusters=jnp.sum(kept, dtype=jnp.int32),
    )


_search_near = jax.jit(search_near, static_argnames="config")
_search_far = jax.jit(search_far, static_argnames="config")
_line_points = jax.jit(line_points)

STEPS = (_search_near, _search_far, _line_points)


def clue3d(clusters: Clusters, config: Clue3dConfig | None = None, *, min_size: int = 2) -> DensityClusters:
    """Associate the layer clusters of one endcap.

    Args:
        clusters: on the host; those that are not valid or too small are left out.
        config: parameters; CMS's if not given.
        min_size: least number of hits of a layer cluster.

    Returns:
        Host arrays, one row a layer cluster; `delta` is the transverse distance in mm.

    Raises:
        DataError: a layer cluster that counts is not finite, has negative energy, or lies in the plane z = 0 or on the
            other side of it than another.
    """
    config = config or Clue3dConfig()
    rows, position, energy, layer = large_clusters(clusters, min_size)
    n = len(rows)
    length = bucket_size(n, LEAST_ROWS)
    pad = partial(pad_rows, length=length)
    points = _line_points(pad(position), pad(energy), pad(layer))
    valid = np.arange(length) < n
    tiles = pad_tiles(find_tiles(position, layer, near_reach(config), config.sibling_layers), length, length)
    near = jax.device_get(_search_near(points, valid, tiles, config=config))
    wanted = np.flatnonzero(~near.settled)
    tiles = find_tiles(position, layer, far_reach(config), config.sibling_layers, wanted)
    tiles = pad_tiles(tiles, length, bucket_size(len(wanted), LEAST_ROWS))
    found = jax.device_get(_search_far(points, valid, near, tiles, config=config))
    return to_rows(found, rows, len(clusters.valid))
