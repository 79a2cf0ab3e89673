"""The traceable CLUE gives what the host's gives; jitted, mapped over events, exported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.hgcal_clustering import Kernel, Metric
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.program import clue_padded, radii_of
from tests.reference import clue as twin

pytestmark = pytest.mark.usefixtures("quick_programs")


def cloud(n, n_axes, seed=0):
    """Points with integer weights, some on a lattice: ties."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 2.5, (n, n_axes))
    points[: n // 3] = np.round(points[: n // 3])
    return points.astype(np.float32), rng.integers(1, 4, n).astype(np.float32)


def padded(points, weights, size, rows=None):
    """Arrays with padding at the given rows, full of numbers that must not matter."""
    n = len(points)
    rows = np.setdiff1d(np.arange(size), np.arange(n) if rows is None else rows)
    place = np.setdiff1d(np.arange(size), rows)
    table = np.full((size, points.shape[1]), np.nan, np.float32)
    table[place] = points
    weight = np.full(size, -5, np.float32)
    weight[place] = weights
    return table, weight, np.isin(np.arange(size), place), place


def assert_same(found, expected, place):
    np.testing.assert_array_equal(found.ids[place], expected.ids)
    np.testing.assert_array_equal(found.is_seed[place], expected.is_seed)
    nearest = np.r_[place, -1][expected.nearest_higher]
    np.testing.assert_array_equal(found.nearest_higher[place], nearest)
    np.testing.assert_allclose(found.rho[place], expected.rho, rtol=1e-5)
    np.testing.assert_allclose(found.delta[place], expected.delta, rtol=1e-4)
    assert int(found.n_clusters) == int(expected.n_clusters)
    assert not found.overflow


@pytest.mark.parametrize(
    ("n_axes", "metric"),
    [
        (1, "euclidean"),
        (2, "euclidean"),
        (3, "manhattan"),
        (5, "chebyshev"),
        (2, Metric("weighted", (0.25, 4.0))),
        (3, Metric("weighted_chebyshev", (1.0, 0.5, 2.0))),
        (3, Metric("periodic", (np.inf, 4.0, 7.0))),
        (2, Metric("periodic", (9.0, 2.0))),
        (2, Metric("periodic", (1.5, 1.0))),
        (1, Metric("periodic", (6.0,))),
    ],
    ids=str,
)
def test_same_as_on_the_host(n_axes, metric):
    points, weights = cloud(250, n_axes)
    table, weight, valid, place = padded(
        points, weights, 300, np.sort(np.random.default_rng(1).permutation(300)[:250])
    )
    program = jax.jit(lambda *event: clue_padded(*event, rho_c=6.0, radii=radii_of(1.1), metric=metric))
    found = program(table, weight, valid)
    assert_same(found, clue(points, weights, d_c=1.1, rho_c=6.0, metric=metric), place)
    rest = np.setdiff1d(np.arange(300), place)
    assert (np.asarray(found.ids)[rest] == -1).all()
    assert not np.asarray(found.is_seed)[rest].any()


@pytest.mark.parametrize("compat", ["paper", "cluestering-2.11"])
def test_twin_with_batches_and_kernel(compat):
    points, weights = cloud(300, 2, seed=2)
    batch = np.random.default_rng(0).integers(-2, 3, 300).astype(np.int32)
    kernel = Kernel("exponential", (0.5, 0.8))
    settings = {"d_c": 1.2, "rho_c": 4.0, "batch": batch, "compat": compat}
    expected = twin.clue(points, weights, kernel=kernel.name, parameters=kernel.parameters, **settings)
    found = clue_padded(
        jnp.asarray(points),
        jnp.asarray(weights),
        jnp.ones(300, bool),
        jnp.asarray(batch),
        rho_c=4.0,
        radii=radii_of(1.2, compat=compat),
        kernel=kernel,
        compat=compat,
    )
    assert_same(found, expected, np.arange(300))


def test_mapped_over_events_of_different_size():
    events = [cloud(n, 2, seed=n) for n in (0, 1, 60, 128)]
    columns = [
        np.stack(column) for column in zip(*(padded(*event, 128)[:3] for event in events), strict=True)
    ]
    program = jax.jit(jax.vmap(lambda *event: clue_padded(*event, rho_c=5.0, radii=radii_of(1.0))))
    found = program(*columns)
    for row, (points, weights) in enumerate(events):
        one = jax.tree.map(lambda column, row=row: np.asarray(column)[row], found)
        assert_same(one, clue(points, weights, d_c=1.0, rho_c=5.0), np.arange(len(points)))


def test_traced_settings_need_no_new_program():
    points, weights = cloud(100, 2)

    @jax.jit
    def program(points, weights, d_c, rho_c):
        radii = radii_of(1.0)._replace(density=d_c, seeding=d_c, outlier=2 * d_c)
        return clue_padded(points, weights, jnp.ones(100, bool), rho_c=rho_c, radii=radii)

    for d_c, rho_c in ((0.8, 3.0), (1.5, 8.0)):
        found = program(points, weights, jnp.float32(d_c), jnp.float32(rho_c))
        assert_same(found, clue(points, weights, d_c=d_c, rho_c=rho_c), np.arange(100))
    assert program._cache_size() == 1


def test_exported_for_several_devices():
    points, weights = cloud(1500, 2, seed=4)
    valid = np.ones(1500, bool)

    def program(points, weights, valid):
        return clue_padded(points, weights, valid, rho_c=6.0, radii=radii_of(0.7))._asdict()

    exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda", "tpu"])(points, weights, valid)
    found = jax.export.deserialize(exported.serialize()).call(points, weights, valid)
    np.testing.assert_array_equal(found["ids"], clue(points, weights, d_c=0.7, rho_c=6.0).ids)


def test_many_tiles_in_single_precision():
    # A hundred thousand tiles along an axis: their numbers are rounded, and no neighbour may be lost.
    rng = np.random.default_rng(5)
    y = np.repeat(rng.uniform(0, 1e5, 300), 2)
    points = np.stack([np.zeros(600), y + np.tile([0, 0.9999], 300)], 1).astype(np.float32)
    expected = twin.clue(points, np.ones(600), d_c=1.0, rho_c=1.2)
    found = clue_padded(
        jnp.asarray(points), jnp.ones(600), jnp.ones(600, bool), rho_c=1.2, radii=radii_of(1.0)
    )
    np.testing.assert_array_equal(found.ids, expected.ids)
