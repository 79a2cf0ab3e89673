from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.io.weights import model_arrays
from recon.train.classification import (
    FitConfig,
    LabelledBatch,
    accuracy,
    classification_loss,
    cross_entropy,
    fit_classifier,
    labelled_batches,
    predict,
)
from recon.train.log import read_metrics
from recon.train.precision import set_compute_precision
from recon.train.sampling import Sampler


class Network(nnx.Module):
    """Every kind of state: parameters, batch statistics, dropout."""

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.hidden, self.out = nnx.Linear(2, 16, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(16, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def sample(n=300, seed=0):
    """Three blobs around the corners of a triangle."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    angle = 2 * np.pi * label / 3
    x = 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.5, (n, 2))
    return x.astype(np.float32), label.astype(np.int32)


X, LABEL = sample()
HELD_X, HELD_LABEL = sample(seed=1)


def evaluate(network):
    logits = predict(network, HELD_X, 128)
    return {
        "loss": float(cross_entropy(jnp.asarray(logits), jnp.asarray(HELD_LABEL))),
        "accuracy": float(accuracy(jnp.asarray(logits), jnp.asarray(HELD_LABEL))),
    }


def config(directory, **options):
    settings = {"batch": 32, "steps": 60, "seed": 4, "evaluations": 6, "learning_rate": 1e-2, "prefetch": 0}
    return FitConfig(directory=directory, **{**settings, **options})


def run(directory, *, batches=None, metrics=evaluate, loss=classification_loss, **options):
    how = config(directory, **options)
    batches = batches or labelled_batches(X, LABEL, None, Sampler(len(X), how.batch, how.seed))
    return fit_classifier(Network(), batches, how, rows=len(X), evaluate=metrics, loss=loss)


def same(one, other):
    left, right = model_arrays(one), model_arrays(other)
    return all(left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    return run(directory), directory


def test_a_hand_case_of_the_loss():
    logits = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]))
    label = jnp.array([0, 1, -1])
    weight = jnp.array([1.0, 3.0, 100.0])
    expected = -(math.log(0.5) + 3 * math.log(0.1)) / 4
    assert float(cross_entropy(logits, label, weight)) == pytest.approx(expected, rel=1e-6)
    by_class = cross_entropy(logits, label, weight, jnp.array([6.0, 1.0]))
    assert float(by_class) == pytest.approx(-(6 * math.log(0.5) + 3 * math.log(0.1)) / 9, rel=1e-6)
    assert float(accuracy(logits, label, weight)) == pytest.approx(0.25)
    assert float(accuracy(logits, label)) == pytest.approx(0.5)


def test_the_loss_is_that_of_a_slow_twin():
    rng = np.random.default_rng(0)
    logits, label, weight = rng.normal(0, 5, (40, 6)), rng.integers(-1, 6, 40), rng.random(40)
    total = norm = 0.0
    for row in range(40):
        if label[row] >= 0:
            total += weight[row] * (np.log(np.exp(logits[row]).sum()) - logits[row, label[row]])
            norm += weight[row]
    value = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(label), jnp.asarray(weight))
    assert float(value) == pytest.approx(total / norm, rel=1e-5)


def test_nothing_that_counts_makes_no_loss_and_no_gradient():
    logits, label = jnp.ones((2, 3)), jnp.array([-1, -1])
    value, slope = jax.value_and_grad(lambda z: cross_entropy(z, label))(logits)
    assert float(value) == 0.0
    assert not np.asarray(slope).any()


def test_a_network_learns_and_the_best_one_is_kept(uninterrupted):
    fitted, directory = uninterrupted
    history = read_metrics(directory / "evaluation.csv")
    best = int(np.argmin(history["loss"]))
    assert history["step"] == [10, 20, 30, 40, 50, 60]
    assert fitted.step == history["step"][best]
    assert evaluate(fitted.network)["loss"] == pytest.approx(history["loss"][best], rel=1e-6)
    assert evaluate(fitted.network)["accuracy"] > 0.95
    assert fitted.finished
    assert fitted.steps == 60
    assert read_metrics(directory / "metrics.csv").keys() == {"step", "loss", "grad_norm", "accuracy"}


def test_in_parts_it_is_the_same_network(tmp_path, uninterrupted):
    part = run(tmp_path, max_seconds=1e-9)
    assert not part.finished
    assert part.steps == 1
    run(tmp_path, max_seconds=1e-9)
    whole = run(tmp_path)
    assert same(whole.network, uninterrupted[0].network)
    for name in ("metrics.csv", "evaluation.csv"):
        assert (tmp_path / name).read_bytes() == (uninterrupted[1] / name).read_bytes()


class WideNetwork(nnx.Module):
    """With a matrix that Muon updates."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in ((2, 16), (16, 16), (16, 3))])

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def test_muon_in_parts_is_the_same_network(tmp_path):
    """Its state survives a checkpoint, and it learns."""

    def trained(directory, **options):
        how = config(directory, optimizer="muon", **options)
        batches = labelled_batches(X, LABEL, None, Sampler(len(X), how.batch, how.seed))
        return fit_classifier(WideNetwork(), batches, how, rows=len(X), evaluate=evaluate)

    whole = trained(tmp_path / "whole")
    assert whole.history[-1]["accuracy"] > 0.95
    stopped = trained(tmp_path / "parts", max_seconds=0.0)
    assert not stopped.finished
    assert same(trained(tmp_path / "parts").network, whole.network)
    with pytest.raises(ConfigError, match="optimizer: stored 'muon', given 'adamw'"):
        run(tmp_path / "whole")


def test_other_settings_are_another_run(uninterrupted):
    with pytest.raises(ConfigError, match="learning_rate"):
        run(uninterrupted[1], learning_rate=1e-3)


def test_patience_ends_a_run_for_good(tmp_path):
    values = iter([1.0, 0.5, 0.7, 0.6, 0.1, 0.1])
    fitted = run(tmp_path, metrics=lambda network: {"loss": next(values)}, patience=2)
    assert (fitted.step, fitted.steps, fitted.finished) == (20, 40, True)
    again = run(tmp_path, metrics=lambda network: {"loss": next(values)}, patience=2)
    assert same(again.network, fitted.network)
    assert again.steps == 40


def test_a_larger_metric_is_better_unless_it_is_the_loss(tmp_path):
    values = iter([0.2, 0.9, 0.3, math.nan, 0.8, 0.1])
    fitted = run(tmp_path, metrics=lambda network: {"auc": next(values)}, best_metric="auc")
    assert fitted.step == 20


def test_epochs_count_rows(tmp_path):
    how = FitConfig(directory=tmp_path, batch=32, epochs=2.5)
    assert how.total_steps(100) == 8
    assert how.optim(100).total_steps == 8


def test_an_augmentation_is_drawn_by_step():
    def jitter(batch, rng):
        return batch._replace(inputs=batch.inputs + rng.normal(size=batch.inputs.shape).astype(np.float32))

    sampler = Sampler(len(X), 16, 0)
    batches = labelled_batches(X, LABEL, None, sampler, augment=jitter)
    plain = labelled_batches(X, LABEL, None, sampler)
    assert np.array_equal(batches(3).inputs, batches(3).inputs)
    assert not np.array_equal(batches(3).inputs, plain(3).inputs)
    assert np.array_equal(batches(3).label, plain(3).label)


def test_prediction_does_not_depend_on_the_batch():
    network = Network()
    network.eval()
    whole = predict(network, X, len(X))
    assert np.allclose(predict(network, X, 64), whole, atol=1e-6)
    assert np.allclose(predict(network, X, 10**6), whole, atol=1e-6)


def test_prediction_compiles_once(caplog):
    network = Network()
    network.eval()
    predict(network, X, 100)
    with jax.log_compiles():
        predict(network, X, 100)
    assert not [record for record in caplog.records if "Compiling" in record.message]


def test_bfloat16_computes_coarsely_and_trains_float32(tmp_path):
    network = Network()
    network.eval()
    exact = predict(network, X)
    set_compute_precision(network, "bfloat16")
    coarse = predict(network, X)
    assert 0 < np.abs(coarse - exact).max() < 0.1
    set_compute_precision(network, "float32")
    assert np.array_equal(predict(network, X), exact)
    fitted = run(tmp_path, precision="bfloat16")
    assert {array.dtype for array in model_arrays(fitted.network).values()} == {np.dtype(np.float32)}
    assert evaluate(fitted.network)["accuracy"] > 0.95


def test_a_loss_of_ones_own_sees_the_extras(tmp_path):
    def only_extra(network, batch, key):
        return cross_entropy(network(batch.inputs), batch.extra), {}

    other = (LABEL + 1) % 3
    batches = labelled_batches(X, LABEL, None, Sampler(len(X), 32, 4), extra=other)
    fitted = run(tmp_path, batches=batches, loss=only_extra)
    assert (predict(fitted.network, X).argmax(1) == other).mean() > 0.95


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"steps": -1}, {"steps": 0, "epochs": 0.0}, {"warmup": 1.0}, {"patience": -1}]
)
def test_settings_that_mean_nothing_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=r"FitConfig\."):
        config(tmp_path, **options)


def test_a_batch_is_a_tree():
    batch = LabelledBatch(X, LABEL, np.ones(len(X), np.float32))
    assert len(jax.tree.leaves(batch)) == 3


def on_devices(directory):
    """In a process of its own, with as many devices as its environment says."""
    fitted = run(Path(directory), steps=12, evaluations=2)
    assert jax.device_count() == 2
    assert fitted.finished
    with pytest.raises(ConfigError, match="a batch of 33 does not divide by 2 devices"):
        run(Path(directory) / "odd", steps=1, batch=33)


def test_two_devices_give_the_same_as_one(tmp_path, monkeypatch):
    run(tmp_path / "one", steps=12, evaluations=2)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    program = f"from {__name__} import on_devices; on_devices({str(tmp_path / 'two')!r})"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=root)
    alone, spread = (read_metrics(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    # Not the parameters: a bias in front of a normalisation changes nothing, and wanders with the rounding.
    np.testing.assert_allclose(spread["loss"], alone["loss"], rtol=1e-4)
