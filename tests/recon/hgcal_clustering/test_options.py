"""What the commands share: which detector a file is of, its cells, and which hits count."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from recon.cli import main
from recon.errors import DataError
from recon.hgcal_clustering.commands.options import cells_of, load_graph, open_source, settings_of
from recon.hgcal_clustering.commands.reconstruct import one_endcap
from recon.hgcal_clustering.config import HgcalConfig
from recon.io.root_rechits import write_rechits
from serving.artifact import Artifact
from tests.recon.hgcal_clustering.wedge_events import wedge_event, write_wedge

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def event(wedge, calorimeter, lookup):
    return wedge_event(wedge, calorimeter, lookup)


def silent(stage, done, total):
    """Hears nothing."""


def test_a_graph_is_made_once_for_its_radii(wedge):
    heard = []
    one = load_graph(wedge, HgcalConfig(), lambda *words: heard.append(words))
    assert heard == [("neighbours of the cells", 0, 1), ("neighbours of the cells", 1, 1)]
    assert load_graph(wedge, HgcalConfig(method="imaging"), silent) is one
    wide = HgcalConfig(layers=replace(HgcalConfig().layers, d_c=20.0))
    other = load_graph(wedge, wide, silent)
    assert (np.asarray(other.near[:, 0]) < other.n_cells).mean() > 0.9
    assert other.far.shape > one.far.shape


@pytest.mark.parametrize("method", ["clue3d", "imaging", "hits"])
def test_cells_are_loaded_where_they_are_of_use(event, wedge, calorimeter, method, tmp_path):
    path = write_wedge(tmp_path / "hits.root", wedge, calorimeter, [event])
    config = HgcalConfig(method=method)
    assert (cells_of(open_source(path), config, silent) is None) == (method == "hits")
    assert cells_of(open_source(path, "none"), config, silent) is None


def test_metadata_that_describe_no_calorimeter(event, wedge, tmp_path):
    path = tmp_path / "hits.root"
    write_rechits(path, [event], metadata={"calorimeter": asdict(wedge) | {"colour": "red"}})
    with pytest.raises(DataError, match=r"hits\.root: the metadata describe no calorimeter: .*colour"):
        open_source(path)
    write_rechits(path, [event], metadata={"simulation": "by hand"})
    source = open_source(path)
    assert (source.geometry, source.pileup) == (None, 0.0)


def test_one_endcap_switches_hits_off(event):
    assert one_endcap(event, "both") is event
    ahead, behind = (one_endcap(event, name).hits.valid for name in ("positive", "negative"))
    np.testing.assert_array_equal(ahead, event.hits.position[:, 2] > 0)
    np.testing.assert_array_equal(behind, ~ahead)
    off = event._replace(hits=event.hits._replace(valid=np.zeros_like(ahead)))
    assert not one_endcap(off, "positive").hits.valid.any()


def test_settings_come_from_the_file_alone(tmp_path, wedge):
    config = HgcalConfig(method="imaging")
    (tmp_path / "mine.json").write_text(json.dumps(config.to_json()))
    assert settings_of("hits", tmp_path / "mine.json", wedge) == config


def test_evaluation_of_different_pileup(event, wedge, calorimeter, tmp_path):
    """Events of different files stand at their own pile-up."""
    files = [
        write_wedge(tmp_path / f"pu{pileup}.root", wedge, calorimeter, [event], pileup=pileup)
        for pileup in (0, 140)
    ]
    words = ["evaluate", "hgcal", *files, "-o", tmp_path / "report", "--energy-min", 5]
    words += ["--algorithms", "hits", "--json", tmp_path / "e.json"]
    assert main([str(word) for word in words]) == 0
    (finder,) = json.loads((tmp_path / "e.json").read_text())["finders"]
    total = finder["curves"]["efficiency_vs_pileup"]["total"]
    assert total == [3, *[0] * 6, 3]
    assert (tmp_path / "report" / "efficiency_vs_pileup.png").is_file()


@pytest.mark.slow
def test_export_of_a_whole_detector(tmp_path, capsys):
    words = ["export", "hgcal", "--parts", "layers", "--hits", 1024, "--output", tmp_path / "models [1]"]
    assert main([str(word) for word in words]) == 0
    folder = tmp_path / "models [1]" / "hgcal_layers" / "1"
    printed = capsys.readouterr().out
    assert f"written: {folder}" in printed
    manifest = Artifact(folder).manifest
    cells = next(spec for spec in manifest.inputs if spec.name == "cell").limits[1] + 1
    assert f"{cells:,} cells with their neighbours:" in printed
    assert (folder / "weights.safetensors").stat().st_size < 400e6
    assert main([str(word) for word in words]) == 2
    assert "exists" in capsys.readouterr().err
