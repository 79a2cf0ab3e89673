"""The regressed energy: its formula by hand, and whether the fit finds it again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.calibration import CalibrationConfig, fit_calibration, regress_energy

TRUTH = CalibrationConfig(
    front_layers=28, scale=0.95, energy=0.02, pseudorapidity=0.05, hadronic=-0.2, hadronic_energy=0.03
)


def showers(n, seed=0):
    rng = np.random.default_rng(seed)
    columns = rng.uniform(5, 300, n), rng.uniform(-3, 3, n), rng.uniform(0, 1, n)
    return [column.astype(np.float32) for column in columns]


def test_defaults_change_nothing():
    energy, eta, hadronic = showers(20)
    np.testing.assert_allclose(regress_energy(energy, eta, hadronic, CalibrationConfig()), energy, rtol=1e-6)


def test_by_hand():
    def one(energy, eta, hadronic):
        columns = (np.array([value], np.float32) for value in (energy, eta, hadronic))
        return float(regress_energy(*columns, TRUTH)[0])

    assert one(50.0, 2.25, 0.0) == pytest.approx(50 / 0.95, rel=1e-6)
    assert one(50.0, -3.25, 1.0) == pytest.approx(50 / (0.95 + 0.05 - 0.2), rel=1e-6)
    assert one(50.0 * np.e, 2.25, 1.0) == pytest.approx(50 * np.e / (0.95 + 0.02 - 0.2 + 0.03), rel=1e-5)


def test_response_has_a_floor():
    odd = CalibrationConfig(hadronic=-5.0)
    one = np.ones(1, np.float32)
    assert float(regress_energy(one, one, one, odd)[0]) == pytest.approx(10)


def test_fit_finds_the_parameters_again():
    energy, eta, hadronic = showers(4000)
    rng = np.random.default_rng(1)
    regressed = np.asarray(regress_energy(energy, eta, hadronic, TRUTH))
    true = regressed * rng.normal(1, 0.02, 4000)
    # One in ten is cut in two or joined with another.
    true *= np.where(rng.random(4000) < 0.1, rng.choice([0.3, 2.0], 4000), 1)
    fitted = fit_calibration(energy, eta, hadronic, true, front_layers=28)
    assert fitted.front_layers == 28
    for name, value in dataclasses.asdict(TRUTH).items():
        assert getattr(fitted, name) == pytest.approx(value, abs=0.01), name
    again = np.asarray(regress_energy(energy, eta, hadronic, fitted)) / regressed
    np.testing.assert_allclose(again, 1, atol=0.02)


def test_fit_of_equal_showers():
    flat = np.full(20, 50.0)
    fitted = fit_calibration(flat, np.full(20, 2.25), np.zeros(20), np.full(20, 100.0), front_layers=26)
    assert fitted.scale == pytest.approx(0.5)


def test_what_cannot_be_used_is_named():
    few = np.ones(3)
    with pytest.raises(DataError, match="given 3 showers; needed are ten or more"):
        fit_calibration(few, few, few, few, front_layers=26)
    with pytest.raises(DataError, match="above 0"):
        fit_calibration(*[np.zeros(20)] * 4, front_layers=26)
    with pytest.raises(ConfigError, match="scale = -1"):
        CalibrationConfig(scale=-1.0)
    with pytest.raises(ConfigError, match="must be finite"):
        CalibrationConfig(energy=float("nan"))
