"""Edge loss and object condensation: by hand, against slow twins, and that padding has neither weight nor gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recon.errors import ConfigError
from recon.tracking import loss as losses
from tests.reference import segments as slow

# Compiled: a call operation by operation costs seconds of compilation.
edge_loss = jax.jit(losses.edge_loss, static_argnames=("focus", "positive_weight"))
condensation_loss = jax.jit(losses.condensation_loss, static_argnames=("count", "q_min", "block"))


def edges(seed=0, count=50):
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.normal(size=count), rng.random(count) < 0.4
    weights = rng.random(count) * (rng.random(count) < 0.8)
    return (
        jnp.asarray(logits.astype(np.float32)),
        jnp.asarray(labels),
        jnp.asarray(weights.astype(np.float32)),
    )


def test_edge_loss_by_hand():
    logits = jnp.log(jnp.array([3.0, 1.0]))  # probabilities 3/4 and 1/2
    loss = edge_loss(logits, jnp.array([True, False]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(loss, -(np.log(3 / 4) + 2 * np.log(1 / 2)) / 3, rtol=1e-6)
    focal = edge_loss(logits, jnp.array([True, False]), jnp.array([1.0, 2.0]), focus=2.0)
    np.testing.assert_allclose(focal, -(np.log(3 / 4) / 16 + 2 * np.log(1 / 2) / 4) / 3, rtol=1e-6)


def test_edge_loss_against_optax():
    logits, labels, weights = edges()
    each = optax.sigmoid_binary_cross_entropy(logits, labels.astype(jnp.float32))
    np.testing.assert_allclose(
        edge_loss(logits, labels, weights), jnp.average(each, weights=weights), rtol=1e-5
    )
    each = optax.sigmoid_focal_loss(logits, labels.astype(jnp.float32), gamma=1.5)
    focal = edge_loss(logits, labels, weights, focus=1.5)
    np.testing.assert_allclose(focal, jnp.average(each, weights=weights), rtol=1e-5)


def test_positive_weight_is_a_weight():
    logits, labels, weights = edges()
    heavy = jnp.where(labels, 5 * weights, weights)
    np.testing.assert_allclose(
        edge_loss(logits, labels, weights, positive_weight=5.0), edge_loss(logits, labels, heavy), rtol=1e-6
    )


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_edges_of_weight_zero_are_not_looked_at(focus):
    logits, labels, weights = edges()
    kept = np.asarray(weights) > 0
    spoiled = jnp.where(kept, logits, jnp.nan)
    value, slope = jax.value_and_grad(edge_loss)(spoiled, labels, weights, focus=focus)
    expected, kept_slope = jax.value_and_grad(edge_loss)(
        logits[kept], labels[kept], weights[kept], focus=focus
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope[kept], kept_slope, rtol=1e-4, atol=1e-7)
    assert (np.asarray(slope)[~kept] == 0).all()


@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_edge_loss_of_extreme_logits(focus):
    logits, weights = jnp.array([-1e4, 1e4, 1e4, -1e4]), jnp.ones(4)
    labels = jnp.array([False, True, False, True])
    value, slope = jax.value_and_grad(edge_loss)(logits, labels, weights, focus=focus)
    np.testing.assert_allclose(value, 5e3, rtol=1e-5)
    assert np.isfinite(slope).all()
    assert slope[2] > 0 > slope[3]


def test_no_edges_no_loss():
    logits, labels, weights = edges()
    value, slope = jax.value_and_grad(edge_loss)(logits, labels, 0 * weights)
    assert value == 0
    assert not slope.any()


@pytest.mark.parametrize("setting", ["focus", "positive_weight"])
def test_edge_loss_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=f"{setting}=-1"):
        edge_loss(*edges(), **{setting: -1.0})


def hits(seed=0, count=40, objects=6):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(0, 0.99, count).astype(np.float32),
        rng.normal(scale=0.7, size=(count, 2)).astype(np.float32),
        rng.integers(-1, objects - 1, count).astype(np.int32),  # the last object has no hits
        rng.random(count) < 0.8,
    )


def test_condensation_by_hand():
    beta = jnp.array([np.tanh(1.0), np.tanh(2.0), 0.0], jnp.float32)
    coordinates = jnp.array([[0.0, 0.0], [3.0, 0.0], [3.0, 0.5]])
    objects, valid = jnp.array([0, 0, -1], jnp.int32), jnp.ones(3, bool)
    loss = condensation_loss(beta, coordinates, objects, valid, count=1, q_min=1.0)
    # Charges 2, 5 and 1; the second hit is the condensation point.
    np.testing.assert_allclose(loss.attractive, 2 * 5 * 9 / 3, rtol=1e-5)
    np.testing.assert_allclose(loss.repulsive, 1 * 5 * 0.5 / 3, rtol=1e-5)
    np.testing.assert_allclose(loss.coward, 1 - np.tanh(2.0), rtol=1e-4)
    assert loss.noise == 0


@pytest.mark.parametrize("block", [1, 4, 64])
def test_condensation_against_loops(block):
    event = hits()
    loss = condensation_loss(*map(jnp.asarray, event), count=6, q_min=0.3, block=block)
    np.testing.assert_allclose(loss, slow.condensation_loss(*event, 6, 0.3), rtol=1e-4)


def total(beta, coordinates, objects, valid):
    return sum(condensation_loss(beta, coordinates, objects, valid, count=6))


def test_condensation_under_padding():
    event = tuple(map(jnp.asarray, hits()))
    more = (
        jnp.pad(event[0], (0, 7), constant_values=0.9),
        jnp.pad(event[1], ((0, 7), (0, 0))),
        jnp.pad(event[2], (0, 7), constant_values=2),
        jnp.pad(event[3], (0, 7)),
    )
    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    (value, slopes), (padded_value, padded_slopes) = gradient(*event), gradient(*more)
    np.testing.assert_allclose(padded_value, value, rtol=1e-5)
    for slope, padded in zip(slopes, padded_slopes, strict=True):
        np.testing.assert_allclose(padded[:40], slope, rtol=1e-3, atol=1e-5)
        assert not padded[40:].any()


def test_condensation_gradient_is_finite_where_hits_coincide():
    beta, _, objects, valid = map(jnp.asarray, hits())
    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(beta.at[0].set(1.0), jnp.zeros((40, 2)), objects, valid)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_condensation_does_not_care_for_the_order_of_hits():
    event, order = hits(), np.random.default_rng(1).permutation(40)
    once = condensation_loss(*map(jnp.asarray, event), count=6)
    again = condensation_loss(*(jnp.asarray(part[order]) for part in event), count=6)
    np.testing.assert_allclose(again, once, rtol=1e-5)


def test_condensation_of_noise_alone():
    beta, coordinates, objects, valid = map(jnp.asarray, hits())
    loss = condensation_loss(beta, coordinates, jnp.full_like(objects, -1), valid, count=6)
    np.testing.assert_allclose(loss, [0, 0, 0, beta[valid].mean()], rtol=1e-6)


@pytest.mark.parametrize(("setting", "value"), [("q_min", 0.0), ("count", 0), ("block", 0)])
def test_condensation_settings_are_checked(setting, value):
    with pytest.raises(ConfigError, match=f"{setting}=0"):
        condensation_loss(*map(jnp.asarray, hits()), **({"count": 6} | {setting: value}))
