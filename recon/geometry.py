"""Angles, pseudorapidity and helices: pure functions of NumPy or JAX arrays.

A function works on whatever it is given: all NumPy in, NumPy out; one JAX array in, JAX out. Every helix
lies in a solenoidal field along +z. Perigee parameters are (d0, z0, phi, theta, q/p) at the point of closest
approach to the z axis, in mm, rad and 1/GeV; the perigee is at (-d0 sin phi, d0 cos phi, z0), the sign
convention of ACTS.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from recon.types import Array

LIGHT = 0.299792458e-3
"""Speed of light in GeV / (T mm): charge e and pT in B bend with the radius pT / (LIGHT B)."""

Real: TypeAlias = Any
"""A float or an array of floats, of any shape, of NumPy or JAX: arithmetic mixes them freely."""


def array_namespace(*arrays: Any) -> ModuleType:
    """Return `jax.numpy` if one of the arguments is a JAX array (or traced), `numpy` otherwise."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def wrap_phi(angle: Real) -> Real:
    """Map an angle in rad into (-pi, pi].

    Args:
        angle: any angle, rad.

    Returns:
        The same direction, rad.
    """
    xp = array_namespace(angle)
    return angle - 2 * np.pi * xp.ceil((angle - np.pi) / (2 * np.pi))


def delta_phi(phi: Real, other: Real) -> Real:
    """Difference `phi - other` of two azimuths, in (-pi, pi].

    Args:
        phi: rad.
        other: rad.

    Returns:
        The signed difference, rad.
    """
    return wrap_phi(phi - other)


def delta_r(eta: Real, phi: Real, other_eta: Real, other_phi: Real) -> Real:
    """Distance in the plane of pseudorapidity and azimuth.

    Args:
        eta: pseudorapidity of one object.
        phi: its azimuth, rad.
        other_eta: pseudorapidity of the other object.
        other_phi: its azimuth, rad.

    Returns:
        `sqrt(delta_eta**2 + delta_phi**2)`.
    """
    xp = array_namespace(eta, phi, other_eta, other_phi)
    return xp.hypot(eta - other_eta, delta_phi(phi, other_phi))


def cylindrical(position: Float[Array, "... 3"]) -> tuple[Real, Real, Real]:
    """Cylindrical coordinates (r, phi, z) of points.

    Args:
        position: x, y, z in mm.

    Returns:
        Distance from the z axis (mm), azimuth in (-pi, pi] (rad) and z (mm).
    """
    xp = array_namespace(position)
    x, y, z = position[..., 0], position[..., 1], position[..., 2]
    return xp.hypot(x, y), xp.arctan2(y, x), z


def theta(vector: Float[Array, "... 3"]) -> Real:
    """Polar angle of a vector, in [0, pi] rad.

    Args:
        vector: position or momentum, any unit.

    Returns:
        The angle to the +z axis, rad; 0 for the null vector.
    """
    xp = array_namespace(vector)
    return xp.arctan2(xp.hypot(vector[..., 0], vector[..., 1]), vector[..., 2])


def eta(vector: Float[Array, "... 3"]) -> Real:
    """Pseudorapidity of a vector, accurate near the beam line too.

    Args:
        vector: position or momentum, any unit.

    Returns:
        `asinh(z / r)`; infinite on the z axis.
    """
    xp = array_namespace(vector)
    return xp.arcsinh(vector[..., 2] / xp.hypot(vector[..., 0], vector[..., 1]))


def eta_from_theta(polar: Real) -> Real:
    """Pseudorapidity of a polar angle.

    Args:
        polar: in (0, pi), rad.

    Returns:
        `-ln tan(polar / 2)`.
    """
    xp = array_namespace(polar)
    return -xp.log(xp.tan(polar / 2))


def origin_curvature(point: Float[Array, "... 3"], other: Float[Array, "... 3"]) -> Real:
    """Signed curvature of the circle through the z axis and two points.

    Args:
        point: the inner point, mm.
        other: the outer point, mm.

    Returns:
        Curvature in 1/mm, positive where the azimuth of the path grows (negative charge in a field along +z);
        0 where the two points coincide in the transverse plane.
    """
    xp = array_namespace(point, other)
    radius, other_radius = (xp.hypot(p[..., 0], p[..., 1]) for p in (point, other))
    cross = point[..., 0] * other[..., 1] - point[..., 1] * other[..., 0]
    chord = xp.hypot(other[..., 0] - point[..., 0], other[..., 1] - point[..., 1])
    product = radius * other_radius * chord
    # Circumradius of the triangle: R = abc / (4 area), and the cross product is twice the area.
    return xp.where(product > 0, 2 * cross / xp.where(product > 0, product, 1), 0)


def curvature(q_over_p: Real, polar: Real, field: float) -> Real:
    """Signed transverse curvature d(phi)/ds of a helix.

    Args:
        q_over_p: charge over momentum, 1/GeV.
        polar: polar angle of the momentum, rad.
        field: along +z, T.

    Returns:
        1/mm; negative for a positive charge in a positive field.
    """
    xp = array_namespace(q_over_p, polar)
    return -LIGHT * field * q_over_p / xp.sin(polar)


