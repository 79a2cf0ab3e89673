"""Track fit: hit lists to perigee parameters with covariance, hundreds of tracks at once in one XLA program.

A helix fit to the points gives the start. Then, two or three times: intersect the helix with the sensor planes of the
hits, take residuals and derivatives there in closed form, and solve for the perigee with multiple scattering as
process noise (`recon.tracking.kalman`). The result is that of an extended Kalman filter and smoother run to the
perigee. Everything is single precision: only residuals and small corrections enter the linear algebra.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32

from recon.errors import ConfigError
from recon.geometry import LIGHT, wrap_phi
from recon.tracking.detector import PassiveMaterial
from recon.tracking.helix import Helix, arc_of_point, fit_helix
from recon.tracking.kalman import (
    Estimate,
    Measurements,
    Slots,
    filter_inwards,
    filter_outwards,
    slot_chi2,
    solve,
    transport_information,
    weak_information,
)
from recon.tracking.trajectory import (
    Planes,
    cross_cylinders,
    cross_planes,
    material_effects,
    perigee_matrix,
    share_cylinders,
    transport_matrix,
)
from recon.types import Detector, Hits

PRIOR = (1e-4, 1e-6, 1e0, 1e-8, 1e-8)
"""Inverse variances of the state outside the last hit: far below the information of three hits."""


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of the track fit.

    Attributes:
        field: solenoidal field along +z, T.
        mass: of the particle hypothesis, GeV; the charged pion by default.
        iterations: linearisations, at least 1.
        min_hits: tracks with fewer hits are not converged; at least 3.
        sensor_share: part of `Detector.thickness` that is the sensor itself; the rest is the support that two
            overlapping sensors of one layer have in common.
        sensor_loss: mean energy loss in sensors, GeV per radiation length. 0 by default, as in the
            GenericDetector of ACTS, whose silicon has the density of a gas; 0.037 for real silicon.
        passive_loss: mean energy loss in passive cylinders, GeV per radiation length; beryllium by default.
        hit_chi2: compute `FitResult.hit_chi2` (about a third of the time).
        max_step: a track is converged when the last linearisation moved it by less than this many sigma.
    """

    field: float = 2.0
    mass: float = 0.13957039
    iterations: int = 2
    min_hits: int = 3
    sensor_share: float = 0.1
    sensor_loss: float = 0.0
    passive_loss: float = 0.104
    hit_chi2: bool = True
    max_step: float = 0.5

    def __post_init__(self) -> None:
        if self.field == 0:
            raise ConfigError(
                "FitConfig.field is 0 T: the momentum cannot be fitted; give the field along +z"
            )
        if self.iterations < 1 or self.min_hits < 3:
            raise ConfigError(
                f"FitConfig.iterations={self.iterations} and min_hits={self.min_hits}: at least 1 and 3 are needed"
            )


class FitSurfaces(NamedTuple):
    """What the fit needs to know of a detector, on the device.

    Attributes:
        plane: for every sensor the axes u, v, w, the centre (mm), thickness and layer, one row each.
        radius: of the passive cylinders in order of radius, the first (the beam pipe) inside all sensors, mm.
        thickness: of the passive cylinders, radiation lengths.
    """

    plane: Float32[Array, "m 14"]
    radius: Float32[Array, " c"]
    thickness: Float32[Array, " c"]


class FitResult(NamedTuple):
    """Fitted tracks.

    Attributes:
        parameters: d0 (mm), z0 (mm), phi, theta (rad), q/p (1/GeV) at the perigee; finite, but meaningless where
            not converged.
        covariance: of `parameters`.
        chi2: of the fit.
        ndof: `2 * hits - 5`, at least 0.
        hit_chi2: chi2 of every hit against the track fitted without it, 2 degrees of freedom; 0 for padding.
            Meaningful from 4 hits on. All 0 where `FitConfig.hit_chi2` is off.
        converged: enough hits, finite, and the last linearisation changed nothing of weight.
    """

    parameters: Float32[Array, "t 5"]
    covariance: Float32[Array, "t 5 5"]
    chi2: Float32[Array, " t"]
    ndof: Int32[Array, " t"]
    hit_chi2: Float32[Array, "t k"]
    converged: Bool[Array, " t"]


