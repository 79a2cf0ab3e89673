"""Training of taggers on small files that can be told apart, with small networks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.cli import main
from recon.errors import ConfigError
from recon.io.weights import model_arrays
from recon.tagging import training
from recon.tagging.calibration import negative_log_likelihood
from recon.tagging.labels import LABELS
from recon.tagging.models import KINDS, load_tagging_model
from recon.tagging.samples import read_sample, select, single_precision
from recon.tagging.shipped import load_model
from recon.tagging.starting import start
from recon.tagging.training import train
from recon.tagging.training_config import TrainingConfig
from recon.tagging.training_loss import tagging_loss
from recon.train.classification import LabelledBatch, predict
from recon.train.log import read_metrics
from recon.train.optim import OptimConfig
from recon.train.precision import set_compute_precision
from recon.train.state import create_state, make_train_step, merge_model
from tests.recon.tagging.small_files import write_separable

pytestmark = pytest.mark.usefixtures("quick_programs", "small_networks")
SMALL = {
    "deepak8": {
        "candidate_stages": ((8, 1),),
        "vertex_stages": ((8, 1),),
        "dense": (16,),
        "candidate_stem": 8,
    },
    "particlenet": {"blocks": ((3, (8,)),), "dense": (8,)},
    "pfn": {"particle": (16,), "jet": (16,)},
    "particletransformer": {"embedding": (8,), "pairs": (4,), "heads": 2, "layers": 1, "class_layers": 1},
}


@pytest.fixture(scope="module")
def small_networks():
    """The kinds with fewer channels: their full shapes take minutes to compile."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, small in small_kinds():
            patch.setitem(KINDS, kind, small)
        yield


