"""Track fit: hit lists to perigee parameters with covariance, hundreds of tracks at once in one XLA program.

A helix fit to the points gives the start. Then, two or three times: intersect the helix with the sensor planes
of the hits, take residuals and derivatives there in closed form, and solve for the perigee with multiple
scattering as process noise (`recon.tracking.kalman`). The result is that of a Kalman filter and smoother run to
the perigee. Everything is single precision: only residuals and small corrections enter the linear algebra.
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
from recon.tracking.supports import cross_supports, layer_supports, missed_supports
from recon.tracking.trajectory import (
    Crossings,
    Planes,
    Surfaces,
    cross_cylinders,
    cross_planes,
    insert_surface,
    material_effects,
    momentum,
    perigee_matrix,
    remove_slot,
    scattering_variance,
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
        hit_chi2: compute `FitResult.hit_chi2` (about a fifth of the time).
        max_step: a track is converged when the last linearisation moved it by less than this many sigma.
    """

    field: float = 2.0
    mass: float = 0.13957039
    iterations: int = 3
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
                f"FitConfig.iterations={self.iterations} and min_hits={self.min_hits}: "
                "at least 1 and 3 are needed"
            )


class FitSurfaces(NamedTuple):
    """What the fit needs to know of a detector, on the device.

    Attributes:
        plane: for every sensor the axes u, v, w, the centre (mm), thickness, layer, and the support of the layer
            as in `Planes.support` (mm), one row each.
        barrel: cylinders that support barrel layers, see `missed_supports`.
        discs: discs that support endcap layers, see `missed_supports`.
        radius: of the passive cylinders in order of radius, the first (the beam pipe) inside all sensors, mm.
        thickness: of the passive cylinders, radiation lengths.
    """

    plane: Float32[Array, "m 17"]
    barrel: Float32[Array, "b 5"]
    discs: Float32[Array, "d 5"]
    radius: Float32[Array, " c"]
    thickness: Float32[Array, " c"]


