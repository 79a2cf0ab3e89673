"""The parametrised showers against Geant4: every quantity within ten per cent."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from recon.errors import DataError
from recon.sim.calorimeter_validation import SAMPLES, ShowerShapes, compare, read_reference, simulate_shapes

REFERENCE = Path(__file__).parents[4] / "shared" / "data" / "hgcal" / "geant4_reference.json.gz"
NUMBERS = {"Photon_E5": 6000, "Photon_E50": 1500, "Photon_E500": 300, "Pion_E50": 5000}
"""Showers a sample: the resolution, the least certain of the quantities, is known to 1 to 4 per cent."""


@pytest.fixture(scope="module")
def reference():
    if not REFERENCE.is_file():
        pytest.skip(f"no reference data at {REFERENCE}")
    return read_reference(REFERENCE)


@pytest.fixture(scope="module")
def shapes():
    """Small samples, for what needs no reference."""
    return simulate_shapes("Photon_E50", 60, seed=5)


@pytest.mark.parametrize("sample", SAMPLES)
def test_showers_agree_with_geant4(sample, reference):
    ratios = compare(simulate_shapes(sample, NUMBERS[sample], seed=11), reference[sample])
    outside = {name: ratio for name, ratio in ratios.items() if not 0.9 < ratio < 1.1}
    assert outside == {}


@pytest.mark.parametrize("sample", ["Photon_E5", "Photon_E50", "Photon_E500"])
def test_every_busy_layer_has_its_share_of_the_energy(sample, reference):
    ours, theirs = simulate_shapes(sample, NUMBERS[sample] // 2, seed=12), reference[sample]
    busy = theirs.profile > 0.03
    np.testing.assert_allclose(ours.profile[busy], theirs.profile[busy], rtol=0.1)
    np.testing.assert_allclose(ours.profile_spread[busy], theirs.profile_spread[busy], rtol=0.25)
    np.testing.assert_allclose(ours.hits[busy], theirs.hits[busy], rtol=0.3)


def test_the_reference_is_what_it_is_said_to_be(reference):
    assert {sample: round(shapes.hits.sum()) for sample, shapes in reference.items()} == {
        "Photon_E5": 79,
        "Photon_E50": 388,
        "Photon_E500": 1633,
        "Pion_E50": 393,
    }
    np.testing.assert_allclose([shapes.profile.sum() for shapes in reference.values()], 1.0, atol=1e-4)
    assert [round(100 * shapes.resolution, 1) for shapes in reference.values()] == [10.3, 3.4, 1.3, 54.2]


def test_fractions_sum_to_one(shapes):
    assert shapes.profile.sum() == pytest.approx(1.0)
    assert shapes.rings.sum() == pytest.approx(1.0)
    assert shapes.profile.shape == shapes.hits.shape == (47,)


def test_same_seed_same_showers(shapes):
    again = simulate_shapes("Photon_E50", 60, seed=5)
    np.testing.assert_array_equal(again.hits, shapes.hits)
    assert not np.array_equal(simulate_shapes("Photon_E50", 60, seed=6).hits, shapes.hits)


def test_comparison_by_hand():
    def flat(response, resolution, profile, hits, rings):
        arrays = (np.array(values, float) for values in (profile, profile, hits, rings))
        return ShowerShapes(response, resolution, *arrays)

    ours = flat(0.9, 0.1, [0.5, 0.5, 0.0], [2.0, 1.0, 0.0], [0.5, 0.5])
    theirs = flat(1.0, 0.2, [0.25, 0.5, 0.25], [2.0, 2.0, 2.0], [0.0, 1.0])
    assert compare(ours, theirs) == pytest.approx(
        {
            "response": 0.9,
            "resolution": 0.5,
            "mean layer": 0.5,
            "spread over layers": 0.5 / np.sqrt(0.5),
            "hits": 0.5,
            "transverse width": 0.5,
            "profile overlap": 0.75,
        }
    )


def test_a_foreign_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nothing.json.gz: no reference for showers: FileNotFoundError"):
        read_reference(tmp_path / "nothing.json.gz")
    path = tmp_path / "other.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"Photon_E5_LongitudinalProfile": {}}).encode()))
    with pytest.raises(DataError, match=r"other.json.gz.*KeyError"):
        read_reference(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r"other.json.gz"):
        read_reference(path)
