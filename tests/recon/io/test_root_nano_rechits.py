"""HGCAL hits in NanoAOD-like files."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import DataError
from recon.io.root_nano_rechits import read_nano_rechits

LAYER_Z = np.array([3221.55, 3231.49, 3252.12], np.float32)
HITS = {
    "RecHitHGC_energy": [[1.0, 2.0, 0.5], [], [4.0]],
    "RecHitHGC_x": [[10.0, -20.0, 30.0], [], [50.0]],
    "RecHitHGC_y": [[1.0, 2.0, 3.0], [], [5.0]],
    "RecHitHGC_z": [[322.155, -323.149, 325.3], [], [-325.212]],
}
TRUTH = {
    "RecHitHGC_SimClusterBestMatchIdx": [[1, -1, 0], [], [0]],
    "RecHitHGC_SimClusterBestMatchQual": [[0.75, 0.0, 1.0], [], [0.5]],
    "SimCluster_pt": [[3.0, 4.0], [1.0], [2.0]],
    "SimCluster_eta": [[2.0, -2.0], [1.7], [2.5]],
    "SimCluster_phi": [[0.0, np.pi / 2], [0.0], [1.0]],
    "SimCluster_pdgId": [[22, -211], [11], [130]],
}


def write(path, tree="Events", numbers=(11, 12, 13), **columns):
    """A file as CMS writes it: one counter a collection."""
    arrays = {
        name: ak.values_astype(ak.Array(values), "int32" if name.endswith(("Idx", "Id")) else "float32")
        for name, values in columns.items()
    }
    types = {name: ak.type(array[:0]).content for name, array in arrays.items()}
    if numbers is not None:
        arrays["event"] = np.array(numbers, np.uint64)
        types["event"] = "uint64"
    with uproot.recreate(path) as file:
        file.mktree(tree, types, counter_name=lambda name: "n" + name.split("_")[0])
        file[tree].extend(arrays)
    return path


def test_hits_in_millimetres_on_their_layers(tmp_path):
    events = list(read_nano_rechits(write(tmp_path / "nano.root", **HITS), LAYER_Z))
    assert [event.number for event in events] == [11, 12, 13]
    first = events[0].hits
    np.testing.assert_allclose(first.position[0], [100.0, 10.0, 3221.55], rtol=1e-6)
    assert first.layer.tolist() == [0, 1, 2]
    assert first.energy.tolist() == [1.0, 2.0, 0.5]
    assert first.cell.tolist() == [-1] * 3
    assert first.sigma_noise.tolist() == [0.0] * 3
    assert len(events[1].hits.energy) == 0
    assert events[2].hits.layer.tolist() == [2]
    assert all(event.truth is None for event in events)


def test_simulated_clusters_are_the_truth(tmp_path):
    first, second, third = read_nano_rechits(write(tmp_path / "nano.root", **HITS, **TRUTH), LAYER_Z)
    truth = first.truth
    assert truth.hit.tolist() == [0, 2]
    assert truth.particle.tolist() == [1, 0]
    assert truth.fraction.tolist() == [0.75, 1.0]
    assert truth.pdg.tolist() == [22, -211]
    assert truth.charge.tolist() == [0, -1]
    np.testing.assert_allclose(truth.momentum[0], [3.0, 0.0, 3.0 * np.sinh(2.0)], atol=1e-5)
    np.testing.assert_allclose(truth.momentum[1], [0.0, 4.0, -4.0 * np.sinh(2.0)], atol=1e-5)
    assert second.truth.charge.tolist() == [-1]
    assert len(second.truth.hit) == 0
    assert third.truth.fraction.tolist() == [0.5]


def test_merged_clusters_where_there_are_no_others(tmp_path):
    merged = {
        name.replace("SimCluster", "MergedSimCluster"): values
        for name, values in TRUTH.items()
        if "Qual" not in name
    }
    first, *_ = read_nano_rechits(write(tmp_path / "nano.root", **HITS, **merged), LAYER_Z)
    assert first.truth.fraction.tolist() == [1.0, 1.0]
    assert first.truth.particle.tolist() == [1, 0]


def test_a_part_of_a_file_without_event_numbers(tmp_path):
    path = write(tmp_path / "nano.root", tree="tree", numbers=None, **HITS)
    events = list(read_nano_rechits(path, LAYER_Z, tree="tree", entry_start=2))
    assert [event.number for event in events] == [2]


def test_missing_branches_are_named(tmp_path):
    path = write(tmp_path / "nano.root", **{name: HITS[name] for name in HITS if name != "RecHitHGC_z"})
    with pytest.raises(DataError, match=r"nano.root: 'Events' lacks the branches \['RecHitHGC_z'\]"):
        list(read_nano_rechits(path, LAYER_Z))
    with pytest.raises(DataError, match="expected a TTree or RNTuple called 'other'"):
        list(read_nano_rechits(path, LAYER_Z, tree="other"))


def test_hits_of_another_geometry_are_refused(tmp_path):
    path = write(tmp_path / "nano.root", **HITS)
    message = r"event 11 \(entry 0\): RecHitHGC_z \(cm\) is 325.* at hit row 2; every hit lies within 8.0 mm"
    with pytest.raises(DataError, match=message):
        list(read_nano_rechits(path, LAYER_Z[:2]))


def test_matches_with_clusters_that_are_not_there(tmp_path):
    wrong = TRUTH | {"RecHitHGC_SimClusterBestMatchIdx": [[1, -1, 2], [], [0]]}
    path = write(tmp_path / "nano.root", **HITS, **wrong)
    with pytest.raises(DataError, match="RecHitHGC_SimClusterBestMatchIdx is 2 at hit row 2; allowed are -1"):
        list(read_nano_rechits(path, LAYER_Z))


def test_bad_energies_and_damaged_files(tmp_path):
    path = write(tmp_path / "nano.root", **(HITS | {"RecHitHGC_energy": [[1.0, np.nan, 1.0], [], [1.0]]}))
    with pytest.raises(DataError, match="hit_energy is nan at hit row 1"):
        list(read_nano_rechits(path, LAYER_Z))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"nano.root: truncated"):
        list(read_nano_rechits(path, LAYER_Z))
