"""A wrong compiler is noticed here, before a wrong physics result is published.

JAX 0.10.2 computes wrong rows on a CPU for some sizes past 32,768 (jax-ml/jax #39103). The pins in
`pyproject.toml` exclude it; this test says whether they still do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("n", [32_768, 40_001])
def test_small_matrix_products_of_many_rows(n):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(n, 3, 3)).astype(np.float32)
    vector = rng.normal(size=(n, 3)).astype(np.float32)

    @jax.jit
    def compute(matrix, vector):
        product = jax.vmap(jnp.matmul)(matrix, jnp.swapaxes(matrix, 1, 2))
        moved = jax.vmap(jnp.matmul)(matrix, vector)
        return product, moved, (product**2).sum((1, 2)), (moved**2).sum(1)

    product, moved, square, length = compute(matrix, vector)
    exact = matrix.astype(np.float64) @ matrix.astype(np.float64).transpose(0, 2, 1)
    exact_moved = np.einsum("nij,nj->ni", matrix.astype(np.float64), vector.astype(np.float64))
    for found, expected in (
        (product, exact),
        (moved, exact_moved),
        (square, (exact**2).sum((1, 2))),
        (length, (exact_moved**2).sum(1)),
    ):
        wrong = ~np.isclose(found, expected, rtol=1e-4, atol=1e-4)
        assert not wrong.any(), f"JAX {jax.__version__}: {wrong.reshape(n, -1).any(1).sum()} wrong rows"
