"""Interaction layers: jraph's GraphNetwork with the same weights, padding, permutations, gradients, compilations."""

from functools import partial

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn import blocks
from recon.nn.interaction import InteractionConfig, InteractionStack, initial_weights
from recon.nn.message_passing import Topology, interaction_layer, run_layers
from recon.nn.mlp import layer_norm

pytestmark = pytest.mark.usefixtures("quick_programs")

HIDDEN, NODES, EDGES = 8, 12, 40
INPUTS = {"edge": ("edge", "sender", "receiver"), "node": ("node", "incoming", "outgoing")}


def make_graph(seed=0, nodes=NODES, edges=EDGES):
    rng = np.random.default_rng(seed)
    topology = Topology(
        senders=jnp.asarray(rng.integers(0, nodes, edges).astype(np.int32)),
        receivers=jnp.asarray(np.sort(rng.integers(0, nodes, edges)).astype(np.int32)),
        edge_valid=jnp.ones(edges, bool),
    )
    features = [rng.normal(size=(count, HIDDEN)).astype(np.float32) for count in (nodes, edges)]
    return *map(jnp.asarray, features), topology


def make_weights(*, normalise=True, outgoing=True, layers=3):
    config = InteractionConfig(hidden=HIDDEN, layers=layers, normalise=normalise, outgoing=outgoing)
    weights = initial_weights(config, nnx.Rngs(1))
    # Biases and shifts begin at 0: moved, so that a bias forgotten or used twice is seen.
    keys = jax.random.split(jax.random.key(2), len(weights))
    moved = zip(weights.items(), keys, strict=True)
    return config, {name: value + 0.1 * jax.random.normal(key, value.shape) for (name, value), key in moved}


def make_stack(**options):
    config, weights = make_weights(**options)
    stack = InteractionStack(config, rngs=nnx.Rngs(0))
    for name, value in weights.items():
        stack.weights[name][...] = value
    return stack


@nnx.jit
def run(stack, *graph):
    """The layers compiled: operation by operation costs seconds of compilation."""
    return stack(*graph)


def jraph_network(weights, nodes, edges, topology):
    """The same layers with the concatenated matrices, through `jraph.GraphNetwork`."""
    layers = len(weights["edge_out"])
    graph = jraph.GraphsTuple(
        nodes=nodes,
        edges=edges,
        senders=topology.senders,
        receivers=topology.receivers,
        globals=None,
        n_node=jnp.array([len(nodes)]),
        n_edge=jnp.array([len(edges)]),
    )
    for index in range(layers):
        w = {name: value[index] for name, value in weights.items()}

        def update(kind, state, *inputs, w=w):
            names = [f"{kind}_from_{name}" for name in INPUTS[kind]]
            first = jnp.concatenate([w[name] for name in names if name in w])
            hidden = jax.nn.relu(jnp.concatenate(inputs, -1) @ first + w[f"{kind}_bias"])
            result = jax.nn.relu(hidden @ w[f"{kind}_out"] + w[f"{kind}_out_bias"])
            if f"{kind}_scale" in w:
                result = layer_norm(result, w[f"{kind}_scale"], w[f"{kind}_shift"])
            return state + result

        def update_edge(edge, sent, received, _, update=update):
            return update("edge", edge, edge, sent, received)

        def update_node(node, sent, received, _, w=w, update=update):
            return update("node", node, node, received, *([sent] if "node_from_outgoing" in w else []))

        graph = jraph.GraphNetwork(update_edge, update_node)(graph)
    return graph.nodes, graph.edges


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("outgoing", [False, True])
def test_against_jraph(normalise, outgoing):
    _, weights = make_weights(normalise=normalise, outgoing=outgoing)
    stack = make_stack(normalise=normalise, outgoing=outgoing)
    graph = make_graph()
    twins = jax.jit(jraph_network)(weights, *graph)
    for ours, twin in zip(run(stack, *graph), twins, strict=True):
        np.testing.assert_allclose(ours, twin, rtol=1e-5, atol=1e-5)


def test_one_edge_by_hand():
    _, weights = make_weights(normalise=False, layers=1)
    weights = {name: jnp.zeros_like(value[0]) for name, value in weights.items()}
    one = jnp.eye(HIDDEN)
    weights |= {"edge_from_sender": one, "edge_out": one, "node_from_outgoing": 2 * one, "node_out": one}
    nodes = jnp.zeros((2, HIDDEN)).at[0].set(3.0)
    topology = Topology(jnp.array([0], jnp.int32), jnp.array([1], jnp.int32), jnp.array([True]))
    nodes, edges = jax.jit(interaction_layer)(weights, nodes, jnp.ones((1, HIDDEN)), topology)
    np.testing.assert_array_equal(edges, np.full((1, HIDDEN), 4.0))
    np.testing.assert_array_equal(nodes, np.stack([np.full(HIDDEN, 11.0), np.zeros(HIDDEN)]))


def padded(graph, nodes=5, edges=9):
    """More nodes and edges, full of rubbish; padded edges end on real nodes too."""
    node_states, edge_states, topology = graph
    return (
        jnp.pad(node_states, ((0, nodes), (0, 0)), constant_values=7.0),
        jnp.pad(edge_states, ((0, edges), (0, 0)), constant_values=-5.0),
        Topology(
            senders=jnp.pad(topology.senders, (0, edges)),
            receivers=jnp.pad(topology.receivers, (0, edges), constant_values=NODES - 1),
            edge_valid=jnp.pad(topology.edge_valid, (0, edges)),
        ),
    )