def small_kinds():
    return [
        (kind, KINDS[kind]._replace(config=replace(KINDS[kind].config, **shape)))
        for kind, shape in SMALL.items()
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return write_separable(folder / "train.parquet", 600), write_separable(
        folder / "test.parquet", 300, seed=8
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def config(files, output, **options):
    settings = {
        "model": "pfn",
        "steps": 40,
        "batch": 64,
        "evaluations": 4,
        "validation": 0.2,
        "learning_rate": 1e-2,
        "ema_decay": 0.9,
        "progress": False,
        "checkpoint_every": 10,
    }
    return TrainingConfig(files=files[:1], test=files[1:], output=output, **{**settings, **options})


@pytest.fixture(scope="module")
def fitted(files, tmp_path_factory, small_networks):
    output = tmp_path_factory.mktemp("pfn")
    return train(config(files, output)), output


def same(one, other):
    left, right = model_arrays(one), model_arrays(other)
    return all(left[name].tobytes() == right[name].tobytes() for name in left)


def test_a_tagger_learns_and_is_written_with_what_it_reads(fitted, files):
    trained, output = fitted
    assert trained.quality.signals["top"].auc > 0.9
    assert trained.fitted.finished
    again = load_model(output / "model")
    assert again.labels == LABELS
    sample = read_sample(files[1:], again.inputs, LABELS)[0]
    scores = again.scorer(single_precision(sample.jets))
    assert np.allclose(scores.sum(1), 1, atol=1e-5)
    hits = (scores.argmax(1) == sample.jets.label).mean()
    assert hits == pytest.approx(float(trained.quality.accuracy.value))


def test_the_evaluations_are_logged(fitted):
    rows = read_metrics(fitted[1] / "evaluation.csv")
    assert rows["step"] == [10, 20, 30, 40]
    assert {"loss", "accuracy", "auc_top"} < rows.keys()


def test_the_card_says_data_settings_and_numbers(fitted):
    card = load_tagging_model(fitted[1] / "model").card
    for text in ("seed 0", "train.parquet", "| learning_rate | 0.01 |", "top against QCD: AUC", "40 updates"):
        assert text in card


def test_the_logits_of_the_model_are_calibrated(fitted, files):
    trained, output = fitted
    tagger = load_model(output / "model")
    sample = read_sample(files[1:], tagger.inputs, LABELS)[0]
    logits = predict(tagger.model.network, single_precision(sample.jets))
    label = sample.jets.label
    own, raw = (negative_log_likelihood(label, logits * t) for t in (1.0, trained.quality.temperature))
    assert own == pytest.approx(trained.quality.likelihood, rel=1e-3)
    assert own <= raw + 0.02


def test_in_parts_it_is_the_same_tagger(fitted, files, tmp_path):
    part = train(config(files, tmp_path, max_seconds=1e-9))
    assert not part.fitted.finished
    assert same(train(config(files, tmp_path)).model.network, fitted[0].model.network)
    with pytest.raises(ConfigError, match="holds a run"):
        train(config(files, tmp_path, resume=False))
    with pytest.raises(ConfigError, match="learning_rate"):
        train(config(files, tmp_path, learning_rate=0.5))


def test_an_adversary_flattens_the_mass(files, tmp_path):
    options = {"model": "deepak8", "steps": 60, "turn": False}
    plain = train(config(files, tmp_path / "plain", **options))
    against = train(config(files, tmp_path / "against", adversary=1.0, flatten="pt-mass", **options))
    assert {"adversary", "accuracy"} < read_metrics(tmp_path / "against" / "metrics.csv").keys()
    assert against.quality.signals["top"].auc > 0.6
    assert np.isfinite(against.quality.signals["top"].sculpting)
    names = set(model_arrays(against.model.network))
    assert names == set(model_arrays(plain.model.network))


def test_a_teacher_with_other_classes_helps(files, fitted, tmp_path):
    teacher = fitted[1] / "model"
    pupil = train(config(files, tmp_path, teacher=teacher, distill=1.0, steps=60))
    rows = read_metrics(tmp_path / "metrics.csv")
    assert np.mean(rows["distillation"][-5:]) < np.mean(rows["distillation"][:5])
    # Only the teacher was listened to, and the labels are learnt.
    assert pupil.quality.signals["top"].auc > 0.85


def test_a_frozen_network_learns_in_its_last_layers_alone(files, tmp_path):
    first = train(config(files, tmp_path / "first", model="particlenet"))
    second = train(
        config(
            files,
            tmp_path / "second",
            model=None,
            initial=tmp_path / "first" / "model",
            freeze=True,
            steps=80,
        )
    )
    old, new = (model_arrays(trained.model.network) for trained in (first, second))
    changed = {name.split("/")[0] for name in old if not np.array_equal(old[name], new[name])}
    assert changed == {"dense", "output"}
    assert second.before is not None
    assert second.before.signals["top"].auc == pytest.approx(first.quality.signals["top"].auc, abs=2e-3)


@pytest.mark.parametrize("kind", ["deepak8", "particlenet", "particletransformer", "pfn", "deepcsv"])
def test_every_kind_can_compute_in_half_the_precision(files, kind):
    """Shapes and types alone: this is for accelerators."""
    begin = start(files, kind)
    sample = read_sample(files[1:], begin.inputs, begin.classes)[0]
    jets = single_precision(select(sample, np.arange(4)).jets)
    batch = jax.tree.map(jnp.asarray, LabelledBatch(jets, jets.label, np.ones(4, np.float32)))
    set_compute_precision(begin.network, "bfloat16")
    optim = OptimConfig(total_steps=3)
    state = create_state(begin.network, optim, seed=0)
    step = make_train_step(tagging_loss(None, 0.5, 2.0), optim)
    after, metrics = jax.eval_shape(step, state, batch)
    assert metrics["loss"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    logits = jax.eval_shape(lambda now: merge_model(now)(batch.inputs), state)
    assert logits.dtype == jnp.bfloat16


def test_the_command(files, tmp_path, capsys):
    words = ["train", "tagging", str(files[0]), "-o", str(tmp_path / "run"), "--model", "pfn", "--steps", "4"]
    assert main([*words, "--batch", "32", "--evaluations", "2", "--json", str(tmp_path / "out.json")]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["updates"] == 4
    assert told["quality"]["signals"]["top"]["background"] > 10
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
    assert "top against QCD: AUC" in capsys.readouterr().out
    assert main([*words, "--learning-rate", "1"]) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_a_b_tagger_is_trained_on(tmp_path):
    """It has names of its own for the classes of the files, and keeps them and its weights."""
    path = write_separable(tmp_path / "b.parquet", 150, names=("QCDothers", "QCDb"))
    settings = {"model": "deepcsv", "steps": 2, "batch": 16, "evaluations": 1}
    first = train(config((path,), tmp_path / "one", **settings))
    assert first.model.labels == ("b", "bb", "c", "cc", "udsg")
    second = train(config((path,), tmp_path / "two", initial=tmp_path / "one" / "model", **settings))
    assert second.model.labels == first.model.labels
    assert second.before is not None
    assert second.before.signals["b"].auc == pytest.approx(first.quality.signals["b"].auc, abs=1e-6)
    assert second.before.accuracy == first.quality.accuracy


def test_settings_that_contradict_are_refused(files, tmp_path):
    with pytest.raises(ConfigError, match="no file to train on"):
        config((), tmp_path)
    with pytest.raises(ConfigError, match="training and for the test"):
        config((files[0], files[0]), tmp_path)
    again = files[0].parent / "sub" / ".." / files[0].name
    with pytest.raises(ConfigError, match="training and for the test"):
        config((files[0], again), tmp_path)
    with pytest.raises(ConfigError, match="--freeze"):
        config(files, tmp_path, freeze=True)
    with pytest.raises(ConfigError, match="distill is 2"):
        config(files, tmp_path, distill=2.0)
    with pytest.raises(ConfigError, match="features of a deepak8"):
        train(config(files, tmp_path / "pfn", adversary=1.0))


def begin_and_be_killed(files, output):
    """In a process of its own: as `fitted`, but killed in the middle of the second evaluation."""
    import jax  # noqa: PLC0415

    jax.config.update("jax_disable_most_optimizations", True)
    for kind, small in small_kinds():
        KINDS[kind] = small
    look, seen = training._look, []

    def looks(*arguments):
        seen.append(arguments)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return look(*arguments)

    training._look = looks
    train(config(files, output))


def test_a_killed_training_ends_as_if_it_had_not_been(files, fitted, tmp_path):
    output = tmp_path / "killed"
    program = (
        f"from {__name__} import begin_and_be_killed as b; from pathlib import *; b({files!r}, {output!r})"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert 10 <= read_metrics(output / "metrics.csv")["step"][-1] <= 20
    assert not (output / "model").exists()
    trained = train(config(files, output))
    assert trained.fitted.finished
    assert same(trained.model.network, fitted[0].model.network)
    for name in ("metrics.csv", "evaluation.csv", "config.json"):
        assert (output / name).read_bytes() == (fitted[1] / name).read_bytes()
