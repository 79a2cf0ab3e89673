"""Guns, pile-up without a generator, and the helix to the face of the calorimeter."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.sim.calorimeter_particles import (
    FIELD,
    GUNS,
    gun,
    hagedorn_pool,
    is_baryon,
    parse_particles,
    reach_endcap,
)
from recon.sim.mixing import GeneratedParticles
from recon.sim.pool import pool_size

FACE = 3221.55
EVERYWHERE = (0.0, 1e9)


def particles(momentum, charge=0, pdg=22, mass=0.0, vertex=(0.0, 0.0, 0.0)):
    """Particles of one kind from one point."""
    momentum = np.atleast_2d(np.array(momentum, float))
    n = len(momentum)
    return GeneratedParticles(
        collision=np.ones(n, np.int64),
        secondary_vertex=np.zeros(n, np.int64),
        particle=np.arange(1, n + 1),
        pdg=np.full(n, pdg, np.int32),
        charge=np.full(n, charge, np.int32),
        mass=np.full(n, mass),
        momentum=momentum,
        vertex=np.tile(np.array(vertex, float), (n, 1)),
        time=np.zeros(n),
    )


def test_names_of_guns():
    assert parse_particles("photon, pion") == ("photon", "pion")
    with pytest.raises(ConfigError, match=r"'tauon' is unknown; allowed: photon, .*ttbar, none"):
        parse_particles("photon,tauon")
    with pytest.raises(ConfigError, match="unknown"):
        parse_particles("")


def test_gun_is_flat_in_its_ranges(rng):
    pool = gun(("photon", "pion"), 4000, (20.0, 200.0), (1.6, 2.9), rng, both_sides=False)
    energy = np.sqrt((pool.momentum**2).sum(axis=1) + pool.mass**2)
    eta = np.arcsinh(pool.momentum[:, 2] / np.hypot(*pool.momentum[:, :2].T))
    assert pool_size(pool) == 1
    assert 19.99 < energy.min() < 21.0 < 199.0 < energy.max() < 200.01
    assert energy.mean() == pytest.approx(110.0, rel=0.03)
    assert 1.6 <= eta.min() < 1.61 < 2.89 < eta.max() <= 2.9001
    codes, numbers = np.unique(pool.pdg, return_counts=True)
    assert codes.tolist() == [-211, 22, 211]
    np.testing.assert_allclose(numbers, [1000, 2000, 1000], rtol=0.1)
    np.testing.assert_array_equal(pool.charge, np.sign(pool.pdg) * (np.abs(pool.pdg) == 211))


def test_gun_to_both_sides_at_one_energy(rng):
    pool = gun(("electron",), 500, (50.0, 50.0), (2.0, 2.0), rng, both_sides=True)
    np.testing.assert_allclose(np.linalg.norm(pool.momentum, axis=1), 50.0, rtol=1e-6)
    assert 200 < (pool.momentum[:, 2] > 0).sum() < 300
    assert set(pool.pdg) == {11, -11}
    np.testing.assert_array_equal(pool.charge, -np.sign(pool.pdg))


def test_no_gun(rng):
    assert len(gun((), 0, (1.0, 2.0), (1.6, 2.9), rng, both_sides=False).pdg) == 0


def test_every_gun_has_a_code_that_the_showers_know():
    assert {kind[0] for kind in GUNS.values()} == {22, 11, 13, 211, 130, 2112}


def test_hagedorn_collisions():
    pool = hagedorn_pool(2000, seed=3)
    assert pool_size(pool) == 2000
    pt = np.hypot(*pool.momentum[:, :2].T)
    eta = np.arcsinh(pool.momentum[:, 2] / pt)
    charged = pool.charge != 0
    assert np.abs(eta).min() > 1.299
    assert np.abs(eta).max() < 3.301
    # 6.6 charged particles a unit of pseudorapidity, over four units.
    assert charged.sum() / 2000 == pytest.approx(26.4, rel=0.02)
    # Mean of the spectrum: 2 n T / (n - 3).
    assert pt[charged].mean() == pytest.approx(2 * 6.8 * 0.135 / 3.8, rel=0.05)
    assert set(np.abs(pool.pdg)) == {211, 22, 130}
    again = hagedorn_pool(2000, seed=3)
    np.testing.assert_array_equal(pool.momentum, again.momentum)
    assert not np.array_equal(pool.momentum[:10], hagedorn_pool(2000, seed=4).momentum[:10])


def test_neutral_particles_go_straight():
    incident = reach_endcap(particles([[3.0, 4.0, 20.0]], vertex=(1.0, 2.0, 100.0)), FACE, EVERYWHERE, 1)
    assert incident.slope_x[0] == pytest.approx(0.15)
    assert incident.slope_y[0] == pytest.approx(0.2)
    assert incident.x0[0] == pytest.approx(1.0 - 100.0 * 0.15)
    assert incident.energy[0] == pytest.approx(np.sqrt(9 + 16 + 400))


def test_charged_particles_follow_a_circle():
    """pT = 1.139 GeV in 3.8 T is a circle of 1 m: after half a turn the particle is 2 m away and goes back."""
    pt = 0.299792458 * FIELD
    pz = pt * FACE / (np.pi * 1000.0)
    incident = reach_endcap(particles([[pt, 0.0, pz]], charge=1, pdg=211), FACE, EVERYWHERE, 1)
    x, y = incident.x0 + FACE * incident.slope_x, incident.y0 + FACE * incident.slope_y
    np.testing.assert_allclose([x[0], y[0]], [0.0, -2000.0], atol=1e-6)
    np.testing.assert_allclose([incident.slope_x[0], incident.slope_y[0]], [-pt / pz, 0.0], atol=1e-9)


def test_charges_bend_to_opposite_sides():
    plus, minus = (
        reach_endcap(particles([[2.0, 0.0, 9.0]], charge=q, pdg=211), FACE, EVERYWHERE, 1) for q in (1, -1)
    )
    np.testing.assert_allclose(plus.y0 + FACE * plus.slope_y, -(minus.y0 + FACE * minus.slope_y))
    np.testing.assert_allclose(plus.slope_x, minus.slope_x)


def test_the_other_endcap_is_the_mirror_image():
    forward = reach_endcap(particles([[2.0, 1.0, 9.0]], charge=1, vertex=(0, 0, 30.0)), FACE, EVERYWHERE, 1)
    backward = reach_endcap(
        particles([[2.0, 1.0, -9.0]], charge=1, vertex=(0, 0, -30.0)), FACE, EVERYWHERE, -1
    )
    for name in forward._fields:
        np.testing.assert_allclose(getattr(forward, name), getattr(backward, name), err_msg=name)


def test_what_misses_the_face_is_left_out():
    momentum = [[0.0, 0.1, 50.0], [10.0, 0.0, 20.0], [1.0, 1.0, -5.0], [100.0, 0.0, 10.0]]
    incident = reach_endcap(particles(momentum), FACE, (300.0, 2000.0), 1)
    assert incident.row.tolist() == [1]
    late = reach_endcap(particles([[5.0, 0.0, 20.0]], vertex=(0.0, 0.0, 4000.0)), FACE, EVERYWHERE, 1)
    assert len(late.row) == 0


@pytest.mark.parametrize(
    ("pdg", "mass", "expected"),
    [(211, 0.14, 5.0019596), (2112, 1.0, np.sqrt(26.0) - 1.0), (-2112, 1.0, np.sqrt(26.0) + 1.0)],
)
def test_energy_that_can_become_a_shower(pdg, mass, expected):
    incident = reach_endcap(particles([[3.0, 0.0, 4.0]], pdg=pdg, mass=mass), FACE, EVERYWHERE, 1)
    assert incident.energy[0] == pytest.approx(expected, rel=1e-6)


def test_baryons_are_told_from_the_others():
    codes = np.array([2112, -2112, 2212, 3122, -3334, 211, 130, 22, 11, 310, 5122, 411], np.int32)
    assert is_baryon(codes).tolist() == [True] * 5 + [False] * 5 + [True, False]
