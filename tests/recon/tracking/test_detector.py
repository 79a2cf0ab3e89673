"""The shipped sensor table: shape, conventions, agreement with the table of the TrackML challenge."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from recon.errors import ConfigError
from recon.tracking.detector import (
    PassiveMaterial,
    detector_names,
    load_detector,
    load_passive_material,
    n_layers,
    to_global,
    to_local,
    write_detector,
)
from recon.types import Detector

TRACKML = Path(__file__).parents[4] / "shared" / "data" / "tracking" / "trackml_event" / "detectors.csv.gz"


@pytest.fixture(scope="module")
def detector():
    return load_detector("generic")


def one_sensor(rotation, center=(1.0, 2.0, 3.0)):
    """A detector of one sensor, for cases that can be worked out by hand."""
    return Detector(
        center=np.array([center], np.float32),
        rotation=np.array([rotation], np.float32),
        half_size=np.ones((1, 3), np.float32),
        thickness=np.zeros(1, np.float32),
        layer=np.zeros(1, np.int32),
        pixel=np.ones(1, bool),
        geometry_id=np.zeros(1, np.uint64),
        volume_id=np.zeros(1, np.int32),
        layer_id=np.zeros(1, np.int32),
        module_id=np.zeros(1, np.int32),
    )


def test_generic_detector_has_48_layers_and_18728_sensors(detector):
    assert n_layers(detector) == 48
    assert detector.center.shape == (18_728, 3)
    assert np.unique(detector.layer).tolist() == list(range(48))


def test_layers_are_ordered_by_volume_and_layer_and_sensors_by_identifier(detector):
    pairs = list(zip(detector.volume_id.tolist(), detector.layer_id.tolist(), strict=True))
    index = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    assert detector.layer.tolist() == [index[pair] for pair in pairs]
    assert (np.diff(detector.geometry_id.astype(object)) > 0).all()


def test_geometry_identifier_carries_volume_layer_and_module(detector):
    identifier = detector.geometry_id
    np.testing.assert_array_equal(identifier >> np.uint64(56), detector.volume_id)
    np.testing.assert_array_equal((identifier >> np.uint64(36)) & np.uint64(0xFFF), detector.layer_id)
    np.testing.assert_array_equal((identifier >> np.uint64(8)) & np.uint64(0xFFFFF), detector.module_id)


def test_axes_are_orthonormal_and_right_handed(detector):
    rotation = detector.rotation.astype(np.float64)
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), identity, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)


def test_pixels_are_volumes_7_to_9_and_thinner_than_strips(detector):
    np.testing.assert_array_equal(detector.pixel, np.isin(detector.volume_id, (7, 8, 9)))
    assert detector.thickness[detector.pixel].max() < detector.thickness[~detector.pixel].min()


def test_thickness_is_sensor_plus_layer_support_over_radiation_length(detector):
    # Silicon, 95.7 mm: 0.15 mm of sensor and 1.5 mm of support in the pixels; 0.35 and 3.5 mm outside.
    inner, outer = detector.volume_id == 8, detector.volume_id == 16
    np.testing.assert_allclose(detector.thickness[inner], 1.65 / 95.7, rtol=1e-6)
    np.testing.assert_allclose(detector.thickness[outer], 3.85 / 95.7, rtol=1e-6)


def test_passive_material_is_beam_pipe_and_support_tube():
    passive = load_passive_material()
    np.testing.assert_allclose(passive.radius, [19.0, 200.0])
    np.testing.assert_allclose(passive.half_length, [3000.0, 2800.0])
    np.testing.assert_allclose(passive.thickness, [0.8 / 352.8, 1.8 / 352.8], rtol=1e-6)


def test_tables_are_cached_and_cannot_be_written_to(detector):
    assert load_detector("generic") is detector
    with pytest.raises(ValueError, match="read-only"):
        detector.center[0] = 0.0


def test_unknown_detector_names_the_allowed_ones():
    assert detector_names() == ("generic",)
    with pytest.raises(ConfigError, match=r"unknown detector 'itk'; allowed: generic"):
        load_detector("itk")
    with pytest.raises(ConfigError, match="itk"):
        load_passive_material("itk")


def test_to_global_by_hand():
    # u along y, v along z: local (0.5, -2) is 0.5 up y and 2 down z from the centre.
    sensor = one_sensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    position = to_global(sensor, np.array([0], np.int32), np.array([[0.5, -2.0]], np.float32))
    np.testing.assert_allclose(position, [[1.0, 2.5, 1.0]])


def test_to_global_agrees_with_a_slow_loop(detector):
    rng = np.random.default_rng(0)
    module = rng.integers(0, len(detector.layer), 200).astype(np.int32)
    local = rng.normal(0.0, 10.0, (200, 2)).astype(np.float32)
    slow = [
        detector.center[m] + x * detector.rotation[m][0] + y * detector.rotation[m][1]
        for m, (x, y) in zip(module, local, strict=True)
    ]
    np.testing.assert_allclose(to_global(detector, module, local), slow, atol=1e-3)


def test_to_local_undoes_to_global(detector):
    rng = np.random.default_rng(1)
    module = rng.integers(0, len(detector.layer), 500).astype(np.int32)
    local = rng.uniform(-20.0, 20.0, (500, 2)).astype(np.float32)
    back = to_local(detector, module, to_global(detector, module, local))
    # Float32 resolves a metre to 0.1 micrometres.
    np.testing.assert_allclose(back, local, atol=1e-3)


def test_to_local_ignores_the_distance_from_the_plane():
    sensor = one_sensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    above = np.array([[1.7, 2.5, 1.0]], np.float32)
    np.testing.assert_allclose(to_local(sensor, np.array([0], np.int32), above), [[0.5, -2.0]])


def test_unknown_sensor_gives_nan_and_leaves_the_others(detector):
    module = np.array([-1, 5], np.int32)
    position = to_global(detector, module, np.zeros((2, 2), np.float32))
    assert np.isnan(position[0]).all()
    np.testing.assert_array_equal(position[1], detector.center[5])
    local = to_local(detector, module, detector.center[[0, 5]])
    assert np.isnan(local[0]).all()
    np.testing.assert_array_equal(local[1], [0.0, 0.0])


def test_no_hits_give_no_positions(detector):
    nothing = to_global(detector, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
    assert nothing.shape == (0, 3)


def test_writing_twice_gives_the_same_bytes(tmp_path, detector):
    passive = load_passive_material()
    for name in ("a.npz", "b.npz"):
        write_detector(tmp_path / name, detector, passive)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as file:
        again = PassiveMaterial(**{name: file[f"passive_{name}"] for name in PassiveMaterial._fields})
        np.testing.assert_array_equal(file["center"], detector.center)
    np.testing.assert_array_equal(again.radius, passive.radius)


def test_loading_needs_neither_acts_nor_pythia():
    script = (
        "import sys; from recon.tracking.detector import load_detector; load_detector();"
        "print([name for name in ('acts', 'pythia8mc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def trackml():
    if not TRACKML.exists():
        pytest.skip(f"no TrackML detector table at {TRACKML}")
    with gzip.open(TRACKML, "rt") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name}


@pytest.fixture(scope="module")
def matched(detector, trackml):
    """Row of our table for every row of theirs: the nearest centre."""
    centers = np.stack([trackml["cx"], trackml["cy"], trackml["cz"]], axis=1)
    distance, row = cKDTree(detector.center).query(centers)
    assert distance.max() < 0.004
    return row


def test_sensors_lie_where_those_of_trackml_do(detector, trackml, matched):
    assert len(np.unique(matched)) == len(detector.layer) == len(matched)
    np.testing.assert_array_equal(detector.volume_id[matched], trackml["volume_id"])
    np.testing.assert_array_equal(detector.layer_id[matched], trackml["layer_id"])


def test_sensors_are_turned_and_shaped_as_those_of_trackml(detector, trackml, matched):
    theirs = np.array([[trackml[f"rot_{axis}{local}"] for axis in "xyz"] for local in "uvw"])
    np.testing.assert_allclose(detector.rotation[matched], theirs.transpose(2, 0, 1), atol=2e-3)
    sizes = np.stack([trackml[f"module_{name}"] for name in ("minhu", "maxhu", "hv")], axis=1)
    np.testing.assert_allclose(detector.half_size[matched], sizes, atol=1e-4)
