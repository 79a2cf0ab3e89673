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

_ROTATIONS = 15
"""Five sweeps of three: convergence is quadratic, and this reaches single precision with room to spare."""

Symmetric = tuple[Array, ...]
"""The elements 00, 01, 02, 11, 12, 22 of matrices."""


def _rotate(_: Array, state: tuple[Symmetric, Array]) -> tuple[Symmetric, Array]:
    """Turn the first two axes so that the element 01 vanishes, then let the axes change places in a circle.

    One rotation is all that has to be compiled: after three the axes are back in their places.
    """
    (a, b, c, d, e, f), vectors = state
    tau = (d - a) / jnp.where(b == 0, 1, 2 * b)
    sign = jnp.where(tau >= 0, 1.0, -1.0)
    tangent = jnp.where(b == 0, 0, sign / (jnp.abs(tau) + jnp.sqrt(1 + tau**2)))
    cosine = 1 / jnp.sqrt(1 + tangent**2)
    sine = tangent * cosine
    c, e = cosine * c - sine * e, sine * c + cosine * e
    first, second = cosine * vectors[0] - sine * vectors[1], sine * vectors[0] + cosine * vectors[1]
    # The axes 0, 1, 2 become 2, 0, 1.
    turned = (d + tangent * b, e, jnp.zeros_like(b), f, c, a - tangent * b)
    return turned, jnp.stack([second, vectors[2], first])


def symmetric_eigen(matrix: Float32[Array, "t 3 3"]) -> tuple[Float32[Array, "t 3"], Float32[Array, "t 3 3"]]:
    """Eigenvalues and eigenvectors of symmetric matrices.

    Args:
        matrix: one a row; the scale is of no account.

    Returns:
        Eigenvalues, the largest first, and the unit eigenvectors, one a row in the same order, with signs as they come.
    """
    scale = jnp.max(jnp.abs(matrix), (1, 2))
    unit = matrix / jnp.where(scale > 0, scale, 1)[:, None, None]
    elements = tuple(unit[:, i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    vectors = jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype)[..., None], (3, 3, len(matrix)))
    elements, vectors = jax.lax.fori_loop(0, _ROTATIONS, _rotate, (elements, vectors))
    values, vectors = _descending(jnp.stack([elements[0], elements[3], elements[5]]), vectors)
    return values.T * scale[:, None], jnp.moveaxis(vectors, -1, 0)


def _descending(
    values: Float32[Array, "3 t"], vectors: Float32[Array, "3 3 t"]
) -> tuple[Float32[Array, "3 t"], Float32[Array, "3 3 t"]]:
    """Three exchanges that sort three values; a sort of the whole batch would cost more than the rotations."""
    value, vector = list(values), list(vectors)
    for i, j in ((0, 1), (1, 2), (0, 1)):
        swap = value[j] > value[i]
        for column in (value, vector):
            column[i], column[j] = (
                jnp.where(swap, column[j], column[i]),
                jnp.where(swap, column[i], column[j]),
            )
    return jnp.stack(value), jnp.stack(vector)


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
