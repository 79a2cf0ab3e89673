"""Finding the sensor of a measurement by geometry."""

import numpy as np
import pytest

from recon.io.sensors import locate, sensor_frame
from recon.types import NOISE, Detector

from .conftest import make_event


def slow_locate(position, layer, detector):
    """Measure the distance to every sensor of the layer and take the closest."""
    modules = []
    for point, index in zip(position, layer, strict=True):
        sensors = np.flatnonzero(detector.layer == index)
        _, height, beyond = sensor_frame(np.repeat(point[None], len(sensors), 0), sensors, detector)
        modules.append(sensors[np.hypot(height, beyond).argmin()])
    return np.array(modules)


def test_every_hit_finds_its_sensor(detector):
    event = make_event(detector, 1, n_hits=3000)
    located = locate(event.hits.position.astype(np.float64), event.hits.layer, detector)
    np.testing.assert_array_equal(located.module, event.hits.module)
    np.testing.assert_allclose(located.local, event.hits.local, atol=5e-4)
    assert located.distance.max() < 1e-3


def test_against_all_sensors_of_the_layer(detector):
    event = make_event(detector, 2, n_hits=150)
    position = event.hits.position.astype(np.float64)
    located = locate(position, event.hits.layer, detector)
    np.testing.assert_array_equal(located.module, slow_locate(position, event.hits.layer, detector))


def test_permuting_hits_permutes_sensors(detector):
    event = make_event(detector, 3, n_hits=200)
    position, layer = event.hits.position.astype(np.float64), event.hits.layer
    order = np.random.default_rng(0).permutation(len(layer))
    straight = locate(position, layer, detector)
    permuted = locate(position[order], layer[order], detector)
    for one, other in zip(straight, permuted, strict=True):
        np.testing.assert_array_equal(one[order], other)


def test_off_the_plane(detector):
    """A tenth of a millimetre above the plane is no measurement of this sensor."""
    event = make_event(detector, 4, n_hits=50)
    above = event.hits.position + 0.1 * detector.rotation[event.hits.module, 2]
    located = locate(above.astype(np.float64), event.hits.layer, detector)
    assert (located.module == NOISE).all()
    np.testing.assert_allclose(located.distance, 0.1, atol=1e-3)


@pytest.fixture
def trapezoid() -> Detector:
    """One sensor at x = 10 mm: half length along u 1 mm at the low, 3 mm at the high edge, along v 2 mm."""
    one = np.ones(1, np.int32)
    return Detector(
        center=np.array([[10.0, 0, 0]], np.float32),
        rotation=np.array([[[0, 1.0, 0], [0, 0, 1], [1, 0, 0]]], np.float32),
        half_size=np.array([[1.0, 3, 2]], np.float32),
        thickness=np.zeros(1, np.float32),
        layer=0 * one,
        pixel=np.ones(1, bool),
        geometry_id=np.ones(1, np.uint64),
        volume_id=one,
        layer_id=one,
        module_id=one,
    )


@pytest.mark.parametrize(
    ("point", "local", "height", "beyond"),
    [
        ((10, 0.5, 0), (0.5, 0), 0, 0),
        ((11, 0, -1), (0, -1), 1, 0),
        ((10, 2.5, 0), (2.5, 0), 0, 0.5),  # half length 2 in the middle
        ((10, 2.5, 2), (2.5, 2), 0, 0),  # 3 at the high edge
        ((10, -2, -2), (-2, -2), 0, 1),  # 1 at the low edge
        ((10, 0, 4), (0, 4), 0, 2),
        ((9.5, 6, 6), (6, 6), -0.5, 5),  # 3 beyond in u, 4 in v
    ],
)
def test_frame_by_hand(point, local, height, beyond, trapezoid):
    found = sensor_frame(np.array([point], float), np.zeros(1, np.int64), trapezoid)
    np.testing.assert_allclose(found[0][0], local)
    np.testing.assert_allclose([found[1][0], found[2][0]], [height, beyond])


def test_layer_without_sensors(trapezoid):
    located = locate(np.zeros((2, 3)), np.array([5, 5], np.int32), trapezoid)
    assert located.module.tolist() == [NOISE, NOISE]


def test_no_hits(detector):
    located = locate(np.zeros((0, 3)), np.zeros(0, np.int32), detector)
    assert located.module.shape == (0,)
