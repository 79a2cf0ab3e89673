"""Eigenvectors of many small matrices against LAPACK, and the signs and degenerate cases."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.hgcal_clustering.principal_axes import basis_along, outward_axes, symmetric_eigen

eigen = jax.jit(symmetric_eigen)


def covariances(rng, n=64, spread=(100.0, 10.0, 1.0)):
    rotation = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    scale = np.array(spread) * rng.uniform(0.5, 2, (n, 3))
    return np.einsum("nij,nj,nkj->nik", rotation, scale**2, rotation).astype(np.float32)


def test_diagonal_by_hand():
    values, axes = symmetric_eigen(jnp.diag(jnp.array([1.0, 9.0, 4.0]))[None])
    np.testing.assert_array_equal(values[0], [9, 4, 1])
    np.testing.assert_array_equal(np.abs(axes[0]), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_rotated_by_hand():
    values, axes = symmetric_eigen(jnp.array([[[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.5]]]))
    np.testing.assert_allclose(values[0], [3, 1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(np.abs(axes[0, 0]), [0.5**0.5, 0.5**0.5, 0], atol=1e-6)


@pytest.mark.parametrize("spread", [(100.0, 10.0, 1.0), (1.0, 1.0, 1.0), (1e-4, 1e-5, 0.0), (1e5, 1e2, 1e2)])
def test_against_lapack(spread):
    matrix = covariances(np.random.default_rng(1), spread=spread)
    values, axes = eigen(matrix)
    expected = np.linalg.eigvalsh(matrix.astype(float))[:, ::-1]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2e-6 * np.abs(matrix).max())
    rebuilt = np.einsum("tka,tk,tkb->tab", axes, values, axes)
    np.testing.assert_allclose(rebuilt, matrix, atol=3e-6 * np.abs(matrix).max())
    np.testing.assert_allclose(
        np.einsum("tia,tja->tij", axes, axes), np.tile(np.eye(3), (64, 1, 1)), atol=2e-6
    )


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_matrix(six):
    a, b, c, d, e, f = six
    matrix = np.array([[[a, b, c], [b, d, e], [c, e, f]]], np.float32)
    values, axes = eigen(matrix)
    assert np.isfinite(values).all()
    assert (np.diff(values[0]) <= 0).all()
    np.testing.assert_allclose(
        np.einsum("tka,tk,tkb->tab", axes, values, axes), matrix, atol=1e-5 * max(np.abs(matrix).max(), 1e-30)
    )


def test_zero_matrix_has_axes():
    values, axes = symmetric_eigen(jnp.zeros((2, 3, 3)))
    assert not values.any()
    np.testing.assert_array_equal(axes[0], np.eye(3))


def test_axes_point_outwards_and_are_right_handed():
    rng = np.random.default_rng(2)
    axes = np.linalg.qr(rng.normal(size=(30, 3, 3)))[0].astype(np.float32)
    position = rng.normal(size=(30, 3)).astype(np.float32)
    fixed = np.asarray(outward_axes(axes, position))
    assert ((fixed[:, 0] * position).sum(1) >= 0).all()
    assert ((fixed[:, 1] * position).sum(1) >= 0).all()
    np.testing.assert_allclose(np.linalg.det(fixed), 1, rtol=1e-5)
    np.testing.assert_allclose(np.abs((fixed * axes).sum(2)), 1, rtol=1e-5)


@pytest.mark.parametrize("direction", [(0, 0, 2), (3, 0, 0), (1, -1, 1), (0, 0, 0)])
def test_basis_along_a_direction(direction):
    direction = np.array([direction], np.float32)
    basis = np.asarray(basis_along(direction))[0]
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(basis), 1, rtol=1e-6)
    assert (basis[0] @ direction[0]) == pytest.approx(np.linalg.norm(direction))
