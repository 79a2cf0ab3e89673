"""Model directories: written and read back, shipped, unknown and damaged ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from recon.errors import ConfigError, DataError, ReconError
from recon.io.weights import load_model as load_directory
from recon.io.weights import save_model as save_directory
from recon.tracking.config import TrackingConfig
from recon.tracking.shipped import CHECKPOINTS, DEFAULT, load_model, model_names, save_tracking_model


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture
def copied(shipped, tmp_path):
    """Directory of a copy of the shipped model."""
    save_tracking_model(tmp_path / "copy", shipped)
    return tmp_path / "copy"


def test_default_model_is_shipped():
    assert DEFAULT in model_names()


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_are_small_and_have_a_card(name):
    size = sum(path.stat().st_size for path in (CHECKPOINTS / name).iterdir())
    assert size < 5_000_000
    model = load_model(name)
    assert model.card.startswith("# ")
    assert len(model.pairs.inner) > 20
    assert all(np.isfinite(array).all() for array in model.weights.values())


def test_round_trip(shipped, copied):
    again = load_model(copied)
    assert again.config == shipped.config
    assert again.card == shipped.card
    assert again.weights.keys() == shipped.weights.keys()
    for name, array in shipped.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)
        assert again.weights[name].dtype == array.dtype
    for name, array in shipped.pairs._asdict().items():
        np.testing.assert_array_equal(getattr(again.pairs, name), array)


def test_round_trip_of_other_settings(shipped, tmp_path):
    config = replace(shipped.config, building=replace(shipped.config.building, edge_score=0.123))
    save_tracking_model(tmp_path, replace(shipped, config=config))
    assert load_model(tmp_path).config == config
    assert load_model(str(tmp_path)).config == config


def test_model_knows_its_detector(shipped):
    assert len(shipped.detector.layer) == len(shipped.device.rotation)
    assert shipped.device.surfaces.plane.shape[0] == len(shipped.detector.layer)
    assert shipped.device is shipped.device
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(shipped.device))


@pytest.mark.parametrize("name", ["no-such-model", "/nowhere/at/all", "../checkpoints"])
def test_unknown_name_lists_the_shipped_models(name):
    with pytest.raises(ConfigError, match=f"{re.escape(repr(name))}.*{DEFAULT}"):
        load_model(name)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "CARD.md"])
def test_missing_file(copied, name):
    (copied / name).unlink()
    with pytest.raises(DataError, match=re.escape(str(copied))):
        load_model(copied)


def test_truncated_weights(copied):
    path = copied / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_model(copied)


def test_flipped_bit(copied):
    path = copied / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="checksum"):
        load_model(copied)


def test_settings_of_another_model(copied):
    path = copied / "config.json"
    tree = json.loads(path.read_text())
    tree["building"]["edge_score"] = 0.987
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=re.escape(str(copied))):
        load_model(copied)


def rewrite(directory, drop=(), add=None):
    """The model in a directory, changed, with a valid checksum."""
    arrays, config, card = load_directory(directory)
    kept = {name: array for name, array in arrays.items() if name not in drop} | (add or {})
    save_directory(directory, kept, config, card)


@pytest.mark.parametrize("name", ["pairs/inner", "pairs/triplet"])
def test_layer_pair_map_without_a_column(copied, name):
    rewrite(copied, drop={name})
    with pytest.raises(DataError, match=f"{re.escape(str(copied))}.*{name.removeprefix('pairs/')}"):
        load_model(copied)


def test_layer_pair_map_with_a_foreign_column(copied):
    rewrite(copied, add={"pairs/colour": np.zeros(3, np.float32)})
    with pytest.raises(DataError, match="colour"):
        load_model(copied)


def test_model_of_another_kind(tmp_path):
    save_directory(
        tmp_path, {"weight": np.zeros(3, np.float32)}, TrackingConfig().to_json(), "# Something else"
    )
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        load_model(tmp_path)


def test_weights_of_another_network_are_refused(shipped, tmp_path):
    network = replace(shipped.config.network, hidden=shipped.config.network.hidden + 8)
    save_tracking_model(tmp_path, replace(shipped, config=replace(shipped.config, network=network)))
    with pytest.raises(ReconError):
        _ = load_model(tmp_path).device
