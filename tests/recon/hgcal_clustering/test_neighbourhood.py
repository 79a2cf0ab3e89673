"""What surrounds layer clusters: by hand, against the slow twin, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.neighbourhood import surrounding_energy
from recon.hgcal_clustering.shower_candidates import Points
from tests.reference.shower_surroundings import surrounding_energy as slow_surrounding_energy


@pytest.fixture
def points(rng):
    n = 300
    return Points(rng.uniform(-120, 120, (n, 2)), rng.exponential(1.0, n), rng.integers(0, 47, n))


def test_by_hand():
    """A track of three, a layer cluster 30 mm beside its end, and one far away in the same layer."""
    xy = np.array([[0, 0], [0, 0], [0, 0], [30, 0], [500, 0]], float)
    found = surrounding_energy(Points(xy, np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([0, 3, 8, 8, 8])))
    # Near and far, each: long before, before, the same layer, behind, far behind.
    expected = [
        [0, 0, 0, 2, 4, 0, 0, 0, 2, 12],
        [0, 1, 0, 4, 0, 0, 1, 0, 12, 0],
        [1, 2, 0, 0, 0, 1, 2, 8, 0, 0],
        [0, 0, 0, 0, 0, 1, 2, 4, 0, 0],
        [0] * 10,
    ]
    np.testing.assert_array_equal(found, expected)


def test_slow_twin(points):
    np.testing.assert_allclose(surrounding_energy(points), slow_surrounding_energy(points), rtol=1e-12)


def test_order_and_rotation(points, rng):
    found = surrounding_energy(points)
    order = rng.permutation(len(points.energy))
    np.testing.assert_allclose(
        surrounding_energy(Points(*(column[order] for column in points))), found[order], rtol=1e-9
    )
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(surrounding_energy(points._replace(xy=points.xy @ turn)), found, rtol=1e-9)


def test_one_and_none():
    one = Points(np.zeros((1, 2)), np.ones(1), np.zeros(1, int))
    np.testing.assert_array_equal(surrounding_energy(one), np.zeros((1, 10)))
    assert surrounding_energy(Points(*(column[:0] for column in one))).shape == (0, 10)
