"""Kalman filter and smoother for track fits linearised around a reference helix, in information form.

At every surface the state is the small deviation of a track from its reference helix, in the plane across the
track: (azimuth, cot theta, rho, offset along the transverse normal, offset along z). Between surfaces the
information is transported, `Lambda -> F^T Lambda F`; a measurement adds `h h^T / V`; a kink `g w` with w of
variance q removes information, `Lambda -> Lambda - f v v^T` with `v = Lambda g` and `f = q / (1 + q g v)`
(Fruehwirth, NIM A 262 (1987) 444; Maybeck, Stochastic Models 1, sec. 5.7). Unlike the covariance form no prior
has to be cancelled, so single precision is enough.

Arrays are [slot, ..., track]: the track is the last axis. Slots are surfaces in the order in which the track
meets them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PIVOT_FLOOR = 1e-6
"""Cholesky pivots are kept above this fraction of the diagonal: singular fits stay finite."""


class Information(NamedTuple):
    """What is known of the state of each track.

    Attributes:
        matrix: inverse covariance.
        vector: inverse covariance times state.
        constant: sum of squares at state 0; minus the part that the best state explains it is chi2.
    """

    matrix: Float[Array, "*k 5 5 t"]
    vector: Float[Array, "*k 5 t"]
    constant: Float[Array, "*k t"]


class Measurements(NamedTuple):
    """Linearised measurements with two coordinates in each slot.

    Attributes:
        row: derivatives of the two coordinates with respect to the state.
        residual: measured minus reference, mm.
        weight: inverse variance, 1/mm^2; 0 in empty slots.
    """

    row: Float[Array, "k 2 5 t"]
    residual: Float[Array, "k 2 t"]
    weight: Float[Array, "k 2 t"]


class Material(NamedTuple):
    """What the material in each slot does to a track on its way out.

    Attributes:
        azimuth: variance of the random kink in azimuth, rad^2; 0 without material.
        slope: variance of the random change of cot theta, at constant momentum.
        bend: mean change of rho by energy loss, 1/mm.
    """

    azimuth: Float[Array, "*k t"]
    slope: Float[Array, "*k t"]
    bend: Float[Array, "*k t"]


class Slots(NamedTuple):
    """Everything the filter needs, in the order of the surfaces.

    Attributes:
        inside: material that a track on its way out meets before the measurement, at the surface.
        measurements: next to the surfaces.
        outside: material behind the measurement, at the surface.
        transport: derivatives of the state at a surface by the state at the one before (for the first: at the
            perigee).
        inverse: the inverse matrices of `transport`.
    """

    inside: Material
    measurements: Measurements
    outside: Material
    transport: Float[Array, "k 5 5 t"]
    inverse: Float[Array, "k 5 5 t"]


def weak_information(prior: tuple[float, ...], like: Float[Array, " t"]) -> Information:
    """Return the same diagonal information for every track.

    Args:
        prior: the diagonal of the inverse covariance.
        like: gives the number of tracks and the precision.

    Returns:
        The start of a filter.
    """
    zero = jnp.zeros_like(like)
    matrix = jnp.diag(jnp.array(prior, like.dtype))[:, :, None] + zero
    return Information(matrix, jnp.broadcast_to(zero, (5, *like.shape)), zero)


def add_measurement(state: Information, slot: Measurements) -> Information:
    """Add the two coordinates of one slot.

    Args:
        state: before.
        slot: one slot of `Measurements` (no leading axis).

    Returns:
        State after.
    """
    weighted = slot.weight[:, None] * slot.row
    return Information(
        state.matrix + (weighted[:, :, None] * slot.row[:, None]).sum(0),
        state.vector + (weighted * slot.residual[:, None]).sum(0),
        state.constant + (slot.weight * slot.residual**2).sum(0),
    )


def cross_material(state: Information, slot: Material, outwards: bool) -> Information:
    """Take away what multiple scattering makes unknown and follow the mean energy loss.

    Args:
        state: on one side of the material.
        slot: one slot of `Material` (no leading axis).
        outwards: direction in which the material is crossed.

    Returns:
        State on the other side.
    """
    state = _forget(_forget(state, 0, slot.azimuth), 1, slot.slope)
    shift = slot.bend if outwards else -slot.bend
    pull = shift * state.matrix[2]
    constant = state.constant + shift * (2 * state.vector[2] + pull[2])
    return Information(state.matrix, state.vector + pull, constant)


def _forget(state: Information, component: int, variance: Float[Array, " t"]) -> Information:
    """Add noise to one component of the state."""
    gradient = state.matrix[component]
    scale = 1 / (1 + variance * gradient[component])
    scaled = scale * gradient
    touched = jnp.arange(5) == component
    # What is left of the component itself is a small difference in the formula, and a small product here.
    matrix = jnp.where(
        (touched[:, None] | touched)[:, :, None],
        scale * state.matrix,
        state.matrix - (variance * scaled)[:, None] * gradient[None],
    )
    known = state.vector[component]
    vector = jnp.where(touched[:, None], scale * known, state.vector - variance * known * scaled)
    return Information(matrix, vector, state.constant - variance * scale * known**2)


def transport_information(state: Information, derivative: Float[Array, "5 5 t"]) -> Information:
    """Express information about one state as information about another.

    Args:
        state: information about y.
        derivative: F in `y = F x`.

    Returns:
        Information about x.
    """
    half = (state.matrix[:, :, None] * derivative[None]).sum(1)
    return Information(
        (derivative[:, :, None] * half[:, None]).sum(0),
        (derivative * state.vector[:, None]).sum(0),
        state.constant,
    )


def filter_inwards(start: Information, slots: Slots) -> tuple[Information, Information]:
    """Run the filter from the outermost slot to the perigee.

    Args:
        start: state outside the last slot.
        slots: all surfaces.

    Returns:
        State across the track at the perigee, and at every slot what the slots outside of it know.
    """

    def step(state: Information, slot: Slots) -> tuple[Information, Information]:
        outer = cross_material(state, slot.outside, outwards=False)
        inner = cross_material(add_measurement(outer, slot.measurements), slot.inside, outwards=False)
        return transport_information(inner, slot.transport), outer

    return jax.lax.scan(step, start, slots, reverse=True)


def filter_outwards(start: Information, slots: Slots) -> Information:
    """Run the filter from the perigee to the outermost slot.

    Args:
        start: state across the track at the perigee.
        slots: all surfaces.

    Returns:
        At every slot what the slots inside of it know.
    """

    def step(state: Information, slot: Slots) -> tuple[Information, Information]:
        inner = cross_material(transport_information(state, slot.inverse), slot.inside, outwards=True)
        return cross_material(add_measurement(inner, slot.measurements), slot.outside, outwards=True), inner

    _, inner = jax.lax.scan(step, start, slots)
    return inner


def cholesky(matrix: Float[Array, "*k 5 5 t"]) -> Float[Array, "*k 5 5 t"]:
    """Decompose symmetric 5 x 5 matrices, unrolled over rows and columns.

    Args:
        matrix: positive; pivots that rounding made too small are lifted to `PIVOT_FLOOR` of the diagonal.

    Returns:
        Lower triangles L with `L L^T = matrix`.
    """
    size = matrix.shape[-2]
    lower: list[list[Array]] = []
    for i in range(size):
        row: list[Array] = []
        for j in range(i + 1):
            value = matrix[..., i, j, :]
            for m in range(j):
                value = value - row[m] * (row[m] if i == j else lower[j][m])
            if i == j:
                floor = PIVOT_FLOOR * jnp.abs(matrix[..., i, i, :])
                row.append(jnp.sqrt(jnp.maximum(value, floor)))
            else:
                row.append(value / lower[j][j])
        lower.append(row)
    zero = jnp.zeros_like(matrix[..., 0, 0, :])
    rows = [jnp.stack(row + [zero] * (size - 1 - i), axis=-2) for i, row in enumerate(lower)]
    return jnp.stack(rows, axis=-3)


def solve_lower(lower: Float[Array, "*k 5 5 t"], right: Float[Array, "*k 5 t"]) -> Float[Array, "*k 5 t"]:
    """Solve `L y = right` by forward substitution.

    Args:
        lower: result of `cholesky`.
        right: right-hand side.

    Returns:
        y.
    """
    solution: list[Array] = []
    for i in range(right.shape[-2]):
        value = right[..., i, :]
        for j in range(i):
            value = value - lower[..., i, j, :] * solution[j]
        solution.append(value / lower[..., i, i, :])
    return jnp.stack(solution, axis=-2)


class Estimate(NamedTuple):
    """Solution of a fit.

    Attributes:
        state: best deviation from the reference.
        covariance: of the state.
        chi2: at the best state, not below 0.
        step_chi2: by how much chi2 fell from the reference to the best state.
    """

    state: Float[Array, "5 t"]
    covariance: Float[Array, "5 5 t"]
    chi2: Float[Array, " t"]
    step_chi2: Float[Array, " t"]


def solve(information: Information) -> Estimate:
    """Turn information into state, covariance and chi2.

    Args:
        information: of the complete fit.

    Returns:
        The minimum of chi2.
    """
    lower = cholesky(information.matrix)
    identity = jnp.eye(5, dtype=lower.dtype)
    columns = [
        solve_lower(lower, jnp.broadcast_to(identity[i][:, None], information.vector.shape)) for i in range(5)
    ]
    inverse = jnp.stack(columns, axis=1)
    whitened = solve_lower(lower, information.vector)
    step_chi2 = (whitened**2).sum(0)
    return Estimate(
        state=(inverse * whitened[:, None]).sum(0),
        covariance=(inverse[:, :, None] * inverse[:, None, :]).sum(0),
        chi2=jnp.maximum(information.constant - step_chi2, 0),
        step_chi2=step_chi2,
    )


def slot_chi2(others: Information, measurements: Measurements) -> Float[Array, "k t"]:
    """Chi2 (two degrees of freedom) of each measurement against the track without it.

    Args:
        others: what the slots outside and inside know, added.
        measurements: all slots.

    Returns:
        0 in empty slots.
    """
    lower = cholesky(others.matrix)
    whitened = solve_lower(lower, others.vector)
    used = measurements.weight[:, 0] > 0
    projections = [solve_lower(lower, measurements.row[:, i]) for i in range(2)]
    residual = [measurements.residual[:, i] - (projections[i] * whitened).sum(1) for i in range(2)]
    own = [1 / jnp.where(used, measurements.weight[:, i], 1) for i in range(2)]
    variance = [own[i] + (projections[i] ** 2).sum(1) for i in range(2)]
    shared = (projections[0] * projections[1]).sum(1)
    product = variance[0] * variance[1]
    determinant = jnp.maximum(product - shared**2, 1e-6 * product)
    chi2 = variance[1] * residual[0] ** 2 + variance[0] * residual[1] ** 2
    chi2 = (chi2 - 2 * shared * residual[0] * residual[1]) / determinant
    return jnp.where(used, jnp.maximum(chi2, 0), 0)
