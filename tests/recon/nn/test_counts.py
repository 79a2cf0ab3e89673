"""Parameters and multiply-adds, on programs that are counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn.counts import count_multiply_adds, count_parameters


def test_parameters_with_and_without_statistics():
    network = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    assert count_parameters(network) == 3 * 4 + 4 + 2 * 4
    assert count_parameters(network, statistics=True) == count_parameters(network) + 2 * 4


def test_products():
    assert count_multiply_adds(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 5))) == 2 * 3 * 5
    assert count_multiply_adds(jnp.matmul, jnp.ones((7, 2, 3)), jnp.ones((7, 3, 5))) == 7 * 2 * 3 * 5


def test_convolution_counts_padding_and_stride():
    layer = nnx.Conv(4, 6, (3,), strides=2, padding=((1, 1),), rngs=nnx.Rngs(0))
    assert count_multiply_adds(layer, jnp.ones((2, 9, 4))) == 2 * 5 * 6 * 4 * 3
    grouped = nnx.Conv(4, 6, (3,), feature_group_count=2, use_bias=False, rngs=nnx.Rngs(0))
    assert count_multiply_adds(grouped, jnp.ones((1, 9, 4))) == 9 * 6 * 2 * 3


def test_loops_and_branches():
    matrix = jnp.ones((4, 4))

    def scanned(x):
        return jax.lax.scan(lambda state, _: (matrix @ state, None), x, length=5)[0]

    assert count_multiply_adds(scanned, jnp.ones(4)) == 5 * 16
    assert count_multiply_adds(jax.jit(scanned), jnp.ones(4)) == 5 * 16

    def branched(x):
        return jax.lax.cond(x[0] > 0, lambda x: matrix @ (matrix @ x), lambda x: matrix @ x, x)

    assert count_multiply_adds(branched, jnp.ones(4)) == 2 * 16


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0] < 9, lambda x: jnp.ones((4, 4)) @ x, x)

    with pytest.raises(ConfigError, match="unknown length"):
        count_multiply_adds(loop, jnp.ones(4))
