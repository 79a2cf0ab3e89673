"""The settings of the chain as JSON, there and back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from recon.errors import ConfigError
from recon.tracking.building import BuildingConfig
from recon.tracking.cleaning import CleaningConfig
from recon.tracking.config import TrackingConfig
from recon.tracking.fit_setup import FitConfig
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.model import NetworkConfig
from recon.tracking.windows import WindowConfig

# No value is a default: one that got lost on the way would be noticed.
UNUSUAL = TrackingConfig(
    detector="generic",
    windows=WindowConfig(pt_min=0.31, quantile=0.77, pixel_only=True),
    network=NetworkConfig(node_features=3, edge_features=5, hidden=7, layers=2, normalise=False),
    building=BuildingConfig(edge_score=0.123, max_steps=11),
    cleaning=CleaningConfig(rounds=3, pt_min=0.77),
    fit=FitConfig(field=3.8, iterations=5),
)


def through_json(config):
    return TrackingConfig.from_json(json.loads(json.dumps(config.to_json())))


@pytest.mark.parametrize("config", [TrackingConfig(), UNUSUAL], ids=["defaults", "unusual"])
def test_round_trip(config):
    assert through_json(config) == config
    assert hash(through_json(config)) == hash(config)


def test_json_names_every_setting():
    tree = UNUSUAL.to_json()
    assert set(tree) == {field.name for field in dataclasses.fields(TrackingConfig)}
    assert tree["fit"]["field"] == 3.8
    assert tree["windows"]["pixel_only"] is True


def test_network_fits_the_features():
    network = TrackingConfig().network
    assert (network.node_features, network.edge_features) == (len(NODE_FEATURES), len(EDGE_FEATURES))


def test_missing_settings_are_the_defaults():
    assert TrackingConfig.from_json({}) == TrackingConfig()
    short = TrackingConfig.from_json({"building": {"edge_score": 0.5}})
    assert short.building == BuildingConfig(edge_score=0.5)


def test_unknown_part_is_named():
    with pytest.raises(ConfigError, match=r"tracking configuration has no setting fti;.* fit"):
        TrackingConfig.from_json({"fti": {}})


@pytest.mark.parametrize("part", ["windows", "network", "building", "cleaning", "fit"])
def test_unknown_setting_is_named(part):
    tree = TrackingConfig().to_json()
    known = next(iter(tree[part]))
    tree[part] |= {"speed": 1, "colour": 2}
    with pytest.raises(ConfigError, match=rf"{part} configuration has no setting colour, speed;.*{known}"):
        TrackingConfig.from_json(tree)


def test_forbidden_value_is_named():
    tree = TrackingConfig().to_json()
    tree["building"]["min_hits"] = 1
    with pytest.raises(ConfigError, match="min_hits = 1"):
        TrackingConfig.from_json(tree)


@pytest.mark.parametrize(
    ("part", "value"),
    [("fit", 3), ("fit", None), ("network", {"hidden": 8}), ("building", {"min_hits": "six"})],
)
def test_value_of_the_wrong_kind_is_named(part, value):
    with pytest.raises(ConfigError, match=part):
        TrackingConfig.from_json({part: value})
