"""Hexagons: hand cases, and agreement with the nearest centre."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from recon.hgcal_clustering.lattice import NEIGHBOURS, cell_centre, cell_of, morton_code, wafer_of


def test_the_cell_at_a_corner_of_which_the_origin_lies():
    x, y = cell_centre(np.array([0, 1, 0, 1]), np.array([0, 0, 1, -1]), 10.0)
    root = np.sqrt(3.0)
    np.testing.assert_allclose(x, [10 / root, 10 / root + 5 * root, 10 / root + 5 * root, 10 / root])
    np.testing.assert_allclose(y, [0.0, -5.0, 5.0, -10.0], atol=1e-12)


def test_centres_lie_in_their_own_cells(rng):
    i, j = rng.integers(-300, 300, (2, 1000))
    found = cell_of(*cell_centre(i, j, 12.08), 12.08)
    np.testing.assert_array_equal(found, (i, j))


def test_a_point_lies_in_the_cell_with_the_nearest_centre(rng):
    x, y = rng.uniform(-200.0, 200.0, (2, 5000))
    grid = [column.ravel() for column in np.mgrid[-40:41, -40:41]]
    nearest = cKDTree(np.stack(cell_centre(*grid, 10.0), axis=1)).query(np.stack([x, y], axis=1))[1]
    i, j = cell_of(x, y, 10.0)
    np.testing.assert_array_equal(i, grid[0][nearest])
    np.testing.assert_array_equal(j, grid[1][nearest])


def test_wafers_touch_along_x(rng):
    x, y = wafer_of(np.array([0.0, 49.0, 51.0, 0.0]), np.array([0.0, 0.0, 0.0, 90.0]), 100.0)
    np.testing.assert_allclose(x, [0.0, 0.0, 100.0, 50.0], atol=1e-9)
    np.testing.assert_allclose(y, [0.0, 0.0, 0.0, 50.0 * np.sqrt(3.0)], atol=1e-9)
    points = rng.uniform(-1000.0, 1000.0, (2, 2000))
    centres = np.stack(wafer_of(*points, 100.0))
    assert np.hypot(*(points - centres)).max() < 100.0 / np.sqrt(3.0)


def test_a_wafer_holds_whole_cells_only():
    """432 and 192 centres, none of them on its edge."""
    for cells in (12, 8):
        pitch = 100.0 / (cells * np.sqrt(3.0))
        grid = [column.ravel() for column in np.mgrid[-60:61, -60:61]]
        x, y = cell_centre(*grid, pitch)
        near = np.hypot(x, y) < 200.0
        wafer_x, wafer_y = wafer_of(x[near], y[near], 100.0)
        assert (np.hypot(wafer_x, wafer_y) < 1.0).sum() == 3 * cells**2
        other_x, other_y = wafer_of(x[near] + 1e-3, y[near] - 1e-3, 100.0)
        np.testing.assert_allclose(other_x, wafer_x)
        np.testing.assert_allclose(other_y, wafer_y, atol=1e-9)


def test_two_rings_of_neighbours():
    x, y = cell_centre(*NEIGHBOURS.T, 1.0)
    distance = np.hypot(x - 1.0 / np.sqrt(3.0), y)
    assert len(NEIGHBOURS) == 18
    np.testing.assert_allclose(np.sort(distance), [1.0] * 6 + [np.sqrt(3.0)] * 6 + [2.0] * 6)


def test_morton_code_interleaves_the_bits():
    x, y = np.array([0.0, 1.0, 0.0, 1.0, 2.0, 3.5]), np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    code = morton_code(x, y, 1.0) - morton_code(x[:1], y[:1], 1.0)
    assert code.tolist() == [0, 1, 2, 3, 4, 5]
