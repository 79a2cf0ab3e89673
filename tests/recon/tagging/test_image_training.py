"""Training of networks for images: what it learns, that it goes on, that a frozen featurizer stays as it is."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from recon.cli import main
from recon.errors import ConfigError, DataError
from recon.io.jets import write_jets
from recon.io.root_pixel_maps import write_neutrino_events
from recon.tagging.cvn import load_model, save_model
from recon.tagging.jet_image_samples import augmented, chosen_rows, read_labelled_jets, rows_of_tables
from recon.tagging.jet_image_training import JetImageTraining
from recon.tagging.jet_image_training import scores_of as jet_scores
from recon.tagging.jet_image_training import train as train_jets
from recon.tagging.jet_images import ABSOLUTE_INPUTS, IMAGE_INPUTS
from recon.tagging.labels import LABELS
from recon.tagging.neutrino_training import NeutrinoTraining, augmented_batches, read_events, train
from recon.tagging.shipped import load_model as load_tagger
from recon.train.classification import LabelledBatch
from tests.recon.tagging.small_jets import make_table
from tests.recon.tagging.small_neutrinos import labelled_events, small_model

pytestmark = pytest.mark.usefixtures("quick_programs")

SMALL = {
    "channels": (4, 5, 6),
    "blocks": (0, 0, 0),
    "batch": 16,
    "evaluations": 1,
    "validation": 0.2,
    "progress": False,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache")
        patch.setenv("RECON_CACHE", str(directory))
        yield directory / "features"


@pytest.fixture(scope="module")
def neutrinos(tmp_path_factory):
    path = tmp_path_factory.mktemp("neutrinos") / "events.root"
    write_neutrino_events(path, [labelled_events(120)])
    return path


@pytest.fixture(scope="module")
def jets(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "jets.root"
    write_jets(path, [make_table(60, seed=3, candidates=(3, 12))])
    return path


@pytest.fixture(scope="module")
def trained(neutrinos, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "mine"
    config = NeutrinoTraining(
        train=(neutrinos,), output=output, epochs=14.0, learning_rate=2e-2, noise=0.0, **SMALL
    )
    return config, *train(config)[:2]


def weights(module):
    return jax.tree.leaves(nnx.as_pure(nnx.state(module, nnx.Param)))


def test_a_network_learns_where_the_hits_are(trained):
    config, model, fitted = trained
    assert fitted.finished
    best = next(row for row in fitted.history if row["step"] == fitted.step)
    assert best["accuracy"] > 0.5
    assert "| accuracy |" in model.card
    assert load_model(config.output / "model").card.strip() == model.card.strip()


def test_the_same_command_again_does_nothing(trained):
    config, model, fitted = trained
    said = []
    again, other, _ = train(config, said.append)
    assert other.steps == fitted.steps
    for one, another in zip(weights(model.network), weights(again.network), strict=True):
        np.testing.assert_array_equal(one, another)
    with pytest.raises(ConfigError, match="noise"):
        train(replace(config, noise=0.3))


def test_a_frozen_featurizer_stays_and_its_features_are_kept(trained, neutrinos, tmp_path, cache):
    _, model, _ = trained
    save_model(tmp_path / "start", model)
    config = NeutrinoTraining(
        train=(neutrinos,),
        output=tmp_path / "run",
        initial=str(tmp_path / "start"),
        frozen=True,
        epochs=3.0,
        **SMALL,
    )
    told = []
    found = train(config, report=lambda *args: told.append(args)).model
    assert told == [("features", 120, 120)]
    for before, after in zip(
        weights(model.network.featurizer), weights(found.network.featurizer), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    assert any(
        not np.array_equal(before, after)
        for before, after in zip(
            weights(model.network.classifier), weights(found.network.classifier), strict=True
        )
    )
    # Another run with another classifier finds the features again.
    assert len(list(cache.iterdir())) == 1
    train(replace(config, output=tmp_path / "other", seed=1), report=lambda *args: told.append(args))
    assert len(told) == 1


def test_batches_are_a_function_of_their_number(neutrinos, tmp_path):
    config = NeutrinoTraining(
        train=(neutrinos,), output=tmp_path, class_weights=(1.0, 2.0, 3.0, 4.0, 5.0), **SMALL
    )
    events = read_events(config.train)
    batches = augmented_batches(config, events, np.arange(100))
    one, again, other = batches(3), batches(3), batches(4)
    np.testing.assert_array_equal(one.inputs, again.inputs)
    assert not np.array_equal(one.label, other.label) or not np.array_equal(one.inputs, other.inputs)
    np.testing.assert_array_equal(one.weight, one.label + 1)
    assert one.inputs.shape == (16, 100, 80, 2)


def test_settings_that_cannot_be(neutrinos, tmp_path):
    with pytest.raises(ConfigError, match="--train"):
        NeutrinoTraining(train=(), output=tmp_path)
    with pytest.raises(ConfigError, match="--initial"):
        NeutrinoTraining(train=(neutrinos,), output=tmp_path, frozen=True)
    with pytest.raises(ConfigError, match="choose one"):
        JetImageTraining(train=(neutrinos,), output=tmp_path, backbone="resnet18", initial="jet-images")
    with pytest.raises(ConfigError, match="--backbone"):
        JetImageTraining(train=(neutrinos,), output=tmp_path, weights=neutrinos)
    with pytest.raises(ConfigError, match="5 numbers"):
        train(NeutrinoTraining(train=(neutrinos,), output=tmp_path, class_weights=(1.0, 2.0)))


def test_events_without_labels(tmp_path):
    events = labelled_events(6)
    path = tmp_path / "data.root"
    write_neutrino_events(path, [events._replace(label=np.full(6, -1, np.int32), truth=None)])
    with pytest.raises(DataError, match=r"6 of 6 events in .*data.root have no label"):
        read_events((path,))


@pytest.mark.parametrize(("scale", "inputs"), [("absolute", ABSOLUTE_INPUTS), ("share", IMAGE_INPUTS)])
def test_jets_train_and_come_back_as_taggers(jets, tmp_path, scale, inputs):
    config = JetImageTraining(
        train=(jets,), output=tmp_path / "run", pixels=16, scale=scale, epochs=1.0, **SMALL
    )
    said = []
    model, fitted, held = train_jets(config, said.append)
    assert fitted.finished
    assert "candidates beyond the leading 128 left out" in said[0]
    tagger = load_tagger(tmp_path / "run" / "model")
    assert (tagger.model.kind, tagger.labels) == ("jet-image", LABELS)
    assert tagger.inputs.candidates == inputs.candidates
    found = read_labelled_jets((jets,), inputs)
    np.testing.assert_allclose(tagger.scorer(found).sum(1), 1, rtol=1e-5)
    assert model.network.config.pixels == 16
    assert len(held) == 12
    assert len(set(held.tolist())) == 12


def test_augmentation_of_jets(jets):
    found = read_labelled_jets((jets,), IMAGE_INPUTS)
    batch = LabelledBatch(found, found.label, np.ones(len(found.label), np.float32))
    plain = augmented(batch, np.random.default_rng(0), smear=0.0, drop=0.0)
    np.testing.assert_array_equal(plain.inputs.candidates, found.candidates)
    changed = augmented(batch, np.random.default_rng(0), smear=0.05, drop=0.2).inputs
    np.testing.assert_array_equal(changed.candidates[..., :2], found.candidates[..., :2])
    valid = np.asarray(found.candidate_valid)
    width = (changed.candidates - found.candidates)[..., 2][valid].std()
    assert 0.04 < width < 0.06
    kept = changed.candidate_valid[valid].mean()
    assert 0.7 < kept < 0.9
    assert not changed.candidate_valid[~valid].any()


def test_some_jets_are_chosen_by_chance():
    np.testing.assert_array_equal(chosen_rows(5, None, 0), np.arange(5))
    np.testing.assert_array_equal(chosen_rows(5, 9, 0), np.arange(5))
    one, again, other = (chosen_rows(1000, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert (np.diff(one) > 0).all()
    assert len(one) == 100
    assert one[-1] > 900


def test_rows_are_counted_through_all_tables():
    tables = [("a", np.arange(4)), ("b", np.arange(10, 13)), ("c", np.arange(20, 25))]
    found = [(name, table.tolist()) for name, table in rows_of_tables(tables, np.array([8, 3, 0, 7]))]
    assert found == [("a", [0, 3]), ("c", [20, 21])]


def test_metrics_by_hand():
    logits = np.log(np.eye(len(LABELS))[[0, 12, 1]] + 0.01)
    found = jet_scores(logits, np.array([0, 12, 1]))
    assert found["accuracy"] == 1
    assert found["auc_top"] == 1
    assert np.isnan(jet_scores(logits[:1], np.array([0]))["auc_top"])


def test_command(neutrinos, tmp_path, capsys):
    save_model(tmp_path / "start", small_model())
    words = ["train", "nova", "--train", str(neutrinos), "--output", str(tmp_path / "run"), "--no-progress"]
    words += ["--initial", str(tmp_path / "start"), "--epochs", "0.5", "--batch", "32", "--evaluations", "1"]
    assert main([*words, "--json", str(tmp_path / "run.json")]) == 0
    assert "Neutrino events in two views" in capsys.readouterr().out
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["finished"]
    assert (tmp_path / "run" / "loss.png").is_file()
    assert load_model(tmp_path / "run" / "model").network.config.channels == (4, 5, 6)
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert report["networks"][0]["events"] == 2
    for picture in ("confusion_0", "roc", "efficiency_energy", "purity_energy"):
        assert (tmp_path / "run" / "report" / f"{picture}.png").is_file()


def test_command_of_jets(jets, tmp_path, capsys):
    words = ["train", "jet-images", "--train", str(jets), "--output", str(tmp_path / "run"), "--no-progress"]
    words += ["--pixels", "16", "--channels", "4", "5", "6", "--blocks", "0", "0", "0", "--epochs", "0.5"]
    words += ["--batch", "32", "--evaluations", "1", "--validation", "0.5", "--jets", "50"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Images of jets" in printed
    assert "no report on T against QCD: 0 jets of the signal" in printed
    report = json.loads((tmp_path / "run" / "report-heavy" / "report.json").read_text())
    assert report["jets"]["signal"] + report["jets"]["background"] == 25
    for picture in ("confusion_1", "roc"):
        assert (tmp_path / "run" / "report-heavy" / f"{picture}.png").is_file()
    assert not (tmp_path / "run" / "report-top").exists()
