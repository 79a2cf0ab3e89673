"""Helices in structure-of-arrays form: the start of the track fit and the derivatives it needs.

Every quantity is its own array with the track as the last axis, which is what vector units like best. Inside
the fit a helix is (d0, z0, phi, cot theta, rho): with cot theta instead of theta and rho, the turn per length
of path, instead of q/p the derivatives are short and stay exact in single precision up to |eta| = 4.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from recon.geometry import closest_approach

MIN_CURVATURE = 1e-10
"""Below this (1/mm, 6,000 TeV in 2 T) a track counts as straight; keeps divisions finite."""

MAX_HALF_TURN = 1.8
"""Tracks that turn by more than twice this between two points (rad) are not described; keeps the series bounded."""


class Helix(NamedTuple):
    """Helices in a field along z, at their points of closest approach to the z axis.

    Attributes:
        d0: signed transverse distance, mm; the point is (-d0 sin phi, d0 cos phi, z0).
        z0: mm.
        phi: azimuth of the direction, rad.
        cot_theta: slope dz/ds.
        rho: signed turn per length of path in three dimensions, 1/mm; proportional to -q/p.
    """

    d0: Float[Array, " t"]
    z0: Float[Array, " t"]
    phi: Float[Array, " t"]
    cot_theta: Float[Array, " t"]
    rho: Float[Array, " t"]

    @property
    def kappa(self) -> Float[Array, " t"]:
        """Signed transverse curvature dphi/ds, 1/mm."""
        return self.rho * jnp.sqrt(1 + self.cot_theta**2)


class ArcTerms(NamedTuple):
    """Trigonometry of arcs of transverse length `arc` from the perigee; `turn` is kappa times arc.

    Attributes:
        arc: transverse arc length s, mm.
        sin_turn: sin(turn).
        cos_turn: cos(turn).
        sine: sin(turn) / kappa, mm.
        versine: (1 - cos(turn)) / kappa, mm.
        second: (1 - cos(turn)) / kappa^2, mm^2.
        third: (turn - sin(turn)) / kappa^2, mm^2.
    """

    arc: Float[Array, "*s t"]
    sin_turn: Float[Array, "*s t"]
    cos_turn: Float[Array, "*s t"]
    sine: Float[Array, "*s t"]
    versine: Float[Array, "*s t"]
    second: Float[Array, "*s t"]
    third: Float[Array, "*s t"]


def arc_terms(kappa: Float[Array, " t"], arc: Float[Array, "*s t"]) -> ArcTerms:
    """Trigonometry of arcs without a division by the curvature.

    Args:
        kappa: signed curvature, 1/mm.
        arc: transverse arc length, mm; |kappa * arc| below pi.

    Returns:
        All terms, as accurate for straight tracks as for curled ones.
    """
    half = jnp.clip(0.5 * kappa * arc, -MAX_HALF_TURN, MAX_HALF_TURN)
    x = half**2
    # Taylor series: over half circles they are exact in single precision and much faster than library calls.
    half_sinc = 1 - x / 6 * (1 - x / 20 * (1 - x / 42 * (1 - x / 72 * (1 - x / 110 * (1 - x / 156)))))
    half_cos = 1 - x / 2 * (1 - x / 12 * (1 - x / 30 * (1 - x / 56 * (1 - x / 90 * (1 - x / 132)))))
    half_sin = half * half_sinc
    # 6 (y - sin y) / y^3 with y = 2 half; the closed form would cancel for small y.
    y = 4 * x
    series = 1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156))))
    return ArcTerms(
        arc=arc,
        sin_turn=2 * half_sin * half_cos,
        cos_turn=1 - 2 * half_sin**2,
        sine=arc * half_sinc * half_cos,
        versine=arc * half_sin * half_sinc,
        second=0.5 * (arc * half_sinc) ** 2,
        third=kappa * arc**3 / 6 * series,
    )


def arc_of_point(helix: Helix, x: Float[Array, "*s t"], y: Float[Array, "*s t"]) -> Float[Array, "*s t"]:
    """Transverse arc length from the perigee to the point of the circle nearest to a given point.

    Args:
        helix: one a track.
        x: of the points, mm.
        y: of the points, mm.

    Returns:
        Signed arc length, mm.
    """
    cos_phi, sin_phi = jnp.cos(helix.phi), jnp.sin(helix.phi)
    kappa = jnp.where(jnp.abs(helix.kappa) < MIN_CURVATURE, MIN_CURVATURE, helix.kappa)
    along = x * cos_phi + y * sin_phi
    aside = y * cos_phi - x * sin_phi - helix.d0
    return jnp.arctan2(kappa * along, 1 - kappa * aside) / kappa


def arc_at_radius(helix: Helix, radius: Float[Array, "*s 1"]) -> Float[Array, "*s t"]:
    """Transverse arc length from the perigee to a cylinder around the z axis.

    Args:
        helix: one a track.
        radius: of the cylinders, mm.

    Returns:
        Arc length, mm; for a helix that stays inside the length to its farthest point, for one that starts
        outside 0.
    """
    reach = 1 + helix.kappa * helix.d0
    chord_squared = (radius**2 - helix.d0**2) / jnp.maximum(reach, 1e-3)
    diameter = 2 / jnp.maximum(jnp.abs(helix.kappa), MIN_CURVATURE)
    chord = jnp.minimum(jnp.sqrt(jnp.maximum(chord_squared, 1e-12)), 0.999 * diameter)
    half_sin = 0.5 * helix.kappa * chord
    small = jnp.abs(half_sin) < 1e-3
    safe = jnp.where(small, 0.5, half_sin)
    return chord * jnp.where(small, 1 + half_sin**2 / 6, jnp.arcsin(safe) / safe)


def fit_helix(
    x: Float[Array, "k t"],
    y: Float[Array, "k t"],
    z: Float[Array, "k t"],
    z_weight: Float[Array, "k t"],
    mask: Bool[Array, "k t"],
) -> Helix:
    """Fit helices to points: an algebraic circle fit, then a straight line in arc length and z.

    Exact for points on a helix that turns by less than pi between its first and its last point; no errors are
    propagated, the result is the start of the fit with material.

    Args:
        x: mm, ordered along the track; anything where masked.
        y: mm.
        z: mm.
        z_weight: weight of each point in the line fit, positive.
        mask: true for the points to use.

    Returns:
        One helix a track; finite but meaningless for tracks with fewer than three points.
    """
    weight = mask.astype(x.dtype)
    # Without a slope rho is the curvature.
    helix = _fit_circle(jnp.where(mask, x, 0), jnp.where(mask, y, 0), weight)
    arc = jnp.where(mask, arc_of_point(helix, x, y), 0)
    z0, cot_theta = _fit_line(arc, jnp.where(mask, z, 0), weight * z_weight)
    return helix._replace(z0=z0, cot_theta=cot_theta, rho=helix.rho / jnp.sqrt(1 + cot_theta**2))


def _fit_line(
    arc: Float[Array, "k t"], z: Float[Array, "k t"], weight: Float[Array, "k t"]
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Weighted line z = z0 + slope * arc."""
    total = jnp.maximum(weight.sum(0), 1e-9)
    mean_arc, mean_z = (weight * arc).sum(0) / total, (weight * z).sum(0) / total
    spread = (weight * (arc - mean_arc) ** 2).sum(0)
    slope = (weight * (arc - mean_arc) * (z - mean_z)).sum(0) / jnp.maximum(spread, 1e-9 * total)
    return mean_z - slope * mean_arc, slope


