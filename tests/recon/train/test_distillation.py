from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.train.distillation import distillation_loss, group_logits

GROUPS = jnp.array([[True, True, False, False], [False, False, True, False]])


def slow_loss(logits, groups, teacher, weight, temperature):
    total = norm = 0.0
    for row in range(len(logits)):
        p = np.exp(logits[row]) / np.exp(logits[row]).sum()
        summed = np.array([p[members].sum() for members in groups])
        own = summed ** (1 / temperature) / (summed ** (1 / temperature)).sum()
        target = np.exp(teacher[row] / temperature)
        target /= target.sum()
        total += weight[row] * (target * np.log(target / own)).sum()
        norm += weight[row]
    return temperature**2 * total / norm


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_is_that_of_a_slow_twin(temperature):
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 2, (30, 4)), rng.normal(0, 2, (30, 2))
    weight = rng.integers(0, 2, 30).astype(float)
    arrays = [jnp.asarray(array, jnp.float32) for array in (logits, teacher, weight)]
    value = distillation_loss(arrays[0], GROUPS, arrays[1], arrays[2], temperature)
    expected = slow_loss(logits, np.asarray(GROUPS), teacher, weight, temperature)
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_a_group_is_as_likely_as_its_members_together():
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.4]]))
    assert np.allclose(np.exp(group_logits(logits, GROUPS)), [[0.3, 0.3]], atol=1e-6)


def test_a_student_that_agrees_has_no_loss_and_no_gradient():
    logits = jnp.array([[1.0, 2.0, -1.0, 7.0]])
    teacher = group_logits(logits, GROUPS) + 3.0
    loss = lambda z: distillation_loss(z, GROUPS, teacher, jnp.ones(1), 2.0)  # noqa: E731
    value, slope = jax.value_and_grad(loss)(logits)
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    assert np.allclose(slope, 0, atol=1e-6)


def test_classes_in_no_group_do_not_matter():
    logits, teacher = jnp.array([[1.0, 2.0, -1.0, 7.0]]), jnp.array([[0.3, 0.1]])
    one = distillation_loss(logits, GROUPS, teacher, jnp.ones(1), 2.0)
    other = distillation_loss(logits.at[0, 3].set(-4.0), GROUPS, teacher, jnp.ones(1), 2.0)
    assert float(one) == pytest.approx(float(other), rel=1e-6)


def test_rows_without_weight_do_not_count():
    logits, teacher = jnp.ones((2, 4)), jnp.array([[2.0, 0.0], [-9.0, 9.0]])
    first = distillation_loss(logits[:1], GROUPS, teacher[:1], jnp.ones(1), 1.0)
    assert float(distillation_loss(logits, GROUPS, teacher, jnp.array([1.0, 0.0]), 1.0)) == pytest.approx(
        float(first)
    )
    assert float(distillation_loss(logits, GROUPS, teacher, jnp.zeros(2), 1.0)) == 0.0


def test_it_is_learnt():
    teacher = jnp.array([[2.0, -1.0]])
    logits = jnp.zeros((1, 4))
    slope = jax.jit(jax.grad(lambda z: distillation_loss(z, GROUPS, teacher, jnp.ones(1), 2.0)))
    for _ in range(200):
        logits = logits - 0.5 * slope(logits)
    assert np.allclose(jax.nn.softmax(group_logits(logits, GROUPS)), jax.nn.softmax(teacher), atol=1e-3)
