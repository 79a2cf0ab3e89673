"""Points of showers seen from the interaction point, and where each has its neighbours.

A shower points back to the interaction point, so two layer clusters are compared where both are projected along their
lines of sight into the plane of one of them: with s = r / |z| the squared transverse distance of j from i is

    t_ij = z_i^2 ((s_i - s_j)^2 + (s_j (phi_i - phi_j))^2)

which is that of CMS's TICL, and not symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from recon.geometry import array_namespace
from recon.hgcal_clustering.tiles import Tiles, pad_windows, search_tiles
from recon.types import NOISE, Array


class LinePoints(NamedTuple):
    """Points seen from the interaction point; padded.

    Attributes:
        slope: r / |z|.
        phi: rad.
        z: absolute, mm.
        layer: points on layers too far apart do not see each other.
        energy: GeV.
        row: in the order of the input; decides ties.
    """

    slope: Float32[Array, "*b n"]
    phi: Float32[Array, "*b n"]
    z: Float32[Array, "*b n"]
    layer: Int32[Array, "*b n"]
    energy: Float32[Array, "*b n"]
    row: Int32[Array, "*b n"]


def line_points(
    position: Float32[Array, "n 3"], energy: Float32[Array, " n"], layer: Int32[Array, " n"]
) -> LinePoints:
    """Projective coordinates of points away from the plane z = 0."""
    radius = jnp.hypot(position[:, 0], position[:, 1])
    depth = jnp.abs(position[:, 2])
    # Padding lies in the plane z = 0.
    slope = jnp.where(depth > 0, radius / jnp.where(depth > 0, depth, 1), 0)
    phi = jnp.arctan2(position[:, 1], position[:, 0])
    return LinePoints(slope, phi, depth, layer, energy, jnp.arange(len(layer), dtype=jnp.int32))


def transverse2(here: Mapping[str, Array], there: Mapping[str, Array]) -> Float[Array, ...]:
    """Squared transverse distance in the plane of `here`, mm^2."""
    angle = jnp.abs(here["phi"] - there["phi"])
    arc = there["slope"] * jnp.minimum(angle, 2 * math.pi - angle)
    return here["z"] ** 2 * ((here["slope"] - there["slope"]) ** 2 + arc**2)


def find_tiles(
    position: Float32[np.ndarray, "n 3"],
    layer: Int[np.ndarray, " n"],
    reach: float,
    layers: int,
    query: Int[np.ndarray, " q"] | None = None,
) -> Tiles:
    """Sort layer clusters into tiles and find where each has its neighbours; host NumPy.

    Args:
        position: mm, all on one side of z = 0; not padded.
        layer: of every one.
        reach: largest transverse distance, mm.
        layers: how many layers away neighbours are at most.
        query: rows that search; all if not given.
    """
    depth = np.abs(position[:, 2:]).astype(np.float64)
    projected = np.concatenate([position[:, :2] / depth, layer[:, None]], 1)
    plane = float(depth.min(initial=np.inf))
    radius = float(np.hypot(*projected[:, :2].T).min(initial=np.inf)) * plane
    across = reach * float(stretch(reach, radius)) / plane if len(layer) else 1.0
    # Half a layer more: whole numbers must not fall victim to rounding.
    limits = (across, across, layers + 0.5)
    return search_tiles(projected, limits, rank=np.arange(len(layer)), query=query)


def stretch(distance: float, radius: float | Array) -> float | Array:
    """How much longer a straight line can be than CMS's transverse distance, whose arc is at the radius of the other.

    With a and b = r d(phi) its radial and azimuthal part, the square of the line is a^2 + b^2 (1 + a / r) at most,
    where d(phi) is at most pi and a b^2 at most 0.385 times the cube of the distance.
    """
    xp = array_namespace(radius)
    return xp.sqrt(1 + xp.minimum(0.385 * distance / xp.maximum(radius, 1e-9), math.pi / 2))


def pad_tiles(tiles: Tiles, n_points: int, n_queries: int) -> Tiles:
    """Add points that do not search and that nobody finds."""
    n = len(tiles.order)
    order = np.concatenate([tiles.order, np.arange(n, n_points, dtype=np.int32)])
    return Tiles(order, pad_windows(tiles.windows, n_queries, n_points))


def ordered(points: LinePoints, order: Int32[Array, " n"]) -> LinePoints:
    """The points in another order."""
    return LinePoints(*(column[order] for column in points))


def rows_of(points: LinePoints, place: Int32[Array, " q"]) -> Int32[Array, " q"]:
    """Rows of the input of some places among `points`; `NOISE` for -1."""
    return jnp.where(place >= 0, points.row[jnp.maximum(place, 0)], NOISE)
