"""Neutrino events behind a network that others trained."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from recon.errors import ConfigError
from recon.io.jet_columns import jet_columns
from recon.io.jets import write_jets
from recon.io.npz import read_arrays
from recon.io.root_pixel_maps import write_neutrino_events
from recon.io.weights import model_arrays
from recon.nn.backbones import PRESETS, Backbone, random_backbone
from recon.nn.pretrained import PACKAGE
from recon.nn.resnet import ResNetConfig
from recon.tagging.backbone_network import BackboneConfig, BackboneNetwork, MergedFeaturizer
from recon.tagging.cvn import NeutrinoModel, load_model, save_model
from recon.tagging.features import make_jets
from recon.tagging.features_cache import Kept
from recon.tagging.image_export import export_jet_images
from recon.tagging.jet_image_samples import chosen_rows, read_labelled_jets
from recon.tagging.jet_image_training import JetImageTraining
from recon.tagging.jet_image_training import train as train_jets
from recon.tagging.jet_images import ABSOLUTE_INPUTS
from recon.tagging.labels import LABELS, NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import score_events
from recon.tagging.neutrino_training import NeutrinoTraining, train
from recon.tagging.remote import pack_jets
from recon.tagging.shipped import load_model as load_tagger
from recon.tagging.two_part_engine import connect_parts
from recon.types import Jets
from tests.recon.nn.test_pretrained import torchvision_arrays
from tests.recon.tagging.small_jets import make_table
from tests.recon.tagging.small_neutrinos import labelled_events

pytestmark = pytest.mark.usefixtures("quick_programs")

NAME = "efficientnet-lite0"


@pytest.fixture(scope="module")
def model():
    pytest.importorskip(PACKAGE)
    network = BackboneNetwork(BackboneConfig(backbone=NAME, pixels=32, hidden=8), rngs=nnx.Rngs(0))
    return NeutrinoModel("merged", network, NEUTRINO_LABELS, "For tests.")


def test_files_hold_the_classifier_alone(model, tmp_path):
    save_model(tmp_path / "mine", model)
    arrays = load_file(tmp_path / "mine" / "weights.safetensors")
    assert arrays
    assert not [name for name in arrays if "featurizer" in name]
    found = load_model(tmp_path / "mine")
    events = labelled_events(4)
    np.testing.assert_allclose(score_events(events, found), score_events(events, model), rtol=1e-5)
    assert found.network.config == model.network.config


def test_a_featurizer_of_others_is_not_trained(model, tmp_path):
    save_model(tmp_path / "mine", model)
    path = tmp_path / "events.root"
    write_neutrino_events(path, [labelled_events(20)])
    config = NeutrinoTraining(
        train=(path,), output=tmp_path / "run", initial=str(tmp_path / "mine"), validation=0.2
    )
    with pytest.raises(ConfigError, match="--frozen"):
        train(config)


def test_one_beginning(tmp_path):
    with pytest.raises(ConfigError, match="choose one"):
        NeutrinoTraining(train=(tmp_path,), output=tmp_path, backbone=NAME, initial="nova")
    for wrong in ({"backbone": NAME, "frozen": True}, {}):
        with pytest.raises(ConfigError, match="--fine-tune trains all weights"):
            NeutrinoTraining(train=(tmp_path,), output=tmp_path, fine_tune=True, **wrong)


@pytest.fixture
def small_resnet(monkeypatch, tmp_path):
    """ResNet-18 as small as it can be, and a file of weights for it."""
    config = ResNetConfig(stages=(1, 1), width=8, classes=2, bottleneck=False)
    monkeypatch.setitem(PRESETS, "resnet18", config)
    arrays = torchvision_arrays(random_backbone("resnet18", seed=3).network)
    save_file(arrays, tmp_path / "resnet18.safetensors")
    return {"backbone": "resnet18", "weights": tmp_path / "resnet18.safetensors"}


SHORT = {"validation": 0.2, "batch": 8, "epochs": 1.0, "evaluations": 1, "progress": False}


def test_all_weights_are_trained_if_asked_for(small_resnet, tmp_path):
    """They move, they and the scale of the pixels are in the model's file, and training goes on without being asked."""
    path = tmp_path / "events.root"
    write_neutrino_events(path, [labelled_events(20)])
    kept = NeutrinoTraining(train=(path,), output=tmp_path / "kept", **small_resnet, **SHORT)
    model = train(kept).model
    with pytest.raises(ConfigError, match="--fine-tune"):
        train(NeutrinoTraining(train=(path,), output=tmp_path, initial=str(kept.output / "model"), **SHORT))
    for beginning in (small_resnet, {"initial": str(kept.output / "model")}):
        config = NeutrinoTraining(
            train=(path,), output=tmp_path / f"run-{len(beginning)}", fine_tune=True, **beginning, **SHORT
        )
        tuned = train(config).model
        before, after = (model_arrays(found.network.featurizer) for found in (model, tuned))
        moved = {name.rpartition("/")[2] for name in before if (before[name] != after[name]).any()}
        assert {"kernel", "mean", "var"} <= moved
    small_resnet["weights"].unlink()
    found = load_model(config.output / "model")
    assert found.network.config.scale == tuple(model.network.featurizer.scale)
    events = labelled_events(4)
    np.testing.assert_allclose(score_events(events, found), score_events(events, tuned), rtol=1e-5)
    assert not np.allclose(score_events(events, found), score_events(events, model), rtol=1e-3)
    further = NeutrinoTraining(
        train=(path,), output=tmp_path / "more", initial=str(config.output / "model"), **SHORT
    )
    assert train(further).fitted.finished