def test_padding_changes_nothing():
    stack, graph = make_stack(), make_graph()
    nodes, edges = run(stack, *graph)
    more_nodes, more_edges = run(stack, *padded(graph))
    np.testing.assert_allclose(more_nodes[:NODES], nodes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(more_edges[:EDGES], edges, rtol=1e-5, atol=1e-5)
    assert not more_edges[EDGES:].any()


def squared(stack, nodes, edges, topology):
    nodes, edges = stack(nodes, edges, topology)
    return jnp.square(nodes[:NODES]).sum() + jnp.square(edges[:EDGES]).sum()


def test_gradient_under_the_mask_is_the_gradient_without_padding():
    stack, graph = make_stack(), make_graph()
    slopes = [nnx.jit(nnx.grad(squared))(stack, *each) for each in (graph, padded(graph))]
    for one, other in zip(*map(jax.tree.leaves, slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    inputs = jax.jit(jax.grad(lambda *graph: squared(stack, *graph), argnums=(0, 1)))
    for slope, count in zip(inputs(*padded(graph)), (NODES, EDGES), strict=True):
        assert slope[:count].any()
        assert not slope[count:].any()


def test_permuting_edges_permutes_the_result():
    stack, (nodes, edges, topology) = make_stack(), make_graph()
    rng = np.random.default_rng(3)
    # Edges stay sorted by receiver: shuffled within one receiver.
    order = np.lexsort((rng.random(EDGES), topology.receivers))
    assert (order != np.arange(EDGES)).any()
    other = run(stack, nodes, edges[order], Topology(*(part[order] for part in topology)))
    for one, two in zip(other, run(stack, nodes, edges, topology), strict=True):
        expected = two if len(two) == NODES else two[order]
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


def test_renaming_nodes_renames_the_result():
    stack, (nodes, edges, topology) = make_stack(), make_graph()
    name = np.random.default_rng(4).permutation(NODES).astype(np.int32)
    order = np.argsort(name[topology.receivers], kind="stable")
    renamed = Topology(
        jnp.asarray(name[topology.senders][order]),
        jnp.asarray(name[topology.receivers][order]),
        topology.edge_valid,
    )
    new_nodes, new_edges = run(stack, jnp.zeros_like(nodes).at[name].set(nodes), edges[order], renamed)
    old_nodes, old_edges = run(stack, nodes, edges, topology)
    np.testing.assert_allclose(new_nodes[name], old_nodes, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(new_edges, old_edges[order], rtol=1e-4, atol=1e-4)


def by_definition(weights, nodes, edges, topology):
    """All layers array by array, differentiated by JAX."""
    edges = jnp.where(topology.edge_valid[:, None], edges, 0.0)
    for index in range(len(weights["edge_out"])):
        layer = {name: value[index] for name, value in weights.items()}
        nodes, edges = interaction_layer(layer, nodes, edges, topology)
    return nodes, edges


@pytest.mark.parametrize(
    ("rows", "normalise", "outgoing"), [(8, True, True), (7, False, True), (100, True, False)]
)
def test_blocks_of_edges_change_nothing(monkeypatch, normalise, outgoing, rows):
    monkeypatch.setattr(blocks, "BLOCK", rows * HIDDEN)
    jax.clear_caches()
    _, weights = make_weights(normalise=normalise, outgoing=outgoing)
    nodes, edges, topology = make_graph()
    topology = topology._replace(edge_valid=topology.edge_valid.at[-3:].set(False))

    @partial(jax.jit, static_argnums=0)
    def results(layers, *inputs):
        def total(*inputs):
            nodes, edges = layers(*inputs, topology)
            return jnp.sin(nodes).sum() + jnp.sin(edges[:-3]).sum(), (nodes, edges)

        return jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)(*inputs)

    inputs = weights, nodes, edges
    outcomes = [results(layers, *inputs) for layers in (run_layers, by_definition)]
    for one, other in zip(*map(jax.tree.leaves, outcomes), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_one_compilation_serves_all_graphs_of_a_size():
    traces = []
    definition, state = nnx.split(make_stack())

    @jax.jit
    def run(state, *graph):
        traces.append(1)
        return nnx.merge(definition, state)(*graph)

    results = [run(state, *make_graph(seed))[0] for seed in range(3)]
    assert len(traces) == 1
    assert not np.allclose(results[0], results[1])


def test_initial_weights():
    config = InteractionConfig(hidden=64, layers=2)
    weights = initial_weights(config, nnx.Rngs(0))
    assert all(value.shape[0] == 2 for value in weights.values())
    np.testing.assert_allclose(weights["edge_from_edge"].std(), (2 / 192) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(weights["edge_out"].std(), (2 / 64) ** 0.5, rtol=0.05)
    assert not np.allclose(weights["edge_out"][0], weights["edge_out"][1])


@pytest.mark.parametrize("setting", ["hidden", "layers"])
def test_sizes_are_checked(setting):
    with pytest.raises(ConfigError, match=f"{setting}=0"):
        InteractionConfig(**{setting: 0})
