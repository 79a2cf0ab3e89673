"""Calorimeter events from files of either kind, and points with their clusters."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import ConfigError, DataError
from recon.io.point_clouds import PointCloud, read_point_cloud, write_cluster_ids
from recon.io.root_calorimeter import describe_calorimeter_file, read_calorimeter_file
from recon.io.root_rechits import write_rechits
from tests.reference.toy_showers import layer_z, toy_event


@pytest.fixture(scope="module")
def events():
    return [toy_event(seed=seed)._replace(number=seed) for seed in range(3)]


def test_our_own_files(events, tmp_path):
    write_rechits(tmp_path / "hits.root", events, metadata={"who": "me"})
    file = describe_calorimeter_file(tmp_path / "hits.root")
    assert (file.n_events, file.nano, file.metadata["who"]) == (3, False, "me")
    found = list(read_calorimeter_file(file, entry_start=1, entry_stop=2))
    assert [event.number for event in found] == [1]
    np.testing.assert_array_equal(found[0].hits.energy, events[1].hits.energy)


def test_files_of_cms(events, tmp_path):
    columns = {"event": np.array([event.number for event in events], np.uint64)}
    for axis, name in enumerate("xyz"):
        columns[f"RecHitHGC_{name}"] = ak.Array([event.hits.position[:, axis] / 10 for event in events])
    columns["RecHitHGC_energy"] = ak.Array([event.hits.energy for event in events])
    with uproot.recreate(tmp_path / "nano.root") as root:
        root["Events"] = columns
    file = describe_calorimeter_file(tmp_path / "nano.root")
    assert (file.n_events, file.nano, file.metadata) == (3, True, {})
    found = list(read_calorimeter_file(file, layer_z(12).astype(np.float32), entry_stop=2))
    assert [event.number for event in found] == [0, 1]
    np.testing.assert_array_equal(found[0].hits.layer, events[0].hits.layer)
    np.testing.assert_allclose(found[0].hits.position, events[0].hits.position, rtol=1e-6)
    with pytest.raises(ConfigError, match="name the geometry of its hits"):
        next(read_calorimeter_file(file))


def test_files_of_something_else(tmp_path):
    with uproot.recreate(tmp_path / "other.root") as root:
        root["jets"] = {"pt": np.ones(3)}
    with pytest.raises(DataError, match="expected a TTree or RNTuple called 'rechits', found jets"):
        describe_calorimeter_file(tmp_path / "other.root")
    with pytest.raises(DataError, match="no such file"):
        describe_calorimeter_file(tmp_path / "absent.root")


def test_points_with_their_clusters(tmp_path):
    cloud = PointCloud(np.array([[1.0, 2.0], [0.1, 1e-7]]), np.array([0.5, 2.0]))
    path = tmp_path / "found.csv"
    write_cluster_ids(path, cloud, np.array([0, -1]), np.array([True, False]))
    assert path.read_text().splitlines()[:2] == ["x0,x1,weight,cluster_ids,is_seed", "1.0,2.0,0.5,0,1"]
    # What was found can be read as points again.
    np.testing.assert_array_equal(read_point_cloud(path).points, cloud.points)
    with pytest.raises(DataError, match="1 ids and 1 seeds for 2 points"):
        write_cluster_ids(path, cloud, np.array([0]), np.array([True]))
