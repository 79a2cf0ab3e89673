"""Segment operations against loops, and connected components against breadth-first search and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.csgraph

from recon import segments
from tests.reference import segments as slow

COUNT = 7


def sample(rng, rows=60, features=(3,), *, sort=False):
    values = rng.normal(size=(rows, *features)).astype(np.float32)
    names = rng.integers(0, COUNT - 1, rows).astype(np.int32)  # the last segment stays empty
    valid = rng.random(rows) < 0.7
    return values, np.sort(names) if sort else names, valid


def test_sum_by_hand():
    values = jnp.array([1.0, 2.0, 4.0, 8.0])
    names = jnp.array([0, 2, 0, 2], jnp.int32)
    valid = jnp.array([True, True, True, False])
    np.testing.assert_array_equal(segments.segment_sum(values, names, 3, valid=valid), [5, 0, 2])
    np.testing.assert_array_equal(segments.segment_mean(values, names, 3, valid=valid), [2.5, 0, 2])
    np.testing.assert_array_equal(segments.segment_max(values, names, 3, valid=valid, empty=-3.0), [4, -3, 2])


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("features", [(), (3,), (2, 2)])
@pytest.mark.parametrize("name", ["segment_sum", "segment_mean", "segment_softmax"])
def test_against_loops(name, features, sort):
    values, names, valid = sample(np.random.default_rng(1), features=features, sort=sort)
    fast = getattr(segments, name)(values, names, COUNT, valid=valid, is_sorted=sort)
    np.testing.assert_allclose(fast, getattr(slow, name)(values, names, COUNT, valid), rtol=1e-5, atol=1e-6)


def test_max_against_loops():
    values, names, valid = sample(np.random.default_rng(2))
    fast = segments.segment_max(values, names, COUNT, valid=valid, empty=-5.0)
    np.testing.assert_array_equal(fast, slow.segment_max(values, names, COUNT, valid, -5.0))


def test_softmax_adds_up_to_one_and_survives_large_logits():
    values, names, valid = sample(np.random.default_rng(3), features=())
    weights = segments.segment_softmax(1e4 * values, names, COUNT, valid=valid)
    total = segments.segment_sum(weights, names, COUNT, valid=valid)
    np.testing.assert_allclose(total[np.unique(names[valid])], 1, rtol=1e-6)
    assert not weights[~valid].any()


@pytest.mark.parametrize("name", ["segment_sum", "segment_mean", "segment_max", "segment_softmax"])
def test_padding_is_not_looked_at(name):
    values, names, valid = sample(np.random.default_rng(4))
    function = getattr(segments, name)
    spoiled = np.where(valid[:, None], values, np.nan)

    def total(inputs):
        return jnp.square(function(inputs, names, COUNT, valid=valid)).sum()

    np.testing.assert_array_equal(
        function(spoiled, names, COUNT, valid=valid), function(values, names, COUNT, valid=valid)
    )
    gradient = jax.jit(jax.grad(total))
    slope = gradient(spoiled)
    assert np.isfinite(slope).all()
    assert not slope[~valid].any()
    np.testing.assert_array_equal(slope, gradient(values))


def test_permuting_rows_permutes_the_softmax():
    values, names, valid = sample(np.random.default_rng(5))
    order = np.random.default_rng(6).permutation(len(names))
    once = segments.segment_softmax(values, names, COUNT, valid=valid)
    again = segments.segment_softmax(values[order], names[order], COUNT, valid=valid[order])
    np.testing.assert_allclose(again, once[order], rtol=1e-6)


def random_graph(seed, nodes, edges):
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, nodes, (2, edges)).astype(np.int32)
    return senders, receivers, rng.random(edges) < 0.6


def test_components_by_hand():
    senders, receivers = jnp.array([4, 1, 2], jnp.int32), jnp.array([3, 4, 0], jnp.int32)
    valid = jnp.array([True, True, False])
    labels = segments.connected_components(senders, receivers, valid, 6)
    np.testing.assert_array_equal(labels, [0, 1, 2, 1, 1, 5])


@pytest.mark.parametrize(("nodes", "edges"), [(1, 1), (30, 10), (300, 250), (300, 900)])
def test_components_against_search_and_scipy(nodes, edges):
    senders, receivers, valid = random_graph(nodes, nodes, edges)
    labels = np.asarray(segments.connected_components(senders, receivers, valid, nodes))
    np.testing.assert_array_equal(labels, slow.connected_components(senders, receivers, valid, nodes))
    matrix = scipy.sparse.coo_array(
        (np.ones(valid.sum()), (senders[valid], receivers[valid])), shape=(nodes, nodes)
    )
    number, peer = scipy.sparse.csgraph.connected_components(matrix, directed=False)
    assert len(np.unique(labels)) == number
    assert len(np.unique(np.stack([labels, peer]), axis=1).T) == number


def test_components_of_a_long_shuffled_path():
    count = 3000
    path = np.random.default_rng(7).permutation(count).astype(np.int32)
    labels = segments.connected_components(path[:-1], path[1:], np.ones(count - 1, bool), count)
    assert not np.asarray(labels).any()


@pytest.mark.parametrize("count", [0, 4])
def test_components_without_edges(count):
    none = np.zeros(0, np.int32)
    labels = segments.connected_components(none, none, np.zeros(0, bool), count)
    np.testing.assert_array_equal(labels, np.arange(count))


def test_components_compile_once():
    traces = []

    @jax.jit
    def compiled(senders, receivers, valid):
        traces.append(1)
        return segments.connected_components(senders, receivers, valid, 50)

    for seed in range(3):
        senders, receivers, valid = random_graph(seed, 50, 40)
        expected = slow.connected_components(senders, receivers, valid, 50)
        np.testing.assert_array_equal(compiled(senders, receivers, valid), expected)
    assert len(traces) == 1
