"""Track fit: hit lists to perigee parameters with covariance, hundreds of tracks at once in one XLA program.

A helix fit to the points gives the start. Then, two or three times: intersect the helix with the sensor planes
of the hits, take residuals and derivatives there in closed form, and solve for the perigee with multiple
scattering as process noise (`recon.tracking.kalman`). The result is that of a Kalman filter and smoother run to
the perigee. Everything is single precision: only residuals and small corrections enter the linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32

from recon.geometry import LIGHT, wrap_phi
from recon.tracking.fit_setup import FitConfig, FitSurfaces
from recon.tracking.helix import Helix, arc_of_point, fit_helix
from recon.tracking.kalman import (
    Estimate,
    Information,
    filter_inwards,
    filter_outwards,
    slot_chi2,
    solve,
    transport_information,
    weak_information,
)
from recon.tracking.linearization import Linearized, linearize
from recon.tracking.trajectory import Planes, perigee_matrix, values_of_hits
from recon.types import NOISE, Hits

PRIOR = (1e-4, 1e-6, 1e0, 1e-8, 1e-8)
"""Inverse variances of the state outside the last hit: far below the information of three hits."""


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


Clean = Callable[[Int32[Array, "t k"], FitResult], Int32[Array, "t k"]]
"""(hits of each track, their fit with `hit_chi2`) to the hits that stay, in the same slots."""


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
    judged = [False] * (config.iterations - 1) + [config.hit_chi2]
    return _linearize_repeatedly(hits, track_hits, surfaces, config, judged, lambda lists, _: lists)[1]


def fit_and_clean(
    hits: Hits,
    track_hits: Int32[Array, "t k"],
    surfaces: FitSurfaces,
    config: FitConfig,
    clean: Clean,
    rounds: int = 1,
) -> tuple[Int32[Array, "t k"], FitResult]:
    """Fit tracks, let outliers leave, and fit the rest.

    What is left is near the fit with the outliers, so that one linearisation from there is enough.

    Args:
        hits: as for `fit_tracks`.
        track_hits: as for `fit_tracks`.
        surfaces: result of `fit_surfaces`.
        config: settings; `iterations` are those before the first hits leave, `hit_chi2` has no effect.
        clean: says which hits stay.
        rounds: how often it is asked.

    Returns:
        The hits of each track that are left, and their fit, without `FitResult.hit_chi2`.
    """
    judged = [False] * (config.iterations - 1) + [True] * rounds + [False]
    return _linearize_repeatedly(hits, track_hits, surfaces, config, judged, clean)


def _linearize_repeatedly(
    hits: Hits,
    track_hits: Int32[Array, "t k"],
    surfaces: FitSurfaces,
    config: FitConfig,
    judged: Sequence[bool],
    clean: Clean,
) -> tuple[Int32[Array, "t k"], FitResult]:
    """Linearise and solve, an entry of `judged` each; where it is true hits are judged and may leave."""
    planes, position = _gather(hits, track_hits, surfaces)
    # Strips measure along u; the precision along v decides how well a point fixes the line in z.
    helix = fit_helix(*position, planes.weight[1], planes.mask)
    start = _Track(helix, arc_of_point(helix, position[0], position[1]))

    def step(state: _State, judge: Array) -> tuple[_State, None]:
        track, lists, _ = state
        used = _keep(planes, lists.T >= 0)
        problem = linearize(track.helix, used, surfaces, track.arc, config)
        information, outer = filter_inwards(weak_information(PRIOR, helix.d0), problem.slots)
        estimate = solve(transport_information(information, perigee_matrix(track.helix)))
        hit_chi2 = jnp.zeros_like(track.arc)
        if any(judged):
            hit_chi2 = jax.lax.cond(judge, _hit_chi2, lambda *_: hit_chi2, problem, outer)
        moved = _move(track.helix, estimate)
        result = _result(moved, estimate, hit_chi2, used.mask.sum(0), config)
        lists = jnp.where(judge, clean(lists, result), lists)
        return _State(_or_start(_Track(moved, problem.arc), start), lists, result), None

    # A loop, though what it does differs: the linearisation takes seconds to compile, each time it appears.
    nothing = _no_result(start.arc)
    state = jax.lax.scan(step, _State(start, track_hits, nothing), jnp.array(judged))[0]
    return state.track_hits, state.result


class _Track(NamedTuple):
    """Where a fit has come to: reference helix and arcs to the sensors."""

    helix: Helix
    arc: Float[Array, "k t"]


class _State(NamedTuple):
    """What goes from one linearisation to the next."""

    track: _Track
    track_hits: Int32[Array, "t k"]
    result: FitResult


def _gather(
    hits: Hits, track_hits: Int32[Array, "t k"], surfaces: FitSurfaces
) -> tuple[Planes, tuple[Array, Array, Array]]:
    """Look up the measurements of every slot and their sensors; slot first, track last."""
    slots = track_hits.T
    row = jnp.maximum(slots, 0)
    module = hits.module[row]
    plane = jnp.moveaxis(surfaces.plane[jnp.maximum(module, 0)], -1, 0)
    variance = jnp.moveaxis(hits.variance[row], -1, 0)
    planes = Planes(
        u=plane[0:3],
        v=plane[3:6],
        w=plane[6:9],
        center=plane[9:12],
        local=jnp.moveaxis(hits.local[row], -1, 0),
        weight=1 / jnp.where(variance > 0, variance, 1),
        thickness=plane[12],
        support=plane[14:17],
        layer=plane[13],
        mask=(slots >= 0) & hits.valid[row] & (module >= 0),
    )
    position = hits.position[row]
    return planes, (position[..., 0], position[..., 1], position[..., 2])


def _keep(planes: Planes, present: Bool[Array, "k t"]) -> Planes:
    """Mask the slots that have no hit, or none any more."""
    mask = planes.mask & present
    return planes._replace(
        local=jnp.where(mask, planes.local, 0),
        weight=jnp.where(mask, planes.weight, 0),
        thickness=jnp.where(mask, planes.thickness, 0),
        layer=jnp.where(mask, planes.layer, NOISE),
        mask=mask,
    )


def _hit_chi2(problem: Linearized, outer: Information) -> Float[Array, "k t"]:
    """Chi2 of every hit against the others."""
    nothing = jax.tree.map(lambda value: jnp.zeros_like(value[0]), outer)
    others = jax.tree.map(jnp.add, outer, filter_outwards(nothing, problem.slots))
    return values_of_hits(slot_chi2(others, problem.slots.measurements), problem.positions)


def _or_start(track: _Track, start: _Track) -> _Track:
    """Fits that are lost begin anew."""
    finite = jnp.isfinite(jnp.stack(track.helix)).all(0)
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), track, start)


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


def _no_result(arc: Float[Array, "k t"]) -> FitResult:
    track, values = jnp.zeros_like(arc[0]), jnp.zeros_like(arc.T)
    five = track[:, None] + jnp.zeros(5, arc.dtype)
    return FitResult(
        parameters=five,
        covariance=five[:, None] * five[:, :, None],
        chi2=track,
        ndof=track.astype(jnp.int32),
        hit_chi2=values,
        converged=jnp.zeros_like(track, bool),
    )
