"""Pile-up mixing: rotation, reflection, vertices, selection."""

from __future__ import annotations

import numpy as np
import pytest

from recon.sim.mixing import mix
from recon.sim.pool import Pool, empty_pool

OPEN = {"pt_min": 0.0, "eta_max": 100.0}


def collision(momentum, vertex=None, pdg=211):
    """A pool of one collision with the given particles."""
    momentum = np.array(momentum, np.float32).reshape(-1, 3)
    n = len(momentum)
    vertex = np.zeros((n, 3), np.float32) if vertex is None else np.array(vertex, np.float32)
    return Pool(
        pdg=np.full(n, pdg, np.int32),
        charge=np.ones(n, np.int32),
        mass=np.full(n, 0.14, np.float32),
        momentum=momentum,
        vertex=vertex,
        time=np.zeros(n, np.float32),
        tracked=np.ones(n, bool),
        offsets=np.array([0, n], np.int64),
    )


HARD = collision([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
SOFT = collision([[0.6, 0.8, 2.0]], vertex=[[3.0, 4.0, 5.0]], pdg=-321)


def test_hard_scatter_keeps_its_orientation(rng):
    event = mix(HARD, empty_pool(), 0, rng, **OPEN)
    np.testing.assert_allclose(event.momentum, HARD.momentum)
    assert event.collision.tolist() == [1, 1]
    assert event.particle.tolist() == [1, 2]
    assert event.secondary_vertex.tolist() == [0, 0]


def test_particles_of_a_collision_share_their_point(rng):
    event = mix(HARD, empty_pool(), 0, rng, **OPEN)
    np.testing.assert_array_equal(event.vertex[0], event.vertex[1])
    assert event.time[0] == event.time[1]
    assert np.abs(event.vertex[0, :2]).max() < 0.1
    assert event.vertex[0, 2] != 0.0


def test_pileup_is_rotated_and_reflected_but_keeps_its_shape(rng):
    event = mix(HARD, SOFT, 400, rng, **OPEN)
    soft = event.collision > 1
    momentum = event.momentum[soft]
    np.testing.assert_allclose(np.hypot(momentum[:, 0], momentum[:, 1]), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.abs(momentum[:, 2]), 2.0)
    # 400 coins, 400 angles: five standard deviations.
    assert 150 < (momentum[:, 2] > 0).sum() < 250
    phi = np.arctan2(momentum[:, 1], momentum[:, 0])
    assert np.abs(np.exp(1j * phi).mean()) < 5 / np.sqrt(400)
    assert event.pdg[soft].tolist() == [-321] * 400


def test_decay_vertex_turns_with_the_momentum(rng):
    event = mix(HARD, SOFT, 50, rng, **OPEN)
    soft = event.collision > 1
    momentum, vertex = event.momentum[soft], event.vertex[soft]
    # (3, 4) and (0.6, 0.8) are parallel and stay so; the beam spot is 0.0125 mm wide.
    cross = momentum[:, 0] * vertex[:, 1] - momentum[:, 1] * vertex[:, 0]
    assert np.abs(cross).max() < 0.1
    np.testing.assert_allclose(np.hypot(vertex[:, 0], vertex[:, 1]), 5.0, atol=0.1)


def test_beam_spot_has_its_width(rng):
    event = mix(HARD, collision([[1.0, 0.0, 0.0]]), 4000, rng, **OPEN)
    point = event.vertex[event.collision > 1]
    np.testing.assert_allclose(point.std(axis=0), [0.0125, 0.0125, 55.5], rtol=0.06)
    assert np.abs(point.mean(axis=0) / point.std(axis=0)).max() < 5 / np.sqrt(4000)


def test_secondary_vertices_are_numbered_within_their_collision(rng):
    places = [[0, 0, 0], [5, 0, 0], [5, 0, 0], [0, 7, 0], [0, 0, 1e-5]]
    event = mix(collision(np.ones((5, 3)), places), empty_pool(), 0, rng, **OPEN)
    number = event.secondary_vertex
    assert number[0] == number[4] == 0
    assert number[1] == number[2] != number[3]
    assert sorted({int(number[1]), int(number[3])}) == [1, 2]
    soft = mix(HARD, collision(np.ones((5, 3)), places), 3, rng, **OPEN)
    for index in (2, 3, 4):
        assert set(soft.secondary_vertex[soft.collision == index].tolist()) == {0, 1, 2}


def test_selection_in_momentum_and_pseudorapidity(rng):
    hard = collision([[0.1, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, np.sinh(3.5)]])
    assert mix(hard, empty_pool(), 0, rng, pt_min=0.5, eta_max=4.0).particle.tolist() == [2, 3]
    assert mix(hard, empty_pool(), 0, rng, pt_min=0.05, eta_max=3.0).particle.tolist() == [1, 2]


@pytest.mark.parametrize("place", [[1100.0, 0.0, 0.0], [0.0, 0.0, 3400.0]])
def test_what_is_born_outside_the_detector_is_left_out(rng, place):
    assert len(mix(collision([[1.0, 0.0, 0.0]], [place]), empty_pool(), 0, rng, **OPEN).pdg) == 0


def test_same_random_numbers_same_event():
    one, other = (mix(HARD, SOFT, 20, np.random.default_rng(3), **OPEN) for _ in range(2))
    for name in one._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
