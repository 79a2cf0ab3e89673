"""`recon export hgcal`: which settings every part gets, and what it is called on a server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from recon.cli import USER_ERROR, main
from recon.errors import ConfigError
from recon.hgcal_clustering import HgcalConfig
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.cluster_times import TIME_FEATURES
from recon.hgcal_clustering.commands import export as module
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.hgcal_clustering.hybrid_export import export_network
from recon.hgcal_clustering.remote import model_name
from recon.hgcal_clustering.shipped import load_model
from serving.artifact import Artifact

pytestmark = pytest.mark.usefixtures("quick_programs")

COMMON = {"version": "3", "overwrite": False}


@pytest.fixture(scope="module")
def cells(calorimeter):
    return CellGraph.from_calorimeter(calorimeter, cache=False)


@pytest.fixture(autouse=True)
def _small_graphs(monkeypatch):
    """The network is compiled for one small size: the sizes of real events take minutes."""

    def small(*words, **settings):
        return export_network(*words, buckets=((256, 64),), **settings)

    monkeypatch.setattr(module, "export_network", small)


def settings_file(folder, config):
    path = folder / "settings.json"
    path.write_text(json.dumps(config.to_json()))
    return path


def test_names_of_the_artefacts():
    assert model_name("clue3d") == "hgcal"
    assert model_name("tuned") == "hgcal_tuned"
    assert model_name("hits") == "hgcal_hits"


@pytest.mark.parametrize(
    ("part", "method"),
    [
        ("chain", "clue3d"),
        ("layers", "clue3d"),
        ("tuned", "clusters"),
        ("clusters", "clusters"),
        ("imaging", "imaging"),
        ("hits", "hits"),
        ("hybrid", "hybrid"),
        ("hybrid-timing", "hybrid"),
    ],
)
def test_every_part_has_settings_of_its_method(part, method, wedge):
    assert module.config_of(part, None, wedge).method == method


def test_tuned_and_hybrid_are_the_shipped_models(wedge):
    assert module.config_of("tuned", None, wedge) == load_model("tuned").config
    for name in ("hybrid", "hybrid-timing"):
        assert module.config_of(name, None, wedge) == load_model(name).config
    assert module.config_of("clusters", None, wedge).clusters == HgcalConfig().clusters


def test_the_front_section_is_that_of_the_detector():
    config = module.config_of("hits", None, EndcapGeometry(name="v10"))
    assert config.calibration.front_layers == EndcapGeometry(name="v10").layers().n_electromagnetic


def test_settings_from_a_file(wedge, tmp_path):
    base = HgcalConfig(method="hits")
    mine = replace(base, hits=replace(base.hits, d_c=25.0))
    path = settings_file(tmp_path, mine)
    assert module.config_of("hits", path, wedge) == mine
    # Layers are the same whatever follows.
    assert module.config_of("layers", path, wedge) == mine
    with pytest.raises(ConfigError, match="has the method 'hits'; --parts chain is 'clue3d'"):
        module.config_of("chain", path, wedge)


@pytest.mark.parametrize(("part", "name"), [("layers", "hgcal_layers"), ("clusters", "hgcal_clusters")])
def test_parts_with_cells(part, name, cells, wedge, tmp_path):
    config = module.config_of(part, None, wedge)
    folder = module.write_part(tmp_path, part, config, wedge, cells, (256,), COMMON)
    assert folder == tmp_path / name / "3"
    manifest = Artifact(folder).manifest
    assert manifest.name == name
    inputs = [spec.name for spec in manifest.inputs]
    assert inputs == ["position", "energy", "layer", "cell", "sigma_noise"]
    assert (folder / "weights.safetensors").stat().st_size >= cells.n_bytes


def test_command_writes_what_needs_no_cells(tmp_path, capsys):
    parts = ["hits", "hybrid", "hybrid-timing"]
    words = ["export", "hgcal", "-o", tmp_path / "models", "--hits", 256, "--parts", *parts]
    assert main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out.replace("\n", "")
    features = {}
    for name in map(model_name, parts):
        manifest = Artifact(tmp_path / "models" / name / "1").manifest
        assert manifest.name == name
        features[name] = {spec.name: spec.shape for spec in manifest.inputs}.get("nodes", (0, 0))[1]
        assert f"models/{name}/1" in printed
    assert "cells" not in printed
    assert features["hgcal_hybrid-timing"] == features["hgcal_hybrid"] + TIME_FEATURES
    # What is there is not written over unless that is asked for.
    capsys.readouterr()
    assert main([str(word) for word in words]) == USER_ERROR
    assert "hgcal_hits" in capsys.readouterr().err
    assert main([str(word) for word in [*words, "--overwrite"]]) == 0


def test_settings_that_do_not_fit_are_named_before_anything_is_written(tmp_path, capsys):
    path = settings_file(tmp_path, HgcalConfig(method="imaging"))
    words = ["export", "hgcal", "-o", tmp_path / "models", "--parts", "hits", "--settings", path]
    assert main([str(word) for word in words]) == USER_ERROR
    assert "has the method 'imaging'; --parts hits is 'hits'" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
