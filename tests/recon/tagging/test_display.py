"""`recon display jets` and `recon demo jets`, and what a picture takes of a jet in a file."""

from __future__ import annotations

import json
from importlib.util import find_spec

import awkward as ak
import numpy as np
import pytest

from recon.cli import USER_ERROR
from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets, write_jets
from recon.tagging import LABELS
from recon.tagging.commands import demo
from recon.tagging.scene import KINDS, describe, jet_scene
from tests.command_line import run
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")


def test_scene_of_one_jet_among_several():
    table = make_table(4, seed=1, candidates=(2, 6), vertices=(1, 3))
    scores = np.array([0.25, 0.75], np.float32)
    scene = jet_scene(jet_columns(table), 2, title="t", labels=("QCD", "T"), scores=scores)
    np.testing.assert_allclose(scene.position[:, 0], table["part_deta"][2])
    np.testing.assert_allclose(scene.pt, np.hypot(table["part_px"][2], table["part_py"][2]), rtol=1e-6)
    np.testing.assert_allclose(scene.vertices[:, 1], table["sv_dphi"][2])
    for row, name in enumerate(KINDS):
        np.testing.assert_array_equal(scene.kind == row, np.asarray(table[f"part_is{name}"][2]))
    assert scene.vertex_notes[0].endswith(f"GeV, {table['sv_ntracks'][2][0]} tracks")
    assert (scene.classes, scene.scores) == (("QCD", "T"), [0.25, 0.75])


def test_scene_of_files_that_say_less():
    table = make_table(3, seed=2, candidates=(2, 6), vertices=(1, 3))
    kept = ("jet_pt", "part_px", "part_py", "part_deta", "part_dphi")
    bare = jet_columns(ak.Array({name: table[name] for name in kept}))
    scene = jet_scene(bare, 1, title="t")
    assert set(scene.kind) == {len(KINDS)}
    assert scene.vertices.shape == (0, 2)
    assert scene.classes == ()
    assert describe(bare, 1, LABELS) == f"jet with pT {table['jet_pt'][1]:.0f} GeV"
    assert describe(jet_columns(table), 1, LABELS).endswith(f": {LABELS[table['jet_label'][1]]}")
    assert jet_scene(jet_columns(table), 0, title="t").position.shape == (0, 2)


def test_display(tmp_path, small_models, capsys):
    write_jets(tmp_path / "jets.root", [make_table(5, seed=3)])
    words = ["display", "jets", tmp_path / "jets.root", "--model", small_models["deepak8"]]
    assert run(*words, "--jet", 3, "-o", tmp_path / "jet") == 0
    assert (tmp_path / "jet.png").read_bytes()[:4] == b"\x89PNG"
    assert "jet with pT" in (tmp_path / "jet.html").read_text()
    for jet in (5, -1):
        capsys.readouterr()
        assert run(*words, "--jet", jet, "-o", tmp_path / "none") == USER_ERROR
        assert f"has no jet {jet}; it has 5, counted from 0" in capsys.readouterr().err


def test_jets_that_ship():
    table = ak.concatenate(list(read_jets(demo.SAMPLE)))
    assert len(table) == len(demo.PROCESSES) * demo.SAMPLE_EACH
    assert demo.SAMPLE.stat().st_size < 300_000
    labels = [LABELS[row] for row in np.asarray(table["jet_label"])]
    assert all(label.startswith(("T", "W")) for label in labels[: demo.SAMPLE_EACH])
    assert all(label.startswith("QCD") for label in labels[-demo.SAMPLE_EACH :])


def test_demo_without_the_simulation(tmp_path, small_models, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    summary = tmp_path / "demo.json"
    words = ["demo", "jets", "-o", tmp_path / "demo", "--model", f"mine={small_models['deepak8']}"]
    assert run(*words, "--json", summary) == 0
    printed = capsys.readouterr().out
    assert "the `sim` extra is not installed" in printed
    assert "true classes and what mine says" in printed
    table = ak.concatenate(list(read_jets(tmp_path / "demo" / "jets.root")))
    assert len(table) == len(demo.PROCESSES) * demo.SAMPLE_EACH
    scores = np.stack([np.asarray(table[f"mine_{label}"]) for label in LABELS], axis=1)
    right = (scores.argmax(1) == np.asarray(table["jet_label"])).sum()
    tree = json.loads(summary.read_text())
    assert (tree["accuracy"]["passed"], tree["accuracy"]["total"]) == (right, len(table))
    assert (tmp_path / "demo" / "jet.png").exists()


@pytest.mark.skipif(
    not (find_spec("pythia8mc") and find_spec("fastjet")), reason="the sim extra is not installed"
)
def test_demo(tmp_path, small_models, capsys):
    words = ["demo", "jets", "-o", tmp_path / "demo", "--jets", 4, "--seed", 5]
    assert run(*words, "--model", small_models["deepak8"]) == 0
    assert len(ak.concatenate(list(read_jets(tmp_path / "demo" / "jets.root")))) == 12
    assert "from collisions to tagged jets in" in capsys.readouterr().out


@pytest.mark.parametrize("label", [-1, len(LABELS), 99])
def test_a_label_of_no_class_is_not_told(label):
    table = make_table(2, seed=4)
    table["jet_label"] = np.full(2, label, np.int32)
    assert describe(jet_columns(table), 1, LABELS).endswith(" GeV")
