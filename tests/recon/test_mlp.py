"""Dense layers: forward by hand, normalisation against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn import blocks
from recon.nn.mlp import MLP, layer_norm

pytestmark = pytest.mark.usefixtures("quick_programs")


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_layer_norm():
    inputs, scale, shift = normal(4, 6), normal(6, seed=1), normal(6, seed=2)
    mean, deviation = inputs.mean(1, keepdims=True), inputs.std(1, keepdims=True)
    expected = (inputs - mean) / np.sqrt(np.square(deviation) + 1e-5) * scale + shift
    np.testing.assert_allclose(layer_norm(inputs, scale, shift), expected, rtol=1e-5, atol=1e-6)


def test_layer_norm_of_a_constant_row_has_a_finite_gradient():
    slope = jax.grad(lambda x: layer_norm(x, jnp.ones(3), jnp.zeros(3))[0, 0])(jnp.zeros((1, 3)))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("activate_last", [False, True])
def test_perceptron_against_numpy(activate_last):
    network = MLP([3, 8, 8, 2], activate_last=activate_last, rngs=nnx.Rngs(0))
    values = inputs = np.asarray(normal(10, 3))
    for index, layer in enumerate(network.layers):
        values = values @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
        if index < 2 or activate_last:
            values = np.maximum(values, 0)
    np.testing.assert_allclose(network(jnp.asarray(inputs)), values, rtol=1e-4, atol=1e-5)
    assert (values < 0).any() != activate_last


def test_blocks_of_rows_change_nothing(monkeypatch):
    network, inputs = MLP([3, 8, 2], rngs=nnx.Rngs(0)), normal(21, 3)
    definition, state = nnx.split(network)

    def total(state, inputs):
        return jnp.sin(nnx.merge(definition, state)(inputs)).sum()

    results = []
    # 21 rows in one block, and in three of 8, of which the last shares rows with the one before.
    for length in (blocks.BLOCK, 64):
        monkeypatch.setattr(blocks, "BLOCK", length)
        jax.clear_caches()
        results.append(jax.tree.leaves(jax.jit(jax.value_and_grad(total, (0, 1)))(state, inputs)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_permuting_rows_permutes_the_result():
    network, inputs = MLP([3, 8, 2], rngs=nnx.Rngs(0)), normal(20, 3)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(network(inputs[order]), network(inputs)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [[], [3], [3, 0]])
def test_sizes_are_checked(sizes):
    with pytest.raises(ConfigError, match="two or more positive sizes"):
        MLP(sizes, rngs=nnx.Rngs(0))
