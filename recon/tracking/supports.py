"""The supports that carry the layers of sensors: where they are, and where tracks cross them.

Nine tenths of the material is in the supports. Every particle through a layer crosses its support once, however
many of its sensors overlap there, and also where the layer has no hit: between two sensors, or where the hit was
not found.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int

from recon.tracking.helix import Helix, arc_at_radius, arc_terms
from recon.tracking.trajectory import MIN_INCIDENCE, Crossings, Planes
from recon.types import Detector

BARREL_GAP = (1.07, -0.65)
"""From the outermost radius of the pixels, and the innermost one of the strips, of a barrel layer to its support, mm.

These gaps and the next two are those of the GenericDetector of ACTS, to 0.05 mm."""

BARREL_END = 2.0
"""By how much the support of a barrel layer is longer than its sensors, at either end, mm."""

DISC_EDGE = (1.0, 5.0)
"""By how much the support of a disc of pixels and of strips is wider than its sensors, at either edge, mm."""


class Supports(NamedTuple):
    """Supports of layers; barrel layers have cylinders, endcap layers discs.

    Attributes:
        layer: index of the layer.
        disc: true for discs.
        level: radius of a cylinder, z of a disc, mm.
        low: lowest z of a cylinder, inner radius of a disc, mm.
        high: highest z of a cylinder, outer radius of a disc, mm.
        thickness: of the layer with its sensors, radiation lengths.
    """

    layer: Int[np.ndarray, " l"]
    disc: Bool[np.ndarray, " l"]
    level: Float64[np.ndarray, " l"]
    low: Float64[np.ndarray, " l"]
    high: Float64[np.ndarray, " l"]
    thickness: Float64[np.ndarray, " l"]


def layer_supports(detector: Detector) -> Supports:
    """Find the supports around the sensors of each layer.

    Args:
        detector: the sensors.

    Returns:
        One row a layer, sorted by the index of the layer.
    """
    layers = np.unique(detector.layer)
    outline = _outline(detector)
    rows = [_support(detector, outline, np.flatnonzero(detector.layer == layer)) for layer in layers]
    disc, *columns = (np.array(column) for column in zip(*rows, strict=True))
    return Supports(layers, disc.astype(bool), *columns)


def _outline(detector: Detector) -> Float64[np.ndarray, "m 6 xyz"]:
    """Corners of the sensors and the middles of two of their edges: the nearest and the farthest points."""
    center, axes = detector.center.astype(np.float64), detector.rotation.astype(np.float64)
    at_low, at_high, along = detector.half_size.astype(np.float64).T[:, :, None]
    points = [
        center + side * width * axes[:, 0] + end * along * axes[:, 1]
        for end, width in ((-1, at_low), (1, at_high))
        for side in (-1, 0, 1)
    ]
    return np.stack(points, axis=1)


def _support(
    detector: Detector, outline: Float64[np.ndarray, "m 6 xyz"], rows: Int[np.ndarray, " r"]
) -> tuple[bool, float, float, float, float]:
    """(disc, level, low, high, thickness) of the layer that has these sensors."""
    pixel, thickness = bool(detector.pixel[rows[0]]), float(detector.thickness[rows].max())
    radius, z = np.hypot(outline[rows, :, 0], outline[rows, :, 1]), outline[rows, :, 2]
    if abs(detector.rotation[rows[0], 2, 2]) > 0.5:
        middle = (z.min() + z.max()) / 2
        edge = DISC_EDGE[0 if pixel else 1]
        return True, middle, radius.min() - edge, radius.max() + edge, thickness
    level = radius.max() + BARREL_GAP[0] if pixel else radius[:, [0, 2, 3, 5]].min() + BARREL_GAP[1]
    return False, level, z.min() - BARREL_END, z.max() + BARREL_END, thickness


class SupportCrossings(NamedTuple):
    """Tracks at the supports of the layers on which they have hits.

    Attributes:
        shift: transverse arc length from the sensor to the support, mm; negative towards the beam line.
        stretch: path in the support over its thickness.
        carries: true for the slot of each layer next to which the support is crossed: the last one before it or
            the first one behind it. False in all slots of a layer whose support the track misses.
    """

    shift: Float[Array, "k t"]
    stretch: Float[Array, "k t"]
    carries: Bool[Array, "k t"]


def cross_supports(helix: Helix, planes: Planes, crossings: Crossings) -> SupportCrossings:
    """Follow tracks from their hits to the supports, a few millimetres, along straight lines.

    Args:
        helix: one a track.
        planes: the sensors.
        crossings: of the tracks with them.

    Returns:
        One entry a slot; finite but meaningless where masked.
    """
    x, y, z = crossings.position
    radius = jnp.maximum(jnp.hypot(x, y), 1e-3)
    radial = (x * crossings.direction[0] + y * crossings.direction[1]) / radius
    slope = jnp.broadcast_to(helix.cot_theta, z.shape)
    disc = jnp.abs(planes.w[2]) > 0.5
    speed = jnp.where(disc, slope, radial)
    least = MIN_INCIDENCE * jnp.sqrt(1 + slope**2)
    speed = jnp.where(jnp.abs(speed) < least, jnp.where(speed < 0, -least, least), speed)
    level, low, high = planes.support
    shift = (level - jnp.where(disc, z, radius)) / speed
    across = jnp.where(disc, radius + radial * shift, z + slope * shift)
    met = planes.mask & (low < across) & (across < high)
    stretch = jnp.sqrt(1 + slope**2) / jnp.abs(speed)
    return SupportCrossings(shift, stretch, met & _is_nearest(planes, crossings.arc, shift))


def _is_nearest(planes: Planes, arc: Float[Array, "k t"], shift: Float[Array, "k t"]) -> Bool[Array, "k t"]:
    """Of overlapping sensors on a layer, choose the last one before its support or the first one behind it."""
    support = arc + shift
    beyond = jnp.full_like(planes.layer[:1], -2)
    same_as_next = planes.layer == jnp.concatenate([planes.layer[1:], beyond])
    same_as_previous = planes.layer == jnp.concatenate([beyond, planes.layer[:-1]])
    next_arc = jnp.concatenate([arc[1:], beyond])
    return (~same_as_next | (support < next_arc)) & (~same_as_previous | (shift >= 0))


def missed_supports(
    helix: Helix,
    barrel: Float[Array, "b 5"],
    discs: Float[Array, "d 5"],
    planes: Planes,
    end: Float[Array, " t"],
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Sum the supports that tracks cross where they have no hit.

    Most tracks have one such layer or none. Several act at their mean arc length, each with its share.

    Args:
        helix: one a track.
        barrel: (layer, radius, lowest z, highest z, thickness in radiation lengths) of the cylinders.
        discs: (layer, z, inner radius, outer radius, thickness in radiation lengths) of the discs.
        planes: the sensors with hits.
        end: arc length of the last hit, mm.

    Returns:
        Arc length from the perigee, mm, and path along the track, radiation lengths; 0 for tracks without.
    """
    arc, path = (
        jnp.concatenate(both)
        for both in zip(_cross_barrel(helix, barrel), _cross_discs(helix, discs), strict=True)
    )
    layer = jnp.concatenate([barrel[:, 0], discs[:, 0]])
    has_hit = (planes.layer[:, None] == layer[:, None]).any(0)
    path = jnp.where(~has_hit & (arc > 0) & (arc < end), path, 0)
    total = path.sum(0)
    return (path * arc).sum(0) / jnp.maximum(total, 1e-9), total


