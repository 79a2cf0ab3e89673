"""Beam, cross sections and reactions of neutrinos beside published numbers and an independent generator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

pytest.importorskip("numba")

from recon.sim.neutrino_detector import (
    ELECTRON,
    ELECTRON_MASS,
    FERMI_MOMENTUM,
    MASSES,
    MUON,
    MUON_MASS,
    NEUTRON,
    NUCLEON_MASS,
    PROTON,
    TAU_MASS,
)
from recon.sim.neutrino_flux import charged_current, energies, flux, mode_fractions, spectrum
from recon.sim.neutrino_interactions import (
    BEAM,
    FIDUCIAL_EDGE,
    draw_neutrino,
    draw_target,
    neutrino_event,
    neutrinos,
)
from recon.sim.neutrino_quasielastic import (
    cross_section_at,
    differential_cross_section,
    draw_q2,
    q2_limits,
    quasi_elastic,
)
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_reactions import DIS, QE, RES, inelastic_reaction, react, resonance_mass
from recon.sim.neutrino_stack import new_stack
from recon.sim.neutrino_validation import PUBLISHED_FLUX, quasi_elastic_sample, relative_flux
from tests.reference.neutrino import invariant_mass, llewellyn_smith

ALONG = (0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def elastic():
    return quasi_elastic_sample(2.0, 8000)


@pytest.fixture
def state():
    new = np.zeros(4, np.uint64)
    seed_stream(new, 21, 0, 0)
    return new


@pytest.mark.parametrize("lepton", [ELECTRON_MASS, MUON_MASS, TAU_MASS])
@pytest.mark.parametrize("energy", [0.6, 2.0, 8.0])
def test_llewellyn_smith_beside_the_twin(energy, lepton):
    q2 = np.geomspace(0.01, 4.0, 30)
    found = differential_cross_section(energy, q2, lepton)
    expected = [max(llewellyn_smith(energy, x, lepton), 0.0) for x in q2]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_cross_section_at_small_momentum_transfer():
    # Q^2 = 0 and no lepton mass: G^2 cos^2 / (2 pi) (F1^2 + FA^2) = 2.09e-38 cm^2/GeV^2.
    by_hand = (1.16638e-5) ** 2 * 0.9494 / (2 * math.pi) * 0.38938e-27 * 1e38 * (1 + 1.267**2)
    assert differential_cross_section(5.0, np.array([1e-9]), 0.0)[0] == pytest.approx(by_hand, rel=1e-6)


def test_quasi_elastic_cross_section():
    # Achilles (spectral function of carbon): 0.99e-38 cm^2 a neutron at 2 GeV; Pauli's principle takes 7 % of ours.
    assert 0.93 * cross_section_at(quasi_elastic(MUON_MASS), 2.0) == pytest.approx(0.99, rel=0.04)
    for energy in (0.5, 2.0, 10.0):
        low, high = q2_limits(energy, MUON_MASS)
        expected = quad(lambda x, e=energy: llewellyn_smith(e, x, MUON_MASS), low, high, limit=200)[0]
        assert cross_section_at(quasi_elastic(MUON_MASS), energy) == pytest.approx(expected, rel=0.01)


def test_tau_leptons_have_a_threshold():
    tables = quasi_elastic(TAU_MASS)
    threshold = TAU_MASS + TAU_MASS**2 / (2 * NUCLEON_MASS)
    assert q2_limits(threshold - 0.01, TAU_MASS) == (0.0, 0.0)
    assert cross_section_at(tables, 3.0) == 0.0
    assert 0 < cross_section_at(tables, 4.5) < cross_section_at(tables, 10.0)
    assert spectrum(TAU_MASS).energy[np.argmax(spectrum(TAU_MASS).cumulative > 0)] > 3.35


def test_limits_of_q2_without_masses():
    # A massless lepton: from 0 to 4 E*^2 = 2 M E 2E/(M + 2E).
    low, high = q2_limits(1.0, 0.0)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(4 * NUCLEON_MASS / (NUCLEON_MASS + 2.0))


def test_q2_is_drawn_by_the_cross_section(state):
    tables = quasi_elastic(MUON_MASS)
    drawn = np.array([draw_q2(state, tables, 2.0) for _ in range(8000)])
    low, high = q2_limits(2.0, MUON_MASS)
    assert low - 1e-6 <= drawn.min() <= drawn.max() <= high * 1.05
    total = quad(lambda x: llewellyn_smith(2.0, x, MUON_MASS), low, high)[0]
    for cut in (0.1, 0.3, 0.8):
        part = quad(lambda x: llewellyn_smith(2.0, x, MUON_MASS), low, cut)[0] / total
        assert np.mean(drawn < cut) == pytest.approx(part, abs=0.02)


def test_quasi_elastic_kinematics_beside_achilles(elastic):
    # Achilles 0.3.0, muon neutrinos of 2 GeV on carbon: means of Q^2, proton momentum, cosine and muon energy.
    assert elastic.q2.mean() == pytest.approx(0.539, rel=0.10)
    assert elastic.proton.mean() == pytest.approx(0.777, rel=0.03)
    assert elastic.cosine.mean() == pytest.approx(0.884, abs=0.010)
    assert elastic.muon.mean() == pytest.approx(1.635, rel=0.03)


def test_the_other_sign_of_the_interference_would_be_noticed():
    def mean(sign):
        low, high = q2_limits(2.0, MUON_MASS)
        total = quad(lambda x: llewellyn_smith(2.0, x, MUON_MASS, sign), low, high)[0]
        return quad(lambda x: x * llewellyn_smith(2.0, x, MUON_MASS, sign), low, high)[0] / total

    # Antineutrinos: 0.36 GeV^2 with Pauli's principle, far from the 0.54 of Achilles.
    assert mean(+1) < 0.40 < 0.48 < mean(-1)


def test_protons_are_above_the_fermi_sea(elastic):
    assert elastic.proton.min() > FERMI_MOMENTUM
    assert (elastic.q2 > 0).all()


def test_the_beam_peaks_where_it_should():
    # NOvA, 14.6 mrad off axis: a narrow beam about 2 GeV, 1 to 3 GeV.
    beam, energy = flux(), energies()
    assert 1.5 < energy[np.argmax(beam)] < 2.3
    narrow = beam[(energy > 1) & (energy < 3)].sum() / beam[energy < 5].sum()
    assert narrow > 0.75
    # Badly focused pions fill what is between the peak and the kaons: some per cent of the peak, falling.
    tail = [beam[(energy > low) & (energy < low + 1)].mean() / beam.max() for low in (3, 4, 5, 7)]
    assert 0.1 > tail[0] > tail[1] > tail[2] > tail[3] > 0.001
    assert beam[energy > 20].sum() < 0.01 * beam.sum()


def test_the_beam_is_near_the_collaborations_own():
    energy, published = np.array(PUBLISHED_FLUX).T
    ours = relative_flux(energy)
    # Of the near detector, which sees the length of the decay pipe: its spectrum is wider, most below the peak.
    above = energy >= 1.5
    np.testing.assert_array_less(np.abs(np.log(ours / published))[above], np.log(2.05))
    assert (np.abs(np.log(ours / published)) < np.log(1.5))[above].mean() > 0.5
    mean = (energies() * flux()).sum() / flux().sum()
    assert mean == pytest.approx(2.57, rel=0.2)


def test_modes_are_those_of_the_training_sample():
    # Rocco's thesis: 261,823 QE, 429,470 RES, 601,497 DIS of the charged currents of muon neutrinos.
    published = np.array([261_823, 429_470, 601_497]) / (261_823 + 429_470 + 601_497)
    np.testing.assert_allclose(mode_fractions(MUON_MASS), published, atol=0.025)
    # Tau leptons: 51, 88 and 248 thousand; here nearly all are deep inelastic, for the beam ends higher.
    assert mode_fractions(TAU_MASS)[2] > 0.6
    near_peak = mode_fractions(MUON_MASS, 1.0, 3.0)
    assert near_peak[2] < 0.25 < near_peak[0] < near_peak[1]


def test_total_cross_section():
    # 0.66e-38 cm^2 / GeV on CH2 far above all thresholds.
    energy = np.array([5.0, 10.0, 30.0])
    np.testing.assert_allclose(charged_current(energy).sum(axis=0) / energy, 0.66, rtol=0.01)
    assert (charged_current(np.array([0.2]))[1:] < 1e-3).all()


def test_no_other_leptons():
    with pytest.raises(ValueError, match=r"no lepton has a mass of 0\.5 GeV"):
        spectrum(0.5)


def test_energies_and_modes_are_drawn_as_tabulated(state):
    tables = spectrum(MUON_MASS)
    drawn = np.array([draw_neutrino(state, tables) for _ in range(8000)])
    np.testing.assert_allclose(
        np.bincount(drawn[:, 1].astype(int)) / 8000, mode_fractions(MUON_MASS), atol=0.02
    )
    rate = np.diff(tables.cumulative, prepend=0).reshape(3, -1).sum(axis=0)
    assert np.mean(drawn[:, 0] < 3) == pytest.approx(rate[tables.energy < 3].sum(), abs=0.02)


@pytest.mark.parametrize(
    ("mode", "charged", "protons"),
    [(QE, True, 0.0), (RES, True, 0.8), (DIS, True, 0.4), (DIS, False, 8 / 14)],
)
def test_targets(state, mode, charged, protons):
    drawn = np.array([draw_target(state, mode, charged) for _ in range(4000)])
    assert drawn[:, 0].mean() == pytest.approx(protons, abs=0.03)
    assert drawn[drawn[:, 0] == 0, 1].all()  # neutrons are in carbon
    if protons:
        assert drawn[drawn[:, 0] == 1, 1].mean() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("motion", [(0.0, 0.0, 0.0), (0.1, -0.05, 0.18)])
@pytest.mark.parametrize("w", [NUCLEON_MASS, 1.232, 2.0])
def test_reactions_conserve_four_momentum(state, motion, w):
    found, lepton, hadrons = react(state, BEAM, 4.0, w, 0.4, MUON_MASS, motion, 0.025)
    assert found
    assert invariant_mass(np.array(hadrons)) == pytest.approx(w, rel=1e-9)
    assert invariant_mass(np.array(lepton)) == pytest.approx(MUON_MASS, rel=1e-6)
    target = math.sqrt(NUCLEON_MASS**2 + sum(x * x for x in motion)) - 0.025
    before = np.array([*(4.0 * x for x in BEAM), 4.0]) + [*motion, target]
    np.testing.assert_allclose(np.add(lepton, hadrons), before, atol=1e-9)


def test_resonances_have_the_mass_of_the_delta(state):
    w = np.array([resonance_mass(state) for _ in range(4000)])
    assert np.median(w[w < 1.35]) == pytest.approx(1.23, abs=0.01)
    # 20 % heavy ones, 23 % after the cut edges of the Delta's line, of which 13 % is above 1.35 GeV.
    assert np.mean(w > 1.35) == pytest.approx(0.23 + 0.77 * 0.134, abs=0.03)
    assert w.min() > NUCLEON_MASS + 0.1396
    assert w.max() < 1.8


def test_deep_inelastic_scattering_is_deep(state):
    for _ in range(100):
        found, lepton, hadrons = inelastic_reaction(state, DIS, ALONG, 10.0, MUON_MASS, False)
        assert found
        assert invariant_mass(np.array(hadrons)) > 1.69
        q = np.array([0, 0, 10.0, 10.0]) - lepton
        assert q[:3] @ q[:3] - q[3] ** 2 > 0.149
    # Half of the energy goes to the hadrons, a little less for the antiquarks.
    y = [1 - inelastic_reaction(state, DIS, ALONG, 30.0, MUON_MASS, False)[1][3] / 30 for _ in range(1500)]
    assert np.mean(y) == pytest.approx(0.47, abs=0.04)


def test_no_resonance_below_its_threshold(state):
    assert not inelastic_reaction(state, RES, ALONG, 0.2, MUON_MASS, False)[0]


@pytest.mark.parametrize(
    ("lepton", "kind"), [(MUON_MASS, MUON), (ELECTRON_MASS, ELECTRON), (TAU_MASS, None), (0.0, None)]
)
def test_whole_events(lepton, kind):
    stack, truth = new_stack(), np.zeros(12)
    tables = neutrinos(lepton)
    kept, with_lepton, slopes = 0, 0, []
    for number in range(600):
        seed_stream(stack.random, 1, 0, number)
        stack.size[0] = 0
        if not neutrino_event(stack, tables, truth):
            continue
        kept += 1
        n = stack.size[0]
        kinds, kinetic = stack.kind[:n], stack.ray[:n, 6]
        assert n > 0 or lepton == 0.0
        assert (kinetic > 0).all()
        assert (np.abs(stack.ray[:n, :2]) < 7622.4 - FIDUCIAL_EDGE).all()
        np.testing.assert_allclose(np.linalg.norm(stack.ray[:n, 3:6], axis=1), 1, atol=1e-9)
        masses = np.where(np.isin(kinds, (PROTON, NEUTRON)), 0, np.array(MASSES)[kinds])
        # A pair of nucleons brings no more than its Fermi motion.
        assert (kinetic + masses).sum() < truth[0] + 0.08
        with_lepton += kind in kinds
        momentum = (
            np.sqrt(kinetic * (kinetic + 2 * np.array(MASSES)[kinds]))[:, None] * stack.ray[:n, 3:6]
        ).sum(0)
        slopes.append(momentum / truth[0])
    # Near the threshold of the tau lepton not every energy suffices for the reaction that was drawn.
    assert kept > (575 if lepton == TAU_MASS else 590)
    if kind is not None:
        assert with_lepton == kept
        # Everything visible goes along the beam on the average.
        mean = np.mean(slopes, axis=0)
        np.testing.assert_allclose(mean / mean[2], np.array(BEAM) / BEAM[2], atol=0.03)