def _fit_circle(x: Float[Array, "k t"], y: Float[Array, "k t"], weight: Float[Array, "k t"]) -> Helix:
    """Algebraic circle through points, in the frame of their mean and of the chord from first to last.

    In that frame a circle is `v = c + b u + a (u^2 + v^2)`, linear in (a, b, c) and well conditioned from
    straight tracks to half circles, unlike the fits that parametrise by centre and radius.
    """
    count = jnp.maximum(weight.sum(0), 1)
    mean_x, mean_y = (weight * x).sum(0) / count, (weight * y).sum(0) / count
    chord_x, chord_y = _chord(x, weight), _chord(y, weight)
    square = chord_x**2 + chord_y**2
    # Tracks without two different points get some direction, so that gradients stay finite.
    length = jnp.sqrt(jnp.where(square > 1e-6, square, 1))
    cos_chord = jnp.where(square > 1e-6, chord_x / length, 1)
    sin_chord = jnp.where(square > 1e-6, chord_y / length, 0)
    u = weight * ((x - mean_x) * cos_chord + (y - mean_y) * sin_chord) / length
    v = weight * ((y - mean_y) * cos_chord - (x - mean_x) * sin_chord) / length
    b, a, c = _fit_two_slopes(u, u**2 + v**2, v, weight, count)
    root = jnp.sqrt(jnp.maximum(1 - 4 * a * c, 1e-6))
    offset = 2 * c / (1 + root)
    norm = jnp.sqrt(jnp.maximum(1 + b**2 - 4 * a * c, 1e-6))
    # Tangent of the circle where it crosses u = 0; its two components are (1 - 2 a v, b) / norm.
    cos_tilt, sin_tilt = (1 - 2 * a * offset) / norm, b / norm
    cos_phi = cos_chord * cos_tilt - sin_chord * sin_tilt
    sin_phi = sin_chord * cos_tilt + cos_chord * sin_tilt
    kappa = 2 * a / (norm * length)
    point_x, point_y = mean_x - offset * length * sin_chord, mean_y + offset * length * cos_chord
    d0, turn, _ = closest_approach(point_x, point_y, cos_phi, sin_phi, kappa)
    zero = jnp.zeros_like(kappa)
    return Helix(d0, zero, jnp.arctan2(sin_phi, cos_phi) - turn, zero, kappa)


def _fit_two_slopes(
    p: Float[Array, "k t"],
    q: Float[Array, "k t"],
    target: Float[Array, "k t"],
    weight: Float[Array, "k t"],
    count: Float[Array, " t"],
) -> tuple[Float[Array, " t"], Float[Array, " t"], Float[Array, " t"]]:
    """Least squares of target = intercept + slope_p p + slope_q q; slope_q is 0 where it is undetermined."""
    mean_p, mean_q, mean_target = (value.sum(0) / count for value in (p, q, target))
    dp, dq, dt = weight * (p - mean_p), weight * (q - mean_q), weight * (target - mean_target)
    pp, pq, qq = (dp * dp).sum(0), (dp * dq).sum(0), (dq * dq).sum(0)
    pt, qt = (dp * dt).sum(0), (dq * dt).sum(0)
    determinant = pp * qq - pq**2
    regular = determinant > 1e-5 * pp * qq
    safe_determinant = jnp.where(regular, determinant, 1)
    slope_q = jnp.where(regular, (pp * qt - pq * pt) / safe_determinant, 0)
    slope_p = (pt - slope_q * pq) / jnp.where(pp > 0, pp, 1)
    return slope_p, slope_q, mean_target - slope_p * mean_p - slope_q * mean_q


def _chord(coordinate: Float[Array, "k t"], weight: Float[Array, "k t"]) -> Float[Array, " t"]:
    """Last minus first of the valid entries along axis 0."""
    seen = jnp.cumsum(weight, axis=0)
    first = weight * (seen == 1)
    last = weight * (seen == seen[-1])
    return (coordinate * (last - first)).sum(0)
