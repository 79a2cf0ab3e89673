"""Where reference helices meet the sensors, how that depends on their parameters, and the material on the way.

The derivatives are closed forms of the helix, found by turning the transverse frame with the track: a change of the
perigee moves the point at arc length s by (dn) normal to the track and (dl) along it, and a change of direction at
that point changes the perigee by the same expressions read backwards. `row @ column = 0` for every kink at its own
surface, which the tests check. State order: d0, z0, phi, cot theta, kappa.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recon.geometry import LIGHT
from recon.tracking.helix import MIN_CURVATURE, ArcTerms, Helix, arc_at_radius, arc_terms
from recon.tracking.kalman import Scatterers

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
        thickness: radiation lengths at normal incidence; 0 where masked.
        mask: true for slots with a measurement.
    """

    u: Float[Array, "3 k t"]
    v: Float[Array, "3 k t"]
    w: Float[Array, "3 k t"]
    center: Float[Array, "3 k t"]
    local: Float[Array, "2 k t"]
    weight: Float[Array, "2 k t"]
    thickness: Float[Array, "k t"]
    mask: Bool[Array, "k t"]


class Crossings(NamedTuple):
    """Helices at the sensor planes.

    Attributes:
        terms: trigonometry of the arcs from perigee to plane.
        residual: measured minus predicted local position, mm.
        row: derivatives of the local position with respect to the helix.
        incidence: cosine between track and normal, positive.
    """

    terms: ArcTerms
    residual: Float[Array, "k 2 t"]
    row: Float[Array, "k 2 5 t"]
    incidence: Float[Array, "k t"]


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
) -> tuple[tuple[Float[Array, "3 k t"], ...], tuple[Float[Array, "k t"], Float[Array, "k t"]]]:
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
        Residuals, derivatives and incidence; finite but meaningless in masked slots.
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
        rows.append(
            _row(helix, terms, normal - along / speed * plane_normal, axis[2] - along / speed * planes.w[2])
        )
    incidence = jnp.abs(speed) / jnp.sqrt(1 + slope**2)
    return Crossings(terms, jnp.stack(residuals, axis=1), jnp.stack(rows, axis=1), incidence)


def _row(
    helix: Helix, terms: ArcTerms, normal: Float[Array, "k t"], axial: Float[Array, "k t"]
) -> Float[Array, "k 5 t"]:
    """Derivatives of a coordinate that grows by `normal` per mm off the track and by `axial` per mm of z."""
    back = axial * helix.cot_theta
    return jnp.stack(
        [
            normal * terms.cos_turn - back * terms.sin_turn,
            axial,
            normal * (terms.sine + helix.d0 * terms.sin_turn)
            - back * (terms.versine - helix.d0 * terms.cos_turn),
            axial * terms.arc,
            normal * terms.second - back * terms.third,
        ],
        axis=1,
    )


def kink_columns(helix: Helix, terms: ArcTerms) -> Float[Array, "k 3 5 t"]:
    """Change of the perigee of the outgoing helix by kinks at points of the helix.

    Args:
        helix: one a track.
        terms: arcs from the perigee to the points.

    Returns:
        One column for a kink in azimuth (per rad), in cot theta at constant momentum (per unit) and in curvature
        (per 1/mm).
    """
    reach = 1 / (1 + helix.kappa * helix.d0)
    zero, one = jnp.zeros_like(terms.arc), jnp.ones_like(terms.arc)
    slope = helix.cot_theta
    azimuth = [
        -terms.sine,
        -slope * (terms.versine + helix.d0) * reach,
        terms.cos_turn * reach,
        zero,
        zero,
    ]
    curvature = [
        terms.second,
        slope * (terms.third + terms.arc * helix.d0) * reach,
        -terms.sine * reach,
        zero,
        one,
    ]
    # A tilt at constant momentum changes pT and with it the curvature.
    coupling = helix.kappa * slope / (1 + slope**2)
    tilt = [
        coupling * curvature[0],
        coupling * curvature[1] - terms.arc,
        coupling * curvature[2],
        one,
        coupling * one,
    ]
    return jnp.stack([jnp.stack(column, axis=1) for column in (azimuth, tilt, curvature)], axis=1)


def momentum(helix: Helix, field: float) -> Float[Array, " t"]:
    """Momentum of a singly charged particle on a helix.

    Args:
        helix: one a track.
        field: along +z, T.

    Returns:
        GeV.
    """
    return (
        LIGHT
        * abs(field)
        * jnp.sqrt(1 + helix.cot_theta**2)
        / jnp.maximum(jnp.abs(helix.kappa), MIN_CURVATURE)
    )


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


def scatterers(
    helix: Helix, columns: Float[Array, "k 3 5 t"], variance: Float[Array, "k t"]
) -> Scatterers:
    """Combine kinks in azimuth and in cot theta with the variance of the scattering angle.

    Args:
        helix: one a track.
        columns: result of `kink_columns`.
        variance: of the projected angle, rad^2.

    Returns:
        Two independent kinks a slot.
    """
    stretch = 1 + helix.cot_theta**2
    return Scatterers(columns[:, :2], jnp.stack([variance * stretch, variance * stretch**2], axis=1))


def cross_cylinders(
    helix: Helix, radius: Float[Array, " c"], thickness: Float[Array, " c"]
) -> tuple[ArcTerms, Float[Array, "c t"]]:
    """Cross the passive cylinders around the z axis.

    Args:
        helix: one a track.
        radius: mm.
        thickness: radiation lengths.

    Returns:
        Arcs from the perigee to the cylinders and the material along the track, 0 for cylinders out of reach.
    """
    radius = radius[:, None]
    terms = arc_terms(helix.kappa, arc_at_radius(helix, radius))
    radial = jnp.abs((1 + helix.kappa * helix.d0) * terms.sine) / radius
    inside = (jnp.abs(helix.d0) < radius) & (radial > MIN_INCIDENCE)
    path = thickness[:, None] * jnp.sqrt(1 + helix.cot_theta**2) / jnp.maximum(radial, MIN_INCIDENCE)
    return terms, jnp.where(inside, path, 0)


def share_cylinders(
    arc: Float[Array, "k t"],
    mask: Bool[Array, "k t"],
    cylinder_arc: Float[Array, "c t"],
    path: Float[Array, "c t"],
) -> Float[Array, "k t"]:
    """Move the material of cylinders between two measurements onto these.

    The shares keep the total scattering angle and the displacement at the outer measurement. Cylinders inside
    the first measurement are left out.

    Args:
        arc: of the measurements, mm.
        mask: true for slots with a measurement.
        cylinder_arc: of the cylinders, mm.
        path: material in the cylinders along the track, radiation lengths.

    Returns:
        Material to add to each slot, radiation lengths.
    """
    far = 1e6
    start = jnp.where(mask, arc, far)
    end = jnp.concatenate([start[1:], jnp.full_like(start[:1], far)])
    extra = jnp.zeros_like(arc)
    for cylinder in range(path.shape[0]):
        between = mask & (start < cylinder_arc[cylinder]) & (cylinder_arc[cylinder] <= end)
        lever = (end - cylinder_arc[cylinder]) / jnp.maximum(end - start, 1e-3)
        inner = jnp.where(between, path[cylinder] * lever**2, 0)
        outer = jnp.where(between, path[cylinder], 0) - inner
        extra = extra + inner + jnp.concatenate([jnp.zeros_like(outer[:1]), outer[:-1]])
    return jnp.where(mask, extra, 0)
