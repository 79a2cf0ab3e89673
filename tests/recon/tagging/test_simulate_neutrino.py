"""`recon simulate neutrino` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.cli import main
from recon.io.pixel_maps import has_empty_view, join_events
from recon.io.root import read_metadata
from recon.io.root_pixel_maps import read_neutrino_events
from recon.tagging.labels import NEUTRINO_LABELS, NEUTRINO_MODES


def test_events_in_a_file(tmp_path, capsys):
    output, totals = tmp_path / "new" / "events.root", tmp_path / "totals.json"
    options = ["--events", "41", "--seed", "4", "--json", str(totals)]
    assert main(["simulate", "neutrino", "-o", str(output), *options]) == 0
    printed = capsys.readouterr().out
    assert "41 events in" in printed
    assert "events a CPU second" in printed
    events = join_events(list(read_neutrino_events(output)))
    written = json.loads(totals.read_text())
    assert written["labels"] == {
        name: int(np.sum(events.label == row)) for row, name in enumerate(NEUTRINO_LABELS)
    }
    assert written["labels"]["numu CC"] == 9
    assert written["modes"] == {
        name: int(np.sum(events.truth.mode == row)) for row, name in enumerate(NEUTRINO_MODES)
    }
    assert written["hits"] == len(events.charge)
    assert written["hits_outside"] == events.outside.sum()
    assert written["events_with_empty_view"] == has_empty_view(events).sum()
    assert written["events"] == 41
    settings = read_metadata(output)["simulation"]
    assert settings == written["simulation"]
    assert (settings["seed"], settings["events"], settings["min_hits"]) == (4, 41, 20)
    assert set(settings["versions"]) == {"numba"}


def test_some_classes(tmp_path):
    output = tmp_path / "events.root"
    options = ["--events", "6", "--classes", "nue", "nc", "--min-hits", "40", "--layout", "rntuple"]
    assert main(["simulate", "neutrino", "-o", str(output), *options]) == 0
    events = join_events(list(read_neutrino_events(output)))
    assert events.label.tolist() == [1, 3] * 3
    assert (np.diff(events.offsets) + events.outside >= 40).all()


def test_settings_that_cannot_be(tmp_path, capsys):
    assert main(["simulate", "neutrino", "-o", str(tmp_path / "events.root"), "--min-hits", "0"]) == 2
    assert "min_hits of the neutrino simulation is 0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_flux_of_a_file(tmp_path, capsys):
    output, flux = tmp_path / "events.root", tmp_path / "flux.txt"
    flux.write_text("# GeV nue numu\n1 9 0\n2 9 1\n100 9 0\n")
    words = [
        "simulate",
        "neutrino",
        "-o",
        str(output),
        "--events",
        "4",
        "--classes",
        "numu",
        "--flux",
        str(flux),
    ]
    assert main([*words, "--flux-column", "2"]) == 0
    assert "16 % of the neutrinos of" in capsys.readouterr().out.replace("\n", " ")
    kept = read_metadata(output)["simulation"]["flux"]
    assert kept == {"energy": [1, 2, 100], "flux": [0, 1, 0]}
    assert main([*words, "--flux-column", "3"]) == 2
    assert "flux column 3 of" in capsys.readouterr().err
