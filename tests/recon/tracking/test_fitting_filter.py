"""The information filter against dense linear algebra in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.tracking import kalman
from recon.tracking.kalman import Information, Material, Measurements, Slots

TRACKS = 6
SLOTS = 4


def information(rng: np.random.Generator) -> Information:
    root = rng.normal(size=(5, 5, TRACKS))
    matrix = np.einsum("ikt,jkt->ijt", root, root) + np.eye(5)[:, :, None]
    vector = rng.normal(size=(5, TRACKS))
    return Information(*(jnp.asarray(x, jnp.float32) for x in (matrix, vector, np.full(TRACKS, 9.0))))


def moments(state: Information) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, covariance and chi2 of every track."""
    matrix = np.moveaxis(np.asarray(state.matrix, np.float64), -1, 0)
    vector = np.asarray(state.vector, np.float64).T
    mean = np.linalg.solve(matrix, vector[..., None])[..., 0]
    return mean, np.linalg.inv(matrix), np.asarray(state.constant) - (mean * vector).sum(1)


def material(rng: np.random.Generator, *lead: int) -> Material:
    return Material(*(jnp.asarray(rng.uniform(0.1, 1, (*lead, TRACKS)), jnp.float32) for _ in range(3)))


def measurements(rng: np.random.Generator, *lead: int) -> Measurements:
    shapes = ((2, 5), (2,), (2,))
    parts = [rng.uniform(0.5, 2, (*lead, *shape, TRACKS)) for shape in shapes]
    return Measurements(*(jnp.asarray(part, jnp.float32) for part in parts))


def test_material_adds_noise_and_shifts_rho() -> None:
    rng = np.random.default_rng(0)
    before, layer = information(rng), material(rng)
    mean, covariance, chi2 = moments(before)
    noise = np.zeros((TRACKS, 5, 5))
    noise[:, 0, 0], noise[:, 1, 1] = layer.azimuth, layer.slope
    for outwards, sign in ((True, 1), (False, -1)):
        after = moments(kalman.cross_material(before, layer, outwards=outwards))
        np.testing.assert_allclose(after[0], mean + sign * np.outer(layer.bend, np.eye(5)[2]), atol=2e-4)
        np.testing.assert_allclose(after[1], covariance + noise, atol=2e-4)
        np.testing.assert_allclose(after[2], chi2, rtol=1e-4)


def test_strong_scattering_keeps_what_little_is_left() -> None:
    """Twelve digits between what was known and what remains: the subtraction alone would lose it."""
    state = Information(
        jnp.full((5, 5, 1), 0.0).at[jnp.arange(5), jnp.arange(5)].set(1e9), jnp.ones((5, 1)), jnp.zeros(1)
    )
    layer = Material(jnp.full(1, 1e3), jnp.zeros(1), jnp.zeros(1))
    after = kalman.cross_material(state, layer, outwards=True)
    assert float(after.matrix[0, 0, 0]) == pytest.approx(1e-3, rel=1e-5)


def test_no_material_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    before = information(rng)
    after = kalman.cross_material(before, Material(*(jnp.zeros(TRACKS),) * 3), outwards=True)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_measurement_is_weighted_least_squares() -> None:
    rng = np.random.default_rng(2)
    before, measured = information(rng), measurements(rng)
    after = moments(kalman.add_measurement(before, measured))
    mean, covariance, chi2 = moments(before)
    for t in range(TRACKS):
        row, residual = np.asarray(measured.row)[:, :, t], np.asarray(measured.residual)[:, t]
        spread = row @ covariance[t] @ row.T + np.diag(1 / np.asarray(measured.weight)[:, t])
        gain = covariance[t] @ row.T @ np.linalg.inv(spread)
        innovation = residual - row @ mean[t]
        np.testing.assert_allclose(after[0][t], mean[t] + gain @ innovation, atol=1e-4)
        np.testing.assert_allclose(after[1][t], covariance[t] - gain @ row @ covariance[t], atol=1e-4)
        expected = chi2[t] + innovation @ np.linalg.solve(spread, innovation)
        assert after[2][t] == pytest.approx(expected, rel=1e-3)


def test_transport_moves_the_mean_and_the_covariance() -> None:
    rng = np.random.default_rng(3)
    before = information(rng)
    derivative = rng.normal(size=(5, 5, TRACKS)) + 3 * np.eye(5)[:, :, None]
    after = moments(kalman.transport_information(before, jnp.asarray(derivative, jnp.float32)))
    mean, covariance, _ = moments(before)
    back = np.linalg.inv(np.moveaxis(derivative, -1, 0))
    np.testing.assert_allclose(after[0], np.einsum("tij,tj->ti", back, mean), atol=1e-4)
    np.testing.assert_allclose(after[1], back @ covariance @ np.swapaxes(back, 1, 2), atol=1e-4)


