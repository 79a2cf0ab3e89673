"""`recon simulate hgcal` in this process, and what it says."""

from __future__ import annotations

import json

import pytest

from recon.cli import USER_ERROR
from recon.hgcal_clustering.geometry import load_calorimeter
from recon.io.root import read_metadata
from recon.io.root_rechits import read_rechits
from tests.command_line import run


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Tests must not depend on the user's cache, nor leave anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_simulate(tmp_path, capsys):
    path, summary = tmp_path / "new folder" / "hits.root", tmp_path / "summary.json"
    words = ["simulate", "hgcal", "-o", path, "--events", 2, "--first-event", 5, "--n-particles", 2]
    load_calorimeter.cache_clear()
    words += ["--pileup", 3, "--pileup-source", "hagedorn", "--minbias-pool", 20, "--workers", 1]
    assert run(*words, "--json", summary) == 0
    printed = capsys.readouterr().out
    assert "a parametrisation: " in printed
    assert " cells made in " in printed
    other = tmp_path / "empty.root"
    assert run("simulate", "hgcal", "-o", other, "--events", 0) == 0
    assert list(read_rechits(other)) == []
    assert "cells made" not in capsys.readouterr().out
    assert f"in {path}" in printed
    events = list(read_rechits(path))
    assert [event.number for event in events] == [5, 6]
    assert [int(event.truth.hard_scatter.sum()) for event in events] == [2, 2]
    tree, metadata = json.loads(summary.read_text()), read_metadata(path)
    assert tree["hits"] == sum(len(event.hits.energy) for event in events)
    assert tree["simulation"] == metadata["simulation"]
    assert metadata["simulation"]["pileup_source"] == "hagedorn"
    assert "not by following particles" in metadata["method"]
    assert metadata["recon"]["n_layers"] == 47


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--particles", "quark"], "'quark' is unknown; allowed: photon"),
        (["--pileup", "-3"], "pileup of the calorimeter simulation is -3; allowed: 0 to 1000"),
        (["--energy-min", "9", "--energy-max", "3"], "energy_max of the calorimeter simulation is 3.0"),
    ],
)
def test_settings_out_of_range(tmp_path, capsys, words, message):
    assert run("simulate", "hgcal", "-o", tmp_path / "hits.root", *words) == USER_ERROR
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
