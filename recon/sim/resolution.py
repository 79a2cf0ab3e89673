"""Position resolution of clusters, by their size: what a reconstruction would quote as measurement error."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int32

from recon.sim.digitisation import READOUT, Digitisation, cell_sizes, nominal_pitch
from recon.types import Detector

RESOLUTION: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    7: ((0.28, 0.26), (0.23, 0.195)),
    8: ((0.21, 0.13, 0.05), (0.205, 0.10, 0.09, 0.12, 0.15, 0.18, 0.195, 0.22)),
    9: ((0.28, 0.26), (0.23, 0.195)),
    12: ((0.24, 0.175, 0.06), (0.28, 0.27)),
    13: ((0.22, 0.105, 0.047, 0.04), (0.23, 0.17)),
    14: ((0.24, 0.175, 0.06), (0.28, 0.27)),
    16: ((0.19, 0.106, 0.048), (0.286, 0.275)),
    17: ((0.207, 0.089, 0.046), (0.284, 0.289)),
    18: ((0.19, 0.106, 0.048), (0.286, 0.275)),
}
"""By volume: root mean square of measured minus true position along u and v, in cells, for clusters 1, 2, ...
cells wide (the last number for wider ones). Calibrated with simulated t tbar events at a pile-up of 40;
`tests/recon/sim/test_resolution.py` measures the pulls."""

PIXEL_BARREL = 8
"""The volume where shallow tracks leave clusters dozens of cells long."""

WIDE_CLUSTER_SLOPE = 0.029
"""Wide pixel clusters resolve worse in proportion to their width: every cell adds its charge noise."""


def cluster_variance(
    detector: Detector,
    module: Int32[np.ndarray, " n"],
    cells: Float[np.ndarray, "n 2"],
    kind: Digitisation,
) -> Float64[np.ndarray, "n 2"]:
    """Variance of measured positions.

    Args:
        detector: the sensor table.
        module: sensor of every hit.
        cells: width of the cluster along u and v; not looked at for smeared digitisation.
        kind: `geometric` looks up `RESOLUTION`; `smeared` is pitch^2 / 12, the Gaussian it was drawn from.

    Returns:
        Variance along u and v, mm^2.
    """
    if kind == "smeared":
        return nominal_pitch(detector)[module] ** 2 / 12.0
    return (_resolution_in_cells(detector.volume_id[module], cells) * cell_sizes(detector)[module]) ** 2


def _resolution_in_cells(
    volume: Int32[np.ndarray, " n"], cells: Float[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 2"]:
    widest = max(len(axis) for axes in RESOLUTION.values() for axis in axes)
    table = np.array([[_padded(axis, widest) for axis in RESOLUTION[v]] for v in READOUT])
    row = np.searchsorted(np.array(list(READOUT)), volume)
    column = np.clip(cells.astype(np.int64) - 1, 0, widest - 1)
    resolution = table[row[:, None], np.arange(2), column]
    wide = (cells > widest) & (volume == PIXEL_BARREL)[:, None]
    return np.where(wide, WIDE_CLUSTER_SLOPE * cells, resolution)


def _padded(values: tuple[float, ...], length: int) -> tuple[float, ...]:
    return values + values[-1:] * (length - len(values))