def q_over_p_from_curvature(kappa: Real, polar: Real, field: float) -> Real:
    """Charge over momentum of a helix; the inverse of `curvature`.

    Args:
        kappa: signed transverse curvature, 1/mm.
        polar: polar angle of the momentum, rad.
        field: along +z, T; not 0.

    Returns:
        1/GeV.
    """
    xp = array_namespace(kappa, polar)
    return -kappa * xp.sin(polar) / (LIGHT * field)


def sinc(angle: Real) -> Real:
    """`sin(angle) / angle`, 1 at 0, with a finite gradient everywhere.

    Args:
        angle: rad (not in units of pi as in `numpy.sinc`).

    Returns:
        The quotient.
    """
    xp = array_namespace(angle)
    small = xp.abs(angle) < 1e-3
    # The inner `where` keeps the gradient of the branch that is not taken finite.
    safe = xp.where(small, 1.0, angle)
    return xp.where(small, 1 - angle**2 / 6, xp.sin(safe) / safe)


def helix_position(perigee: Float[Array, "... 5"], path: Real, field: float) -> Float[Array, "... 3"]:
    """Point of a helix at a path length from its perigee.

    Args:
        perigee: d0, z0, phi, theta, q/p.
        path: length along the helix in three dimensions, mm; broadcasts with the leading axes of `perigee`.
        field: along +z, T.

    Returns:
        Position, mm.
    """
    xp = array_namespace(perigee, path)
    d0, z0, phi, polar, q_over_p = (perigee[..., i] for i in range(5))
    half_turn = -0.5 * LIGHT * field * q_over_p * path
    # The chord of an arc points along the tangent at its middle; this form has no 1/curvature in it.
    chord = path * xp.sin(polar) * sinc(half_turn)
    x = -d0 * xp.sin(phi) + chord * xp.cos(phi + half_turn)
    y = d0 * xp.cos(phi) + chord * xp.sin(phi + half_turn)
    z = z0 + path * xp.cos(polar)
    return xp.stack(xp.broadcast_arrays(x, y, z), axis=-1)


def helix_direction(perigee: Float[Array, "... 5"], path: Real, field: float) -> Float[Array, "... 3"]:
    """Unit vector along a helix at a path length from its perigee.

    Args:
        perigee: d0, z0, phi, theta, q/p.
        path: length along the helix in three dimensions, mm; broadcasts with the leading axes of `perigee`.
        field: along +z, T.

    Returns:
        Direction of flight.
    """
    xp = array_namespace(perigee, path)
    phi = perigee[..., 2] - LIGHT * field * perigee[..., 4] * path
    polar = perigee[..., 3]
    x, y = xp.sin(polar) * xp.cos(phi), xp.sin(polar) * xp.sin(phi)
    return xp.stack(xp.broadcast_arrays(x, y, xp.cos(polar)), axis=-1)


def closest_approach(x: Real, y: Real, cos_phi: Real, sin_phi: Real, kappa: Real) -> tuple[Real, Real, Real]:
    """Transverse perigee of the circle through a point with a given direction.

    The closed form stays accurate for straight tracks: the radius of the circle never enters. It assumes
    `1 + kappa * d0 > 0`: a track closer to the z axis than the diameter of its circle.

    Args:
        x: of the point, mm.
        y: of the point, mm.
        cos_phi: cosine of the azimuth of the direction at the point.
        sin_phi: its sine.
        kappa: signed curvature, 1/mm.

    Returns:
        d0 (mm), the angle by which the direction turns from the perigee to the point (rad) and the arc length
        between the two (mm, negative where the point lies before the perigee).
    """
    xp = array_namespace(x, y, cos_phi, sin_phi, kappa)
    along, aside = x * cos_phi + y * sin_phi, y * cos_phi - x * sin_phi
    # Distance of the circle's centre from the axis: (1 + kappa d0)^2 = (kappa along)^2 + (1 + kappa aside)^2.
    excess = kappa * (along**2 + aside**2) + 2 * aside
    d0 = excess / (1 + xp.sqrt(xp.maximum(1 + kappa * excess, 1e-12)))
    turn = xp.arctan2(kappa * along, 1 + kappa * aside)
    straight = xp.abs(kappa) < 1e-10
    arc = xp.where(straight, along, turn / xp.where(straight, 1, kappa))
    return d0, turn, arc


def perigee_parameters(
    position: Float[Array, "... 3"], momentum: Float[Array, "... 3"], charge: Real, field: float
) -> Float[Array, "... 5"]:
    """Perigee parameters of the helix through a point, without material.

    Args:
        position: a point of the helix, mm.
        momentum: there, GeV.
        charge: in units of e.
        field: along +z, T.

    Returns:
        d0, z0, phi in (-pi, pi], theta, q/p. Divides by zero for a null momentum.
    """
    xp = array_namespace(position, momentum, charge)
    pt = xp.hypot(momentum[..., 0], momentum[..., 1])
    kappa = -LIGHT * field * charge / pt
    d0, turn, arc = closest_approach(
        position[..., 0], position[..., 1], momentum[..., 0] / pt, momentum[..., 1] / pt, kappa
    )
    phi = wrap_phi(xp.arctan2(momentum[..., 1], momentum[..., 0]) - turn)
    z0 = position[..., 2] - arc * momentum[..., 2] / pt
    q_over_p = charge / xp.hypot(pt, momentum[..., 2])
    return xp.stack(xp.broadcast_arrays(d0, z0, phi, theta(momentum), q_over_p), axis=-1)
