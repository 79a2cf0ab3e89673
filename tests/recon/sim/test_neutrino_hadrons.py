"""Hadrons: conservation laws, multiplicities, isospin, reactions in and out of nuclei."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    BINDING_ENERGY,
    CHARGES,
    FERMI_MOMENTUM,
    MASSES,
    NEUTRON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PI_ZERO,
    PROTON,
)
from recon.sim.neutrino_hadrons import (
    absorption_probability,
    fermi_motion,
    leave_nucleus,
    rescattering_probability,
    strike,
)
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_stack import Stack, new_stack, push_momentum
from recon.sim.neutrino_systems import choose_products, decay_system, fill_phase_space, multiplicity
from tests.reference.neutrino import invariant_mass

ORIGIN, AXIS = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def stack():
    new = new_stack()
    seed_stream(new.random, 11, 0, 0)
    return new


@compiled
def many_systems(stack: Stack, baryons: int, n: int, charge: int, total: tuple, out: np.ndarray) -> int:
    """Products of many decays: kind, px, py, pz, E."""
    done = 0
    for i in range(len(out)):
        if decay_system(stack, baryons, n, charge, total, (0.0, 0.0, 1.0)):
            for j in range(n):
                out[i, j, 0] = stack.product_kind[j]
                out[i, j, 1:] = stack.product[j]
            done += 1
    return done


@compiled
def many_strikes(stack: Stack, kind: int, momentum: float, on_carbon: bool, out: np.ndarray) -> int:
    """Counts of every kind, energy with rest masses of mesons, z momentum, after one reaction each."""
    done = 0
    for _ in range(len(out)):
        stack.size[0] = 0
        if not strike(stack, kind, (0.0, 0.0, momentum), (0.0, 0.0, 0.0), on_carbon):
            continue
        for j in range(stack.size[0]):
            product, ray = stack.kind[j], stack.ray[j]
            out[done, product] += 1
            mass = MASSES[product]
            out[done, 8] += ray[6] + (0.0 if product in (PROTON, NEUTRON) else mass)
            out[done, 9] += math.sqrt(ray[6] * (ray[6] + 2 * mass)) * ray[5]
        done += 1
    return done


def struck(stack, kind, kinetic, *, on_carbon=True, n=3000):
    out = np.zeros((n, 10))
    momentum = math.sqrt(kinetic * (kinetic + 2 * MASSES[kind]))
    return out[: many_strikes(stack, kind, momentum, on_carbon, out)], momentum


@pytest.mark.parametrize(
    ("baryons", "n", "charge", "total"),
    [(1, 2, 2, (0.0, 0.0, 0.0, 1.3)), (1, 4, 0, (0.3, -0.2, 2.0, 3.0)), (2, 2, 1, (0.0, 0.4, 0.0, 2.2)),
     (2, 5, 2, (0.0, 0.0, 3.0, 5.0)), (1, 9, 1, (0.0, 0.0, 20.0, 20.9))],
)  # fmt: skip
def test_systems_conserve_everything(stack, baryons, n, charge, total):
    out = np.zeros((200, n, 5))
    assert many_systems(stack, baryons, n, charge, total, out) == 200
    kinds = out[:, :, 0].astype(int)
    assert (np.array(CHARGES)[kinds].sum(axis=1) == charge).all()
    assert (np.isin(kinds, (PROTON, NEUTRON)).sum(axis=1) == baryons).all()
    np.testing.assert_allclose(out[:, :, 1:].sum(axis=1), np.tile(total, (200, 1)), atol=1e-6)
    masses = np.sqrt(np.maximum(out[:, :, 4] ** 2 - (out[:, :, 1:4] ** 2).sum(axis=2), 0))
    np.testing.assert_allclose(masses, np.array(MASSES)[kinds], atol=1e-5)


def test_transverse_momenta_are_limited_and_baryons_stay_behind(stack):
    out = np.zeros((400, 5, 5))
    assert many_systems(stack, 1, 5, 1, (0.0, 0.0, 0.0, 5.0), out) == 400
    transverse = np.hypot(out[:, :, 1], out[:, :, 2])
    assert 0.2 < transverse.mean() < 0.4 < np.abs(out[:, :, 3]).mean()
    slowest = np.argmin(out[:, :, 3], axis=1)
    assert np.mean(slowest == 0) > 0.75


def test_two_products_go_anywhere(stack):
    out = np.zeros((4000, 2, 5))
    many_systems(stack, 1, 2, 2, (0.0, 0.0, 0.0, 1.4), out)
    cosine = out[:, 0, 3] / np.linalg.norm(out[:, 0, 1:4], axis=1)
    assert abs(cosine.mean()) < 0.03
    assert cosine.var() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize(("charge", "neutral_partner"), [(1, PROTON), (0, NEUTRON)])
def test_a_delta_prefers_the_neutral_pion_two_to_one(stack, charge, neutral_partner):
    kinds = []
    for _ in range(3000):
        assert choose_products(stack, 1, 2, charge)
        kinds.append(stack.product_kind[:2].tolist())
    kinds = np.array(kinds)
    neutral = kinds[:, 1] == PI_ZERO
    assert neutral.mean() == pytest.approx(2 / 3, abs=0.03)
    assert (kinds[neutral, 0] == neutral_partner).all()
    assert (np.array(CHARGES)[kinds].sum(axis=1) == charge).all()


@pytest.mark.parametrize(("charge", "expected"), [(2, [PROTON, PI_PLUS]), (-1, [NEUTRON, PI_MINUS])])
def test_charges_with_one_answer(stack, charge, expected):
    assert choose_products(stack, 1, 2, charge)
    assert stack.product_kind[:2].tolist() == expected


def test_what_cannot_be(stack):
    assert not choose_products(stack, 1, 2, 4)
    assert not decay_system(stack, 1, 2, 1, (0.0, 0.0, 0.0, 1.0), AXIS)  # lighter than its products
    assert not decay_system(stack, 1, 2, 1, (0.0, 0.0, 2.0, 1.0), AXIS)  # faster than light
    stack.product_kind[:2] = PI_PLUS
    assert not fill_phase_space(stack, 2, 0.27, AXIS, False)


@pytest.mark.parametrize(("w", "proton"), [(2.0, True), (3.0, True), (3.0, False), (4.0, True)])
def test_multiplicities_are_those_of_neutrino_reactions(stack, w, proton):
    # Mean charged multiplicity a + 1.42 ln W^2 (AGKY); all hadrons are half as many again.
    drawn = np.array([multiplicity(stack.random, w, proton) for _ in range(4000)])
    charged = (0.40 if proton else -0.20) + 1.42 * math.log(w * w)
    assert drawn.mean() == pytest.approx(1.5 * charged, rel=0.06)
    assert drawn.min() >= 2
    assert 0.2 < drawn.std() / drawn.mean() < 0.45


def test_no_more_hadrons_than_there_is_mass_for(stack):
    for w in (1.1, 1.2, 1.35, 1.5):
        most = max(multiplicity(stack.random, w, True) for _ in range(500))
        assert most == 2 or most * 0.1349768 + 0.8 < w


def test_fermi_motion_fills_a_sphere(stack):
    p = np.array([fermi_motion(stack.random) for _ in range(4000)])
    size = np.linalg.norm(p, axis=1)
    assert size.max() <= FERMI_MOMENTUM
    assert size.mean() == pytest.approx(0.75 * FERMI_MOMENTUM, rel=0.02)
    np.testing.assert_allclose(p.mean(axis=0), 0, atol=0.01)


@pytest.mark.parametrize("kind", [PI_PLUS, PI_MINUS, PROTON, NEUTRON])
@pytest.mark.parametrize("kinetic", [0.1, 0.5, 2.0])
def test_reactions_with_free_protons_conserve_energy_momentum_charge(stack, kind, kinetic):
    out, momentum = struck(stack, kind, kinetic, on_carbon=False, n=400)
    assert len(out) > 390
    counts = out[:, :8]
    assert (counts @ np.array(CHARGES) == CHARGES[kind] + 1).all()
    assert (counts[:, [PROTON, NEUTRON]].sum(axis=1) == 1 + (kind in (PROTON, NEUTRON))).all()
    brought = kinetic + (0 if kind in (PROTON, NEUTRON) else MASSES[kind])
    # Photons of neutral pions carry their mass; masses of both nucleons count as one.
    np.testing.assert_allclose(out[:, 8], brought, atol=3e-3)
    np.testing.assert_allclose(out[:, 9], momentum, atol=3e-3)


def test_carbon_absorbs_pions(stack):
    for kinetic in (0.18, 0.5, 1.0):
        out, _ = struck(stack, PI_PLUS, kinetic)
        mesons = out[:, [PHOTON, PI_PLUS, PI_MINUS]].sum(axis=1)
        assert np.mean(mesons == 0) == pytest.approx(absorption_probability(kinetic), abs=0.04)
        absorbed = out[mesons == 0]
        assert (absorbed[:, [PROTON, NEUTRON]].sum(axis=1) == 2).all()
        # pi+ on a proton and a neutron, the usual pair: two protons.
        assert (absorbed[:, PROTON] == 2).all()


def test_free_protons_absorb_none(stack):
    out, _ = struck(stack, PI_MINUS, 0.18, on_carbon=False)
    assert (out[:, [PHOTON, PI_PLUS, PI_MINUS]].sum(axis=1) > 0).all()
    # Charge exchange pi- p -> pi0 n: two photons in two thirds of the reactions through the Delta.
    assert np.mean(out[:, PHOTON] == 2) == pytest.approx(2 / 3, abs=0.04)


def test_carbon_keeps_its_binding_energy(stack):
    out, _ = struck(stack, PROTON, 0.5)
    spent = 0.5 - out[:, 8]
    # The motion of the struck nucleon, up to 26 MeV, comes on top.
    assert BINDING_ENERGY - 0.03 < spent.min() <= spent.max() < BINDING_ENERGY + 3e-3


def test_fast_nucleons_make_pions_and_slow_ones_do_not(stack):
    pions = [
        (out[:, [PI_PLUS, PI_MINUS]].sum(axis=1) + out[:, PHOTON] / 2).mean()
        for out in (struck(stack, PROTON, kinetic)[0] for kinetic in (0.2, 1.0, 3.0))
    ]
    assert pions[0] == 0.0
    assert 0.3 < pions[1] < 0.8 < pions[2] < 1.8


@compiled
def nucleus(stack: Stack, kind: int, momentum: float, on_carbon: bool, out: np.ndarray) -> None:
    for i in range(len(out)):
        stack.size[0] = 0
        stack.product_kind[0] = kind
        stack.product[0, 0], stack.product[0, 1], stack.product[0, 2] = 0.0, 0.0, momentum
        stack.product[0, 3] = math.sqrt(momentum**2 + MASSES[kind] ** 2)
        leave_nucleus(stack, 1, (0.0, 0.0, 0.0), on_carbon)
        # Untouched: one particle of the same direction.
        out[i] = stack.size[0] == 1 and stack.ray[0, 5] > 0.999999


@pytest.mark.parametrize(("kind", "momentum"), [(PROTON, 0.8), (PI_PLUS, 0.28), (PI_MINUS, 2.0)])
def test_a_part_of_the_hadrons_leaves_the_nucleus_untouched(stack, kind, momentum):
    out = np.zeros(3000)
    nucleus(stack, kind, momentum, True, out)
    kinetic = math.hypot(momentum, MASSES[kind]) - MASSES[kind]
    assert 1 - out.mean() == pytest.approx(rescattering_probability(kind, kinetic), abs=0.03)
    nucleus(stack, kind, momentum, False, out)
    assert out.all()


def test_neutral_pions_are_their_photons(stack):
    energies = []
    for _ in range(500):
        stack.size[0] = 0
        push_momentum(stack, PI_ZERO, (1.0, 2.0, 3.0), (0.3, 0.0, 1.2))
        assert stack.kind[:2].tolist() == [PHOTON, PHOTON]
        photons = stack.ray[:2, 6:] * np.column_stack([stack.ray[:2, 3:6], np.ones(2)])
        assert invariant_mass(photons) == pytest.approx(MASSES[PI_ZERO], rel=1e-6)
        np.testing.assert_allclose(photons[:, :3].sum(axis=0), [0.3, 0.0, 1.2], atol=1e-9)
        np.testing.assert_array_equal(stack.ray[0, :3], [1.0, 2.0, 3.0])
        energies.append(photons[0, 3])
    # Isotropic in the rest frame: the energy of a photon is uniform between (E - p)/2 and (E + p)/2.
    p = math.hypot(0.3, 1.2)
    e = math.hypot(p, MASSES[PI_ZERO])
    assert np.mean(energies) == pytest.approx(e / 2, abs=0.03)
    assert min(energies) >= (e - p) / 2 - 1e-9
    assert max(energies) <= (e + p) / 2 + 1e-9


def test_a_full_stack_counts_what_it_loses():
    small = new_stack(2)
    for _ in range(5):
        push_momentum(small, PROTON, ORIGIN, AXIS)
    assert small.size.tolist() == [2, 3]


def test_nothing_at_rest_is_followed(stack):
    push_momentum(stack, PROTON, ORIGIN, ORIGIN)
    assert stack.size[0] == 0
