"""Neighbours, edge convolution and folding against slow twins; padding, permutations, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn.blocks import each_item
from recon.nn.edgeconv import EdgeConv
from recon.nn.folding import fold_norm, norm_affine, plain
from recon.nn.neighbors import nearest_neighbors
from tests.reference import tagging as twin

pytestmark = pytest.mark.usefixtures("quick_programs")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shaken(module, seed=0):
    """A module whose statistics, scales and shifts are not those it begins with."""
    rng = np.random.default_rng(seed)
    for _, norm in nnx.iter_graph(module):
        if isinstance(norm, nnx.BatchNorm):
            size = norm.scale[...].shape
            norm.scale[...], norm.bias[...] = rng.uniform(0.5, 1.5, size), rng.normal(size=size) * 0.3
            norm.mean[...], norm.var[...] = rng.normal(size=size) * 0.3, rng.uniform(0.5, 2.0, size)
    return module


def run(block, *arrays):
    """What a block makes of arrays, compiled, and its statistics afterwards."""
    definition, state = nnx.split(block)

    @jax.jit
    def call(*arrays):
        module = nnx.merge(definition, state, copy=True)
        return module(*arrays), nnx.as_pure(nnx.state(module, nnx.BatchStat))

    return call(*(jnp.asarray(array) for array in arrays))


nearest = jax.jit(nearest_neighbors, static_argnums=2)


def test_neighbors_on_a_line():
    points = jnp.asarray([[0.0], [1.0], [3.0], [7.0]])
    found = nearest(points, jnp.ones(4, bool), 2)
    assert found.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_the_point_itself_is_no_neighbor_even_beside_a_twin():
    points = jnp.asarray([[1.0, 2.0]] * 3 + [[5.0, 5.0]])
    found = np.asarray(nearest(points, jnp.ones(4, bool), 3))
    for row in range(4):
        assert sorted(found[row]) == [other for other in range(4) if other != row]


def test_padding_is_a_neighbor_only_where_nothing_else_is_left():
    points, valid = jnp.asarray(normal(6, 2)), jnp.asarray([True, False, True, True, False, False])
    found = np.asarray(nearest(points, valid, 4))
    for row in (0, 2, 3):
        assert set(found[row, :2]) == {0, 2, 3} - {row}
        assert set(found[row, 2:]) <= {1, 4, 5}


@pytest.mark.parametrize(("n", "dimensions", "k"), [(5, 1, 4), (40, 2, 7), (128, 2, 16), (130, 64, 16)])
def test_neighbors_against_a_sort(n, dimensions, k):
    points = normal(n, dimensions, seed=n)
    valid = np.random.default_rng(n).random(n) < 0.8
    found = np.asarray(nearest(jnp.asarray(points), jnp.asarray(valid), k))
    wanted = twin.nearest(points.astype(np.float64), valid, k)
    np.testing.assert_array_equal(found[valid], wanted[valid])


def test_equal_distances_are_taken_by_row():
    """Points of a grid have many ties."""
    points = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2).astype(np.float32)
    valid = np.arange(25) != 7
    found = np.asarray(nearest(jnp.asarray(points), jnp.asarray(valid), 24))
    wanted = twin.nearest(points.astype(np.float64), valid, 24)
    np.testing.assert_array_equal(found[valid], wanted[valid])


def test_near_ties_are_told_apart():
    """Two distances that differ in the last bits only."""
    points = jnp.asarray([[0.0], [np.nextafter(np.float32(1), np.float32(2))], [-1.0], [9.0]])
    assert nearest(points, jnp.ones(4, bool), 2)[0].tolist() == [2, 1]


@pytest.mark.parametrize("k", [0, 4])
def test_neighbors_refuse(k):
    with pytest.raises(ConfigError, match="of 4 points were asked for; allowed: 1 to 3"):
        nearest_neighbors(jnp.zeros((4, 2)), jnp.ones(4, bool), k)


@pytest.mark.parametrize("outputs", [(8, 6), (5, 5)])
def test_edge_convolution_against_the_twin(outputs):
    block = shaken(EdgeConv(5, outputs, 3, rngs=nnx.Rngs(0)))
    block.eval()
    features, valid = normal(2, 9, 5), np.arange(9) < np.array([[9], [6]])
    features *= valid[..., None]
    points = normal(2, 9, 2, seed=1)
    found, _ = run(block, points, features, valid)
    for jet in range(2):
        wanted = twin.edge_conv(block, points[jet], features[jet].astype(np.float64), valid[jet])
        np.testing.assert_allclose(found[jet], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs", "k"), [(0, (4,), 3), (4, (), 3), (4, (4, 0), 3), (4, (4,), 0)])
def test_edge_convolution_refuses(inputs, outputs, k):
    with pytest.raises(ConfigError, match="must be positive"):
        EdgeConv(inputs, outputs, k, rngs=nnx.Rngs(0))


def test_training_updates_the_statistics_from_valid_points_only():
    features, valid = normal(2, 9, 5), np.arange(9) < np.array([[9], [6]])
    points = normal(2, 9, 2, seed=1)
    longer = [np.concatenate([array, np.full((2, 4, *array.shape[2:]), filling, array.dtype)], 1)
              for array, filling in ((points, 0), (features * valid[..., None], 0), (valid, False))]  # fmt: skip
    outcomes = []
    for arrays in ((points, features * valid[..., None], valid), longer):
        block = EdgeConv(5, (8,), 3, rngs=nnx.Rngs(0))
        block.train()
        result, statistics = run(block, *arrays)
        outcomes.append((result[:, :9], statistics["norms"][0]["mean"], statistics["shortcut_norm"]["var"]))
    for one, other in zip(*outcomes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(outcomes[0][1]).max() > 0
    assert np.abs(outcomes[0][2] - 1).max() > 1e-3


def test_gradient_is_finite_with_padding():
    block = EdgeConv(3, (4,), 2, rngs=nnx.Rngs(0))
    block.train()
    valid = jnp.asarray([[True, True, False, False], [False] * 4])
    definition, state = nnx.split(block)

    def loss(features):
        return nnx.merge(definition, state, copy=True)(features[..., :2], features, valid).sum()

    slope = jax.jit(jax.grad(loss))(jnp.zeros((2, 4, 3)))
    assert np.isfinite(slope).all()


def test_folding_is_the_normalisation():
    rngs = nnx.Rngs(0)
    before, layer, after = (
        nnx.BatchNorm(4, rngs=rngs),
        nnx.Linear(4, 6, use_bias=False, rngs=rngs),
        nnx.BatchNorm(6, rngs=rngs),
    )
    network = shaken(nnx.Sequential(before, layer, after))
    network.eval()
    x = normal(10, 4)
    folded = fold_norm(layer, after, before)
    np.testing.assert_allclose(
        x @ folded["kernel"] + folded["bias"], network(jnp.asarray(x)), rtol=1e-4, atol=1e-5
    )
    scale, shift = norm_affine(before)
    np.testing.assert_allclose(x * scale + shift, before(jnp.asarray(x)), rtol=1e-5, atol=1e-6)
    assert plain(layer).keys() == {"kernel"}
    assert plain(nnx.Linear(2, 2, rngs=rngs)).keys() == {"kernel", "bias"}


@pytest.mark.parametrize("count", [1, 5])
def test_items_one_after_another_are_items_at_once(count):
    matrix, items = jnp.asarray(normal(4, 3)), (jnp.asarray(normal(count, 2, 4)), jnp.arange(count))

    def function(matrix, item):
        return item[0] @ matrix + item[1]

    wanted = jax.vmap(lambda item: function(matrix, item))(items)
    np.testing.assert_allclose(
        jax.jit(lambda m, i: each_item(function, m, i))(matrix, items), wanted, rtol=1e-5, atol=1e-6
    )
