"""Noise hits: on the sensors, spread like the occupancy, indistinguishable in shape."""

from __future__ import annotations

import numpy as np
import pytest

from recon.sim.digitisation import cell_sizes
from recon.sim.noise import draw_noise
from recon.tracking.detector import load_detector
from recon.types import Detector


@pytest.fixture(scope="module")
def detector():
    return load_detector("generic")


def two_layers():
    """Layer 0 with one trapezoid, layer 1 with three rectangles; pixels all."""
    half_size = np.array([[1.0, 3.0, 2.0], *[[8.0, 8.0, 36.0]] * 3], np.float32)
    return Detector(
        center=np.zeros((4, 3), np.float32),
        rotation=np.broadcast_to(np.eye(3, dtype=np.float32), (4, 3, 3)).copy(),
        half_size=half_size,
        thickness=np.zeros(4, np.float32),
        layer=np.array([0, 1, 1, 1], np.int32),
        pixel=np.ones(4, bool),
        geometry_id=np.arange(4, dtype=np.uint64),
        volume_id=np.full(4, 8, np.int32),
        layer_id=np.array([2, 4, 4, 4], np.int32),
        module_id=np.arange(4, dtype=np.int32),
    )


def shapes(n, cells=(2, 2)):
    return np.tile([*cells, 0.3], (n, 1)).astype(np.float64)


def test_layers_are_drawn_like_their_occupancy_and_sensors_evenly(rng):
    # Nine real hits on the first sensor of layer 1, one on layer 0.
    noise = draw_noise(two_layers(), np.array([1] * 9 + [0], np.int32), shapes(10), 20_000, rng)
    share = np.bincount(noise.module, minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.1, 0.3, 0.3, 0.3], atol=0.02)


def test_template_lies_on_the_same_layer(detector, rng):
    module = rng.integers(0, len(detector.layer), 500).astype(np.int32)
    noise = draw_noise(detector, module, shapes(500), 2000, rng)
    np.testing.assert_array_equal(detector.layer[noise.module], detector.layer[module[noise.template]])


def test_points_lie_on_their_sensors(detector, rng):
    module = rng.integers(0, len(detector.layer), 500).astype(np.int32)
    noise = draw_noise(detector, module, shapes(500), 20_000, rng)
    low, high, half_v = detector.half_size[noise.module].T.astype(np.float64)
    u, v = np.abs(noise.local[:, 0]), noise.local[:, 1]
    width = low + (high - low) * (v + half_v) / (2 * half_v)
    assert (np.abs(v) <= half_v * (1 + 1e-6)).all()
    assert (u <= width * (1 + 1e-6)).all()


def test_points_are_uniform_over_a_trapezoid(rng):
    noise = draw_noise(two_layers(), np.zeros(1, np.int32), shapes(1), 40_000, rng)
    v = noise.local[:, 1]
    # Half widths 1 at v = -2, 3 at v = +2: the lower half has (1 + 2) / (1 + 3) / 2 = 3/8 of the area.
    np.testing.assert_allclose((v < 0).mean(), 3 / 8, atol=0.012)
    np.testing.assert_allclose((np.abs(noise.local[:, 0]) < 1).mean(), 0.5, atol=0.012)


def test_single_cells_lie_at_cell_centres(detector, rng):
    module = rng.integers(0, len(detector.layer), 500).astype(np.int32)
    noise = draw_noise(detector, module, shapes(500, cells=(1, 2)), 5000, rng)
    size = cell_sizes(detector)[noise.module]
    corner = np.stack(
        [detector.half_size[noise.module, :2].max(axis=1), detector.half_size[noise.module, 2]], 1
    )
    place = (noise.local + corner) / size % 1.0
    np.testing.assert_allclose(place[:, 0], 0.5, atol=1e-3)
    np.testing.assert_allclose(place[:, 1].std(), 12**-0.5, rtol=0.05)


def test_no_real_hits_no_noise(detector, rng):
    noise = draw_noise(detector, np.zeros(0, np.int32), shapes(0), 100, rng)
    assert len(noise.module) == len(noise.local) == len(noise.template) == 0


def test_none_asked_none_drawn(detector, rng):
    assert len(draw_noise(detector, np.zeros(5, np.int32), shapes(5), 0, rng).module) == 0


def test_same_random_numbers_same_noise(detector):
    module = np.arange(100, dtype=np.int32)
    one, other = (draw_noise(detector, module, shapes(100), 50, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one.local, other.local)
