"""Which sensor does a space point lie on? Found by geometry, not by number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from scipy.spatial import cKDTree

from recon.types import NOISE, Detector

PLANE_TOLERANCE = 0.05
"""Largest distance of a measurement from its sensor's plane, mm: six printed digits leave 0.005 mm at 3 m."""

EDGE_TOLERANCE = 5.0
"""Largest distance beyond a sensor's edge, mm: a smeared measurement may leave it by half a strip."""

# Sensors overlap, the nearest centre is the wrong one for one hit in five; eight cover all neighbours.
_CANDIDATES = 8


class Located(NamedTuple):
    """Sensors of measurements.

    Attributes:
        module: row of the sensor in the `Detector` table; -1 where the measurement lies on none of its layer.
        local: position along the sensor's axes, mm.
        distance: from the sensor, or from the closest sensor of the layer where it lies on none, mm.
    """

    module: Int32[np.ndarray, " n"]
    local: Float32[np.ndarray, "n 2"]
    distance: Float64[np.ndarray, " n"]


def locate(
    position: Float64[np.ndarray, "n 3"], layer: Int32[np.ndarray, " n"], detector: Detector
) -> Located:
    """Find the sensor of every measurement among the sensors of its layer.

    Args:
        position: global, mm.
        layer: index of the detector layer.
        detector: the sensors.

    Returns:
        Sensor, local position and distance of every measurement.
    """
    n_hits = len(layer)
    located = Located(
        np.full(n_hits, NOISE, np.int32), np.zeros((n_hits, 2), np.float32), np.full(n_hits, np.inf)
    )
    for index in np.unique(layer):
        sensors = np.flatnonzero(detector.layer == index)
        hits = np.flatnonzero(layer == index)
        if sensors.size:
            _locate_in_layer(position, hits, sensors, detector, located)
    return located


def _locate_in_layer(
    position: np.ndarray, hits: np.ndarray, sensors: np.ndarray, detector: Detector, located: Located
) -> None:
    """Try the sensors from the nearest centre outwards until the hit lies on one, else keep the closest."""
    tree = cKDTree(detector.center[sensors])
    open_hits = hits
    for rank in range(1, min(_CANDIDATES, sensors.size) + 1):
        _, near = tree.query(position[open_hits], k=[rank])
        candidate = sensors[near[:, 0]]
        local, height, beyond = sensor_frame(position[open_hits], candidate, detector)
        distance = np.hypot(height, beyond)
        closer = distance < located.distance[open_hits]
        hit = open_hits[closer]
        on_sensor = (np.abs(height) < PLANE_TOLERANCE) & (beyond < EDGE_TOLERANCE)
        located.module[hit] = np.where(on_sensor, candidate, NOISE)[closer]
        located.local[hit] = local[closer]
        located.distance[hit] = distance[closer]
        open_hits = open_hits[located.distance[open_hits] > PLANE_TOLERANCE]
        if open_hits.size == 0:
            break


def sensor_frame(
    position: Float64[np.ndarray, "n 3"], module: Int64[np.ndarray, " n"], detector: Detector
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Express global positions in the frame of given sensors.

    Args:
        position: global, mm.
        module: row of the sensor of every position.
        detector: the sensors.

    Returns:
        Position along the two axes, height above the plane, distance beyond the (trapezoidal) edge; mm.
    """
    # In double precision: the centre is up to 3 m away and the answer must be good to micrometres.
    offset = position - detector.center[module].astype(np.float64)
    local = np.einsum("nij,nj->ni", detector.rotation[module].astype(np.float64), offset)
    low, high, half_v = detector.half_size[module].astype(np.float64).T
    along = np.clip(local[:, 1] / half_v, -1.0, 1.0)
    half_u = 0.5 * (low + high) + 0.5 * (high - low) * along
    beyond_u = np.maximum(np.abs(local[:, 0]) - half_u, 0.0)
    beyond_v = np.maximum(np.abs(local[:, 1]) - half_v, 0.0)
    return local[:, :2], local[:, 2], np.hypot(beyond_u, beyond_v)
