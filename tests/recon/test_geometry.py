"""Angles, circles and helices against hand cases, numerical twins and symmetries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import geometry as geo

FIELD = 2.0


@pytest.mark.parametrize(
    ("phi", "other", "expected"),
    [
        (0.1, -0.1, 0.2),
        (3.0, -3.0, 6.0 - 2 * np.pi),
        (-3.0, 3.0, 2 * np.pi - 6.0),
        (np.pi, 0.0, np.pi),
        (0.0, np.pi, np.pi),
        (7 * np.pi + 0.5, 0.0, 0.5 - np.pi),
    ],
)
def test_delta_phi_hand_cases(phi: float, other: float, expected: float) -> None:
    assert geo.delta_phi(phi, other) == pytest.approx(expected)


def test_delta_phi_stays_in_its_interval_and_is_a_rotation_invariant() -> None:
    rng = np.random.default_rng(0)
    phi, other = rng.uniform(-20, 20, (2, 1000))
    difference = geo.delta_phi(phi, other)
    assert (difference > -np.pi).all()
    assert (difference <= np.pi).all()
    np.testing.assert_allclose(geo.delta_phi(phi + 1.7, other + 1.7), difference, atol=1e-12)
    np.testing.assert_allclose(np.cos(difference), np.cos(phi - other), atol=1e-12)
    np.testing.assert_allclose(np.sin(difference), np.sin(phi - other), atol=1e-12)


def test_delta_r_wraps() -> None:
    assert geo.delta_r(1.0, np.pi - 0.3, 1.4, -np.pi) == pytest.approx(0.5)


def test_directions_hand_cases() -> None:
    vector = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 2.0], [3.0, 4.0, -5.0]])
    np.testing.assert_allclose(geo.theta(vector), [np.pi / 2, np.pi / 4, 3 * np.pi / 4])
    np.testing.assert_allclose(geo.eta(vector), [0.0, np.arcsinh(1.0), -np.arcsinh(1.0)], atol=1e-15)
    np.testing.assert_allclose(geo.eta_from_theta(geo.theta(vector)), geo.eta(vector), atol=1e-12)
    radius, phi, z = geo.cylindrical(vector)
    np.testing.assert_allclose(radius, [1, 2, 5])
    np.testing.assert_allclose(phi, [0, np.pi / 2, np.arctan2(4, 3)])
    np.testing.assert_allclose(z, vector[:, 2])


def test_eta_is_accurate_near_the_beam_line_in_single_precision() -> None:
    vector = np.array([1.0, 0.0, np.sinh(8.0)], np.float32)
    assert float(geo.eta(vector)) == pytest.approx(8.0, rel=1e-6)


def test_numpy_in_numpy_out_and_jax_in_jax_out() -> None:
    vector = np.ones((4, 3), np.float32)
    assert isinstance(geo.eta(vector), np.ndarray)
    assert isinstance(geo.eta(jnp.asarray(vector)), jax.Array)
    np.testing.assert_allclose(jax.jit(geo.eta)(vector), geo.eta(vector), rtol=1e-6)


@pytest.mark.parametrize("radius", [300.0, -300.0, 5e5])
def test_origin_curvature_is_that_of_the_circle(radius: float) -> None:
    turn = np.array([0.2, 0.5])
    points = np.stack([abs(radius) * np.sin(turn), radius * (1 - np.cos(turn)), [10.0, 20.0]], axis=1)
    assert geo.origin_curvature(points[0], points[1]) == pytest.approx(1 / radius, rel=1e-6)
    angle = 1.1
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = points @ rotation.T
    assert geo.origin_curvature(turned[0], turned[1]) == pytest.approx(1 / radius, rel=1e-6)


def test_origin_curvature_of_coincident_points_is_zero_with_finite_gradient() -> None:
    point = jnp.array([10.0, 5.0, 1.0])
    assert float(geo.origin_curvature(point, point)) == 0
    assert float(geo.origin_curvature(jnp.zeros(3), point)) == 0


def test_one_gev_in_two_tesla_bends_with_1668_mm() -> None:
    kappa = geo.curvature(1.0, np.pi / 2, FIELD)
    assert 1 / kappa == pytest.approx(-1667.8205)
    # At a polar angle of 30 degrees half of 1 GeV is transverse: half the radius.
    assert geo.curvature(1.0, np.pi / 6, FIELD) == pytest.approx(2 * kappa)
    assert geo.q_over_p_from_curvature(kappa, np.pi / 2, FIELD) == pytest.approx(1.0)


def test_sinc_at_zero_and_its_gradient() -> None:
    angles = np.array([0.0, 1e-6, 9e-4, 1.1e-3, 0.5, -2.0])
    np.testing.assert_allclose(geo.sinc(angles), np.sinc(angles / np.pi), rtol=1e-12)
    gradient = jax.vmap(jax.grad(geo.sinc))(jnp.array([0.0, 1e-4, 0.5]))
    np.testing.assert_allclose(gradient, [0, -1e-4 / 3, (0.5 * np.cos(0.5) - np.sin(0.5)) / 0.25], atol=1e-6)


def random_perigees(rng: np.random.Generator, n: int) -> np.ndarray:
    pt = np.exp(rng.uniform(np.log(0.3), np.log(1000), n))
    theta = 2 * np.arctan(np.exp(-rng.uniform(-4, 4, n)))
    charge = rng.choice([-1, 1], n)
    columns = [rng.normal(0, 5, n), rng.normal(0, 50, n), rng.uniform(-np.pi, np.pi, n)]
    return np.stack([*columns, theta, charge * np.sin(theta) / pt], axis=1)


def test_helix_begins_at_the_perigee_and_leaves_it_at_a_right_angle() -> None:
    perigee = random_perigees(np.random.default_rng(1), 50)
    position = geo.helix_position(perigee, 0.0, FIELD)
    direction = geo.helix_direction(perigee, 0.0, FIELD)
    np.testing.assert_allclose(np.hypot(position[:, 0], position[:, 1]), np.abs(perigee[:, 0]))
    np.testing.assert_allclose(position[:, 2], perigee[:, 1])
    np.testing.assert_allclose((position * direction)[:, :2].sum(1), 0, atol=1e-12)
    # The sign of d0 in the convention of ACTS: position = d0 (z x p) / |z x p|.
    side = direction[:, 0] * position[:, 1] - direction[:, 1] * position[:, 0]
    np.testing.assert_array_equal(np.sign(side), np.sign(perigee[:, 0]))


def test_helix_obeys_the_lorentz_force() -> None:
    """Twin: integrate dp/ds = q p x B in small steps (midpoint rule)."""
    perigee = np.array([1.0, 20.0, 0.3, 1.0, 0.8])
    position = geo.helix_position(perigee, 0.0, FIELD)
    direction = geo.helix_direction(perigee, 0.0, FIELD)
    step, field = 0.5, np.array([0.0, 0.0, FIELD])
    for _ in range(1000):
        half = direction + step / 2 * geo.LIGHT * perigee[4] * np.cross(direction, field)
        position = position + step * half
        direction = direction + step * geo.LIGHT * perigee[4] * np.cross(half, field)
    np.testing.assert_allclose(geo.helix_position(perigee, 500.0, FIELD), position, atol=1e-3)
    np.testing.assert_allclose(geo.helix_direction(perigee, 500.0, FIELD), direction, atol=1e-5)


@pytest.mark.parametrize("path", [0.0, 1.0, 200.0, -30.0])
def test_perigee_of_a_point_on_a_helix_is_its_perigee(path: float) -> None:
    perigee = random_perigees(np.random.default_rng(2), 200)
    position = geo.helix_position(perigee, path, FIELD)
    charge = np.sign(perigee[:, 4])
    momentum = geo.helix_direction(perigee, path, FIELD) / np.abs(perigee[:, 4:])
    found = geo.perigee_parameters(position, momentum, charge, FIELD)
    difference = found - perigee
    difference[:, 2] = geo.wrap_phi(difference[:, 2])
    np.testing.assert_allclose(difference, 0, atol=1e-7)


def test_perigee_is_the_point_of_closest_approach() -> None:
    rng = np.random.default_rng(3)
    position, momentum = rng.normal(0, 20, (20, 3)), rng.normal(0, 1, (20, 3))
    found = geo.perigee_parameters(position, momentum, 1.0, FIELD)
    near = geo.helix_position(found[:, None], np.array([-2.0, 0.0, 2.0]), FIELD)
    radius = np.hypot(near[..., 0], near[..., 1])
    assert (radius[:, 1] <= radius[:, 0]).all()
    assert (radius[:, 1] <= radius[:, 2]).all()


def test_rotation_about_z_turns_phi_only() -> None:
    rng = np.random.default_rng(4)
    position, momentum = rng.normal(0, 20, (50, 3)), rng.normal(0, 3, (50, 3))
    angle = 2.5
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    before = geo.perigee_parameters(position, momentum, -1.0, FIELD)
    after = geo.perigee_parameters(position @ rotation.T, momentum @ rotation.T, -1.0, FIELD)
    np.testing.assert_allclose(geo.delta_phi(after[:, 2], before[:, 2]), geo.wrap_phi(angle), atol=1e-9)
    np.testing.assert_allclose(np.delete(after, 2, 1), np.delete(before, 2, 1), atol=1e-9)


def test_neutral_particles_go_straight() -> None:
    found = geo.perigee_parameters(np.array([30.0, 4.0, 60.0]), np.array([2.0, 0.0, 4.0]), 0.0, FIELD)
    np.testing.assert_allclose(found, [4.0, 0.0, 0.0, np.arctan2(2, 4), 0.0], atol=1e-12)


def test_perigee_in_jax_has_finite_gradients_for_straight_tracks() -> None:
    def d0(charge: jax.Array) -> jax.Array:
        position, momentum = jnp.array([30.0, 4.0, 60.0]), jnp.array([2.0, 0.0, 4.0])
        return geo.perigee_parameters(position, momentum, charge, FIELD)[0]

    # d(d0)/d(kappa) = (x^2 + y^2 - d0^2) / 2 at kappa = 0.
    expected = -geo.LIGHT * FIELD / 2.0 * (30.0**2 + 4.0**2 - 4.0**2) / 2
    assert float(jax.grad(d0)(0.0)) == pytest.approx(expected, rel=1e-3)
