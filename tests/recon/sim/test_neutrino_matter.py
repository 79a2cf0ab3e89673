"""Energy loss and free paths beside published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

pytest.importorskip("numba")

from recon.sim.neutrino_detector import (
    DENSITY,
    ELECTRON,
    MASSES,
    MUON,
    MUON_MASS,
    NEUTRON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PROTON,
    RADIATION_LENGTH,
)
from recon.sim.neutrino_matter import (
    HIGHEST,
    LOWEST,
    SOFT_DELTA,
    compton_rate,
    electron_loss,
    hadron_rate,
    largest_transfer,
    looked_up,
    matter,
    muon_range,
    pair_rate,
    stopping_power,
    table_place,
)
from tests.reference.neutrino import klein_nishina

# MeV cm^2/g to GeV/mm.
PER_GRAM = 1e-4 * DENSITY


def test_energy_loss_of_muons_in_polyethylene():
    # Groom, Mokhov and Striganov, At. Data Nucl. Data Tables 78 (2001) 183, ionisation in polyethylene, MeV cm^2/g; the
    # detector has fewer electrons a gram (0.54 for 0.570).
    for kinetic, published in ((0.01, 8.7), (0.1, 2.43), (0.3, 2.08), (1.0, 2.16), (10.0, 2.43)):
        found = stopping_power(np.array([kinetic]), MUON_MASS)[0]
        assert found / PER_GRAM == pytest.approx(published * 0.54 / 0.570, rel=0.06), kinetic


def test_a_minimum_ionising_particle():
    kinetic = np.geomspace(0.02, 10, 400)
    loss = stopping_power(kinetic, MUON_MASS)
    lowest = int(np.argmin(loss))
    # beta gamma of the minimum is 3 to 3.5.
    assert 3.0 < math.sqrt((1 + kinetic[lowest] / MUON_MASS) ** 2 - 1) < 3.6
    assert loss[lowest] == pytest.approx(1.95e-4, rel=0.02)


def test_what_is_drawn_one_by_one_and_the_rest_are_the_whole():
    kinetic = np.array([0.2, 0.5, 2.0])
    whole, soft = stopping_power(kinetic, MUON_MASS), stopping_power(kinetic, MUON_MASS, cut=SOFT_DELTA)
    gamma = 1 + kinetic / MUON_MASS
    beta2, limit = 1 - 1 / gamma**2, largest_transfer(gamma, MUON_MASS)
    per_mm = 0.307075e-4 * DENSITY * 0.54 / 2 / beta2
    hard = [
        quad(lambda t, b=b, m=m: (1 - b * t / m) / t, SOFT_DELTA, m)[0]
        for b, m in zip(beta2, limit, strict=True)
    ]
    np.testing.assert_allclose(soft + per_mm * hard, whole, rtol=1e-3)


def test_a_cut_above_the_largest_transfer_changes_nothing():
    kinetic = np.geomspace(0.01, 0.1, 20)
    assert largest_transfer(1 + kinetic / MASSES[PROTON], MASSES[PROTON]).max() < 1e-3
    np.testing.assert_allclose(
        stopping_power(kinetic, MASSES[PROTON], cut=1e-3), stopping_power(kinetic, MASSES[PROTON])
    )


def test_largest_transfer_of_a_muon():
    # 10 GeV/c: 6.0 GeV of 2 m_e p^2 / (m^2 + 2 gamma m_e m + m_e^2), worked out by hand.
    gamma = math.hypot(10.0, MUON_MASS) / MUON_MASS
    by_hand = 2 * 0.000510999 * 100 / (MUON_MASS**2 + 2 * gamma * 0.000510999 * MUON_MASS + 0.000510999**2)
    assert largest_transfer(np.array([gamma]), MUON_MASS)[0] == pytest.approx(by_hand, rel=1e-6)


def test_electrons_lose_less_than_what_is_published_by_what_is_drawn():
    # ESTAR, polyethylene: collisions 1.98 MeV cm^2/g at 10 MeV, of which those below 0.5 MeV are about 1.8.
    loss = electron_loss(np.array([0.01]))[0] / PER_GRAM
    photons = 4 / 3 * 3e-3 / RADIATION_LENGTH / PER_GRAM
    assert 1.5 < loss - photons < 1.98


def test_ranges_of_muons():
    # CSDA ranges in this material by the prototype's independent integration: 480 and 953 cm.
    assert muon_range(1.0) == pytest.approx(4800, rel=0.01)
    assert muon_range(2.0) == pytest.approx(9530, rel=0.01)
    assert muon_range(0.3) < muon_range(0.31)


@pytest.mark.parametrize("energy", [1e-3, 1e-2, 0.1])
def test_compton_scattering_is_the_integral_of_klein_and_nishina(energy):
    total = 2 * math.pi * quad(lambda c: klein_nishina(energy, c), -1, 1)[0] * (2.8179e-13) ** 2
    expected = 0.1 * total * 6.02214e23 * DENSITY * 0.54
    assert compton_rate(np.array([energy]))[0] == pytest.approx(expected, rel=1e-3)


def test_photons_beside_tables_of_attenuation():
    # NIST XCOM, polyethylene without coherent scattering, cm^2/g; electrons a gram scale Compton scattering.
    assert compton_rate(np.array([1e-3]))[0] * 10 / DENSITY == pytest.approx(0.0726 * 0.54 / 0.570, rel=0.02)
    # Conversion above some GeV: 7/9 of a radiation length.
    assert pair_rate(np.array([50.0]))[0] == pytest.approx(7 / 9 / RADIATION_LENGTH)
    assert pair_rate(np.array([1.0e-3]))[0] == 0.0


@pytest.mark.parametrize(
    ("kind", "kinetic", "low", "high"),
    # Nuclear interaction lengths of the Particle Data Group: polyethylene 78.5 g/cm^2, PVC 97; pions 107 and 130.
    [(PROTON, 5.0, 780, 930), (NEUTRON, 5.0, 780, 930), (PI_PLUS, 20.0, 900, 1250), (PI_MINUS, 0.18, 340, 420)],
)  # fmt: skip
def test_free_paths_of_hadrons(kind, kinetic, low, high):
    rate, hydrogen = hadron_rate(np.array([kinetic]), kind)
    assert low < 1 / rate[0] < high
    assert 0 < hydrogen[0] < 0.5


def test_slow_neutrons_meet_hydrogen():
    rate, hydrogen = hadron_rate(np.array([1e-3, 1e-2]), NEUTRON)
    assert hydrogen[0] > 0.99
    assert 1 / rate[0] < 50
    # 10 MeV: 0.95 barn on 0.11 mol of hydrogen a gram, some more on carbon: within a factor of 1.3 of 13 cm.
    assert 100 < 1 / rate[1] < 170


def test_tables_are_the_formulas():
    tables = matter()
    for kinetic in np.geomspace(2e-4, 1e3, 40):
        place = table_place(kinetic)
        found = looked_up(tables.loss[MUON], place)
        assert found == pytest.approx(stopping_power(np.array([kinetic]), MUON_MASS, SOFT_DELTA)[0], rel=2e-3)
        both = pair_rate(np.array([kinetic]))[0] + compton_rate(np.array([kinetic]))[0]
        assert looked_up(tables.rate[PHOTON], place) == pytest.approx(both, rel=2e-2)
    assert (tables.loss[PHOTON] == 0).all()
    assert (tables.loss[NEUTRON] == 0).all()
    assert (tables.rate[ELECTRON] == 0).all()
    assert all(np.isfinite(column).all() for column in tables)


def test_places_outside_of_the_tables_are_their_ends():
    row = np.arange(2000.0)
    assert looked_up(row, table_place(LOWEST / 10)) == 0.0
    assert int(table_place(HIGHEST * 10)) == len(matter().loss[0]) - 2