def fit_surfaces(detector: Detector, passive: PassiveMaterial) -> FitSurfaces:
    """Prepare the detector tables for the fit.

    Args:
        detector: the sensors.
        passive: beam pipe and support tubes.

    Returns:
        Device arrays; make them once.
    """
    columns = [detector.rotation.reshape(-1, 9), detector.center, detector.thickness[:, None]]
    plane = np.concatenate([*columns, detector.layer[:, None]], axis=1).astype(np.float32)
    order = np.argsort(passive.radius)
    radius, thickness = passive.radius[order], passive.thickness[order]
    return FitSurfaces(jnp.asarray(plane), jnp.asarray(radius), jnp.asarray(thickness))


@partial(jax.jit, static_argnames="config")
def fit_tracks(
    hits: Hits, track_hits: Int32[Array, "t k"], surfaces: FitSurfaces, config: FitConfig
) -> FitResult:
    """Fit tracks with multiple scattering; differentiable in the measurements.

    Args:
        hits: of one event. Hits on unknown sensors (`module` -1) and invalid hits are left out of the fit.
        track_hits: rows of `hits`, ordered from the beam line outwards; -1 for padding, best at the end.
        surfaces: result of `fit_surfaces`.
        config: settings.

    Returns:
        One row a track, finite everywhere; look at `converged` first.
    """
    planes, position = _gather(hits, track_hits, surfaces, config)
    # Strips measure along u; the precision along v decides how well a point fixes the line in z.
    helix = fit_helix(*position, planes.weight[1], planes.mask)
    arc = arc_of_point(helix, position[0], position[1])
    for _ in range(config.iterations - 1):
        slots, arc = _linearize(helix, planes, surfaces, arc, config)
        begin = weak_information(PRIOR, helix.d0)
        information, _ = filter_inwards(begin, slots)
        estimate = solve(transport_information(information, perigee_matrix(helix)))
        helix = _move(helix, estimate)
    slots, arc = _linearize(helix, planes, surfaces, arc, config)
    begin = weak_information(PRIOR, helix.d0)
    information, outer = filter_inwards(begin, slots)
    hit_chi2 = jnp.zeros_like(arc)
    if config.hit_chi2:
        inner = filter_outwards(jax.tree.map(jnp.zeros_like, begin), slots)
        hit_chi2 = slot_chi2(jax.tree.map(jnp.add, outer, inner), slots.measurements)[-arc.shape[0] :]
    estimate = solve(transport_information(information, perigee_matrix(helix)))
    return _result(_move(helix, estimate), estimate, hit_chi2, planes.mask.sum(0), config)


def _gather(
    hits: Hits, track_hits: Int32[Array, "t k"], surfaces: FitSurfaces, config: FitConfig
) -> tuple[Planes, tuple[Array, Array, Array]]:
    """Look up the measurements of every slot and their sensors; slot first, track last."""
    slots = track_hits.T
    row = jnp.maximum(slots, 0)
    module = hits.module[row]
    mask = (slots >= 0) & hits.valid[row] & (module >= 0)
    plane = jnp.moveaxis(surfaces.plane[jnp.maximum(module, 0)], -1, 0)
    local, variance = jnp.moveaxis(hits.local[row], -1, 0), jnp.moveaxis(hits.variance[row], -1, 0)
    weight = jnp.where(mask, 1 / jnp.where(variance > 0, variance, 1), 0)
    layer = jnp.where(mask, plane[13], -1)
    # Two sensors of a layer overlap, but the track crosses their common support once.
    next_layer = jnp.concatenate([layer[1:], jnp.full_like(layer[:1], -1)])
    thickness = plane[12] * jnp.where(layer == next_layer, config.sensor_share, 1)
    planes = Planes(
        u=plane[0:3],
        v=plane[3:6],
        w=plane[6:9],
        center=plane[9:12],
        local=jnp.where(mask, local, 0),
        weight=weight,
        thickness=jnp.where(mask, thickness, 0),
        mask=mask,
    )
    position = hits.position[row]
    return planes, (position[..., 0], position[..., 1], position[..., 2])


