"""Networks for neutrino events as directories, and their scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from recon.errors import ConfigError, DataError
from recon.io.pixel_maps import CELLS
from recon.io.weights import save_model as save_directory
from recon.nn.patch_network import PatchNetworkConfig
from recon.tagging.cvn import EventScorer, load_model, model_names, save_model
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import losses, score_events
from recon.tagging.pixel_maps import images_of
from tests.recon.io.neutrino_events import make_events
from tests.recon.tagging.small_neutrinos import small_model

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def directory(model, tmp_path):
    save_model(tmp_path / "mine", model)
    return tmp_path / "mine"


def test_there_and_back(model, directory):
    events = make_events(9)
    found = load_model(directory)
    assert (found.name, found.labels, found.card.strip()) == ("mine", NEUTRINO_LABELS, model.card)
    assert found.network.config == model.network.config
    np.testing.assert_array_equal(score_events(events, found), score_events(events, model))


def test_scores_are_probabilities_in_any_company(model):
    events = make_events(20, seed=2)
    scores = score_events(events, model)
    assert scores.shape == (20, 5)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    alone = score_events(make_events(1, seed=2), model)
    np.testing.assert_allclose(alone[0], scores[0], rtol=1e-4)
    assert score_events(make_events(1)._replace(), model).shape == (1, 5)


def test_left_and_right_make_no_difference_to_the_mean_of_both(model):
    events = make_events(12, seed=3)
    mirrored = events._replace(
        cell=np.where(events.view == 0, CELLS - 1 - events.cell, events.cell).astype(np.int32)
    )
    one, other = score_events(events, model), score_events(mirrored, model)
    assert np.abs(one - other).max() > 1e-4
    for given in (events, mirrored):
        both = score_events(given, model, reflections=True)
        np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-5, atol=1e-7)


def test_few_programs(model):
    scorer = EventScorer(model.network, batch=16)
    images = images_of(make_events(40), np.arange(40))
    whole = scorer(images)
    for count in (1, 3, 8, 16, 40):
        np.testing.assert_allclose(scorer(images[:count]).scores, whole.scores[:count], rtol=1e-4, atol=1e-6)
    assert scorer.programs <= 3
    assert whole.features.shape == (40, model.network.config.features)


def test_no_events(model):
    scored = EventScorer(model.network, batch=8)(np.zeros((0, 100, 80, 2), np.float32))
    assert scored.scores.shape == (0, 5)


def test_what_is_not_seen_is_counted():
    events = make_events(7)
    counted = losses(events)
    assert counted["hits"] == len(events.charge)
    assert counted["hits_outside"] == int(events.outside.sum())
    assert counted["events_with_empty_view"] >= 1


def test_missing_and_extra_tensors_are_named(model, directory):
    arrays = load_file(directory / "weights.safetensors")
    config = json.loads((directory / "config.json").read_text())
    name = sorted(arrays)[0]
    fewer = {key: array for key, array in arrays.items() if key != name}
    save_directory(directory, fewer, config, "card")
    with pytest.raises(ConfigError, match=name):
        load_model(directory)
    save_directory(directory, arrays | {"another/kernel": np.zeros(3, np.float32)}, config, "card")
    with pytest.raises(ConfigError, match="another/kernel"):
        load_model(directory)
    save_directory(directory, arrays | {name: np.zeros(999, np.float32)}, config, "card")
    with pytest.raises(ConfigError, match=name):
        load_model(directory)


def test_models_of_other_tasks(model, directory):
    config = json.loads((directory / "config.json").read_text())
    arrays = load_file(directory / "weights.safetensors")
    save_directory(directory, arrays, config | {"kind": "deepak8"}, "card")
    with pytest.raises(DataError, match="kind 'deepak8'"):
        load_model(directory)
    save_directory(directory, arrays, {"labels": []}, "card")
    with pytest.raises(DataError, match="no model for neutrino events"):
        load_model(directory)
    with pytest.raises(ConfigError, match="no model 'nowhere'"):
        load_model("nowhere")


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_are_small_and_have_a_card(name):
    found = load_model(name)
    assert found.card.startswith("# ")
    assert isinstance(found.network.config, PatchNetworkConfig)
    assert score_events(make_events(3), found).shape == (3, 5)
