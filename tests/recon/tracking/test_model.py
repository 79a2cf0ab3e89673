"""Edge classifier: padding, permutations, heads, configuration, compilations, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.tracking.loss import edge_loss
from recon.tracking.model import PADDED_LOGIT, EdgeClassifier, NetworkConfig

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = NetworkConfig(node_features=4, edge_features=3, hidden=8, layers=2, condensation_dim=2)
NODES, EDGES = 10, 30


def make_event(seed=0):
    rng = np.random.default_rng(seed)
    senders = rng.integers(0, NODES, EDGES).astype(np.int32)
    event = (
        rng.normal(size=(NODES, 4)).astype(np.float32),
        rng.normal(size=(EDGES, 3)).astype(np.float32),
        senders,
        np.sort(rng.integers(0, NODES, EDGES)).astype(np.int32),
        np.ones(NODES, bool),
        np.ones(EDGES, bool),
    )
    return tuple(map(jnp.asarray, event))


def make_model(config=CONFIG):
    model = EdgeClassifier(config, rngs=nnx.Rngs(0))
    # Biases begin at 0 and would hide what padding adds through them.
    moved = jax.tree.map(lambda leaf: leaf + 0.1, nnx.state(model, nnx.Param))
    nnx.update(model, moved)
    return model


@nnx.jit
def run(model, *event):
    """The model compiled: operation by operation costs seconds of compilation."""
    return model(*event)


def pad(event, nodes=3, edges=6):
    """Padding that does its worst: real nodes as ends, rubbish as features."""
    fills = (5.0, -4.0, 0, NODES - 1, False, False)
    more = [
        jnp.pad(
            column,
            ((0, nodes if index in {0, 4} else edges), *[(0, 0)] * (column.ndim - 1)),
            constant_values=fill,
        )
        for index, (column, fill) in enumerate(zip(event, fills, strict=True))
    ]
    return tuple(more)


def test_padding_changes_nothing():
    model, event = make_model(), make_event()
    plain, padded = run(model, *event), run(model, *pad(event))
    np.testing.assert_allclose(padded.logits[:EDGES], plain.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(padded.beta[:NODES], plain.beta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(padded.coordinates[:NODES], plain.coordinates, rtol=1e-4, atol=1e-5)
    assert (np.asarray(padded.logits[EDGES:]) == PADDED_LOGIT).all()
    assert (np.asarray(jax.nn.sigmoid(padded.logits[EDGES:])) == 0).all()
    assert not padded.beta[NODES:].any()
    assert not padded.coordinates[NODES:].any()


def test_gradient_under_the_mask():
    model, event = make_model(), make_event()
    labels = jnp.asarray(np.random.default_rng(1).random(EDGES) < 0.5)

    def loss(model, event):
        logits = model(*event).logits
        extra = len(logits) - EDGES
        return edge_loss(logits, jnp.pad(labels, (0, extra)), jnp.pad(jnp.ones(EDGES), (0, extra)))

    slopes = [jax.tree.leaves(nnx.jit(nnx.grad(loss))(model, each)) for each in (event, pad(event))]
    assert any(slope.any() for slope in slopes[0])
    for one, other in zip(*slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_permuting_hits_permutes_scores():
    model = make_model()
    nodes, edges, senders, receivers, *valid = make_event()
    name = np.random.default_rng(2).permutation(NODES).astype(np.int32)
    order = np.argsort(name[receivers], kind="stable")
    moved = run(
        model,
        jnp.zeros_like(nodes).at[name].set(nodes),
        edges[order],
        jnp.asarray(name[senders][order]),
        jnp.asarray(name[receivers][order]),
        *valid,
    )
    plain = run(model, *make_event())
    np.testing.assert_allclose(moved.logits, plain.logits[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moved.beta[name], plain.beta, rtol=1e-4, atol=1e-5)


def test_a_stack_of_events():
    definition, state = nnx.split(make_model())
    events = [make_event(seed) for seed in range(2)]
    stacked = [jnp.stack(columns) for columns in zip(*events, strict=True)]
    batch = jax.jit(jax.vmap(nnx.merge(definition, state)))(*stacked)
    for index, event in enumerate(events):
        np.testing.assert_allclose(
            batch.logits[index], run(make_model(), *event).logits, rtol=1e-4, atol=1e-5
        )


def test_heads_are_optional():
    model = make_model(NetworkConfig(node_features=4, edge_features=3, hidden=8, layers=1))
    output = run(model, *make_event())
    assert output.logits.shape == (EDGES,)
    assert output.beta is None
    assert output.coordinates is None
    beta = run(make_model(), *make_event()).beta
    assert ((np.asarray(beta) > 0) & (np.asarray(beta) < 1)).all()


def test_an_event_without_edges():
    nodes, edges, senders, receivers, node_valid, edge_valid = make_event()
    output = make_model()(nodes, edges[:0], senders[:0], receivers[:0], node_valid, edge_valid[:0])
    assert output.logits.shape == (0,)
    assert np.isfinite(output.beta).all()


def test_one_compilation_serves_all_events_of_a_size():
    traces = []
    definition, state = nnx.split(make_model())

    @jax.jit
    def score(state, *event):
        traces.append(1)
        return nnx.merge(definition, state)(*event).logits

    first, second = (score(state, *make_event(seed)) for seed in range(2))
    assert len(traces) == 1
    assert not np.allclose(first, second)


def test_it_learns_what_needs_a_neighbour():
    """Labels that depend on a hit two edges away: no edge's own inputs tell them."""
    config = NetworkConfig(node_features=4, edge_features=3, hidden=16, layers=2)
    definition, state = nnx.split(EdgeClassifier(config, rngs=nnx.Rngs(0)))
    nodes, edges, *_, node_valid, edge_valid = make_event()
    senders = jnp.asarray(np.arange(EDGES, dtype=np.int32) % NODES)
    receivers = jnp.asarray(np.sort((np.arange(EDGES, dtype=np.int32) + 1) % NODES).astype(np.int32))
    senders = (receivers - 1) % NODES
    labels = nodes[(senders - 1) % NODES, 0] > 0
    optimiser = optax.adam(1e-2)
    moments = optimiser.init(state)

    def loss(state):
        logits = nnx.merge(definition, state)(nodes, edges, senders, receivers, node_valid, edge_valid).logits
        return edge_loss(logits, labels, jnp.ones(EDGES))

    @jax.jit
    def step(state, moments):
        value, slope = jax.value_and_grad(loss)(state)
        updates, moments = optimiser.update(slope, moments)
        return optax.apply_updates(state, updates), moments, value

    values = []
    for _ in range(60):
        state, moments, value = step(state, moments)
        values.append(float(value))
    assert values[0] > 0.3
    assert values[-1] < 0.05


@pytest.mark.parametrize(
    "setting", ["node_features", "edge_features", "hidden", "layers", "condensation_dim"]
)
def test_settings_are_checked(setting):
    value = -1 if setting == "condensation_dim" else 0
    with pytest.raises(ConfigError, match=f"{setting}={value}"):
        NetworkConfig(**({"node_features": 4, "edge_features": 3} | {setting: value}))