def _linearize(
    helix: Helix, planes: Planes, surfaces: FitSurfaces, arc: Float[Array, "k t"], config: FitConfig
) -> tuple[Slots, Float[Array, "k t"]]:
    """Everything the filter needs around a reference helix, and the arc lengths to the sensors.

    Cylinders inside the first hit become slots of their own, in front; those between hits are shared by them.
    """
    crossings = cross_planes(helix, planes, arc)
    arc = crossings.arc
    cylinder_arc, cylinder_path = cross_cylinders(helix, surfaces.radius, surfaces.thickness)
    path = planes.thickness / crossings.incidence
    shared = share_cylinders(arc, planes.mask, cylinder_arc, cylinder_path)
    first = jnp.where(planes.mask, arc, jnp.inf).min(0)
    first = jnp.where(jnp.isfinite(first), first, 0)
    inner_path = jnp.where(cylinder_arc < first, cylinder_path, 0)
    material = material_effects(
        helix,
        jnp.concatenate([inner_path, path + shared]),
        jnp.concatenate(
            [config.passive_loss * inner_path, config.passive_loss * shared + config.sensor_loss * path]
        ),
        config.field,
        config.mass,
    )
    # Empty slots stay where the last hit is: transporting forth and back would cost precision.
    filled = jnp.where(planes.mask, arc, jnp.where(planes.mask, arc, 0).max(0))
    all_arcs = jnp.concatenate([jnp.minimum(cylinder_arc, first), filled])
    steps = jnp.diff(all_arcs, axis=0, prepend=0)
    padding = ((surfaces.radius.shape[0], 0), (0, 0), (0, 0))
    measurements = Measurements(
        row=jnp.pad(crossings.row, (*padding[:1], (0, 0), *padding[1:])),
        residual=jnp.pad(crossings.residual, padding),
        weight=jnp.pad(jnp.moveaxis(planes.weight, 0, 1), padding),
    )
    slots = Slots(measurements, material, transport_matrix(helix, steps), transport_matrix(helix, -steps))
    return slots, arc


def _move(helix: Helix, estimate: Estimate) -> Helix:
    return Helix(*(value + change for value, change in zip(helix, estimate.state, strict=True)))


def _result(
    helix: Helix,
    estimate: Estimate,
    hit_chi2: Float[Array, "k t"],
    count: Int32[Array, " t"],
    config: FitConfig,
) -> FitResult:
    """Convert (cot theta, rho) into (theta, q/p), with the covariance."""
    to_theta = -1 / (1 + helix.cot_theta**2)
    to_q_over_p = -1 / (LIGHT * config.field)
    theta = jnp.arctan2(1.0, helix.cot_theta)
    parameters = jnp.stack([helix.d0, helix.z0, wrap_phi(helix.phi), theta, to_q_over_p * helix.rho], axis=1)
    one = jnp.ones_like(to_theta)
    scale = jnp.stack([one, one, one, to_theta, to_q_over_p * one])
    covariance = estimate.covariance * scale[:, None] * scale[None]
    variance = jnp.stack([covariance[i, i] for i in range(5)])
    usable = jnp.isfinite(parameters).all(1) & jnp.isfinite(variance).all(0) & (variance > 0).all(0)
    return FitResult(
        parameters=jnp.where(usable[:, None], parameters, 0),
        covariance=jnp.where(usable[:, None, None], jnp.moveaxis(covariance, -1, 0), 0),
        chi2=jnp.where(usable, estimate.chi2, 0),
        ndof=jnp.maximum(2 * count - 5, 0),
        hit_chi2=jnp.where(usable[:, None], hit_chi2.T, 0),
        converged=usable & (count >= config.min_hits) & (estimate.step_chi2 < config.max_step**2),
    )
