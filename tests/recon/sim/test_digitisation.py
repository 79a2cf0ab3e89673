"""Cells of the sensors, the settings for ACTS, and the quoted resolution."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from recon.sim.digitisation import READOUT, cell_counts, cell_sizes, digitisation_settings, nominal_pitch
from recon.sim.resolution import RESOLUTION, WIDE_CLUSTER_SLOPE, cluster_variance
from recon.tracking.detector import load_detector, to_local

TRACKML = Path(__file__).parents[4] / "shared" / "data" / "tracking" / "trackml_event" / "detectors.csv.gz"


@pytest.fixture(scope="module")
def detector():
    return load_detector("generic")


def first_sensor(detector, volume):
    return int(np.flatnonzero(detector.volume_id == volume)[0])


def test_cells_divide_the_sensors_at_nearly_the_nominal_pitch(detector):
    width = np.stack([detector.half_size[:, :2].max(axis=1), detector.half_size[:, 2]], axis=1) * 2
    np.testing.assert_allclose(cell_sizes(detector) * cell_counts(detector), width, rtol=1e-6)
    np.testing.assert_allclose(cell_sizes(detector), nominal_pitch(detector), rtol=0.01)


def test_pixel_sensor_by_hand(detector):
    row = first_sensor(detector, 8)  # 16.8 mm x 72 mm
    assert cell_counts(detector)[row].tolist() == [336, 1280]
    np.testing.assert_allclose(cell_sizes(detector)[row], [0.05, 0.05625], rtol=1e-6)


def test_pitches_and_thicknesses_are_those_of_trackml():
    if not TRACKML.exists():
        pytest.skip(f"no TrackML detector table at {TRACKML}")
    with gzip.open(TRACKML, "rt") as file:
        for row in csv.DictReader(file):
            readout = READOUT[int(row["volume_id"])]
            assert readout.pitch == (float(row["pitch_u"]), float(row["pitch_v"]))
            assert readout.thickness == float(row["module_t"])


def test_every_sensor_gets_its_own_segmentation(detector):
    entries = digitisation_settings(detector, "geometric")["entries"]
    found = {(e["volume"], e.get("layer"), e.get("sensitive")): e["value"]["geometric"] for e in entries}
    half_u, half_v = detector.half_size[:, :2].max(axis=1), detector.half_size[:, 2]
    for row in range(0, len(detector.layer), 37):
        volume, layer, module = (
            int(c[row]) for c in (detector.volume_id, detector.layer_id, detector.module_id)
        )
        value = found.get((volume, layer, module), found[volume, None, None])
        for axis, half in zip(value["segmentation"]["binningdata"], (half_u[row], half_v[row]), strict=True):
            np.testing.assert_allclose([axis["min"], axis["max"]], [-half, half], rtol=1e-5)
        assert value["thickness"] == READOUT[volume].thickness


def test_smearing_is_pitch_over_root_12(detector):
    entries = digitisation_settings(detector, "smeared")["entries"]
    spread = {e["volume"]: [axis["stddev"] for axis in e["value"]["smearing"]] for e in entries}
    np.testing.assert_allclose(spread[13], [0.08 / np.sqrt(12), 1.2 / np.sqrt(12)])
    assert sorted(spread) == sorted(READOUT)


def test_variance_by_hand(detector):
    module = np.full(3, first_sensor(detector, 8), np.int32)
    cells = np.array([[1, 1], [2, 8], [99, 30]], np.float64)
    along_u, along_v = RESOLUTION[8]
    expected = [
        [(along_u[0] * 0.05) ** 2, (along_v[0] * 0.05625) ** 2],
        [(along_u[1] * 0.05) ** 2, (along_v[7] * 0.05625) ** 2],
        [(WIDE_CLUSTER_SLOPE * 99 * 0.05) ** 2, (WIDE_CLUSTER_SLOPE * 30 * 0.05625) ** 2],
    ]
    np.testing.assert_allclose(cluster_variance(detector, module, cells, "geometric"), expected, rtol=1e-6)


def test_last_entry_holds_for_wider_strip_clusters(detector):
    module = np.full(2, first_sensor(detector, 13), np.int32)
    variance = cluster_variance(detector, module, np.array([[4.0, 2.0], [50.0, 9.0]]), "geometric")
    np.testing.assert_array_equal(variance[0], variance[1])


def test_smeared_variance_ignores_the_cluster(detector):
    module = np.array([first_sensor(detector, 17)], np.int32)
    variance = cluster_variance(detector, module, np.zeros((1, 2)), "smeared")
    np.testing.assert_allclose(variance, [[0.12**2 / 12, 10.8**2 / 12]])


@pytest.mark.parametrize("part", ["pixel", "strip"])
def test_simulated_hits_pull_with_unit_width(detector, events, part):
    pulls = []
    for event in events:
        hits, real = event.hits, event.particles.hit_particle >= 0
        wanted = real & (detector.pixel[hits.module] == (part == "pixel"))
        true = to_local(detector, hits.module, event.truth.position)
        pulls.append(((hits.local - true) / np.sqrt(hits.variance))[wanted])
    pull = np.concatenate(pulls)
    assert len(pull) > 5000
    np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.06)
    np.testing.assert_allclose(pull.mean(axis=0), 0.0, atol=0.05)
