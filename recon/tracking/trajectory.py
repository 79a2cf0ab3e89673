"""Where reference helices meet the sensors, how tracks near them deviate, and the material on the way.

The derivatives are closed forms of the helix, found by turning the transverse frame with the track: a change of
the state moves the track along the transverse normal, along z and along itself, and the last part only shifts
the point of comparison. State order as in `recon.tracking.kalman`: azimuth, cot theta, rho, offset along the
normal, offset along z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from recon.geometry import LIGHT
from recon.tracking.helix import MIN_CURVATURE, ArcTerms, Helix, arc_at_radius, arc_terms
from recon.tracking.kalman import Material, Measurements

NEWTON_STEPS = 2
"""Steps to a sensor plane; a third, linear one is part of the residual."""

MIN_INCIDENCE = 0.02
"""Smallest |cosine| between track and sensor normal: grazing tracks do not divide by zero."""


class Planes(NamedTuple):
    """The sensors and measurements of tracks; slot first, track last.

    Attributes:
        u: first local axis in the global frame.
        v: second local axis.
        w: normal.
        center: mm.
        local: measured position along u and v, mm.
        weight: inverse variances of `local`, 1/mm^2; 0 where masked.
        thickness: of the sensors with their supports, radiation lengths at normal incidence; 0 where masked.
        support: of the layer: radius of a cylinder (barrel) or z of a disc, and the range of the other of these two
            coordinates, lowest and highest value, mm.
        layer: index of the layer; -1 where masked.
        mask: true for slots with a measurement.
    """

    u: Float[Array, "3 k t"]
    v: Float[Array, "3 k t"]
    w: Float[Array, "3 k t"]
    center: Float[Array, "3 k t"]
    local: Float[Array, "2 k t"]
    weight: Float[Array, "2 k t"]
    thickness: Float[Array, "k t"]
    support: Float[Array, "3 k t"]
    layer: Float[Array, "k t"]
    mask: Bool[Array, "k t"]


class Crossings(NamedTuple):
    """Helices at the sensor planes.

    Attributes:
        arc: transverse arc length from the perigee, mm.
        residual: measured minus predicted local position, mm.
        row: derivatives of the local position with respect to offsets along the transverse normal and z.
        speed: distance along the sensor normal per mm of arc.
        position: mm.
        direction: cosine and sine of the azimuth.
    """

    arc: Float[Array, "k t"]
    residual: Float[Array, "k 2 t"]
    row: Float[Array, "k 2 2 t"]
    speed: Float[Array, "k t"]
    position: Float[Array, "3 k t"]
    direction: Float[Array, "2 k t"]


def _dot(
    axis: Float[Array, "3 k t"],
    x: Float[Array, "#k t"],
    y: Float[Array, "#k t"],
    z: Float[Array, "#k t"],
) -> Float[Array, "k t"]:
    return axis[0] * x + axis[1] * y + axis[2] * z


def _keep_away_from_zero(value: Float[Array, "k t"], least: Float[Array, " t"]) -> Float[Array, "k t"]:
    return jnp.where(jnp.abs(value) < least, jnp.where(value < 0, -least, least), value)


def _state_at(
    helix: Helix, planes: Planes, terms: ArcTerms
) -> tuple[tuple[Float[Array, "k t"], ...], tuple[Float[Array, "k t"], Float[Array, "k t"]]]:
    """Offset of the helix from the plane centres (x, y, z) and cosine and sine of its azimuth there."""
    cos_0, sin_0 = jnp.cos(helix.phi), jnp.sin(helix.phi)
    offset_x = (terms.sine * cos_0 - terms.versine * sin_0 - helix.d0 * sin_0) - planes.center[0]
    offset_y = (terms.sine * sin_0 + terms.versine * cos_0 + helix.d0 * cos_0) - planes.center[1]
    offset_z = helix.z0 + terms.arc * helix.cot_theta - planes.center[2]
    cos_phi = cos_0 * terms.cos_turn - sin_0 * terms.sin_turn
    sin_phi = sin_0 * terms.cos_turn + cos_0 * terms.sin_turn
    return (offset_x, offset_y, offset_z), (cos_phi, sin_phi)


def cross_planes(helix: Helix, planes: Planes, arc: Float[Array, "k t"]) -> Crossings:
    """Intersect helices with sensor planes and linearise the local positions.

    Args:
        helix: one a track.
        planes: the sensors.
        arc: first guess of the transverse arc lengths, mm.

    Returns:
        Residuals, derivatives and speeds; finite but meaningless in masked slots.
    """
    slope = helix.cot_theta
    least = MIN_INCIDENCE * jnp.sqrt(1 + slope**2)
    for _ in range(NEWTON_STEPS):
        offset, (cos_phi, sin_phi) = _state_at(helix, planes, arc_terms(helix.kappa, arc))
        speed = _keep_away_from_zero(_dot(planes.w, cos_phi, sin_phi, slope[None]), least)
        step = jnp.clip(_dot(planes.w, *offset) / speed, -100, 100)
        arc = jnp.where(planes.mask, arc - step, 0)
    terms = arc_terms(helix.kappa, arc)
    offset, (cos_phi, sin_phi) = _state_at(helix, planes, terms)
    speed = _keep_away_from_zero(_dot(planes.w, cos_phi, sin_phi, slope[None]), least)
    beyond = _dot(planes.w, *offset) / speed
    residuals, rows = [], []
    for axis, measured in zip((planes.u, planes.v), planes.local, strict=True):
        along = _dot(axis, cos_phi, sin_phi, slope[None])
        residuals.append(measured - (_dot(axis, *offset) - along * beyond))
        normal = axis[1] * cos_phi - axis[0] * sin_phi
        plane_normal = planes.w[1] * cos_phi - planes.w[0] * sin_phi
        # A displaced track reaches the plane earlier or later, by the second terms.
        rows.append([normal - along / speed * plane_normal, axis[2] - along / speed * planes.w[2]])
    row = jnp.stack([jnp.stack(pair, axis=1) for pair in rows], axis=1)
    position = jnp.stack(offset) + planes.center
    return Crossings(arc, jnp.stack(residuals, axis=1), row, speed, position, jnp.stack([cos_phi, sin_phi]))


def transport_matrix(helix: Helix, arc: Float[Array, "k t"]) -> Float[Array, "k 5 5 t"]:
    """Derivatives of the state at the end of an arc by the state at its begin.

    Args:
        helix: one a track; the reference.
        arc: transverse arc length, mm; negative backwards, which gives the inverse matrix.

    Returns:
        One matrix an arc.
    """
    terms, slope = arc_terms(helix.kappa, arc), helix.cot_theta
    zero, one = jnp.zeros_like(arc), jnp.ones_like(arc)
    # The transverse curvature depends on rho and, at constant momentum, on the slope.
    stretch = jnp.sqrt(1 + slope**2)
    by_slope = helix.rho * slope / stretch
    curvature = [terms.sine, terms.second, -slope * terms.third]
    azimuth, normal, axial = ([value * by_slope, value * stretch] for value in curvature)
    rows = [
        [terms.cos_turn, *azimuth, -helix.kappa * terms.sin_turn, zero],
        [zero, one, zero, zero, zero],
        [zero, zero, one, zero, zero],
        [terms.sine, *normal, terms.cos_turn, zero],
        [-slope * terms.versine, arc + axial[0], axial[1], -slope * terms.sin_turn, one],
    ]
    return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)


def perigee_matrix(helix: Helix) -> Float[Array, "5 5 t"]:
    """Derivatives of the state at the perigee by the helix parameters (d0, z0, phi, cot theta, rho).

    The offsets are those of the changed helix beside the old perigee, which is not where its own perigee is.

    Args:
        helix: the reference.

    Returns:
        One matrix a track.
    """
    zero, one = jnp.zeros_like(helix.d0), jnp.ones_like(helix.d0)
    rows = [
        [zero, zero, 1 + helix.kappa * helix.d0, zero, zero],
        [zero, zero, zero, one, zero],
        [zero, zero, zero, zero, one],
        [one, zero, zero, zero, zero],
        [zero, one, helix.cot_theta * helix.d0, zero, zero],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def momentum(helix: Helix, field: float) -> Float[Array, " t"]:
    """Momentum of a singly charged particle on a helix.

    Args:
        helix: one a track.
        field: along +z, T.

    Returns:
        GeV.
    """
    return LIGHT * abs(field) / jnp.maximum(jnp.abs(helix.rho), MIN_CURVATURE)


def scattering_variance(
    path: Float[Array, "*k t"], momentum_of_track: Float[Array, " t"], mass: float
) -> Float[Array, "*k t"]:
    """Variance of the projected multiple scattering angle (Highland; Particle Data Group, eq. 34.16).

    Args:
        path: material along the track, radiation lengths.
        momentum_of_track: GeV.
        mass: GeV.

    Returns:
        rad^2; 0 without material.
    """
    inverse_beta_squared = 1 + (mass / momentum_of_track) ** 2
    filled = path > 0
    log = jnp.log(jnp.where(filled, path, 1) * inverse_beta_squared)
    width = 0.0136 / momentum_of_track * jnp.maximum(1 + 0.038 * log, 0.1)
    return jnp.where(filled, width**2 * path * inverse_beta_squared, 0)


def material_effects(
    helix: Helix, variance: Float[Array, "k t"], loss: Float[Array, "k t"], field: float, mass: float
) -> Material:
    """Scattering and mean energy loss in the coordinates of the filter.

    Args:
        helix: one a track; the reference.
        variance: of the projected scattering angle, rad^2.
        loss: mean energy loss, GeV.
        field: along +z, T.
        mass: GeV.

    Returns:
        Kinks.
    """
    p = momentum(helix, field)
    stretch = 1 + helix.cot_theta**2
    return Material(
        azimuth=variance * stretch,
        slope=variance * stretch**2,
        bend=loss * helix.rho * jnp.sqrt(p**2 + mass**2) / p**2,
    )


def cross_cylinders(
    helix: Helix, radius: Float[Array, " c"], thickness: Float[Array, " c"]
) -> tuple[Float[Array, "c t"], Float[Array, "c t"]]:
    """Cross the passive cylinders around the z axis.

    Args:
        helix: one a track.
        radius: mm.
        thickness: radiation lengths.

    Returns:
        Arc lengths from the perigee to the cylinders, mm, and the material along the track in radiation lengths,
        0 for cylinders out of reach.
    """
    radius = radius[:, None]
    terms = arc_terms(helix.kappa, arc_at_radius(helix, radius))
    radial = jnp.abs((1 + helix.kappa * helix.d0) * terms.sine) / radius
    inside = (jnp.abs(helix.d0) < radius) & (radial > MIN_INCIDENCE)
    path = thickness[:, None] * jnp.sqrt(1 + helix.cot_theta**2) / jnp.maximum(radial, MIN_INCIDENCE)
    return terms.arc, jnp.where(inside, path, 0)


class Surfaces(NamedTuple):
    """Surfaces with material or measurements along tracks, before they are sorted into filter slots.

    Attributes:
        arc: from the perigee, mm.
        measurements: expressed in the state at the surface.
        variance_inside: of the projected scattering angle in front of the measurement, rad^2.
        variance_outside: the same behind the measurement.
        loss_inside: mean energy loss in front of the measurement, GeV.
        loss_outside: the same behind the measurement.
    """

    arc: Float[Array, "*k t"]
    measurements: Measurements
    variance_inside: Float[Array, "*k t"]
    variance_outside: Float[Array, "*k t"]
    loss_inside: Float[Array, "*k t"]
    loss_outside: Float[Array, "*k t"]


class ExtraSurfaces(NamedTuple):
    """Surfaces with material and without measurements.

    Attributes:
        arc: from the perigee, mm.
        variance: of the projected scattering angle, rad^2.
        loss: mean energy loss, GeV.
    """

    arc: Float[Array, "m t"]
    variance: Float[Array, "m t"]
    loss: Float[Array, "m t"]


def merge_surfaces(surfaces: Surfaces, extra: ExtraSurfaces) -> tuple[Surfaces, Int[Array, "m t"]]:
    """Insert surfaces without measurements into the list of every track.

    Args:
        surfaces: k slots in the order of their arcs.
        extra: m surfaces in any order; of two at the same arc the later one comes first.

    Returns:
        k + m slots, and how many of the k slots are in front of each of the m surfaces.
    """
    arc, count = extra.arc, len(extra.arc)
    positions = (surfaces.arc[None] < arc[:, None]).sum(1)
    is_later = jnp.arange(count)[:, None, None] < jnp.arange(count)[:, None]
    in_front = (arc < arc[:, None]) | (is_later & (arc == arc[:, None]))
    slot = jnp.arange(len(surfaces.arc) + count)[:, None]
    place = (positions + in_front.sum(1))[:, None]
    # Without the barrier every array below would count again.
    is_extra, shift = jax.lax.optimization_barrier((place == slot, (place < slot).sum(0)))

    def merge(old: Float[Array, "k *s t"], new: Float[Array, "m t"]) -> Float[Array, "km *s t"]:
        padded = jnp.pad(old, [(count, count)] + [(0, 0)] * (old.ndim - 1))
        merged = _choose(shift, [padded[count - by :][: len(slot)] for by in range(count + 1)])
        for here, value in zip(is_extra, new, strict=True):
            merged = jnp.where(here.reshape(len(slot), *(1,) * (old.ndim - 2), -1), value, merged)
        return merged

    zero = jnp.zeros_like(arc)
    return Surfaces(
        arc=merge(surfaces.arc, arc),
        measurements=jax.tree.map(lambda old: merge(old, zero), surfaces.measurements),
        variance_inside=merge(surfaces.variance_inside, zero),
        variance_outside=merge(surfaces.variance_outside, extra.variance),
        loss_inside=merge(surfaces.loss_inside, zero),
        loss_outside=merge(surfaces.loss_outside, extra.loss),
    ), positions


def values_of_hits(values: Float[Array, "km t"], positions: Int[Array, "m t"]) -> Float[Array, "k t"]:
    """Leave out the slots that `merge_surfaces` inserted.

    Args:
        values: one a slot.
        positions: from `merge_surfaces`.
    """
    count, length = len(positions), len(values) - len(positions)
    shift = (positions[:, None] <= jnp.arange(length)[:, None]).sum(0)
    return _choose(shift, [values[by:][:length] for by in range(count + 1)])


def _choose(which: Int[Array, "k t"], of: Sequence[Float[Array, "k *s t"]]) -> Float[Array, "k *s t"]:
    """Element by element; gathers are slower."""
    which = which.reshape(which.shape[0], *(1,) * (of[0].ndim - 2), -1)
    chosen = of[0]
    for index, values in enumerate(of[1:], 1):
        chosen = jnp.where(which == index, values, chosen)
    return chosen
