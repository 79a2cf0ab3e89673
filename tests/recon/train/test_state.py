from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.io.weights import flatten_state
from recon.train.optim import OptimConfig, make_schedule
from recon.train.state import check_divisible, create_state, data_mesh, make_train_step, merge_model


def assert_same(left, right):
    left, right = flatten_state(left), flatten_state(right)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


class Line(nnx.Module):
    def __init__(self, slope: float) -> None:
        self.kernel = nnx.Param(jnp.full((1, 1), slope))
        self.bias = nnx.Param(jnp.full((1,), 0.0))

    def __call__(self, x):
        return x @ self.kernel + self.bias


def squared_error(model, batch, key):
    x, y = batch
    return jnp.mean((model(x) - y) ** 2), {}


def test_first_updates_equal_a_hand_written_adam():
    config = OptimConfig(learning_rate=0.1, warmup_steps=2, total_steps=10, clip_norm=0.0, ema_decay=0.95)
    x = np.array([[1.0], [2.0], [-1.0], [0.5]], np.float32)
    y = 3 * x - 1
    state = create_state(Line(0.5), config, seed=0)
    step_fn = make_train_step(squared_error, config)
    point, first, second = np.array([0.5, 0.0]), np.zeros(2), np.zeros(2)
    average = point.copy()
    for step in range(6):
        residual = point[0] * x + point[1] - y
        gradient = np.array([np.mean(2 * residual * x), np.mean(2 * residual)])
        state, metrics = step_fn(state, (x, y))
        assert metrics["loss"] == pytest.approx(np.mean(residual**2), rel=1e-5)
        assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = first / (1 - 0.9 ** (step + 1)) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
        point = point - float(make_schedule(config)(step)) * scaled
        decay = min(0.95, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * point
    fitted, averaged = merge_model(state), merge_model(state, ema=True)
    np.testing.assert_allclose([fitted.kernel[0, 0], fitted.bias[0]], point, rtol=1e-4)
    np.testing.assert_allclose([averaged.kernel[0, 0], averaged.bias[0]], average, rtol=1e-4)
    assert int(state.step) == 6


def test_training_compiles_once_and_learns(fresh_problem):
    problem = fresh_problem
    state, step_fn, losses = problem.state(), problem.step_fn, []
    for step in range(60):
        state, metrics = step_fn(state, problem.batch(step))
        losses.append(float(metrics["mse"]))
    assert problem.traces == 1
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:5])


def test_weakly_typed_parameters_compile_once():
    """`jnp.full` with a Python number is weakly typed, which the first update would undo."""
    traces = 0

    def counted(model, batch, key):
        nonlocal traces
        traces += 1
        return squared_error(model, batch, key)

    config = OptimConfig(total_steps=5)
    assert Line(0.5).kernel[...].weak_type
    state, step_fn = create_state(Line(0.5), config, seed=0), make_train_step(counted, config)
    for _ in range(3):
        state, _ = step_fn(state, (np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)))
    assert traces == 1


def test_the_module_keeps_its_own_arrays(problem):
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    before = np.array(model.kernel)
    config = OptimConfig(total_steps=5, ema_decay=0.5)
    step_fn = make_train_step(squared_error, config)
    state, _ = step_fn(
        create_state(model, config, seed=0), (np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    )
    np.testing.assert_array_equal(model.kernel, before)
    assert not np.array_equal(merge_model(state).kernel, before)


def test_state_is_consumed_by_the_step(problem):
    state = problem.state()
    problem.step_fn(state, problem.batch(0))
    with pytest.raises(RuntimeError, match="deleted"):
        np.array(state.params["layers"][0]["kernel"])


def test_training_updates_statistics_and_evaluation_does_not(trained, problem):
    assert not np.array_equal(
        trained.model_state["norm"]["mean"], problem.state().model_state["norm"]["mean"]
    )
    model = merge_model(trained)
    model.eval()
    x = problem.batch(7).x
    np.testing.assert_array_equal(model(x), model(x))
    # The merged module works on copies: its calls in training mode leave the state alone.
    statistics = np.array(trained.model_state["norm"]["mean"])
    other = merge_model(trained)
    other(x)
    np.testing.assert_array_equal(trained.model_state["norm"]["mean"], statistics)


def test_same_seed_same_run_other_seed_other_run(problem, trained):
    assert_same(problem.train(4), trained)
    step_fn = problem.step_fn
    _, metrics = step_fn(problem.state(seed=2), problem.batch(0))
    _, reference = step_fn(problem.state(), problem.batch(0))
    assert metrics["loss"] != reference["loss"]
    assert metrics["mse"] == reference["mse"]


def test_each_step_has_its_own_key():
    def reports_noise(model, batch, key):
        return squared_error(model, batch, key)[0], {"noise": jax.random.normal(key)}

    config = OptimConfig(total_steps=5)
    state, step_fn = create_state(Line(0.5), config, seed=0), make_train_step(reports_noise, config)
    seen = []
    for _ in range(3):
        state, metrics = step_fn(state, (np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)))
        seen.append(float(metrics["noise"]))
    assert len(set(seen)) == 3


