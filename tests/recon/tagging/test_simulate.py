"""`recon simulate jets` as a user types it."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest

from recon.cli import main
from recon.io.jets import count_jets, read_jet_metadata, read_jets
from recon.tagging.labels import LABELS

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")


def test_jets_in_a_file(tmp_path, capsys):
    output, totals = tmp_path / "new" / "jets.root", tmp_path / "totals.json"
    options = [
        "--process",
        "hz",
        "--jets",
        "40",
        "--pt-min",
        "500",
        "--pt-max",
        "900",
        "--seed",
        "4",
        "--workers",
        "1",
    ]
    assert main(["simulate", "jets", "-o", str(output), "--json", str(totals), *options]) == 0
    assert "40 jets in" in capsys.readouterr().out
    assert count_jets(output) == 40
    table = ak.concatenate(list(read_jets(output)))
    assert 500 <= ak.min(table["jet_pt"]) <= ak.max(table["jet_pt"]) <= 900
    written = json.loads(totals.read_text())
    rows, counts = np.unique(ak.to_numpy(table["jet_label"]), return_counts=True)
    assert written["labels"] == {LABELS[row]: count for row, count in zip(rows, counts, strict=True)}
    settings = read_jet_metadata(output)["simulation"]
    assert settings == written["simulation"]
    assert (settings["process"], settings["seed"], settings["chunk_events"]) == ("hz", 4, 200)
    assert set(settings["versions"]) == {"pythia8mc", "fastjet"}


def test_settings_that_cannot_be(tmp_path, capsys):
    assert main(["simulate", "jets", "-o", str(tmp_path / "jets.root"), "--pt-min", "5"]) == 2
    assert "pt_min of the jet simulation is 5.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
