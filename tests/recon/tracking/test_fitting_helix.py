"""Helix start, crossings, derivatives and material of the track fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.geometry import helix_direction, helix_position
from recon.tracking import helix as hx
from recon.tracking import trajectory as tr
from recon.tracking.helix import Helix
from recon.tracking.kalman import Measurements

FIELD = 2.0
LIGHT = 0.299792458e-3


def helices(rng: np.random.Generator, n: int, pt_min: float = 0.3) -> tuple[Helix, np.ndarray]:
    """The same tracks as `Helix` and as perigee parameters."""
    pt = np.exp(rng.uniform(np.log(pt_min), np.log(1000), n))
    cot = rng.uniform(-10, 10, n)
    theta = np.arctan2(1, cot)
    q_over_p = rng.choice([-1, 1], n) * np.sin(theta) / pt
    d0, z0, phi = rng.normal(0, 1, n), rng.normal(0, 30, n), rng.uniform(-3, 3, n)
    values = (d0, z0, phi, cot, -LIGHT * FIELD * q_over_p)
    return Helix(*(jnp.asarray(v, jnp.float32) for v in values)), np.stack([d0, z0, phi, theta, q_over_p], 1)


def points(perigee: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Points at transverse arc lengths [k], as [k, t, 3] in float64."""
    return helix_position(perigee, arcs[:, None] / np.sin(perigee[:, 3]), FIELD)