def _cross_barrel(
    helix: Helix, barrel: Float[Array, "b 5"]
) -> tuple[Float[Array, "b t"], Float[Array, "b t"]]:
    """Arc lengths to cylinders and path in them, 0 where they are not met."""
    _, radius, low, high, thickness = (column[:, None] for column in barrel.T)
    terms = arc_terms(helix.kappa, arc_at_radius(helix, radius))
    radial = jnp.abs((1 + helix.kappa * helix.d0) * terms.sine) / radius
    z = helix.z0 + terms.arc * helix.cot_theta
    met = (jnp.abs(helix.d0) < radius) & (radial > MIN_INCIDENCE) & (low < z) & (z < high)
    path = thickness * jnp.sqrt(1 + helix.cot_theta**2) / jnp.maximum(radial, MIN_INCIDENCE)
    return terms.arc, jnp.where(met, path, 0)


def _cross_discs(helix: Helix, discs: Float[Array, "d 5"]) -> tuple[Float[Array, "d t"], Float[Array, "d t"]]:
    """Arc lengths to discs and path in them, 0 where they are not met."""
    _, z, low, high, thickness = (column[:, None] for column in discs.T)
    slope = jnp.where(jnp.abs(helix.cot_theta) < MIN_INCIDENCE, MIN_INCIDENCE, helix.cot_theta)
    terms = arc_terms(helix.kappa, (z - helix.z0) / slope)
    chord_squared = terms.sine**2 + terms.versine**2
    radius = jnp.sqrt(jnp.maximum(helix.d0**2 + (1 + helix.kappa * helix.d0) * chord_squared, 0))
    path = thickness * jnp.sqrt(1 + slope**2) / jnp.abs(slope)
    return terms.arc, jnp.where((low < radius) & (radius < high), path, 0)
