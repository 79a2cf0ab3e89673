"""Soft CLUE3D: a hand case, its slow twin, its gradients, and the hard algorithm in the limit."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.hgcal_clustering.clue3d import Clue3dConfig, clue3d
from recon.hgcal_clustering.projective import LinePoints, line_points
from recon.hgcal_clustering.soft_clue3d import Clue3dParameters, soft_clue3d
from tests.recon.hgcal_clustering.showers_by_hand import along_a_line, join, random_event
from tests.reference.clue3d import transverse2

pytestmark = pytest.mark.usefixtures("quick_programs")

# Parameters that all matter for the event of `event`, and a temperature at which nothing is decided for good.
CONFIG = Clue3dConfig(
    critical_density=1.1, density_radius=35.0, critical_distance=30.0, sibling_layers=3, critical_layers=2
)
TEMPERATURE = 0.2

soft = jax.jit(soft_clue3d, static_argnames="same_layer_density")


def everyone(n):
    """A table in which all see all."""
    rows = np.arange(n)
    return np.array([rows[rows != i] for i in rows], np.int32).reshape(n, -1)


def points_of(clusters):
    return line_points(*(np.asarray(c) for c in (clusters.position, clusters.energy, clusters.layer)))


def event(n_showers=3, seed=0):
    """Layer clusters without ties."""
    made = random_event(seed, n_showers, noise=20)
    energy = made.energy * np.random.default_rng(seed + 1).uniform(0.5, 1.5, len(made.energy))
    return made._replace(energy=energy.astype(np.float32))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def slow(clusters, config, temperature):
    """The formulas of the module one pair at a time, in double precision, over all pairs."""
    position, energy = clusters.position.astype(float), clusters.energy.astype(float)
    n, t, p = len(energy), temperature, config
    across = np.sqrt(transverse2(position))
    apart = np.sqrt(across**2 + (position[:, None, 2] - position[None, :, 2]) ** 2)
    layers = np.abs(clusters.layer[:, None].astype(float) - clusters.layer[None])
    beside = sigmoid((p.sibling_layers + 0.5 - layers) / t)
    rho = energy.copy()
    for i in range(n):
        for j in range(n):
            if i != j and (p.same_layer_density or layers[i, j] > 0):
                near = sigmoid((p.density_radius - across[i, j]) / (t * p.density_radius))
                rho[i] += p.kernel_factor * near * beside[i, j] * energy[j]
    reach = p.outlier_multiplier * p.critical_distance
    delta, seed, outlier, follow = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, n))
    for i in range(n):
        core = sigmoid((rho[i] - p.critical_density) / (t * p.critical_density))
        core *= sigmoid((energy[i] / rho[i] - p.critical_self_density) / t)
        others = [j for j in range(n) if j != i]
        higher = {j: sigmoid((rho[j] - rho[i]) / (t * p.critical_density)) for j in others}
        in_reach = {
            j: beside[i, j] * sigmoid((reach - across[i, j]) / (t * p.critical_distance)) for j in others
        }
        none = np.prod([1 - higher[j] * in_reach[j] for j in others])
        weight = {
            j: higher[j] * in_reach[j] * np.exp(-apart[i, j] / (np.sqrt(t) * p.critical_distance))
            for j in others
        }
        seed[i], delta[i] = core * none, none * reach
        for j in others:
            after = (1 - none) * weight[j] / sum(weight.values())
            close = sigmoid((p.critical_distance - across[i, j]) / (t * p.critical_distance))
            close *= sigmoid((p.critical_layers + 0.5 - layers[i, j]) / t)
            seed[i] += core * after * (1 - close)
            follow[i, j] = after * (1 - core * (1 - close))
            delta[i] += after * across[i, j]
        outlier[i] = (1 - core) * none
    return rho, delta, seed, outlier, follow


@pytest.fixture(scope="module")
def showers():
    return event()


def test_by_hand():
    # Two layer clusters on one line, two layers apart: each is certainly near the other.
    clusters = join(along_a_line(0.2, 0.0, [4, 6], 2.0))
    found = soft(points_of(clusters), everyone(2), Clue3dParameters.from_config(CONFIG), temperature=0.01)
    np.testing.assert_allclose(found.rho, [2.4, 2.4], rtol=1e-4)
    # Of equal densities each is higher than the other in one of two cases, and both are far above the threshold.
    np.testing.assert_allclose(found.seed, [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(found.follow[:, 0], [0.5, 0.5], atol=1e-3)
    np.testing.assert_allclose(found.outlier, [0, 0], atol=1e-3)
    # Half of them look as far as they may.
    np.testing.assert_allclose(found.delta, [30.0, 30.0], atol=0.2)


@pytest.mark.parametrize("same_layer_density", [False, True])
def test_twin(showers, same_layer_density):
    config = replace(CONFIG, same_layer_density=same_layer_density)
    n = len(showers.energy)
    table = everyone(n)
    found = soft(
        points_of(showers),
        table,
        Clue3dParameters.from_config(config),
        temperature=TEMPERATURE,
        same_layer_density=same_layer_density,
    )
    expected = slow(showers, config, TEMPERATURE)
    for name, one, other in zip(("rho", "delta", "seed", "outlier"), found, expected, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3, err_msg=name)
    dense = np.zeros((n, n))
    np.put_along_axis(dense, table, np.asarray(found.follow), 1)
    np.testing.assert_allclose(dense, expected[4], atol=1e-3)
    np.testing.assert_allclose(found.seed + found.outlier + found.follow.sum(1), 1, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_limit_is_the_hard_algorithm(seed):
    clusters = event(6, seed)
    config = Clue3dConfig(min_layer_clusters=1)
    hard = clue3d(clusters, config, min_size=1)
    found = soft(
        points_of(clusters),
        everyone(len(clusters.energy)),
        Clue3dParameters.from_config(config),
        temperature=1e-7,
    )
    np.testing.assert_allclose(found.rho, hard.rho, rtol=1e-4)
    np.testing.assert_array_equal(np.asarray(found.seed) > 0.5, hard.is_seed)
    assert hard.is_seed.sum() > 2
    none = (hard.nearest_higher < 0) & ~hard.is_seed
    np.testing.assert_array_equal(np.asarray(found.outlier) > 0.5, none)
    follows = (hard.nearest_higher >= 0) & ~hard.is_seed
    assert follows.sum() > 20
    chosen = np.take_along_axis(
        everyone(len(clusters.energy)), np.asarray(found.follow).argmax(1)[:, None], 1
    )
    np.testing.assert_array_equal(chosen[follows, 0], hard.nearest_higher[follows])
    np.testing.assert_allclose(np.asarray(found.follow).sum(1)[follows], 1, atol=1e-3)
    np.testing.assert_allclose(np.asarray(found.delta)[follows], hard.delta[follows], rtol=1e-2, atol=0.1)


@pytest.fixture(scope="module")
def scores(showers):
    """Numbers that depend on everything that is found, in double precision."""
    table = everyone(len(showers.energy))
    probe = np.random.default_rng(0).normal(0, 1, table.shape)

    @jax.jit
    def score(points, parameters):
        found = soft_clue3d(points, jnp.asarray(table), parameters, temperature=TEMPERATURE)
        return sum((x * (probe if x.ndim == 2 else probe[:, 0])).sum() for x in found)

    with jax.enable_x64(True):
        points = LinePoints(
            *(
                jnp.asarray(np.asarray(c), jnp.float64 if c.dtype == np.float32 else None)
                for c in points_of(showers)
            )
        )
        yield score, points, jnp.asarray(Clue3dParameters.from_config(CONFIG), jnp.float64)


def test_gradients_of_parameters(scores):
    score, points, values = scores
    slope = jax.jit(jax.grad(lambda values: score(points, Clue3dParameters(*values))))(values)
    assert (np.abs(slope) > 1e-4).all()
    for index in range(len(values)):
        step = jnp.zeros(len(values)).at[index].set(1e-6 * values[index])
        ends = [score(points, Clue3dParameters(*(values + sign * step))) for sign in (1, -1)]
        measured = (ends[0] - ends[1]) / (2 * step[index])
        np.testing.assert_allclose(slope[index], measured, rtol=1e-4, err_msg=Clue3dParameters._fields[index])


def test_gradients_of_layer_clusters(scores):
    score, points, values = scores
    names = ("slope", "phi", "z", "energy")
    start = {name: getattr(points, name) for name in names}

    @jax.jit
    def at(columns):
        return score(points._replace(**columns), Clue3dParameters(*values))

    slope = jax.jit(jax.grad(at))(start)
    rng = np.random.default_rng(1)
    for name in names:
        way = rng.normal(0, 1, len(start[name])) * 1e-6 * np.abs(start[name]).mean()
        measured = (at(start | {name: start[name] + way}) - at(start | {name: start[name] - way})) / 2
        np.testing.assert_allclose((slope[name] * way).sum(), measured, rtol=1e-4, err_msg=name)


def test_gradients_are_finite_where_layer_clusters_coincide_or_are_alone():
    clusters = join(along_a_line(0.2, 0.0, [4, 4, 5], 1.0), along_a_line(0.4, 2.0, [20], 0.0))
    table = np.array([[1, 2], [0, 2], [0, 1], [-1, -1]], np.int32)

    def score(points, values, temperature):
        found = soft_clue3d(points, table, Clue3dParameters(*values), temperature=temperature)
        return sum(column.sum() for column in found)

    gradients = jax.jit(jax.grad(score, (0, 1), allow_int=True))
    values = jnp.asarray(Clue3dParameters.from_config(CONFIG))
    for temperature in (1.0, 0.1, 1e-3):
        by_point, by_value = gradients(points_of(clusters), values, temperature)
        assert np.isfinite(by_value).all()
        assert all(np.isfinite(getattr(by_point, name)).all() for name in ("slope", "phi", "z", "energy"))


def test_permutation_rotation_and_empty_slots(showers):
    n, values = len(showers.energy), Clue3dParameters.from_config(CONFIG)
    found = soft(points_of(showers), everyone(n), values, temperature=TEMPERATURE)
    order = np.random.default_rng(2).permutation(n)
    points = LinePoints(*(np.asarray(column)[order] for column in points_of(showers)))
    other = soft(points, everyone(n), values, temperature=TEMPERATURE)
    np.testing.assert_allclose(other.seed, np.asarray(found.seed)[order], rtol=1e-3, atol=1e-5)
    # Around the beam, across phi = pi.
    turned = points_of(showers)
    turned = turned._replace(phi=np.angle(np.exp(1j * (np.asarray(turned.phi) + 3.0))).astype(np.float32))
    np.testing.assert_allclose(
        soft(turned, everyone(n), values, temperature=TEMPERATURE).seed, found.seed, rtol=1e-2, atol=1e-3
    )
    wide = np.pad(everyone(n), ((0, 0), (0, 7)), constant_values=-1)
    more = soft(points_of(showers), wide, values, temperature=TEMPERATURE)
    np.testing.assert_allclose(more.delta, found.delta, rtol=1e-5)
    assert (np.asarray(more.follow)[:, n - 1 :] == 0).all()


def test_no_new_program_for_other_parameters(showers):
    points, table = points_of(showers), everyone(len(showers.energy))
    soft(points, table, Clue3dParameters.from_config(CONFIG), temperature=0.2)
    before = soft._cache_size()
    soft(points, table, Clue3dParameters.from_config(Clue3dConfig()), temperature=0.1)
    assert soft._cache_size() == before
