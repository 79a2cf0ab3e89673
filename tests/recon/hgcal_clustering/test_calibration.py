"""The regressed energy: its formula by hand, and whether the fit finds it again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.calibration import (
    CalibrationConfig,
    fit_calibration,
    regress_energy,
    soft_energy,
)

TRUTH = CalibrationConfig(
    front_layers=28,
    scale=0.95,
    energy=0.02,
    pseudorapidity=0.05,
    hadronic=-0.2,
    hadronic_energy=0.03,
    pileup=0.012,
    pileup_energy=-0.004,
    pileup_pseudorapidity=0.015,
)


def showers(n, seed=0):
    rng = np.random.default_rng(seed)
    columns = rng.uniform(5, 300, n), rng.uniform(-3, 3, n), rng.uniform(0, 1, n), rng.uniform(0, 12, n)
    return [column.astype(np.float32) for column in columns]


def test_defaults_change_nothing():
    columns = showers(20)
    np.testing.assert_allclose(regress_energy(*columns, CalibrationConfig()), columns[0], rtol=1e-6)


def test_by_hand():
    def one(energy, eta, hadronic, pileup=0.0):
        columns = (np.array([value], np.float32) for value in (energy, eta, hadronic, pileup))
        return float(regress_energy(*columns, TRUTH)[0])

    assert one(50.0, 2.25, 0.0) == pytest.approx(50 / 0.95, rel=1e-6)
    assert one(50.0, -3.25, 1.0) == pytest.approx(50 / (0.95 + 0.05 - 0.2), rel=1e-6)
    assert one(50.0 * np.e, 2.25, 1.0) == pytest.approx(50 * np.e / (0.95 + 0.02 - 0.2 + 0.03), rel=1e-5)
    with_pileup = 0.95 + 0.02 + 0.05 + 10 * (0.012 - 0.004 + 0.015)
    assert one(50.0 * np.e, -3.25, 0.0, 10.0) == pytest.approx(50 * np.e / with_pileup, rel=1e-5)


def test_soft_energy_by_hand():
    """Of 5 GeV one counts, padding and negative energies nothing; each endcap has its own."""
    energy = np.array([0.5, 5.0, 0.25, -1.0, 0.0], np.float32)
    z = np.array([3000, 4000, -3000, 3000, 0], np.float32)
    found = soft_energy(energy, z, np.array([1.0, -2.0, 0.1], np.float32))
    np.testing.assert_allclose(found, [0.0015, 0.00025, 0.0015], rtol=1e-6)


def test_pileup_is_measured_whatever_the_showers():
    """A hundred times the energy in one layer cluster adds nothing, twice the soft ones add twice."""
    rng = np.random.default_rng(3)
    soft, z, one = rng.uniform(0, 1, 500), np.full(500, 3300.0), np.ones(1)
    alone = soft_energy(soft, z, one)
    np.testing.assert_allclose(soft_energy(np.tile(soft, 2), np.tile(z, 2), one), 2 * alone)
    hard = soft_energy(np.append(soft, 2.0), np.append(z, 3300.0), one)
    harder = soft_energy(np.append(soft, 200.0), np.append(z, 3300.0), one)
    assert hard == harder == pytest.approx(alone + 1e-3)


def test_response_has_a_floor():
    odd = CalibrationConfig(hadronic=-5.0)
    one = np.ones(1, np.float32)
    assert float(regress_energy(one, one, one, one, odd)[0]) == pytest.approx(10)


def test_fit_finds_the_parameters_again():
    columns = showers(4000)
    rng = np.random.default_rng(1)
    regressed = np.asarray(regress_energy(*columns, TRUTH))
    true = regressed * rng.normal(1, 0.02, 4000)
    # One in ten is cut in two or joined with another.
    true *= np.where(rng.random(4000) < 0.1, rng.choice([0.3, 2.0], 4000), 1)
    fitted = fit_calibration(*columns, true, front_layers=28)
    assert fitted.front_layers == 28
    for name, value in dataclasses.asdict(TRUTH).items():
        assert getattr(fitted, name) == pytest.approx(value, abs=0.01), name
    again = np.asarray(regress_energy(*columns, fitted)) / regressed
    np.testing.assert_allclose(again, 1, atol=0.02)


def test_fit_of_equal_showers():
    flat = np.full(20, 50.0)
    still = np.zeros(20)
    fitted = fit_calibration(flat, np.full(20, 2.25), still, still, np.full(20, 100.0), front_layers=26)
    assert fitted.scale == pytest.approx(0.5)


def test_what_cannot_be_used_is_named():
    few = np.ones(3)
    with pytest.raises(DataError, match="given 3 showers; needed are ten or more"):
        fit_calibration(few, few, few, few, few, front_layers=26)
    with pytest.raises(DataError, match="above 0"):
        fit_calibration(*[np.zeros(20)] * 5, front_layers=26)
    with pytest.raises(ConfigError, match="scale = -1"):
        CalibrationConfig(scale=-1.0)
    with pytest.raises(ConfigError, match="must be finite"):
        CalibrationConfig(energy=float("nan"))
