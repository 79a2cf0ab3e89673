"""The edge classifier as a pure function of its weights."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.tracking.model import EdgeClassifier, NetworkConfig
from recon.tracking.scoring import network_state, network_weights, network_with, score_edges
from recon.types import EdgeList

CONFIG = NetworkConfig(node_features=3, edge_features=4, hidden=8, layers=2)
N_NODES, N_EDGES = 16, 32


def random_inputs(seed, n_nodes=N_NODES, n_edges=N_EDGES, used=(12, 24)):
    """(nodes, features, edges, node_valid), padded; the same values whatever the padding."""
    rng = np.random.default_rng(seed)
    nodes_used, edges_used = used
    receivers = np.sort(rng.integers(1, nodes_used, edges_used))
    senders = (rng.random(edges_used) * receivers).astype(np.int32)
    nodes = rng.normal(size=(nodes_used, CONFIG.node_features)).astype(np.float32)
    features = rng.normal(size=(edges_used, CONFIG.edge_features)).astype(np.float32)
    fill = n_edges - edges_used
    edges = EdgeList(
        np.pad(senders, (0, fill), constant_values=n_nodes - 1),
        np.pad(receivers, (0, fill), constant_values=n_nodes - 1).astype(np.int32),
        np.arange(n_edges) < edges_used,
        np.array(False),
    )
    nodes = np.pad(nodes, ((0, n_nodes - nodes_used), (0, 0)))
    return nodes, np.pad(features, ((0, fill), (0, 0))), edges, np.arange(n_nodes) < nodes_used


@pytest.fixture(scope="module")
def network():
    return EdgeClassifier(CONFIG, rngs=nnx.Rngs(5))


@pytest.fixture(scope="module")
def scores_of(network):
    """Function of the inputs; compiled once a shape."""
    program = jax.jit(partial(score_edges, config=CONFIG))

    def scores(inputs, state=None):
        nodes, features, edges, node_valid = inputs
        state = network_state(network) if state is None else state
        return np.asarray(program(state, nodes=nodes, features=features, edges=edges, node_valid=node_valid))

    return scores


def test_scores_are_those_of_the_network(network, scores_of):
    inputs = random_inputs(0)
    nodes, features, edges, node_valid = inputs
    arrays = jax.tree.map(
        jax.numpy.asarray,
        (nodes, features, edges.senders, edges.receivers, node_valid, edges.valid),
    )
    logits = np.asarray(network(*arrays).logits, np.float64)
    expected = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    scores = scores_of(inputs)
    np.testing.assert_allclose(scores[edges.valid], expected[edges.valid], rtol=1e-5)
    assert np.ptp(scores[edges.valid]) > 0.01
    assert (scores[~edges.valid] == 0).all()


def test_padding_changes_nothing(scores_of):
    small = scores_of(random_inputs(1))
    large = scores_of(random_inputs(1, n_nodes=24, n_edges=48))
    np.testing.assert_allclose(large[:24], small[:24], rtol=1e-6)
    assert (large[24:] == 0).all()


def test_weights_make_the_same_network_again(network, scores_of):
    other = network_with(CONFIG, network_weights(network))
    inputs = random_inputs(2)
    np.testing.assert_array_equal(scores_of(inputs), scores_of(inputs, network_state(other)))


def test_other_weights_score_otherwise(scores_of):
    other = network_state(EdgeClassifier(CONFIG, rngs=nnx.Rngs(6)))
    inputs = random_inputs(2)
    assert (scores_of(inputs) != scores_of(inputs, other)).any()


def test_weights_of_another_shape_are_refused(network):
    wide = NetworkConfig(node_features=3, edge_features=4, hidden=12, layers=2)
    with pytest.raises(ConfigError):
        network_with(wide, network_weights(network))


def test_missing_weights_are_named(network):
    weights = network_weights(network)
    name = sorted(weights)[0]
    del weights[name]
    with pytest.raises(ConfigError, match=name.split("/")[0]):
        network_with(CONFIG, weights)


def test_weights_are_arguments_of_the_program(network):
    # Baked in as constants they would double the memory, and new weights would compile again.
    traces = []

    @jax.jit
    def program(state, inputs):
        traces.append(1)
        return score_edges(state, CONFIG, *inputs)

    for seed in range(3):
        program(network_state(EdgeClassifier(CONFIG, rngs=nnx.Rngs(seed))), random_inputs(seed))
    assert len(traces) == 1
