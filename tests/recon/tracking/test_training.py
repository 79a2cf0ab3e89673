"""Training from event files to a model directory, on a sample and with a network as small as can be."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.root import write_events
from recon.tracking import load_model
from recon.tracking.data import LabelledGraph
from recon.tracking.model import EdgeClassifier, NetworkConfig
from recon.tracking.training import (
    TrainingConfig,
    edge_logits,
    loss,
    run_settings,
    train,
    training_batch,
)
from recon.train.log import read_metrics
from tests.recon.tracking.small_events import simulate

pytestmark = pytest.mark.usefixtures("quick_programs")

N_NODES, N_EDGES = 9, 14
NETWORK = NetworkConfig(node_features=9, edge_features=12, hidden=4, layers=1)


def random_graph(seed, n_nodes=N_NODES, n_edges=N_EDGES):
    rng = np.random.default_rng(seed)
    receivers = np.sort(rng.integers(1, n_nodes, n_edges)).astype(np.int32)
    senders = (rng.random(n_edges) * receivers).astype(np.int32)
    return LabelledGraph(
        nodes=rng.normal(size=(n_nodes, NETWORK.node_features)).astype(np.float32),
        edges=rng.normal(size=(n_edges, NETWORK.edge_features)).astype(np.float32),
        senders=senders,
        receivers=receivers,
        node_valid=np.ones(n_nodes, bool),
        edge_valid=np.ones(n_edges, bool),
        label=rng.random(n_edges) < 0.5,
        weight=rng.choice([0.3, 1.0], n_edges).astype(np.float32),
    )


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    found = simulate(tmp_path_factory.mktemp("collisions"))
    assert len(found) >= 6
    return found


@pytest.fixture(scope="module")
def files(events, tmp_path_factory):
    """(file to train on, file to validate with)."""
    directory = tmp_path_factory.mktemp("events")
    write_events(directory / "train.root", events[:-2])
    write_events(directory / "validation.root", events[-2:])
    return directory / "train.root", directory / "validation.root"


@pytest.fixture(scope="module")
def config(files, tmp_path_factory):
    return TrainingConfig(
        train=files[:1],
        validation=files[1:],
        output=tmp_path_factory.mktemp("runs") / "whole",
        steps=30,
        warmup_steps=2,
        learning_rate=0.02,
        ema_decay=0.8,
        hidden=NETWORK.hidden,
        layers=NETWORK.layers,
        eval_every=15,
        checkpoint_every=10,
        progress=False,
    )


@pytest.fixture(scope="module")
def trained(config):
    """(model, what was said)."""
    said = []
    return train(config, said.append), said


def test_loss_falls(trained, config):
    losses = read_metrics(config.output / "metrics.csv")["loss"]
    assert len(losses) == config.steps
    assert np.isfinite(losses).all()
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6])


def test_model_is_written(trained, config):
    model, _ = trained
    again = load_model(config.output / "model")
    assert again.config == model.config == config.tracking
    assert again.config.network == NETWORK
    for name, array in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)
    np.testing.assert_array_equal(again.pairs.inner, model.pairs.inner)


def test_card_says_how_the_model_was_made(trained, config):
    card = trained[0].card
    for text in (
        "train.root",
        "validation.root",
        "| seed | 0 |",
        "30 updates",
        "| auc |",
        "learning_rate | 0.02",
    ):
        assert text in card
    assert str(config.output) not in card


def test_training_says_what_it_does(trained):
    assert [line.split()[0] for line in trained[1]] == ["learning", "building", "training"]


def test_validation_is_logged(trained, config):
    rows = read_metrics(config.output / "evaluation.csv")
    assert rows["step"] == [15, 30]
    assert all(0.5 < value <= 1 for value in rows["auc"])


def test_resumed_run_ends_with_the_same_weights(trained, config, tmp_path):
    stopped = replace(config, output=tmp_path / "stopped", max_seconds=0.0)
    train(stopped)
    assert read_metrics(stopped.output / "metrics.csv")["step"] == [1]
    model = train(replace(stopped, max_seconds=None))
    expected = trained[0].weights
    assert [name for name in expected if expected[name].tobytes() != model.weights[name].tobytes()] == []
    for name in ("metrics.csv", "evaluation.csv"):
        assert (stopped.output / name).read_bytes() == (config.output / name).read_bytes()
    assert model.card == trained[0].card


def test_other_settings_do_not_resume(trained, config):
    with pytest.raises(ConfigError, match=r"learning_rate: stored 0\.02, given 0\.01"):
        train(replace(config, learning_rate=0.01))


def test_settings_of_the_run_leave_out_where_it_lies(config):
    settings = run_settings(config)
    assert settings["train"] == ["train.root"]
    assert settings["hidden"] == 4
    moved = replace(config, output=config.output / "elsewhere", max_seconds=3.0, progress=True)
    assert run_settings(moved) == settings
    assert run_settings(replace(config, seed=9)) != settings


GRAPHS = [random_graph(seed) for seed in range(5)]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_batch_is_a_function_of_its_arguments():
    for step in (0, 3, 17):
        assert equal(training_batch(GRAPHS, step, 2, seed=4), training_batch(GRAPHS, step, 2, seed=4))
    assert not equal(training_batch(GRAPHS, 0, 2, seed=4), training_batch(GRAPHS, 0, 2, seed=5))


def test_batch_does_not_change_the_graphs():
    before = [np.copy(graph.edges) for graph in GRAPHS]
    for step in range(10):
        training_batch(GRAPHS, step, 1, seed=0)
    assert all(np.array_equal(graph.edges, edges) for graph, edges in zip(GRAPHS, before, strict=True))


def which(batch, row=0):
    """Number of the graph; mirrors do not touch the labels' weights."""
    return next(
        index for index, graph in enumerate(GRAPHS) if np.array_equal(graph.weight, batch.weight[row])
    )