def test_solve_and_cholesky() -> None:
    state = information(np.random.default_rng(4))
    lower = np.moveaxis(np.asarray(kalman.cholesky(state.matrix)), -1, 0)
    matrix = np.moveaxis(np.asarray(state.matrix), -1, 0)
    np.testing.assert_allclose(lower @ np.swapaxes(lower, 1, 2), matrix, rtol=1e-4, atol=1e-4)
    estimate = kalman.solve(state)
    mean, covariance, chi2 = moments(state)
    np.testing.assert_allclose(estimate.state.T, mean, atol=1e-4)
    np.testing.assert_allclose(np.moveaxis(estimate.covariance, -1, 0), covariance, atol=1e-4)
    np.testing.assert_allclose(estimate.chi2, np.maximum(chi2, 0), atol=1e-3)
    np.testing.assert_allclose(estimate.step_chi2 + chi2, state.constant, rtol=1e-4)


def test_a_singular_matrix_stays_finite() -> None:
    state = Information(jnp.ones((5, 5, 1)), jnp.ones((5, 1)), jnp.ones(1))
    assert all(np.isfinite(value).all() for value in kalman.solve(state))


def slots(rng: np.random.Generator) -> Slots:
    transport = rng.normal(0, 0.3, size=(SLOTS, 5, 5, TRACKS)) + np.eye(5)[:, :, None]
    inverse = np.moveaxis(np.linalg.inv(np.moveaxis(transport, -1, 1)), 1, -1)
    return Slots(
        material(rng, SLOTS),
        measurements(rng, SLOTS),
        material(rng, SLOTS),
        jnp.asarray(transport, jnp.float32),
        jnp.asarray(inverse, jnp.float32),
    )


def dense_fit(problem: Slots, prior: float, track: int, leave_out: int | None) -> tuple[np.ndarray, ...]:
    """All kinks as parameters: normal matrix and right side for (state at the perigee, kinks)."""
    values = jax.tree.map(lambda array: np.asarray(array, np.float64)[..., track], problem)
    size = 5 + 4 * SLOTS
    design, target, weight = [], [], []
    offset, slope = np.zeros(5), np.zeros((5, size))
    slope[:, :5] = np.eye(5)
    for k in range(SLOTS):
        offset, slope = values.transport[k] @ offset, values.transport[k] @ slope
        for side, layer in enumerate((values.inside, values.outside)):
            if side == 1 and k != leave_out:
                design += list(values.measurements.row[k] @ slope)
                target += list(values.measurements.residual[k] - values.measurements.row[k] @ offset)
                weight += list(values.measurements.weight[k])
            for component, variance in enumerate((layer.azimuth[k], layer.slope[k])):
                column = 5 + 4 * k + 2 * side + component
                slope[component, column] += 1
                design.append(np.eye(size)[column])
                target.append(0.0)
                weight.append(1 / variance)
            offset = offset + np.eye(5)[2] * layer.bend[k]
    design += list(slope)
    target += list(-offset)
    weight += [prior] * 5
    a, y, w = np.array(design), np.array(target), np.array(weight)
    covariance = np.linalg.inv(a.T @ (w[:, None] * a))
    solution = covariance @ (a.T @ (w * y))
    chi2 = (w * (y - a @ solution) ** 2).sum()
    return solution[:5], covariance[:5, :5], chi2


def test_filter_is_the_least_squares_fit_with_all_kinks() -> None:
    problem = slots(np.random.default_rng(5))
    start = kalman.weak_information((0.3,) * 5, jnp.zeros(TRACKS))
    known, _ = kalman.filter_inwards(start, problem)
    estimate = kalman.solve(known)
    for track in range(TRACKS):
        state, covariance, chi2 = dense_fit(problem, 0.3, track, None)
        np.testing.assert_allclose(estimate.state[:, track], state, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(estimate.covariance[..., track], covariance, rtol=2e-3, atol=2e-3)
        assert float(estimate.chi2[track]) == pytest.approx(chi2, rel=2e-3)


def test_both_filters_together_tell_the_chi2_of_a_slot() -> None:
    problem = slots(np.random.default_rng(6))
    start = kalman.weak_information((0.3,) * 5, jnp.zeros(TRACKS))
    _, outer = kalman.filter_inwards(start, problem)
    inner = kalman.filter_outwards(jax.tree.map(jnp.zeros_like, start), problem)
    found = kalman.slot_chi2(jax.tree.map(jnp.add, outer, inner), problem.measurements)
    for track in range(TRACKS):
        complete = dense_fit(problem, 0.3, track, None)[2]
        expected = [complete - dense_fit(problem, 0.3, track, k)[2] for k in range(SLOTS)]
        np.testing.assert_allclose(found[:, track], expected, rtol=5e-3, atol=5e-3)


def test_empty_slots_have_no_chi2() -> None:
    rng = np.random.default_rng(7)
    measured = measurements(rng, SLOTS)
    measured = measured._replace(weight=measured.weight.at[1].set(0))
    others = jax.tree.map(lambda array: jnp.stack([array] * SLOTS), information(rng))
    chi2 = np.asarray(kalman.slot_chi2(others, measured))
    assert (chi2[1] == 0).all()
    assert (chi2[0] > 0).all()