def test_average_is_refused_where_none_is_kept():
    state = create_state(Line(0.5), OptimConfig(), seed=0)
    assert state.ema_params is None
    with pytest.raises(ConfigError, match="ema_decay"):
        merge_model(state, ema=True)


class Graph(NamedTuple):
    nodes: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    label: np.ndarray
    valid: np.ndarray


class EdgeScorer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.message = nnx.Linear(4, 4, rngs=rngs)
        self.score = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, graph):
        sent = jnp.where(graph.valid[:, None], self.message(graph.nodes)[graph.senders], 0)
        nodes = graph.nodes + jax.ops.segment_sum(sent, graph.receivers, graph.nodes.shape[0])
        return self.score(jnp.concatenate([nodes[graph.senders], nodes[graph.receivers]], axis=-1))[:, 0]


def edge_loss(model, graph, key):
    logits = model(graph)
    crossentropy = jnp.logaddexp(0, logits) - graph.label * logits
    return jnp.sum(jnp.where(graph.valid, crossentropy, 0)) / jnp.sum(graph.valid), {}


GRAPH_OPTIM = OptimConfig(learning_rate=1e-2, total_steps=5)
graph_step = make_train_step(edge_loss, GRAPH_OPTIM)


def random_graph(capacity: int) -> Graph:
    generator = np.random.default_rng(0)
    nodes = generator.normal(size=(10, 4)).astype(np.float32)
    ends = generator.integers(0, 10, size=(2, 24)).astype(np.int32)
    label = (generator.random(24) < 0.5).astype(np.float32)
    padding = capacity - 24
    ends = np.pad(ends, ((0, 0), (0, padding)))
    return Graph(nodes, ends[0], ends[1], np.pad(label, (0, padding)), np.arange(capacity) < 24)


def train_on(graph: Graph) -> dict[str, np.ndarray]:
    state = create_state(EdgeScorer(nnx.Rngs(0)), GRAPH_OPTIM, seed=0)
    for _ in range(3):
        state, _ = graph_step(state, graph)
    return flatten_state(state.params)


def test_graph_batch_padding_and_order_change_nothing():
    reference = train_on(random_graph(24))
    padded = train_on(random_graph(40))
    order = np.random.default_rng(1).permutation(24)
    graph = random_graph(24)
    permuted = train_on(
        graph._replace(
            senders=graph.senders[order], receivers=graph.receivers[order], label=graph.label[order]
        )
    )
    for name, expected in reference.items():
        np.testing.assert_allclose(padded[name], expected, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(permuted[name], expected, atol=1e-5, err_msg=name)


def test_one_device_needs_no_mesh():
    assert (data_mesh() is None) == (len(jax.devices()) == 1)


def test_batch_that_does_not_split_is_refused_by_name():
    check_divisible({"x": np.zeros((4, 3)), "y": np.zeros(4)}, 2)
    with pytest.raises(ConfigError, match=r"\['y'\] has shape \(3,\): on 2 devices"):
        check_divisible({"x": np.zeros((4, 3)), "y": np.zeros(3)}, 2)
    with pytest.raises(ConfigError, match=r"the batch has shape \(\)"):
        check_divisible(np.float32(1), 2)


SHARDED_RUN = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from recon.io.weights import flatten_state
from recon.train.optim import OptimConfig
from recon.train.state import create_state, data_mesh, make_train_step

traces = 0

def loss(model, batch, key):
    global traces
    traces += 1
    # Unequal weights in the two halves: the mean of the halves' means would be another loss.
    error = jnp.sum(batch["weight"] * (model(batch["x"])[:, 0] - batch["y"]) ** 2) / jnp.sum(batch["weight"])
    return error, {"positive": jnp.mean(batch["y"] > 0)}

generator = np.random.default_rng(0)
x = generator.normal(size=(16, 3)).astype(np.float32)
batch = {"x": x, "y": x[:, 0] * 2, "weight": np.arange(16, dtype=np.float32)}
config = OptimConfig(learning_rate=1e-2, total_steps=9, ema_decay=0.9)

for name, mesh in {"one": None, "two": data_mesh()}.items():
    state = create_state(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), config, seed=0)
    step = make_train_step(loss, config, mesh=mesh)
    traces = 0
    for _ in range(5):
        state, metrics = step(state, batch)
    devices = len(state.params["kernel"].devices())
    np.savez(f"{sys.argv[1]}/{name}.npz", devices=devices, traces=traces, **metrics, **flatten_state(state))
"""


def test_two_devices_give_the_same_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    subprocess.run([sys.executable, "-W", "error", "-c", SHARDED_RUN, str(tmp_path)], check=True, timeout=300)
    one, two = dict(np.load(tmp_path / "one.npz")), dict(np.load(tmp_path / "two.npz"))
    assert (int(one.pop("devices")), int(two.pop("devices"))) == (1, 2)
    assert (int(one["traces"]), int(two["traces"])) == (1, 1)
    assert {"loss", "grad_norm", "positive", "params/kernel", "ema_params/bias"} <= one.keys()
    assert one.keys() == two.keys()
    for name, expected in one.items():
        np.testing.assert_allclose(two[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
