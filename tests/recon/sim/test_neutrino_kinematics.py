"""Directions, boosts and two-body kinematics beside matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from recon.sim.neutrino_kinematics import (
    boosted,
    isotropic,
    rotated,
    scattered_lepton,
    two_body_momentum,
)
from recon.sim.neutrino_random import seed_stream
from tests.reference.neutrino import boost_matrix, invariant_mass, turned

angles = st.floats(-1.0, 1.0)
phis = st.floats(0.0, 6.283)


def direction(cosine, phi):
    sine = math.sqrt(1 - cosine * cosine)
    return np.array([sine * math.cos(phi), sine * math.sin(phi), cosine])


@settings(max_examples=60, deadline=None)
@given(angles, phis, angles, phis)
def test_turning_by_an_angle(cosine, phi, by, azimuth):
    axis = direction(cosine, phi)
    new = np.array(rotated(*axis, by, azimuth))
    assert new @ new == pytest.approx(1, abs=1e-9)
    assert new @ axis == pytest.approx(by, abs=1e-7)
    centre, radius = turned(axis, by)
    assert np.linalg.norm(new - centre) == pytest.approx(radius, abs=1e-6)
    # Half a turn of azimuth is the other end of the circle.
    opposite = np.array(rotated(*axis, by, azimuth + math.pi))
    np.testing.assert_allclose(0.5 * (new + opposite), centre, atol=1e-7)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_turning_about_the_beam_axis(sign):
    x, y, z = rotated(0.0, 0.0, sign, 0.6, 0.0)
    assert (x, abs(y), z) == pytest.approx((0.8, 0.0, sign * 0.6))


def test_no_turn_is_no_turn():
    np.testing.assert_allclose(rotated(0.6, 0.0, 0.8, 1.0, 1.2), (0.6, 0.0, 0.8), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(0.0, 2.0), angles, phis, st.floats(0.0, 0.995))
def test_boosts_beside_matrices(p, mass, cosine, phi, speed):
    energy = math.sqrt(mass**2 + sum(x * x for x in p))
    velocity = speed * direction(cosine, phi)
    found = boosted(p, energy, *velocity)
    np.testing.assert_allclose(found, boost_matrix(velocity) @ [*p, energy], rtol=1e-7, atol=1e-7)
    back = boosted(found[:3], found[3], *(-velocity))
    np.testing.assert_allclose(back, [*p, energy], rtol=1e-5, atol=1e-5)


def test_directions_without_preference():
    state = np.zeros(4, np.uint64)
    seed_stream(state, 1, 0, 0)
    drawn = np.array([isotropic(state) for _ in range(5000)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(3) / 3, atol=0.02)


def test_two_body_momenta():
    # tau -> pi nu and Delta -> N pi (Particle Data Group: 883 and 227 to 229 MeV/c).
    assert two_body_momentum(1.77686, 0.1395704, 0.0) == pytest.approx(0.883, abs=1e-3)
    assert two_body_momentum(1.232, 0.9389, 0.1395704) == pytest.approx(0.228, abs=2e-3)
    assert two_body_momentum(1.0, 0.9389, 0.1395704) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 20.0), st.floats(0.01, 3.0), st.sampled_from([0.9389, 1.232, 1.7, 2.5]),
       st.sampled_from([0.0, 0.000511, 0.1056584, 1.77686]))  # fmt: skip
def test_scattered_leptons_balance(energy, q2, w, mass):
    nucleon = 0.9389
    px, py, pz, e = scattered_lepton(energy, nucleon, w, q2, mass)
    if e == 0.0:
        return
    assert e * e - px * px - py * py - pz * pz == pytest.approx(mass**2, abs=1e-6)
    transfer = np.array([-px, -py, energy - pz, energy - e])
    assert transfer[:3] @ transfer[:3] - transfer[3] ** 2 == pytest.approx(q2, rel=1e-6, abs=1e-6)
    assert invariant_mass(transfer + [0, 0, 0, nucleon]) == pytest.approx(w, rel=1e-6)


def test_reactions_that_do_not_exist():
    nothing = (0.0, 0.0, 0.0, 0.0)
    assert (
        scattered_lepton(1.0, 0.9389, 0.9389, 0.1, 1.77686) == nothing
    )  # below the threshold of the tau lepton
    assert scattered_lepton(0.5, 0.9389, 0.9389, 3.0, 0.1056584) == nothing  # more than the largest Q^2
