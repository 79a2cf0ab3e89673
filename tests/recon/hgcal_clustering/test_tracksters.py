"""Tracksters: by hand, against the slow twin, and what must change nothing."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recon.hgcal_clustering.calibration import CalibrationConfig
from recon.hgcal_clustering.tracksters import make_tracksters
from recon.types import NOISE
from tests.recon.hgcal_clustering.clusters_by_truth import group, pad_density
from tests.reference.toy_showers import dominant_particle, toy_event
from tests.reference.tracksters import make_tracksters as slow

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = CalibrationConfig(
    front_layers=6,
    scale=0.9,
    energy=0.01,
    pseudorapidity=0.02,
    hadronic=0.1,
    pileup=0.7,
    pileup_energy=-0.2,
    pileup_pseudorapidity=0.3,
)
CAPACITY = 12
compiled = jax.jit(make_tracksters, static_argnames=("config", "capacity"))


@pytest.fixture(scope="module")
def members():
    """(position, energy, layer, density) of the hits of some showers."""
    event = toy_event(seed=3, showers=7)
    density = group(dominant_particle(event), event.hits.energy)
    return event.hits.position, event.hits.energy, event.hits.layer, density


def make(members, capacity=CAPACITY, config=CONFIG):
    made, overflow = compiled(*members, config, capacity=capacity)
    assert not overflow
    return jax.tree.map(np.asarray, made)


def points(position, energy):
    position = np.asarray(position, np.float32)
    energy = np.asarray(energy, np.float32)
    density = group(np.zeros(len(energy), int), energy)
    return position, energy, np.zeros(len(energy), np.int32), density


def test_two_members_by_hand():
    made = make(points([[0, 30, 3000], [0, 34, 3004]], [3.0, 1.0]), config=CalibrationConfig())
    np.testing.assert_allclose(made.position[0], [0, 31, 3001])
    np.testing.assert_allclose(made.axes[0, 0], [0, 0.5**0.5, 0.5**0.5], atol=1e-6)
    # Distances from the barycentre sqrt(2) and 3 sqrt(2): (3 * 2 + 1 * 18) / 4.
    np.testing.assert_allclose(made.variance[0], [6, 0, 0], atol=1e-5)
    assert (made.energy[0], made.regressed_energy[0], made.size[0], made.seed[0]) == (4, 4, 2, 0)


def test_soft_energy_of_the_own_endcap_counts():
    """Three members forward, of which the loose one and 1 GeV of each hard one count; one backward."""
    position = np.array([[0, 300, 3000], [0, 300, 3010], [0, 900, 3000], [0, 300, -3000]], np.float32)
    energy = np.array([30.0, 20.0, 0.5, 0.25], np.float32)
    density = group(np.array([0, 0, -1, 1]), energy)
    config = CalibrationConfig(pileup=100.0)
    made = make((position, energy, np.zeros(4, np.int32), density), config=config)
    np.testing.assert_allclose(made.regressed_energy[:2], [50 / 1.25, 0.25 / 1.025], rtol=1e-5)


def test_single_member_points_away_from_the_interaction_point():
    made = make(points([[0, 300, -400]], [2.0]))
    np.testing.assert_allclose(made.axes[0, 0], [0, 0.6, -0.8], atol=1e-6)
    np.testing.assert_array_equal(made.variance[0], 0)
    np.testing.assert_allclose(np.linalg.det(made.axes[0]), 1, rtol=1e-6)


def test_against_loops(members):
    made, expected = make(members), slow(*members, CONFIG)
    assert made.valid.sum() == 7
    valid = made.valid
    np.testing.assert_allclose(made.position[valid], expected.position, rtol=1e-5, atol=5e-3)
    np.testing.assert_allclose(made.energy[valid], expected.energy, rtol=1e-5)
    np.testing.assert_allclose(made.variance[valid], expected.variance, rtol=1e-3)
    np.testing.assert_allclose(made.regressed_energy[valid], expected.regressed_energy, rtol=1e-4)
    # Along the same lines; the twin leaves the signs open.
    np.testing.assert_allclose(np.abs((made.axes[valid] * expected.axes).sum(2)), 1, atol=1e-3)
    for name in ("size", "seed"):
        np.testing.assert_array_equal(getattr(made, name)[valid], getattr(expected, name))


def test_first_axis_is_the_direction_of_the_shower(members):
    made = make(members)
    direction = made.position[:7] / np.linalg.norm(made.position[:7], axis=1, keepdims=True)
    assert ((made.axes[:7, 0] * direction).sum(1) > 0.97).all()


def test_padding_changes_nothing(members):
    position, energy, layer, density = members
    n = len(energy)
    padded = (
        np.pad(position, [(0, 19), (0, 0)], constant_values=np.nan),
        np.pad(energy, (0, 19), constant_values=np.nan),
        np.pad(layer, (0, 19), constant_values=-1),
        pad_density(density, n + 19),
    )
    made, expected = make(padded, CAPACITY + 3), make(members)
    np.testing.assert_array_equal(made.member_trackster[:n], expected.member_trackster)
    assert (made.member_trackster[n:] == NOISE).all()
    for one, other in zip(made[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one[:7], other[:7], rtol=1e-5, atol=1e-6)
        assert not one[~made.valid & (made.seed < 0)].any() or one is made.seed


def test_permuted_members_give_the_same_tracksters(members):
    position, energy, layer, density = members
    order = np.random.default_rng(4).permutation(len(energy))
    shuffled = density._replace(ids=density.ids[order], is_seed=density.is_seed[order])
    made = make((position[order], energy[order], layer[order], shuffled))
    expected = make(members)
    np.testing.assert_allclose(made.position, expected.position, rtol=1e-5, atol=5e-3)
    np.testing.assert_allclose(made.variance, expected.variance, rtol=1e-3)
    np.testing.assert_array_equal(order[made.seed[:7]], expected.seed[:7])


def test_rotating_the_event_rotates_the_axes(members):
    position, energy, layer, density = members
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    made, expected = make((position @ turn.T, energy, layer, density)), make(members)
    np.testing.assert_allclose(made.position, expected.position @ turn.T, rtol=1e-5, atol=5e-3)
    np.testing.assert_allclose(made.axes[:7], expected.axes[:7] @ turn.T, atol=2e-3)
    np.testing.assert_allclose(made.regressed_energy, expected.regressed_energy, rtol=1e-5)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_to_make(n):
    position, energy = np.ones((n, 3)), np.ones(n)
    density = group(np.full(n, NOISE), energy)
    made = make((position.astype(np.float32), energy.astype(np.float32), np.zeros(n, np.int32), density))
    assert not made.valid.any()
    assert all(np.isfinite(column).all() for column in made)


def test_equal_members_and_no_energy():
    made = make(points(np.tile([10.0, 20.0, 3000.0], (5, 1)), np.zeros(5)))
    assert made.size[0] == 5
    assert made.energy[0] == 0
    assert all(np.isfinite(column).all() for column in made)
    np.testing.assert_allclose(made.position[0], [10, 20, 3000])


def test_capacity_too_small_raises_the_flag(members):
    for capacity, expected in ((7, False), (6, True)):
        _, overflow = compiled(*members, CONFIG, capacity=capacity)
        assert bool(overflow) is expected


def test_batch_of_events_and_one_compilation(members):
    traces = []

    @jax.jit
    @jax.vmap
    def batch(*one):
        traces.append(1)
        return make_tracksters(*one, CONFIG, capacity=CAPACITY)

    expected = make(members)
    for _ in range(2):
        made, _ = batch(*jax.tree.map(lambda x: np.stack([x, x]), members))
        np.testing.assert_allclose(made.position[1], expected.position, rtol=1e-6)
        np.testing.assert_allclose(made.variance[1], expected.variance, rtol=1e-4, atol=1e-4)
    assert len(traces) == 1