def test_arc_terms_have_no_small_curvature_problem() -> None:
    kappa = np.array([2e-3, -2e-3, 1e-5, 6e-7, 0.0])
    arc = np.array([[1000.0], [-40.0]]) * np.ones(5)
    terms = hx.arc_terms(jnp.asarray(kappa, jnp.float32), jnp.asarray(arc, jnp.float32))
    k = np.float64(np.float32(kappa)) + 1e-12
    turn = k * arc
    np.testing.assert_allclose(terms.sin_turn, np.sin(turn), rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(terms.cos_turn, np.cos(turn), atol=1e-6)
    np.testing.assert_allclose(terms.sine, np.sin(turn) / k, rtol=3e-6)
    np.testing.assert_allclose(terms.versine, 2 * np.sin(turn / 2) ** 2 / k, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(terms.second, 2 * (np.sin(turn / 2) / k) ** 2, rtol=1e-5)
    third = arc**3 * k * (1 / 6 - turn**2 / 120 + turn**4 / 5040 - turn**6 / 362880)
    np.testing.assert_allclose(terms.third, third, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("arcs", [[32, 72, 116], [30, 33, 70, 75, 120, 400, 900]])
def test_fit_helix_is_exact_on_helices(arcs: list[float]) -> None:
    helix, perigee = helices(np.random.default_rng(0), 100)
    x, y, z = jnp.asarray(np.moveaxis(points(perigee, np.array(arcs, float)), -1, 0), jnp.float32)
    found = hx.fit_helix(x, y, z, jnp.ones_like(x), jnp.ones(x.shape, bool))
    length = arcs[-1]
    np.testing.assert_allclose(found.d0, helix.d0, atol=0.02)
    np.testing.assert_allclose(found.z0, helix.z0, atol=0.02)
    np.testing.assert_allclose(found.phi, helix.phi, atol=1e-3)
    np.testing.assert_allclose(found.cot_theta, helix.cot_theta, atol=1e-3)
    # The sagitta, which is what was measured, to a few micrometres.
    np.testing.assert_allclose(found.kappa * length**2 / 8, helix.kappa * length**2 / 8, atol=5e-3)


def test_fit_helix_ignores_masked_points() -> None:
    _, perigee = helices(np.random.default_rng(1), 20)
    x, y, z = jnp.asarray(
        np.moveaxis(points(perigee, np.array([32.0, 72, 116, 172, 260])), -1, 0), jnp.float32
    )
    mask = jnp.ones(x.shape, bool).at[2].set(False)
    kept = [jnp.delete(array, 2, 0) for array in (x, y, z, jnp.ones_like(x), jnp.ones_like(mask))]
    x, y, z = x.at[2].set(7.0), y.at[2].set(1e4), z.at[2].set(-3.0)
    found = hx.fit_helix(x, y, z, jnp.ones_like(x), mask)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, hx.fit_helix(*kept)
    )


@pytest.mark.parametrize("n_points", [0, 1, 2])
def test_fit_helix_of_too_few_points_is_finite(n_points: int) -> None:
    x = jnp.asarray(np.arange(8, dtype=np.float32).reshape(4, 2) * 10 + 30)
    mask = jnp.arange(4)[:, None] < jnp.full(2, n_points)

    def total(x: jax.Array) -> jax.Array:
        return jnp.stack(hx.fit_helix(x, 0.3 * x, 2 * x, jnp.ones_like(x), mask)).sum()

    value, gradient = jax.value_and_grad(total)(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_arc_of_point_and_arc_at_radius() -> None:
    helix, perigee = helices(np.random.default_rng(2), 50)
    arcs = np.array([25.0, 100.0, 300.0])
    at = points(perigee, arcs)
    found = hx.arc_of_point(helix, jnp.asarray(at[..., 0], jnp.float32), jnp.asarray(at[..., 1], jnp.float32))
    np.testing.assert_allclose(found, arcs[:, None] * np.ones(50), rtol=1e-4)
    arc = hx.arc_at_radius(helix, jnp.array([[19.0], [200.0]]))
    path = np.asarray(arc, np.float64) / np.sin(perigee[:, 3])
    radius = np.linalg.norm(helix_position(perigee, path, FIELD)[..., :2], axis=-1)
    np.testing.assert_allclose(radius, [[19.0] * 50, [200.0] * 50], rtol=1e-4)


def curvilinear(perigee: np.ndarray, arc: np.ndarray, like: np.ndarray) -> np.ndarray:
    """State of helices in the planes across the helices `like` at `arc`: (phi, cot, rho, offset n, offset z)."""
    direction = helix_direction(like, arc / np.sin(like[:, 3]), FIELD)
    along = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1)[:, None]
    origin = helix_position(like, arc / np.sin(like[:, 3]), FIELD)
    path = arc / np.sin(perigee[:, 3])
    for _ in range(6):
        offset = helix_position(perigee, path, FIELD) - origin
        ahead = (offset[:, :2] * along).sum(1)
        path = path - ahead / (helix_direction(perigee, path, FIELD)[:, :2] * along).sum(1)
    offset = helix_position(perigee, path, FIELD) - origin
    rho = -LIGHT * FIELD * perigee[:, 4]
    phi = perigee[:, 2] + rho * path
    normal = offset[:, 1] * along[:, 0] - offset[:, 0] * along[:, 1]
    return np.stack([phi, 1 / np.tan(perigee[:, 3]), rho, normal, offset[:, 2]], 1)


def test_transport_and_perigee_matrix_are_difference_quotients() -> None:
    """d(state at s) / d(perigee) = transport(s) perigee_matrix, with every column varied in float64."""
    helix, perigee = helices(np.random.default_rng(3), 8, pt_min=0.5)
    for length in (0.0, 150.0, 700.0):
        arc = np.full(8, length)
        matrix = tr.transport_matrix(helix, jnp.asarray(arc[None], jnp.float32))[0]
        ours = np.einsum("ijt,jkt->tik", matrix, tr.perigee_matrix(helix))
        values = np.stack([np.asarray(v, np.float64) for v in helix], 1)
        for column, step in enumerate((1e-3, 1e-3, 1e-6, 1e-6, 1e-9)):
            states = []
            for sign in (1, -1):
                d0, z0, phi, cot, rho = (values + sign * step * np.eye(5)[column]).T
                moved = np.stack([d0, z0, phi, np.arctan2(1, cot), -rho / (LIGHT * FIELD)], 1)
                states.append(curvilinear(moved, arc, perigee))
            quotient = (states[0] - states[1]) / (2 * step)
            scale = np.abs(quotient).max(0) + 1e-3
            np.testing.assert_allclose(ours[:, :, column] / scale, quotient / scale, atol=2e-3)


def test_transport_backwards_is_the_inverse() -> None:
    helix, _ = helices(np.random.default_rng(4), 10)
    arc = jnp.full((1, 10), 80.0)
    product = np.einsum(
        "ijt,jkt->tik", tr.transport_matrix(helix, arc)[0], tr.transport_matrix(helix, -arc)[0]
    )
    np.testing.assert_allclose(product, np.eye(5) * np.ones((10, 1, 1)), atol=1e-2)


def test_scattering_of_one_gev_pions_in_one_per_cent() -> None:
    beta_squared = 1 / (1 + 0.13957039**2)
    width = 0.0136 * np.sqrt(0.01 / beta_squared) * (1 + 0.038 * np.log(0.01 / beta_squared))
    variance = tr.scattering_variance(jnp.array([[0.01], [0.0]]), jnp.ones(1), 0.13957039)
    np.testing.assert_allclose(np.sqrt(variance[:, 0]), [width, 0.0], rtol=1e-5)
    assert 0.0011 < width < 0.0012


def test_energy_loss_lowers_the_momentum() -> None:
    helix, perigee = helices(np.random.default_rng(5), 20)
    loss = 1e-4
    effects = tr.material_effects(helix, jnp.zeros((1, 20)), jnp.full((1, 20), loss), FIELD, 0.14)
    momentum = 1 / np.abs(perigee[:, 4])
    lower = np.sqrt((np.hypot(momentum, 0.14) - loss) ** 2 - 0.14**2)
    expected = np.asarray(helix.rho) * (momentum / lower - 1)
    np.testing.assert_allclose(effects.bend[0], expected, rtol=1e-2)
    assert (effects.azimuth == 0).all()


def test_cylinders_out_of_reach_have_no_material() -> None:
    curled = Helix(*(jnp.array([v], jnp.float32) for v in (0.0, 0.0, 0.0, 1.0, -0.01)))
    outside = curled._replace(d0=jnp.array([30.0]), rho=jnp.array([-1e-4]))
    radius, thickness = jnp.array([19.0, 500.0]), jnp.array([0.01, 0.02])
    _, path = tr.cross_cylinders(curled, radius, thickness)
    assert float(path[1, 0]) == 0
    assert float(path[0, 0]) == pytest.approx(0.01 * np.sqrt(2), rel=0.02)
    _, path = tr.cross_cylinders(outside, radius, thickness)
    assert float(path[0, 0]) == 0


def test_merging_surfaces_sorts_them_by_arc() -> None:
    arc = jnp.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    measured = Measurements(jnp.ones((2, 2, 5, 3)), jnp.ones((2, 2, 3)), jnp.ones((2, 2, 3)))
    surfaces = tr.Surfaces(arc, measured, *(arc,) * 4)
    extra = tr.ExtraSurfaces(jnp.array([[0.5, 1.5, 9.0], [7.0, 1.75, 9.0]]), *(jnp.full((2, 3), 5.0),) * 2)
    merged, positions = tr.merge_surfaces(surfaces, extra)
    np.testing.assert_array_equal(merged.arc.T, [[0.5, 1, 2, 7], [1, 1.5, 1.75, 2], [1, 2, 9, 9]])
    np.testing.assert_array_equal(positions, [[0, 1, 2], [2, 1, 2]])
    np.testing.assert_array_equal(merged.variance_outside.T, [[5, 1, 2, 5], [1, 5, 5, 2], [1, 2, 5, 5]])
    np.testing.assert_array_equal(merged.variance_inside.T, [[0, 1, 2, 0], [1, 0, 0, 2], [1, 2, 0, 0]])
    np.testing.assert_array_equal(
        merged.measurements.row[:, 1, 4].T, [[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 0, 0]]
    )
    np.testing.assert_array_equal(tr.values_of_hits(merged.arc, positions), arc)


def test_merging_surfaces_is_a_stable_sort() -> None:
    rng = np.random.default_rng(3)
    arc = np.sort(rng.integers(0, 30, (8, 50)), axis=0).astype(np.float32)
    zero = jnp.zeros((8, 2, 50))
    surfaces = tr.Surfaces(jnp.asarray(arc), Measurements(zero, zero, zero), *(jnp.asarray(arc),) * 4)
    extra = rng.integers(0, 30, (3, 50)).astype(np.float32)
    merged, positions = tr.merge_surfaces(surfaces, tr.ExtraSurfaces(*(jnp.asarray(extra),) * 3))
    np.testing.assert_array_equal(merged.arc, np.sort(np.concatenate([arc, extra]), axis=0))
    np.testing.assert_array_equal(tr.values_of_hits(merged.arc, positions), arc)
