"""Kalman filter and smoother for track fits linearised around a reference helix, in information form.

The state is the deviation of the perigee parameters from the reference. Expressed in perigee parameters the state
does not change between surfaces, so nothing is propagated: a measurement with row h, residual r and variance V
adds information, `Lambda += h h^T / V, b += h r / V`; a scatterer that adds `g w` with w of variance q to the
state removes some, `Lambda -= f v v^T, b -= f v (g b)` with `v = Lambda g` and `f = q / (1 + q g v)`
(Fruehwirth, NIM A 262 (1987) 444; Maybeck, Stochastic Models 1, sec. 5.7). No prior is needed to begin with, and
single precision is enough, which it is not for covariances of nearly unconstrained states.

Arrays are [slot, ..., track]: the track is the last axis.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PIVOT_FLOOR = 1e-6
"""Pivots of the Cholesky decomposition are kept above this fraction of the diagonal: singular fits stay finite."""


class Information(NamedTuple):
    """What is known of the state of each track.

    Attributes:
        matrix: inverse covariance.
        vector: inverse covariance times state.
        constant: sum of squares that no state can explain plus the part of `vector`; chi2 once it is solved.
    """

    matrix: Float[Array, "*k 5 5 t"]
    vector: Float[Array, "*k 5 t"]
    constant: Float[Array, "*k t"]


class Measurements(NamedTuple):
    """Linearised measurements with two coordinates in each slot, ordered along the track.

    Attributes:
        row: derivatives of the coordinates with respect to the state.
        residual: measured minus reference, mm.
        weight: inverse variance, 1/mm^2; 0 in empty slots.
    """

    row: Float[Array, "k 2 5 t"]
    residual: Float[Array, "k 2 t"]
    weight: Float[Array, "k 2 t"]


class Scatterers(NamedTuple):
    """Independent random kinks, two in each slot, acting on everything beyond the slot.

    Attributes:
        column: change of the state per unit of the kink.
        variance: of the kinks; 0 where there is no material.
    """

    column: Float[Array, "*k 2 5 t"]
    variance: Float[Array, "*k 2 t"]


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


def add_measurements(state: Information, slot: Measurements) -> Information:
    """Add the two coordinates of one slot.

    Args:
        state: before.
        slot: one slot of `Measurements` (no leading axis).

    Returns:
        State after.
    """
    weighted = slot.weight[:, None] * slot.row
    return Information(
        state.matrix + (weighted[:, :, None] * slot.row[:, None, :]).sum(0),
        state.vector + (weighted * slot.residual[:, None]).sum(0),
        state.constant + (slot.weight * slot.residual**2).sum(0),
    )


def add_scatterers(state: Information, slot: Scatterers) -> Information:
    """Take away what the kinks of one slot make unknown.

    Args:
        state: before.
        slot: one slot of `Scatterers` (no leading axis).

    Returns:
        State after.
    """
    for column, variance in zip(slot.column, slot.variance, strict=True):
        gradient = (state.matrix * column[None]).sum(1)
        projection = (state.vector * column).sum(0)
        factor = variance / (1 + variance * (gradient * column).sum(0))
        state = Information(
            state.matrix - (factor * gradient)[:, None] * gradient[None],
            state.vector - factor * projection * gradient,
            state.constant - factor * projection**2,
        )
    return state


def filter_inwards(start: Information, measurements: Measurements, scatterers: Scatterers) -> Information:
    """Run the filter from the outermost slot to the perigee.

    Args:
        start: state outside the last slot.
        measurements: all slots.
        scatterers: all slots; those of a slot lie at its measurement.

    Returns:
        State at the perigee.
    """

    def step(state: Information, slot: tuple[Measurements, Scatterers]) -> tuple[Information, None]:
        return add_measurements(add_scatterers(state, slot[1]), slot[0]), None

    final, _ = jax.lax.scan(step, start, (measurements, scatterers), reverse=True)
    return final


def smooth(
    start: Information, measurements: Measurements, scatterers: Scatterers
) -> tuple[Information, Information]:
    """Filter from both ends and combine: for every slot the information of all other slots.

    Args:
        start: state outside the last slot.
        measurements: all slots.
        scatterers: all slots; those of a slot lie at its measurement.

    Returns:
        State at the perigee, and the state at every slot without its own measurement.
    """

    def inwards(state: Information, slot: tuple[Measurements, Scatterers]) -> tuple[Information, Information]:
        # A kink does not move the point it sits at: scattering and measuring in one slot commute.
        outer = add_scatterers(state, slot[1])
        return add_measurements(outer, slot[0]), outer

    def outwards(state: Information, slot: tuple[Measurements, Scatterers]) -> tuple[Information, Information]:
        return add_scatterers(add_measurements(state, slot[0]), slot[1]), state

    slots = (measurements, scatterers)
    final, outer = jax.lax.scan(inwards, start, slots, reverse=True)
    _, inner = jax.lax.scan(outwards, jax.tree.map(jnp.zeros_like, start), slots)
    return final, jax.tree.map(jnp.add, outer, inner)


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
                floor = PIVOT_FLOOR * matrix[..., i, i, :]
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


def solve(
    information: Information,
) -> tuple[Float[Array, "5 t"], Float[Array, "5 5 t"], Float[Array, " t"]]:
    """Turn information into state, covariance and chi2.

    Args:
        information: of the complete fit.

    Returns:
        State, its covariance and the chi2 at the minimum (rounded up to 0).
    """
    lower = cholesky(information.matrix)
    identity = jnp.eye(5, dtype=lower.dtype)
    columns = [
        solve_lower(lower, jnp.broadcast_to(identity[i][:, None], information.vector.shape)) for i in range(5)
    ]
    inverse = jnp.stack(columns, axis=1)
    whitened = solve_lower(lower, information.vector)
    covariance = (inverse[:, :, None] * inverse[:, None, :]).sum(0)
    state = (inverse * whitened[:, None]).sum(0)
    return state, covariance, jnp.maximum(information.constant - (whitened**2).sum(0), 0)


def slot_chi2(others: Information, measurements: Measurements) -> Float[Array, "k t"]:
    """Chi2 (two degrees of freedom) of each measurement against the track without it.

    Args:
        others: second result of `smooth`.
        measurements: all slots.

    Returns:
        0 in empty slots.
    """
    lower = cholesky(others.matrix)
    state = solve_lower(lower, others.vector)
    first, second = (solve_lower(lower, measurements.row[:, i]) for i in range(2))
    residual = [measurements.residual[:, i] - (row * state).sum(1) for i, row in enumerate((first, second))]
    used = measurements.weight[:, 0] > 0
    variance = [1 / jnp.where(used, measurements.weight[:, i], 1) for i in range(2)]
    s11 = variance[0] + (first**2).sum(1)
    s22 = variance[1] + (second**2).sum(1)
    s12 = (first * second).sum(1)
    determinant = jnp.maximum(s11 * s22 - s12**2, 1e-12 * s11 * s22)
    chi2 = (s22 * residual[0] ** 2 - 2 * s12 * residual[0] * residual[1] + s11 * residual[1] ** 2) / determinant
    return jnp.where(used, chi2, 0)
