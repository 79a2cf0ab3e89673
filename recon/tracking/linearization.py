"""The fit linearised around a reference helix: sensors and material in the order in which the track meets them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from recon.tracking.fit_setup import FitConfig, FitSurfaces
from recon.tracking.helix import Helix
from recon.tracking.kalman import Measurements, Slots
from recon.tracking.supports import cross_supports, missed_supports
from recon.tracking.trajectory import (
    Crossings,
    ExtraSurfaces,
    Planes,
    Surfaces,
    cross_cylinders,
    cross_planes,
    material_effects,
    merge_surfaces,
    momentum,
    scattering_variance,
    transport_matrix,
)


class Linearized(NamedTuple):
    """The problem around a reference helix.

    Attributes:
        slots: of the filter.
        arc: transverse arc length from the perigee to the sensor of each hit, mm.
        positions: of the surfaces without hits among the hits, for `values_of_hits`.
    """

    slots: Slots
    arc: Float[Array, "k t"]
    positions: Int[Array, "m t"]


def linearize(
    helix: Helix, planes: Planes, surfaces: FitSurfaces, arc: Float[Array, "k t"], config: FitConfig
) -> Linearized:
    """Cross sensors and cylinders and sort them along the track.

    Args:
        helix: one a track; the reference.
        planes: the sensors and measurements.
        surfaces: supports and passive cylinders.
        arc: first guess of the arc lengths to the sensors, mm.
        config: settings.

    Returns:
        What the filter needs.
    """
    # The barriers keep XLA from computing a value again in every expression that uses it.
    crossings = jax.lax.optimization_barrier(cross_planes(helix, planes, arc))
    along = _sensor_surfaces(helix, planes, crossings, config)
    extra = _surfaces_without_hit(helix, planes, surfaces, crossings.arc, config)
    merged, positions = merge_surfaces(along, extra)
    merged = jax.lax.optimization_barrier(merged)
    steps = jnp.diff(merged.arc, axis=0, prepend=0)
    slots = Slots(
        inside=material_effects(helix, merged.variance_inside, merged.loss_inside, config.field, config.mass),
        measurements=merged.measurements,
        outside=material_effects(
            helix, merged.variance_outside, merged.loss_outside, config.field, config.mass
        ),
        transport=transport_matrix(helix, steps),
        inverse=transport_matrix(helix, -steps),
    )
    return Linearized(slots, crossings.arc, positions)


def _surfaces_without_hit(
    helix: Helix, planes: Planes, surfaces: FitSurfaces, arc: Float[Array, "k t"], config: FitConfig
) -> ExtraSurfaces:
    """What tracks cross besides their hits: the passive cylinders, and the supports of layers without a hit."""
    arcs, paths = cross_cylinders(helix, surfaces.radius, surfaces.thickness)
    end = jnp.where(planes.mask, arc, 0).max(0)
    missed_arc, missed_path = missed_supports(helix, surfaces.barrel, surfaces.discs, planes, end)
    missed_path = (1 - config.sensor_share) * missed_path
    path = jnp.concatenate([paths, missed_path[None]])
    return ExtraSurfaces(
        arc=jnp.concatenate([arcs, missed_arc[None]]),
        variance=scattering_variance(path, momentum(helix, config.field), config.mass),
        loss=jnp.concatenate([config.passive_loss * paths, config.sensor_loss * missed_path[None]]),
    )


def _sensor_surfaces(helix: Helix, planes: Planes, crossings: Crossings, config: FitConfig) -> Surfaces:
    """A hit and the support of its layer as one surface, which lies at the support."""
    supports = cross_supports(helix, planes, crossings)
    shift = jnp.where(supports.carries, supports.shift, 0)
    p = momentum(helix, config.field)
    stretch = jnp.sqrt(1 + helix.cot_theta**2) / jnp.abs(crossings.speed)
    sensor = config.sensor_share * planes.thickness * stretch
    support = (1 - config.sensor_share) * planes.thickness * supports.stretch
    support = jnp.where(supports.carries, support, 0)
    in_front = jnp.where(shift < 0, support, 0)
    behind = support - in_front
    offsets = crossings.row
    # A change of direction at the support has moved the track by the time it is at the sensor.
    row = jnp.concatenate(
        [-shift[:, None, None] * offsets, jnp.zeros_like(offsets[:, :, :1]), offsets], axis=2
    )
    return Surfaces(
        arc=_fill(crossings.arc + shift, planes.mask),
        measurements=Measurements(row, crossings.residual, jnp.moveaxis(planes.weight, 0, 1)),
        variance_inside=scattering_variance(in_front, p, config.mass),
        variance_outside=scattering_variance(sensor, p, config.mass)
        + scattering_variance(behind, p, config.mass),
        loss_inside=config.sensor_loss * in_front,
        loss_outside=config.sensor_loss * (sensor + behind),
    )


def _fill(arc: Float[Array, "k t"], mask: Bool[Array, "k t"]) -> Float[Array, "k t"]:
    """Let empty slots stay where the hit before them is: going forth and back would cost precision."""
    filled = [jnp.where(mask[0], arc[0], 0)]
    for row in range(1, arc.shape[0]):
        filled.append(jnp.where(mask[row], arc[row], filled[-1]))
    return jnp.stack(filled)
