"""Principal axes of many small clouds of points at once: eigenvectors of symmetric 3 x 3 matrices in closed steps.

Jacobi's rotations (G. Golub, C. Van Loan, Matrix Computations, 8.5) are elementwise over the batch: they need no
LAPACK, run the same on every device and in an exported program, and stay accurate for equal eigenvalues, which the
trigonometric formula does not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float32

from recon.types import Array

_SWEEPS = 5
"""Convergence is quadratic: five sweeps reach single precision with room to spare."""


def _rotate(
    matrix: Float32[Array, "3 3 t"], vectors: Float32[Array, "3 3 t"], p: int, q: int
) -> tuple[Float32[Array, "3 3 t"], Float32[Array, "3 3 t"]]:
    """One rotation that makes the element (p, q) vanish."""
    off = matrix[p, q]
    twice = 2 * off
    tau = (matrix[q, q] - matrix[p, p]) / jnp.where(off == 0, 1, twice)
    sign = jnp.where(tau >= 0, 1.0, -1.0)
    tangent = jnp.where(off == 0, 0, sign / (jnp.abs(tau) + jnp.sqrt(1 + tau**2)))
    cosine = 1 / jnp.sqrt(1 + tangent**2)
    sine = tangent * cosine
    rows = matrix.at[p].set(cosine * matrix[p] - sine * matrix[q])
    rows = rows.at[q].set(sine * matrix[p] + cosine * matrix[q])
    both = rows.at[:, p].set(cosine * rows[:, p] - sine * rows[:, q])
    both = both.at[:, q].set(sine * rows[:, p] + cosine * rows[:, q])
    both = both.at[p, q].set(0.0).at[q, p].set(0.0)
    turned = vectors.at[p].set(cosine * vectors[p] - sine * vectors[q])
    return both, turned.at[q].set(sine * vectors[p] + cosine * vectors[q])


def symmetric_eigen(matrix: Float32[Array, "t 3 3"]) -> tuple[Float32[Array, "t 3"], Float32[Array, "t 3 3"]]:
    """Eigenvalues and eigenvectors of symmetric matrices.

    Args:
        matrix: one a row; the scale is of no account.

    Returns:
        Eigenvalues, the largest first, and the unit eigenvectors, one a row in the same order, with signs as they come.
    """
    scale = jnp.max(jnp.abs(matrix), (1, 2))
    state = jnp.moveaxis(matrix / jnp.where(scale > 0, scale, 1)[:, None, None], 0, -1)
    vectors = jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype)[..., None], state.shape)

    def sweep(_: Array, pair: tuple[Array, Array]) -> tuple[Array, Array]:
        for p, q in ((0, 1), (0, 2), (1, 2)):
            pair = _rotate(*pair, p, q)
        return pair

    state, vectors = jax.lax.fori_loop(0, _SWEEPS, sweep, (state, vectors))
    values, vectors = _descending(jnp.stack([state[0, 0], state[1, 1], state[2, 2]]), vectors)
    return values.T * scale[:, None], jnp.moveaxis(vectors, -1, 0)


def _descending(
    values: Float32[Array, "3 t"], vectors: Float32[Array, "3 3 t"]
) -> tuple[Float32[Array, "3 t"], Float32[Array, "3 3 t"]]:
    """Three exchanges that sort three values; a sort of the whole batch would cost more than the rotations."""
    for one, other in ((0, 1), (1, 2), (0, 1)):
        swap = values[other] > values[one]
        upper, lower = (
            jnp.where(swap, values[other], values[one]),
            jnp.where(swap, values[one], values[other]),
        )
        values = values.at[one].set(upper).at[other].set(lower)
        first = jnp.where(swap, vectors[other], vectors[one])
        second = jnp.where(swap, vectors[one], vectors[other])
        vectors = vectors.at[one].set(first).at[other].set(second)
    return values, vectors


def outward_axes(axes: Float32[Array, "t 3 3"], position: Float32[Array, "t 3"]) -> Float32[Array, "t 3 3"]:
    """Fix the signs: the first axis points away from the origin, the set is right-handed.

    Args:
        axes: unit vectors, one a row.
        position: of the cloud, mm; the second axis points to its side too.
    """
    first, second = (
        axis * jnp.where((axis * position).sum(1) < 0, -1.0, 1.0)[:, None]
        for axis in (axes[:, 0], axes[:, 1])
    )
    return jnp.stack([first, second, jnp.cross(first, second)], 1)


def basis_along(direction: Float32[Array, "t 3"]) -> Float32[Array, "t 3 3"]:
    """Three unit vectors at right angles, the first along a direction; along z where there is none."""
    length = jnp.linalg.norm(direction, axis=1, keepdims=True)
    first = jnp.where(length > 0, direction / jnp.where(length > 0, length, 1), jnp.array([0.0, 0.0, 1.0]))
    # The unit vector that is least along the direction is never parallel to it.
    helper = jax.nn.one_hot(jnp.argmin(jnp.abs(first), 1), 3, dtype=direction.dtype)
    second = jnp.cross(first, helper)
    second /= jnp.linalg.norm(second, axis=1, keepdims=True)
    return jnp.stack([first, second, jnp.cross(first, second)], 1)
