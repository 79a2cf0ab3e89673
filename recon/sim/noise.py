"""Noise hits: clusters that no particle made, spread like the occupancy of the layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64

from recon.sim.digitisation import cell_sizes
from recon.types import Detector


class NoiseHits(NamedTuple):
    """Noise hits of one event.

    Attributes:
        module: row of the sensor in the `Detector` table.
        local: position on the sensor, mm.
        template: row of the real hit whose layer and cluster shape the noise hit has.
    """

    module: Int32[np.ndarray, " k"]
    local: Float32[np.ndarray, "k 2"]
    template: Int64[np.ndarray, " k"]


def draw_noise(
    detector: Detector,
    module: Int32[np.ndarray, " n"],
    cluster: Float[np.ndarray, "n 3"],
    n_noise: int,
    rng: np.random.Generator,
) -> NoiseHits:
    """Draw noise hits: layers in proportion to their real hits, then uniform over the area of the layer.

    The cluster shape, and with it the variance, comes from a random real hit of the same layer, so that it
    does not tell noise from signal. A noise cluster one cell wide lies at the centre of its cell, as real
    ones do.

    Args:
        detector: the sensor table.
        module: sensor of every real hit.
        cluster: cells along u and v (0 when unknown) and charge of every real hit.
        n_noise: number of noise hits; none are drawn when there is no real hit.
        rng: random numbers of this event.

    Returns:
        The noise hits.
    """
    count = n_noise if len(module) else 0
    template = rng.integers(0, max(len(module), 1), count)
    sensors_per_layer = np.bincount(detector.layer)
    # Sorted by geometry identifier, the sensors of a layer are contiguous.
    first_sensor = np.concatenate([[0], np.cumsum(sensors_per_layer)[:-1]])
    layer = detector.layer[module[template]] if count else np.zeros(0, np.int32)
    drawn = first_sensor[layer] + rng.integers(0, sensors_per_layer[layer])
    local = _uniform_on_sensor(detector.half_size[drawn].astype(np.float64), rng)
    cells = cluster[template, :2] if count else np.zeros((0, 2))
    local = _snap_to_cells(local, cell_sizes(detector)[drawn], detector.half_size[drawn], cells)
    return NoiseHits(drawn.astype(np.int32), local.astype(np.float32), template)


def _uniform_on_sensor(
    half_size: Float64[np.ndarray, "k 3"], rng: np.random.Generator
) -> Float64[np.ndarray, "k 2"]:
    """Draw points uniform over rectangles and trapezoids, by inverting the area below v."""
    low, high, half_v = half_size.T
    area = rng.uniform(0.0, 1.0, len(low))
    squared = low**2 + (high**2 - low**2) * area
    # (sqrt(s) - low) / (high - low), in the form that also holds for low = high.
    height = area * (low + high) / (np.sqrt(squared) + low)
    half_u = low + (high - low) * height
    return np.stack([rng.uniform(-1.0, 1.0, len(low)) * half_u, (2.0 * height - 1.0) * half_v], axis=1)


def _snap_to_cells(
    local: Float64[np.ndarray, "k 2"],
    size: Float64[np.ndarray, "k 2"],
    half_size: Float[np.ndarray, "k 3"],
    cells: Float[np.ndarray, "k 2"],
) -> Float64[np.ndarray, "k 2"]:
    corner = -np.stack([half_size[:, :2].max(axis=1), half_size[:, 2]], axis=1)
    centre = corner + (np.floor((local - corner) / size) + 0.5) * size
    return np.where(cells == 1, centre, local)
