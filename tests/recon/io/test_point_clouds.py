"""Point clouds as CSV."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.point_clouds import PointCloud, read_point_cloud, write_point_cloud

SHARED = Path(__file__).parents[4] / "shared" / "data" / "clue"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("dimensions", [1, 2, 3, 10])
def test_clouds_survive_the_file(tmp_path, rng, dimensions, suffix):
    cloud = PointCloud(rng.normal(0.0, 1e3, (40, dimensions)), rng.exponential(1.0, 40))
    path = tmp_path / f"cloud{suffix}"
    write_point_cloud(path, cloud)
    read = read_point_cloud(path)
    np.testing.assert_array_equal(read.points, cloud.points)
    np.testing.assert_array_equal(read.weight, cloud.weight)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("x0,x1,weight", 2),
        ("weight,x1,x0,label", 2),
        ("x,y,weight", 2),
        ("x,y,z,weight", 3),
        ("x0,weight", 1),
    ],
)
def test_columns_are_found_by_name(tmp_path, header, columns):
    path = tmp_path / "cloud.csv"
    names = header.split(",")
    path.write_text(f"{header}\n" + ",".join(str(i) for i in range(len(names))) + "\n")
    cloud = read_point_cloud(path)
    assert cloud.points.shape == (1, columns)
    assert cloud.weight.tolist() == [names.index("weight")]
    assert cloud.points[0, 0] == names.index("x0" if "x0" in names else "x")


def test_no_points(tmp_path):
    path = tmp_path / "cloud.csv"
    path.write_text("x0,x1,weight\n")
    assert read_point_cloud(path).points.shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,weight\n1,2,3\n", "cloud.csv, line 1: expected the columns x0, x1, .* found"),
        ("x0,x2,weight\n1,2,3\n", "line 1: expected the columns"),
        ("x0,x1\n1,2\n", r"columns \['weight'\] are missing"),
        ("x0,weight\n1,nan\n", "line 2, column weight: nan; it must be finite"),
        ("x0,weight\n1,2\ninf,2\n", "line 3, column x0: inf"),
        ("x0,weight\n1,2\nthree,2\n", "line 3, column x0: 'three' is not a number"),
        ("x0,weight\n1,2,3\n", "line 2: 3 cells where the header has 2 columns"),
        (",".join(f"x{i}" for i in range(11)) + ",weight\n", "column x10; allowed are 10 dimensions"),
        ("", "expected the columns"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    path = tmp_path / "cloud.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_point_cloud(path)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: no such file"):
        read_point_cloud(tmp_path / "none.csv")
    path = tmp_path / "cloud.csv.gz"
    path.write_bytes(gzip.compress(b"x0,weight\n" + b"1,2\n" * 1000)[:30])
    with pytest.raises(DataError, match=r"cloud.csv.gz: cannot be read"):
        read_point_cloud(path)


def test_bad_clouds_are_not_written(tmp_path, rng):
    with pytest.raises(DataError, match="11 dimensions; allowed are 1 to 10"):
        write_point_cloud(tmp_path / "c.csv", PointCloud(rng.normal(size=(3, 11)), np.ones(3)))
    with pytest.raises(ConfigError, match="does not exist"):
        write_point_cloud(tmp_path / "d" / "c.csv", PointCloud(rng.normal(size=(3, 2)), np.ones(3)))


@pytest.mark.parametrize(("name", "dimensions"), [("aniso_1000", 2), ("data_dim_3", 3), ("moons", 2)])
def test_public_clouds(name, dimensions):
    path = SHARED / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"no public point cloud at {path}")
    cloud = read_point_cloud(path)
    assert cloud.points.shape[1] == dimensions
    assert len(cloud.weight) > 500
