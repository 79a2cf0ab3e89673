"""Copies of PFNano with scores: every branch as it was, scores at their jets, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import DataError
from recon.io.root_pfnano_scores import write_pfnano_scores

COUNTS = [2, 0, 1, 3]


@pytest.fixture
def source(tmp_path):
    """Four events by hand, with lists of two lengths, a text and a tree of runs."""
    path = tmp_path / "nano.root"
    rng = np.random.default_rng(0)
    muons = [1, 1, 0, 2]
    with uproot.recreate(path) as file:
        types = {
            "run": "uint32",
            "MET_pt": "float32",
            "FatJet_pt": "var * float32",
            "FatJet_id": "var * uint8",
        }
        file.mktree(
            "Events", types | {"Muon_q": "var * int32"}, counter_name=lambda name: "n" + name.split("_")[0]
        )
        file["Events"].extend(
            {
                "run": np.arange(4, dtype=np.uint32),
                "MET_pt": rng.random(4, np.float32),
                "nFatJet": np.array(COUNTS, np.int32),
                "FatJet_pt": ak.unflatten(rng.random(6, np.float32), COUNTS),
                "FatJet_id": ak.unflatten(np.arange(6, dtype=np.uint8), COUNTS),
                "nMuon": np.array(muons, np.int32),
                "Muon_q": ak.unflatten(np.array([1, -1, 1, 1], np.int32), muons),
            }
        )
        file.mktree("Runs", {"run": "uint32"})
        file["Runs"].extend({"run": np.array([7], np.uint32)})
        file["note"] = "a text"
    return path


def scores(n=6, classes=2):
    return np.random.default_rng(1).random((n, classes), np.float32)


@pytest.mark.parametrize("cuts", [(), (1, 2, 5), (3, 3)])
def test_every_branch_and_the_scores(source, tmp_path, cuts):
    wanted = scores()
    pieces = np.split(wanted, cuts)
    jets, left_out = write_pfnano_scores(source, tmp_path / "copy.root", pieces, ["mine_T", "mine_QCD"])
    assert (jets, left_out) == (6, ["note"])
    with uproot.open(source) as old, uproot.open(tmp_path / "copy.root") as new:
        before, after = old["Events"], new["Events"]
        assert set(after.keys()) == {*before.keys(), "FatJet_mine_T", "FatJet_mine_QCD"}
        for name in before.keys():  # noqa: SIM118  no mapping
            assert ak.array_equal(after[name].array(), before[name].array()), name
        for column, name in enumerate(("T", "QCD")):
            added = after[f"FatJet_mine_{name}"].array()
            assert ak.num(added).to_list() == COUNTS
            np.testing.assert_array_equal(ak.flatten(added), wanted[:, column])
        assert new["Runs"]["run"].array().to_list() == [7]


@pytest.mark.parametrize(("n", "message"), [(5, "scores of 5 jets only"), (8, "scores of 2 jets too many")])
def test_as_many_scores_as_jets(source, tmp_path, n, message):
    with pytest.raises(DataError, match=message):
        write_pfnano_scores(source, tmp_path / "copy.root", [scores(n)], ["a", "b"])
    assert not (tmp_path / "copy.root").exists()


def test_names_that_are_taken(source, tmp_path):
    with pytest.raises(DataError, match="there is a branch 'FatJet_pt' already"):
        write_pfnano_scores(source, tmp_path / "copy.root", [scores()], ["pt", "b"])


def test_files_without_events(tmp_path):
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("tree", {"x": "float32"})
    with pytest.raises(DataError, match="expected a TTree or RNTuple called 'Events'"):
        write_pfnano_scores(tmp_path / "other.root", tmp_path / "copy.root", [], [])
    with pytest.raises(DataError, match="no such file"):
        write_pfnano_scores(tmp_path / "absent.root", tmp_path / "copy.root", [], [])


def test_branches_of_jets_alone(source, tmp_path):
    _, left_out = write_pfnano_scores(source, tmp_path / "copy.root", [scores()], ["a", "b"], keep="jets")
    assert left_out == []
    with uproot.open(tmp_path / "copy.root") as new:
        assert set(new["Events"].keys()) == {
            "run",
            "nFatJet",
            "FatJet_pt",
            "FatJet_id",
            "FatJet_a",
            "FatJet_b",
        }
        assert ak.num(new["Events"]["FatJet_a"].array()).to_list() == COUNTS
        assert "Runs" not in new


@pytest.mark.slow
def test_the_whole_file_of_cms(tmp_path):
    path = Path(__file__).parents[4] / "shared" / "data" / "jets" / "pfnano.root"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    jets, left_out = write_pfnano_scores(path, tmp_path / "copy.root", [scores(24, 1)], ["mine"])
    assert jets == 24
    # Texts and tables of the framework; no branch of the events.
    assert left_out == ["tag", "MetaData", "ParameterSets"]
    with uproot.open(path) as old, uproot.open(tmp_path / "copy.root") as new:
        before, after = old["Events"], new["Events"]
        assert len(after.keys()) == len(before.keys()) + 1 == 1803
        for name in before.keys():  # noqa: SIM118  no mapping
            assert ak.array_equal(
                after[name].array(), before[name].array(), equal_nan=True, dtype_exact=False
            ), name
