"""3x3 convolutions by Winograd's minimal filtering: fewer multiplications, all of them in matrix products.

The image is cut into overlapping tiles of t = m + 2 pixels that give m outputs each. Both tile and kernel are
transformed, every one of the t * t numbers has a matrix product of its own, and the result is transformed back:

    Y = A^T [ (G g G^T) * (B^T d B) ] A

For 4 outputs m = 2 needs 16 products where the plain sum needs 36, for 16 outputs m = 4 needs 36 where it needs 144,
2.25 and 4 times fewer. The rounding error of m = 4 is ten times larger, 1e-5 of the outputs in float32.

Source:
    Lavin and Gray, arXiv:1509.09308; the matrices are those of its equations 5 to 8 and of section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32


class Transform(NamedTuple):
    """Matrices of one tile size.

    Attributes:
        image: B^T, (t, t).
        kernel: G, (t, 3).
        result: A^T, (m, t).
    """

    image: np.ndarray
    kernel: np.ndarray
    result: np.ndarray


TRANSFORMS = {
    2: Transform(
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
        np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
    ),
    4: Transform(
        np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ]
        ),
        np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
        np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
    ),
}
"""By the outputs m at an edge of a tile."""


def transform_kernel(kernel: Float32[np.ndarray, "3 3 i o"], outputs: int) -> Float32[np.ndarray, "t t i o"]:
    """G g G^T, on the host and in double precision.

    Args:
        kernel: of the convolution.
        outputs: m, at an edge of a tile: 2 or 4.
    """
    matrix = TRANSFORMS[outputs].kernel
    both = np.kron(matrix, matrix) @ kernel.reshape(9, -1).astype(np.float64)
    size = len(matrix)
    return both.reshape(size, size, *kernel.shape[2:]).astype(np.float32)


def winograd_convolution(
    images: Float[Array, "b h w i"], kernel: Float[Array, "t t i o"]
) -> Float32[Array, "b h w o"]:
    """3x3 convolution of stride 1 with one pixel of zeros around the image.

    Args:
        images: of any height and width.
        kernel: of `transform_kernel`; if it is bfloat16, so are the factors of the products.
    """
    size = kernel.shape[0]
    outputs = size - 2
    matrices = TRANSFORMS[outputs]
    batch, height, width, channels = images.shape
    down, across = -(-height // outputs), -(-width // outputs)
    padded = jnp.pad(
        images.astype(jnp.float32),
        ((0, 0), (1, down * outputs - height + 1), (1, across * outputs - width + 1), (0, 0)),
    )

    def every(x: Array, axis: int, start: int, count: int) -> Array:
        return jax.lax.slice_in_dim(x, start, start + (count - 1) * outputs + 1, outputs, axis)

    # One axis after the other, each written out whole: fused, XLA would compute the first sums once for every tile
    # that has them, in a program many times longer.
    whole = jax.lax.optimization_barrier
    rows = whole(_each(matrices.image, [every(padded, 1, start, down) for start in range(size)], 0))
    tiles = _each(matrices.image, [every(rows, 3, start, across) for start in range(size)], 1)
    tiles = whole(tiles.astype(kernel.dtype))
    products = jax.lax.dot_general(
        tiles.reshape(size * size, batch * down * across, channels),
        kernel.reshape(size * size, channels, -1),
        (((2,), (1,)), ((0,), (0,))),
        preferred_element_type=jnp.float32,
    ).reshape(size, size, batch, down, across, -1)
    rows = whole(_each(matrices.result, [products[start] for start in range(size)], 3))
    result = _each(matrices.result, [rows[start] for start in range(size)], 4)
    return result.reshape(batch, down * outputs, across * outputs, -1)[:, :height, :width]


def _each(matrix: np.ndarray, arrays: Sequence[Array], axis: int) -> Array:
    """The matrix times the list of arrays, along a new axis."""
    return jnp.stack([_combine(row, arrays) for row in matrix], axis)


def _combine(row: np.ndarray, arrays: Sequence[Array]) -> Array:
    """A sum of arrays; nothing is multiplied by 0 or 1."""
    terms = [
        array if factor == 1 else -array if factor == -1 else float(factor) * array
        for factor, array in zip(row, arrays, strict=True)
        if factor
    ]
    return sum(terms[1:], terms[0])