class FitResult(NamedTuple):
    """Fitted tracks.

    Attributes:
        parameters: d0 (mm), z0 (mm), phi, theta (rad), q/p (1/GeV) at the perigee; finite, but meaningless
            where not converged.
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
    supports = layer_supports(detector)
    extent = np.stack([supports.level, supports.low, supports.high], axis=1)
    table = np.concatenate([supports.layer[:, None], extent, supports.thickness[:, None]], axis=1)
    table = table.astype(np.float32)
    columns = [detector.rotation.reshape(-1, 9), detector.center, detector.thickness[:, None]]
    columns += [detector.layer[:, None], extent[np.searchsorted(supports.layer, detector.layer)]]
    order = np.argsort(passive.radius)
    return FitSurfaces(
        plane=jnp.asarray(np.concatenate(columns, axis=1).astype(np.float32)),
        barrel=jnp.asarray(table[~supports.disc]),
        discs=jnp.asarray(table[supports.disc]),
        radius=jnp.asarray(passive.radius[order]),
        thickness=jnp.asarray(passive.thickness[order]),
    )


@partial(jax.jit, static_argnames="config")
def fit_tracks(
    hits: Hits,
    track_hits: Int32[Array, "t k"],
    surfaces: FitSurfaces,
    config: FitConfig,
    start: FitResult | None = None,
) -> FitResult:
    """Fit tracks with multiple scattering; differentiable in the measurements.

    Args:
        hits: of one event. Hits on unknown sensors (`module` -1) and invalid hits are left out of the fit.
        track_hits: rows of `hits`, ordered from the beam line outwards; -1 for padding, best at the end.
        surfaces: result of `fit_surfaces`.
        config: settings.
        start: of nearly the same hits, where the first linearisation is made; a helix through the hits where that has
            not converged or is not given.

    Returns:
        One row a track, finite everywhere; look at `converged` first.
    """
    planes, position = _gather(hits, track_hits, surfaces, config)
    # Strips measure along u; the precision along v decides how well a point fixes the line in z.
    helix = fit_helix(*position, planes.weight[1], planes.mask)
    if start is not None:
        known = _as_helix(start, config)
        helix = Helix(*(jnp.where(start.converged, a, b) for a, b in zip(known, helix, strict=True)))
    arc = arc_of_point(helix, position[0], position[1])

    def iterate(_: Array, state: tuple[Helix, Array]) -> tuple[Helix, Array]:
        problem = _linearize(state[0], planes, surfaces, state[1], config)
        known = filter_inwards(weak_information(PRIOR, state[0].d0), problem.slots)[0]
        estimate = solve(transport_information(known, perigee_matrix(state[0])))
        return _move(state[0], estimate), problem.arc

    helix, arc = jax.lax.fori_loop(0, config.iterations - 1, iterate, (helix, arc))
    problem = _linearize(helix, planes, surfaces, arc, config)
    begin = weak_information(PRIOR, helix.d0)
    information, outer = filter_inwards(begin, problem.slots)
    hit_chi2 = jnp.zeros_like(arc)
    if config.hit_chi2:
        inner = filter_outwards(jax.tree.map(jnp.zeros_like, begin), problem.slots)
        hit_chi2 = slot_chi2(jax.tree.map(jnp.add, outer, inner), problem.slots.measurements)
        for slot in reversed(problem.positions):
            hit_chi2 = remove_slot(hit_chi2, slot)
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
    planes = Planes(
        u=plane[0:3],
        v=plane[3:6],
        w=plane[6:9],
        center=plane[9:12],
        local=jnp.where(mask, local, 0),
        weight=weight,
        thickness=jnp.where(mask, plane[12], 0),
        support=plane[14:17],
        layer=jnp.where(mask, plane[13], -1),
        mask=mask,
    )
    position = hits.position[row]
    return planes, (position[..., 0], position[..., 1], position[..., 2])


class _Linearized(NamedTuple):
    """The problem around a reference helix: filter slots, arcs to the sensors, slots of the cylinders."""

    slots: Slots
    arc: Float[Array, "k t"]
    positions: list[Int32[Array, " t"]]


def _linearize(
    helix: Helix, planes: Planes, surfaces: FitSurfaces, arc: Float[Array, "k t"], config: FitConfig
) -> _Linearized:
    """Cross sensors and cylinders and sort them along the track."""
    # The barriers keep XLA from computing a value again in every expression that uses it.
    crossings = jax.lax.optimization_barrier(cross_planes(helix, planes, arc))
    along = _sensor_surfaces(helix, planes, crossings, config)
    without_hit = _surfaces_without_hit(helix, planes, surfaces, crossings.arc, config)
    positions = []
    for arc_there, path, loss in without_hit:
        surface = jax.tree.map(lambda value: jnp.zeros_like(value[0]), along)._replace(
            arc=arc_there,
            variance_outside=scattering_variance(path, momentum(helix, config.field), config.mass),
            loss_outside=loss * path,
        )
        positions.append((along.arc < arc_there).sum(0))
        along = insert_surface(along, surface, positions[-1])
    along = jax.lax.optimization_barrier(along)
    steps = jnp.diff(along.arc, axis=0, prepend=0)
    slots = Slots(
        inside=material_effects(helix, along.variance_inside, along.loss_inside, config.field, config.mass),
        measurements=along.measurements,
        outside=material_effects(
            helix, along.variance_outside, along.loss_outside, config.field, config.mass
        ),
        transport=transport_matrix(helix, steps),
        inverse=transport_matrix(helix, -steps),
    )
    return _Linearized(slots, crossings.arc, positions)


def _surfaces_without_hit(
    helix: Helix, planes: Planes, surfaces: FitSurfaces, arc: Float[Array, "k t"], config: FitConfig
) -> list[tuple[Array, Array, float]]:
    """(arc, path in radiation lengths, GeV lost per radiation length) of what tracks cross besides their hits."""
    arcs, paths = cross_cylinders(helix, surfaces.radius, surfaces.thickness)
    found = [(arcs[i], paths[i], config.passive_loss) for i in range(arcs.shape[0])]
    end = jnp.where(planes.mask, arc, 0).max(0)
    missed_arc, missed_path = missed_supports(helix, surfaces.barrel, surfaces.discs, planes, end)
    return [*found, (missed_arc, (1 - config.sensor_share) * missed_path, config.sensor_loss)]


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


def _as_helix(fit: FitResult, config: FitConfig) -> Helix:
    d0, z0, phi, theta, q_over_p = fit.parameters.T
    # Where a fit has not converged theta may be 0.
    return Helix(
        d0, z0, phi, 1 / jnp.tan(jnp.where(fit.converged, theta, 1)), -LIGHT * config.field * q_over_p
    )


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
        hit_chi2=jnp.where(usable[:, None] & jnp.isfinite(hit_chi2.T), hit_chi2.T, 0),
        converged=usable & (count >= config.min_hits) & (estimate.step_chi2 < config.max_step**2),
    )
