"""Neutrino events behind a network that others trained."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from recon.errors import ConfigError
from recon.io.root_pixel_maps import write_neutrino_events
from recon.nn.pretrained import PACKAGE
from recon.tagging.backbone_network import BackboneConfig, BackboneNetwork
from recon.tagging.cvn import NeutrinoModel, load_model, save_model
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import score_events
from recon.tagging.neutrino_training import NeutrinoTraining, train
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


def test_sizes_that_cannot_be():
    with pytest.raises(ConfigError, match="sizes"):
        BackboneConfig(backbone=NAME, hidden=0)
    with pytest.raises(ConfigError, match="there is no preset 'inception'"):
        assert BackboneConfig(backbone="inception").features
