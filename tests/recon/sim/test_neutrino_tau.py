"""Decays of tau leptons and muons: branching ratios, spectra, polarisation."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    CHARGES,
    ELECTRON,
    MASSES,
    MUON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    TAU_MASS,
)
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_stack import Stack, new_stack
from recon.sim.neutrino_tau import BRANCHING, CHANNELS, biased_cosine, decay_tau, lepton_decay

N = 12_000
MOMENTUM = 6.0


@compiled
def many_decays(stack: Stack, momentum: float, out: np.ndarray) -> None:
    """Channel, visible px, py, pz, E, counts of every kind."""
    for i in range(len(out)):
        stack.size[0] = 0
        out[i, 0] = decay_tau(stack, (0.0, 0.0, 0.0), (0.0, 0.0, momentum))
        for j in range(stack.size[0]):
            kind, ray = stack.kind[j], stack.ray[j]
            mass = MASSES[kind]
            p = (ray[6] * (ray[6] + 2 * mass)) ** 0.5
            for k in range(3):
                out[i, 1 + k] += p * ray[3 + k]
            out[i, 4] += ray[6] + mass
            out[i, 5 + kind] += 1


@pytest.fixture(scope="module")
def decays():
    stack, out = new_stack(), np.zeros((N, 13))
    seed_stream(stack.random, 5, 0, 0)
    many_decays(stack, MOMENTUM, out)
    return out


@pytest.fixture
def state():
    new = np.zeros(4, np.uint64)
    seed_stream(new, 8, 0, 0)
    return new


def test_branching_ratios(decays):
    found = np.bincount(decays[:, 0].astype(int), minlength=len(CHANNELS)) / N
    np.testing.assert_allclose(found, np.array(BRANCHING) / sum(BRANCHING), atol=0.012)
    # Particle Data Group: one charged particle in 85 %, three in 15 %.
    charged = decays[:, 5 + ELECTRON] + decays[:, 5 + MUON] + decays[:, 5 + PI_PLUS] + decays[:, 5 + PI_MINUS]
    assert set(charged) == {1.0, 3.0}
    assert np.mean(charged == 3) == pytest.approx(0.15, abs=0.015)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("e", {ELECTRON: 1}), ("mu", {MUON: 1}), ("pi", {PI_MINUS: 1}), ("pi pi0", {PI_MINUS: 1, PHOTON: 2}),
     ("pi 2pi0", {PI_MINUS: 1, PHOTON: 4}), ("3pi", {PI_MINUS: 2, PI_PLUS: 1}),
     ("3pi pi0", {PI_MINUS: 2, PI_PLUS: 1, PHOTON: 2})],
)  # fmt: skip
def test_products(decays, channel, expected):
    chosen = decays[decays[:, 0] == CHANNELS.index(channel)]
    counts = chosen[:, 5:]
    assert (counts == [expected.get(kind, 0) for kind in range(8)]).all()
    assert (counts @ np.array(CHARGES) == -1).all()


def test_neutrinos_take_the_rest(decays):
    energy = np.hypot(MOMENTUM, TAU_MASS)
    missing = np.column_stack([-decays[:, 1:3], MOMENTUM - decays[:, 3], energy - decays[:, 4]])
    assert (missing[:, 3] > -1e-6).all()
    square = missing[:, 3] ** 2 - (missing[:, :3] ** 2).sum(axis=1)
    assert (square > -1e-3).all()
    # One neutrino has no mass.
    np.testing.assert_allclose(square[decays[:, 0] >= 2], 0, atol=1e-3)


def test_masses_of_the_resonances(decays):
    for channel, mass, width in (("pi pi0", 0.775, 0.08), ("3pi", 1.22, 0.16), ("pi 2pi0", 1.22, 0.16)):
        rows = decays[decays[:, 0] == CHANNELS.index(channel)]
        found = np.sqrt(rows[:, 4] ** 2 - (rows[:, 1:4] ** 2).sum(axis=1))
        assert found.mean() == pytest.approx(mass, abs=0.03), channel
        assert found.std() == pytest.approx(width, rel=0.2), channel


def test_left_handed_tau_leptons_give_little_to_a_pion_and_half_to_a_rho(decays):
    energy = np.hypot(MOMENTUM, TAU_MASS)
    share = {name: decays[decays[:, 0] == row, 4].mean() / energy for row, name in enumerate(CHANNELS)}
    # x = E/E_tau has density 2(1 - x) for pions: mean 1/3; unpolarised it is 1/2.
    assert share["pi"] == pytest.approx(0.34, abs=0.02)
    assert share["pi pi0"] == pytest.approx(0.53, abs=0.03)
    # Leptons of left-handed tau leptons: mean 2/5 (density (4/3)(1 - x^3)); unpolarised 7/20.
    assert share["e"] == pytest.approx(0.40, abs=0.015)


def test_electrons_of_muons(state):
    # Michel spectrum x^2 (3 - 2x): mean 7/10, maximum at the end.
    drawn = np.array([lepton_decay(state, 0.0) for _ in range(N)])
    assert drawn[:, 0].mean() == pytest.approx(0.7, abs=0.006)
    for cut in (0.3, 0.6, 0.9):
        assert np.mean(drawn[:, 0] < cut) == pytest.approx(2 * cut**3 - cut**4, abs=0.015)
    assert drawn[:, 1].mean() == pytest.approx(0, abs=0.02)


def test_fast_electrons_of_left_handed_muons_go_ahead(state):
    drawn = np.array([lepton_decay(state, -1.0) for _ in range(N)])
    assert drawn[drawn[:, 0] > 0.9, 1].mean() > 0.2
    assert drawn[drawn[:, 0] < 0.3, 1].mean() < -0.05
    # The asymmetry of all of them is P/3 the other way round: <cos> = 1/9.
    assert drawn[:, 1].mean() == pytest.approx(1 / 9, abs=0.02)


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.45])
def test_biased_cosines(state, slope):
    drawn = np.array([biased_cosine(state, slope) for _ in range(N)])
    assert drawn.mean() == pytest.approx(slope / 3, abs=0.02)
    assert np.abs(drawn).max() <= 1
