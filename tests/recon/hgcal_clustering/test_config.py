"""The settings of the chain as JSON, there and back."""

from __future__ import annotations

import dataclasses
import json

import pytest

from recon.errors import ConfigError
from recon.hgcal_clustering import HgcalConfig
from recon.hgcal_clustering.calibration import CalibrationConfig
from recon.hgcal_clustering.clue3d import Clue3dConfig
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig
from recon.hgcal_clustering.clue_hits import HitClueConfig
from recon.hgcal_clustering.clue_layers import LayerClueConfig
from recon.hgcal_clustering.hybrid import HybridConfig
from recon.hgcal_clustering.imaging import ImagingConfig
from recon.hgcal_clustering.layer_clusters import LayerClusterConfig
from recon.hgcal_clustering.shower_graph import GraphConfig

# No part is the default: one that got lost on the way would be noticed.
UNUSUAL = HgcalConfig(
    method="hits",
    layers=LayerClueConfig(kappa=7.0),
    layer_clusters=LayerClusterConfig(window=20.0),
    clue3d=Clue3dConfig(sibling_layers=3),
    hits=HitClueConfig(d_c=15.0),
    imaging=ImagingConfig(radius=30.0),
    clusters=ClusterClueConfig(d_c=30.0),
    hybrid=HybridConfig(graph=GraphConfig(slots=3)),
    calibration=CalibrationConfig(front_layers=28, scale=0.9),
)


@pytest.mark.parametrize("config", [HgcalConfig(), UNUSUAL], ids=["defaults", "unusual"])
def test_round_trip(config):
    again = HgcalConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert hash(again) == hash(config)


def test_every_part_is_unusual():
    assert all(
        getattr(UNUSUAL, item.name) != getattr(HgcalConfig(), item.name)
        for item in dataclasses.fields(HgcalConfig)
    )


def test_missing_settings_are_the_defaults():
    assert HgcalConfig.from_json({}) == HgcalConfig()
    assert HgcalConfig.from_json({"clue3d": {"sibling_layers": 3}}).clue3d == Clue3dConfig(sibling_layers=3)


def test_what_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"hgcal configuration has no setting clue;.* clue3d"):
        HgcalConfig.from_json({"clue": {}})
    with pytest.raises(ConfigError, match="layers configuration has no setting speed; there are d_c"):
        HgcalConfig.from_json({"layers": {"speed": 1}})
    with pytest.raises(ConfigError, match=r"Clue3dConfig.density_radius = -1.0"):
        HgcalConfig.from_json({"clue3d": {"density_radius": -1.0}})
    with pytest.raises(ConfigError, match="method = 'magic'; allowed are clue3d, hits, imaging"):
        HgcalConfig(method="magic")


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (LayerClueConfig, {"kappa": 0.0}),
        (LayerClueConfig, {"d_c": -1.0}),
        (HitClueConfig, {"layer_step": 0.0}),
        (HitClueConfig, {"outlier_delta_factor": 0.9}),
    ],
    ids=str,
)
def test_settings_outside_their_range(kind, setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        kind(**setting)
