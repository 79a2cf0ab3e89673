"""Particles in the detector beside published depths, ranges and conversion lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    ELECTRON,
    ELECTRON_MASS,
    HALF_WIDTH,
    LENGTH,
    MUON,
    NEUTRON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PROTON,
    RADIATION_LENGTH,
)
from recon.sim.neutrino_light import Light, darken, new_light
from recon.sim.neutrino_matter import SOFT_DELTA, SOFT_PHOTON, Matter, matter, muon_range
from recon.sim.neutrino_random import State, seed_stream
from recon.sim.neutrino_showers import (
    compton,
    delta_limit,
    delta_rate,
    inside,
    knock_out,
    radiate,
    radiation_rate,
)
from recon.sim.neutrino_stack import Stack, new_stack, push
from recon.sim.neutrino_transport import IN_SLICE, follow
from recon.sim.neutrino_validation import expected_maximum, shoot, shower_maximum
from tests.reference.neutrino import klein_nishina

# Of the volume, what is scintillator.
ACTIVE = 59.0 * 35.7 / (66.5 * 39.7)
MIDDLE = (20.0, 20.0, 30_000.0)


@compiled
def follow_many(
    stack: Stack, tables: Matter, light: Light, kind: int, kinetic: float, out: np.ndarray
) -> None:
    """Energy in scintillator of single particles."""
    for i in range(len(out)):
        darken(light)
        push(stack, kind, (20.0, 20.0, 30_000.0), (0.0, 0.0, 1.0), kinetic)
        follow(stack, tables, light)
        out[i] = light.energy[0]


@compiled
def compton_many(state: State, energy: float, out: np.ndarray) -> None:
    for i in range(len(out)):
        out[i, 0], out[i, 1] = compton(state, energy)


@pytest.fixture
def stack():
    new = new_stack()
    seed_stream(new.random, 31, 0, 0)
    return new


def followed(stack, kind, kinetic, n=400):
    out = np.zeros(n)
    follow_many(stack, matter(), new_light(), kind, kinetic, out)
    assert stack.size.tolist() == [0, 0]
    return out


@pytest.mark.parametrize("energy", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("kind", [ELECTRON, PHOTON])
def test_depth_of_shower_maxima(kind, energy):
    # ln(E / E_c) -+ 0.5 radiation lengths (Particle Data Group, equation 34.36); the prototype had 1.25 and 2.75 at 0.5
    # and 2 GeV.
    found = shower_maximum(shoot(kind, energy, 250))
    assert found == pytest.approx(expected_maximum(energy, photon=kind == PHOTON), abs=0.4)


def test_formula_of_the_shower_maximum():
    assert expected_maximum(0.085 * math.e, photon=False) == pytest.approx(0.5)
    assert expected_maximum(0.085 * math.e, photon=True) == pytest.approx(1.5)


def test_showers_are_contained_and_narrow():
    shots = shoot(ELECTRON, 2.0, 250)
    assert shots.energy.mean() / 2.0 == pytest.approx(ACTIVE, rel=0.04)
    depth = np.cumsum(shots.profile) / shots.profile.sum()
    # A published 2 GeV electron shower is about 25 planes of a view long: 50 planes of both.
    assert 40 < np.searchsorted(depth, 0.95) < 62
    # The Moliere radius of the detector is 11 cm, three cells; projected on a view it is less.
    width = np.cumsum(shots.width) / shots.width.sum()
    assert 1 <= np.searchsorted(width, 0.90) <= 3
    # Calorimetry: some per cent at 2 GeV before the readout.
    assert 0.01 < shots.energy.std() / shots.energy.mean() < 0.05


def test_photons_leave_a_gap():
    # 9/7 of a radiation length over 0.91 at 1 GeV: 537 mm, and on to the next scintillator.
    first = shoot(PHOTON, 1.0, 1500).first
    assert np.nanmean(first) == pytest.approx(9 / 7 * RADIATION_LENGTH / 0.91, rel=0.12)
    assert shoot(ELECTRON, 1.0, 100).first.max() <= 66.5


@pytest.mark.parametrize("kinetic", [0.5, 1.0, 2.0])
def test_ranges_of_muons(kinetic):
    last = shoot(MUON, kinetic, 150).last
    # Scattering shortens the depth, knocked-out electrons spread it.
    assert np.median(last) == pytest.approx(muon_range(kinetic), rel=0.04)
    assert np.subtract(*np.percentile(last, [84, 16])) / 2 / np.median(last) < 0.06


def test_a_muon_leaves_a_minimum_everywhere():
    shots = shoot(MUON, 2.0, 150)
    plane = shots.profile[5:100]
    assert plane.std() / plane.mean() < 0.08
    # 59 mm of scintillator at 0.18 to 0.2 MeV/mm, half of the light arrives from the middle.
    assert plane.mean() == pytest.approx(59 * 0.195 * 6.0, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "kinetic", "low", "high"),
    # Protons lose energy to binding and to neutrons; the rest mass of pions comes on top, or is lost in absorption.
    [(PROTON, 0.3, 0.35, 0.9), (PI_PLUS, 0.3, 0.6, 1.2), (NEUTRON, 0.3, 0.2, 0.8), (PROTON, 2.0, 0.5, 0.85)],
)  # fmt: skip
def test_energy_of_hadrons(stack, kind, kinetic, low, high):
    energy = followed(stack, kind, kinetic) / kinetic
    assert low < energy.mean() < high
    # Nothing comes from nowhere: the mass of a pion may be released.
    assert energy.max() * kinetic <= kinetic + (0.14 if kind == PI_PLUS else 0.0) + 1e-9


def test_stopped_muons_end_as_electrons(stack):
    energy = followed(stack, MUON, 0.05, 3000)
    # Up to 52.8 MeV more than the muon had.
    assert energy.max() < 0.05 + 0.0529
    electron = energy - np.median(energy[energy < 0.05])
    assert np.mean(energy > 0.055) == pytest.approx(IN_SLICE * 0.9, abs=0.08)
    assert electron.max() > 0.03


def test_stopped_negative_pions_are_absorbed(stack):
    # The rest mass goes to two neutrons of some 50 MeV; positive pions end as a muon's electron, or as nothing.
    energy = followed(stack, PI_MINUS, 0.02, 300)
    assert np.median(energy) > 0.05
    assert energy.max() < 0.02 + 0.1396 - 0.04 + 1e-3
    positive = followed(stack, PI_PLUS, 0.02, 300)
    assert np.mean(np.isclose(positive, 0.02, atol=1e-6)) == pytest.approx(1 - IN_SLICE, abs=0.1)


def test_what_leaves_is_gone(stack):
    light = new_light()
    push(stack, MUON, (0.0, HALF_WIDTH - 1.0, 100.0), (0.0, 1.0, 0.0), 5.0)
    follow(stack, matter(), light)
    assert light.energy[0] < 5e-3
    assert not inside(0.0, HALF_WIDTH + 1, 10.0)
    assert not inside(0.0, 0.0, LENGTH + 1)
    assert inside(0.0, 0.0, 1.0)


@pytest.mark.parametrize("energy", [5e-4, 2e-3, 2e-2])
def test_compton_scattering_beside_klein_and_nishina(energy):
    state, out = np.zeros(4, np.uint64), np.zeros((12_000, 2))
    seed_stream(state, 2, 0, 0)
    compton_many(state, energy, out)
    np.testing.assert_allclose(out[:, 0], energy / (1 + energy / ELECTRON_MASS * (1 - out[:, 1])), rtol=1e-9)
    grid = np.linspace(-1, 1, 4001)
    density = np.array([klein_nishina(energy, c) for c in grid])
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    cumulative /= cumulative[-1]
    for cut in (-0.5, 0.0, 0.5, 0.9):
        assert np.mean(out[:, 1] < cut) == pytest.approx(np.interp(cut, grid, cumulative), abs=0.015)


def test_knocked_out_electrons(stack):
    light, limit, beta2 = new_light(), 0.2, 0.95
    energies = np.array([knock_out(stack, light, MIDDLE, (0.0, 0.0, 1.0), limit, beta2) for _ in range(4000)])
    there = energies[energies > 0]
    assert SOFT_DELTA <= there.min() <= there.max() <= limit
    # 1/T^2: half of them are below twice the threshold, a little more for the factor 1 - beta^2 T / T_max.
    assert np.mean(there < 2 * SOFT_DELTA) == pytest.approx(0.5, abs=0.03)
    followed_electrons = stack.ray[: stack.size[0], 6]
    assert len(followed_electrons) == np.sum(there >= 5e-3)
    assert light.energy[0] == pytest.approx(there[there < 5e-3].sum(), rel=1e-6)


def test_limits_and_rates_of_knocked_out_electrons():
    assert delta_limit(ELECTRON, 1.0, ELECTRON_MASS) == 0.5
    assert delta_rate(SOFT_DELTA / 2, 0.9) == 0.0
    # 0.0812 MeV/cm (half of K Z/A rho) over beta^2 and the threshold.
    assert delta_rate(1e9, 1.0) == pytest.approx(0.5 * 0.307075e-4 * 0.98 * 0.54 / SOFT_DELTA, rel=1e-6)


def test_radiation(stack):
    energy = 1.0
    photons = np.array([radiate(stack, MIDDLE, (0.0, 0.0, 1.0), energy) for _ in range(6000)])
    there = photons[photons > 0]
    assert SOFT_PHOTON <= there.min() <= there.max() <= energy
    # With the soft photons, an electron loses its energy over a radiation length.
    lost = radiation_rate(energy) * photons.mean() + 4 / 3 * SOFT_PHOTON / RADIATION_LENGTH
    assert lost * RADIATION_LENGTH == pytest.approx(energy, rel=0.05)
    assert radiation_rate(SOFT_PHOTON / 2) == 0.0