def test_jets_train_all_of_it(small_resnet, tmp_path):
    path = tmp_path / "jets.root"
    write_jets(path, [make_table(20, seed=3, candidates=(3, 12))])
    config = JetImageTraining(
        train=(path,), output=tmp_path / "run", pixels=56, fine_tune=True, **small_resnet, **SHORT
    )
    tuned = train_jets(config).model
    tagger = load_tagger(tmp_path / "run" / "model")
    assert tagger.model.network.config == tuned.network.config
    arrays = load_file(tmp_path / "run" / "model" / "weights.safetensors")
    before = torchvision_arrays(random_backbone("resnet18", seed=3).network)["conv1.weight"]
    stem = arrays["featurizer/inner/stem/kernel"].transpose(3, 2, 0, 1)
    assert stem.shape == before.shape
    assert (stem != before).any()


@pytest.fixture(scope="module")
def jet_run(tmp_path_factory):
    pytest.importorskip(PACKAGE)
    root = tmp_path_factory.mktemp("jets")
    path = root / "jets.root"
    write_jets(path, [make_table(20, seed=3, candidates=(3, 12))])
    config = JetImageTraining(
        train=(path,), output=root / "run", backbone=NAME, pixels=56, jets=16, validation=0.25, batch=8, epochs=1.0,
        evaluations=1, progress=False,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(root / "cache"))
        return config, *train_jets(config)


def test_jets_train_behind_it(jet_run):
    config, model, fitted, held = jet_run
    assert fitted.finished
    assert len(held) == 4
    assert held.max() < 20
    arrays = load_file(config.output / "model" / "weights.safetensors")
    assert not [name for name in arrays if "featurizer" in name]
    tagger = load_tagger(config.output / "model")
    assert (tagger.model.kind, tagger.labels) == ("jet-backbone", LABELS)
    assert tagger.model.network.config == model.network.config
    assert f"By {NAME}" in model.card
    # What was computed once is what the whole network computes of the jets.
    (kept,) = (config.output.parent / "cache" / "features").iterdir()
    jets = read_labelled_jets(config.train, ABSOLUTE_INPUTS)
    rows = chosen_rows(20, 16, 0)
    logits = model.network.classifier(jnp.asarray(read_arrays(kept, Kept).values))
    found = tagger.scorer(Jets(*(column[rows] for column in jets)))
    np.testing.assert_allclose(found, jax.nn.softmax(logits), rtol=1e-3, atol=1e-5)


def test_it_is_not_trained_with_jets_either(jet_run):
    config = jet_run[0]
    again = JetImageTraining(train=config.train, output=config.output, initial=str(config.output / "model"))
    with pytest.raises(ConfigError, match="--fine-tune"):
        train_jets(again)


def test_jets_in_two_parts(jet_run, tmp_path):
    config, model, *_ = jet_run
    export_jet_images(tmp_path, model, name="photo", batches=(2,))
    engine = connect_parts(f"local:{tmp_path}", model="photo")
    tagger = load_tagger(config.output / "model")
    table = make_table(2, seed=5)
    jets = make_jets(jet_columns(table), tagger.inputs)[0]
    found = engine.produce(engine.acquire(pack_jets(jets, tagger)))["scores"]
    engine.close()
    np.testing.assert_allclose(found, tagger.scorer(jets), rtol=1e-3, atol=1e-5)


def test_pixels_are_shown_by_their_logarithm():
    """Of one view there is a picture too; bright pixels stay 1, dark ones are lifted."""
    config = BackboneConfig(backbone=NAME, pixels=32, image=(32, 32), views=1, gain=3.0)
    seen = []
    network = SimpleNamespace(featurizer=lambda picture: seen.append(picture) or picture[:, 0, 0])
    featurizer = MergedFeaturizer(config, Backbone(NAME, network, lambda images: images, {}))
    image = np.zeros((1, 32, 32, 1), np.float32)
    image[0, 3, 7], image[0, 4, 7] = 1.0, 1 / 3
    featurizer(jnp.asarray(image))
    # Rows and columns change places: the first axis of a view runs to the right.
    np.testing.assert_allclose(seen[0][0, 7, 3], np.ones(3), rtol=1e-6)
    np.testing.assert_allclose(seen[0][0, 7, 4], np.full(3, 0.5), rtol=1e-6)
    assert float(seen[0].sum()) == pytest.approx(4.5, rel=1e-5)


def test_sizes_that_cannot_be():
    with pytest.raises(ConfigError, match="sizes"):
        BackboneConfig(backbone=NAME, hidden=0)
    with pytest.raises(ConfigError, match="gain"):
        BackboneConfig(backbone=NAME, gain=-1.0)
    with pytest.raises(ConfigError, match="there is no preset 'inception'"):
        assert BackboneConfig(backbone="inception").features