def test_every_epoch_has_every_graph_once_in_a_new_order():
    epochs = [
        [which(training_batch(GRAPHS, step, 1, seed=1)) for step in range(start, start + 5)]
        for start in range(0, 40, 5)
    ]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 4


def test_all_four_mirrors_are_seen():
    seen = {
        (
            round(float(batch.edges[0, 0, 0] / graph.edges[0, 0])),
            round(float(batch.nodes[0, 0, 1] / graph.nodes[0, 1])),
        )
        for batch in (training_batch(GRAPHS, step, 1, seed=2) for step in range(40))
        for graph in [GRAPHS[which(batch)]]
    }
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_graphs_of_a_batch_are_padded_to_one_shape():
    graphs = [random_graph(0), random_graph(1, n_nodes=30, n_edges=60)]
    batch = training_batch(graphs, 0, 2, seed=0)
    assert batch.nodes.shape[0] == batch.edges.shape[0] == 2
    assert sorted(batch.edge_valid.sum(1).tolist()) == [14, 60]
    assert (batch.weight[~batch.edge_valid] == 0).all()


@pytest.fixture(scope="module")
def network():
    return EdgeClassifier(NETWORK, rngs=nnx.Rngs(3))


@pytest.fixture(scope="module")
def value_of(network):
    """Loss of a batch of graphs."""
    program = nnx.jit(loss)
    return lambda graphs: float(
        program(network, jax.tree.map(lambda *leaves: np.stack(leaves), *graphs), jax.random.key(0))[0]
    )


def test_loss_is_the_weighted_cross_entropy(network, value_of):
    graph = random_graph(7)
    logits = np.asarray(edge_logits(network, jax.tree.map(jax.numpy.asarray, graph)).logits, np.float64)
    probability = 1 / (1 + np.exp(-logits))
    each = -np.log(np.where(graph.label, probability, 1 - probability))
    assert value_of([graph]) == pytest.approx((each * graph.weight).sum() / graph.weight.sum(), rel=1e-5)


def test_loss_of_a_batch_is_that_of_all_its_edges(value_of):
    graphs = [random_graph(7), random_graph(8)]
    weights = [graph.weight.sum() for graph in graphs]
    expected = np.average([value_of([graph]) for graph in graphs], weights=weights)
    assert value_of(graphs) == pytest.approx(expected, rel=1e-5)


def test_event_without_edges_has_no_loss(value_of):
    assert value_of([random_graph(7)._replace(weight=np.zeros(N_EDGES, np.float32))]) == 0


def test_edges_without_weight_do_not_count(value_of):
    graph = random_graph(7)
    silent = graph._replace(weight=np.where(np.arange(N_EDGES) < 4, 0, graph.weight).astype(np.float32))
    flipped = silent._replace(label=np.where(np.arange(N_EDGES) < 4, ~graph.label, graph.label))
    assert value_of([silent]) == value_of([flipped])
    assert value_of([silent]) != value_of([graph])


def test_no_file_to_train_on(tmp_path):
    with pytest.raises(ConfigError, match="no file to train on"):
        TrainingConfig(train=(), output=tmp_path)


def test_file_in_both_lists(files, tmp_path):
    with pytest.raises(ConfigError, match="for training and for validation"):
        TrainingConfig(train=files, validation=files[:1], output=tmp_path)


def test_warmup_must_end(files, tmp_path):
    with pytest.raises(ConfigError, match=r"steps = 5 must be more than warmup_steps = 5"):
        TrainingConfig(train=files[:1], output=tmp_path, steps=5, warmup_steps=5)


def test_missing_file_is_named(config, tmp_path):
    with pytest.raises(DataError, match=r"absent\.root"):
        train(replace(config, train=(tmp_path / "absent.root",), output=tmp_path))


def test_file_without_events(config, tmp_path):
    write_events(tmp_path / "empty.root", [])
    with pytest.raises(DataError, match="no events"):
        train(replace(config, train=(tmp_path / "empty.root",), output=tmp_path / "run"))


def test_file_without_truth(config, events, tmp_path):
    write_events(tmp_path / "data.root", [events[0]._replace(particles=None, truth=None)])
    with pytest.raises(DataError, match="no truth"):
        train(replace(config, train=(tmp_path / "data.root",), output=tmp_path / "run"))
