"""The part of `recon reconstruct hgcal` for points from CSV, without the command line around it."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.commands.point_cloud import cluster_point_cloud
from recon.io.point_clouds import PointCloud, write_point_cloud

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture
def file(tmp_path, rng):
    centre = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]])
    points = (centre[:, None] + rng.normal(0, 1, (3, 15, 2))).reshape(-1, 2)
    points = np.concatenate([points, [[100.0, 100.0]]])
    write_point_cloud(tmp_path / "points.csv", PointCloud(points, np.ones(len(points))))
    return tmp_path / "points.csv"


def test_counts_and_settings(file, tmp_path):
    found = cluster_point_cloud(file, tmp_path / "out.csv", 4.0, 3.0, 2.0)
    assert found == {
        "d_c": 4.0,
        "rho_c": 3.0,
        "outlier_delta_factor": 2.0,
        "points": 46,
        "clusters": 3,
        "outliers": 1,
        "output": str(tmp_path / "out.csv"),
    }


@pytest.mark.parametrize("outlier_delta_factor", [1.0, 3.0])
def test_ids_are_those_of_clue(file, tmp_path, outlier_delta_factor):
    cluster_point_cloud(file, tmp_path / "out.csv", 1.5, 4.0, outlier_delta_factor)
    table = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    wanted = clue(table[:, :2], table[:, 2], d_c=1.5, rho_c=4.0, outlier_delta_factor=outlier_delta_factor)
    np.testing.assert_array_equal(table[:, 3], wanted.ids)
    np.testing.assert_array_equal(table[:, 4], wanted.is_seed)


@pytest.mark.parametrize(("d_c", "rho_c"), [(None, 1.0), (1.0, None), (None, None)])
def test_scales_must_be_given(file, tmp_path, d_c, rho_c):
    with pytest.raises(ConfigError, match="have scales of their own: say --d-c and --rho-c"):
        cluster_point_cloud(file, tmp_path / "out.csv", d_c, rho_c, 2.0)
    assert not (tmp_path / "out.csv").exists()


def test_output_must_be_csv(file, tmp_path):
    with pytest.raises(ConfigError, match=r"are written as CSV, not to .*out.root"):
        cluster_point_cloud(file, tmp_path / "out.root", 1.0, 1.0, 2.0)


def test_a_file_that_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.csv"
    broken.write_text("x0,x1,weight\n1,2,3\n1,two,3\n")
    with pytest.raises(DataError, match=r"broken\.csv"):
        cluster_point_cloud(broken, tmp_path / "out.csv", 1.0, 1.0, 2.0)
