"""Soft CLUE: a hand case, its slow twin, its gradients, and the hard algorithm in the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import CapacityError
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.soft import neighbour_table, soft_clue

pytestmark = pytest.mark.usefixtures("quick_programs")

SETTINGS = {"d_c": 1.2, "rho_c": 2.5, "outlier_delta_factor": 1.7, "temperature": 0.2}


def cloud(n, seed=0):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(0, 1, (n // 2, 2)), rng.uniform(-6, 6, (n - n // 2, 2))])
    return points.astype(np.float32), rng.uniform(0.5, 2, n).astype(np.float32)


def widest_gap(values, low, high):
    inside = values[(values > low) & (values < high)]
    at = np.argmax(np.diff(inside))
    return float(inside[at : at + 2].mean())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def twin(points, weights, d_c, rho_c, outlier_delta_factor, temperature):
    """The formulas one point and one pair at a time, over all pairs."""
    n, out_radius = len(points), outlier_delta_factor * d_c
    length = np.sqrt(temperature) * d_c
    apart = np.sqrt(((points[:, None].astype(float) - points) ** 2).sum(-1))
    near = sigmoid((d_c - apart) / (temperature * d_c))
    out = sigmoid((out_radius - apart) / (temperature * d_c))
    others = [[j for j in range(n) if j != i] for i in range(n)]
    rho = np.array([weights[i] + 0.5 * sum(near[i, j] * weights[j] for j in others[i]) for i in range(n)])
    higher = sigmoid((rho[None] - rho[:, None]) / (temperature * rho_c))
    dense = sigmoid((rho - rho_c) / (temperature * rho_c))
    seed = np.array(
        [dense[i] * np.prod([1 - higher[i, j] * near[i, j] for j in others[i]]) for i in range(n)]
    )
    none_far = np.array([np.prod([1 - higher[i, j] * out[i, j] for j in others[i]]) for i in range(n)])
    follow = np.zeros((n, n))
    delta = np.zeros(n)
    for i in range(n):
        for reach, mass in ((near, dense[i] - seed[i]), (out, (1 - dense[i]) * (1 - none_far[i]))):
            share = {j: higher[i, j] * reach[i, j] * np.exp(-apart[i, j] / length) for j in others[i]}
            for j, value in share.items():
                follow[i, j] += mass * value / sum(share.values())
        smooth = sum(higher[i, j] * out[i, j] * np.exp(-apart[i, j] / length) for j in others[i])
        delta[i] = -length * np.log(smooth + np.exp(-out_radius / length))
    return rho, delta, seed, (1 - dense) * none_far, follow


def test_by_hand():
    points, weights = np.array([[0.0], [1.0]], np.float32), np.array([2.0, 1.0], np.float32)
    found = soft_clue(points, weights, neighbour_table(points, 9.0), d_c=1.0, rho_c=1.0, temperature=0.5)
    # Two points at the radius: each is half within it.
    np.testing.assert_allclose(found.rho, [2.25, 1.5], rtol=1e-6)
    dense = sigmoid(np.array([1.25, 0.5]) / 0.5)
    higher = sigmoid(np.array([-0.75, 0.75]) / 0.5)
    np.testing.assert_allclose(found.seed, dense * (1 - higher / 2), rtol=1e-5)


def test_twin():
    points, weights = cloud(40)
    table = neighbour_table(points, 40.0)
    assert table.shape == (40, 39)
    found = soft_clue(points, weights, table, **SETTINGS)
    rho, delta, seed, outlier, follow = twin(points, weights, **SETTINGS)
    np.testing.assert_allclose(found.rho, rho, rtol=1e-4)
    np.testing.assert_allclose(found.delta, delta, atol=1e-3)
    np.testing.assert_allclose(found.seed, seed, atol=1e-4)
    np.testing.assert_allclose(found.outlier, outlier, atol=1e-4)
    dense = np.zeros((40, 40))
    np.put_along_axis(dense, table, found.follow, 1)
    np.testing.assert_allclose(dense, follow, atol=1e-4)
    np.testing.assert_allclose(found.seed + found.outlier + found.follow.sum(1), 1, atol=1e-4)


def test_pairs_far_apart_do_not_matter():
    points, weights = cloud(60, seed=1)
    full = soft_clue(points, weights, neighbour_table(points, 40.0), **SETTINGS)
    # Ten temperatures beyond the outlier radius.
    short = soft_clue(points, weights, neighbour_table(points, 1.2 * (1.7 + 2.0)), **SETTINGS)
    for one, other in zip(full[:4], short[:4], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_limit_is_the_hard_algorithm():
    points, weights = cloud(150, seed=2)
    # No pair at a radius: both lie in the middle of the widest gap between distances.
    apart = np.sort(np.sqrt(((points[:, None].astype(float) - points) ** 2).sum(-1)).ravel())
    d_c, outlier = (widest_gap(apart, low, low + 0.2) for low in (0.9, 1.7))
    settings = {"d_c": d_c, "rho_c": 2.0, "outlier_delta_factor": outlier / d_c}
    table = neighbour_table(points, 4.0)
    hard = clue(points, weights, **settings)
    soft = soft_clue(points, weights, table, temperature=1e-5, **settings)
    np.testing.assert_allclose(soft.rho, hard.rho, rtol=1e-3)
    np.testing.assert_array_equal(soft.seed > 0.5, hard.is_seed)
    np.testing.assert_array_equal(soft.outlier > 0.5, (hard.ids < 0) & (hard.nearest_higher < 0))
    follows = hard.nearest_higher >= 0
    assert follows.sum() > 50
    chosen = np.take_along_axis(table, np.asarray(soft.follow).argmax(1)[:, None], 1)[:, 0]
    np.testing.assert_array_equal(chosen[follows], hard.nearest_higher[follows])
    np.testing.assert_allclose(np.asarray(soft.follow).sum(1)[follows], 1, atol=1e-3)
    np.testing.assert_allclose(np.asarray(soft.delta)[follows], hard.delta[follows], atol=2e-2)


@pytest.mark.parametrize("name", ["d_c", "rho_c", "outlier_delta_factor", "temperature"])
def test_gradients_of_settings(name):
    points, weights = cloud(30, seed=3)
    table = neighbour_table(points, 8.0)
    probe = np.random.default_rng(0).normal(0, 1, (30, table.shape[1]))
    with jax.enable_x64(True):
        columns = jnp.asarray(points, jnp.float64), jnp.asarray(weights, jnp.float64), jnp.asarray(table)

        def scores(value):
            found = soft_clue(*columns, **(SETTINGS | {name: value}))
            return jnp.stack([(x * (probe if x.ndim == 2 else probe[:, 0])).sum() for x in found])

        scores = jax.jit(scores)
        value, step = SETTINGS[name], 1e-6
        slope = (scores(value + step) - scores(value - step)) / (2 * step)
        np.testing.assert_allclose(jax.jacrev(scores)(value), slope, rtol=1e-5, atol=1e-7)


def test_gradients_of_points_and_weights():
    points, weights = cloud(25, seed=4)
    table = neighbour_table(points, 8.0)
    with jax.enable_x64(True):
        start = jnp.asarray(points, jnp.float64), jnp.asarray(weights, jnp.float64)

        @jax.jit
        def score(points, weights):
            found = soft_clue(points, weights, jnp.asarray(table), **SETTINGS)
            return (found.seed**2).sum() + (found.delta * found.rho).sum() + (found.follow**2).sum()

        by_point, by_weight = jax.grad(score, (0, 1))(*start)
        rng, step = np.random.default_rng(1), 1e-6
        along = rng.normal(0, 1, points.shape), rng.normal(0, 1, weights.shape)
        ends = [
            score(*(x + sign * step * way for x, way in zip(start, along, strict=True))) for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(
            (by_point * along[0]).sum() + (by_weight * along[1]).sum(), slope, rtol=1e-5
        )


def test_gradients_are_finite_where_points_coincide_or_are_alone():
    points = np.array([[0, 0], [0, 0], [0, 0], [50, 50]], np.float32)
    table = neighbour_table(points, 3.0)

    def score(points, d_c, temperature):
        found = soft_clue(points, jnp.ones(4), table, d_c=d_c, rho_c=1.5, temperature=temperature)
        return sum(column.sum() for column in found)

    gradients = jax.jit(jax.grad(score, (0, 1)))
    for temperature in (1.0, 0.1, 1e-3):
        for gradient in gradients(points, 1.0, temperature):
            assert np.isfinite(gradient).all()


def test_permutation_and_empty_slots():
    points, weights = cloud(50, seed=5)
    table = neighbour_table(points, 5.0)
    order = np.random.default_rng(2).permutation(50)
    found = soft_clue(points, weights, table, **SETTINGS)
    other = soft_clue(points[order], weights[order], neighbour_table(points[order], 5.0), **SETTINGS)
    np.testing.assert_allclose(other.seed, np.asarray(found.seed)[order], rtol=1e-4, atol=1e-6)
    wide = soft_clue(points, weights, neighbour_table(points, 5.0, capacity=60), **SETTINGS)
    np.testing.assert_allclose(wide.delta, found.delta, rtol=1e-5, atol=1e-6)
    assert (np.asarray(wide.follow)[:, table.shape[1] :] == 0).all()


def test_table():
    points, _ = cloud(80, seed=6)
    batch = np.arange(80) % 2
    table = neighbour_table(points, 1.5, batch=batch)
    apart = np.sqrt(((points[:, None].astype(float) - points) ** 2).sum(-1))
    close = (apart <= 1.5) & (batch[:, None] == batch) & ~np.eye(80, dtype=bool)
    for row in range(80):
        assert table[row][table[row] >= 0].tolist() == np.flatnonzero(close[row]).tolist()
    needed = int(close.sum(1).max())
    assert table.shape == (80, needed)
    with pytest.raises(CapacityError, match=f"{needed} neighbours of a point do not fit"):
        neighbour_table(points, 1.5, batch=batch, capacity=needed - 1)
    assert neighbour_table(np.zeros((0, 2)), 1.0).shape == (0, 1)
    empty = soft_clue(jnp.zeros((0, 2)), jnp.zeros(0), jnp.zeros((0, 1), jnp.int32), d_c=1.0, rho_c=1.0)
    assert empty.rho.shape == (0,)
    lone = soft_clue(
        np.zeros((1, 2), np.float32), np.ones(1), neighbour_table(np.zeros((1, 2)), 1.0), d_c=1.0, rho_c=0.5
    )
    assert float(lone.seed[0]) > 0.99
