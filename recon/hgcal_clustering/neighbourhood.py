"""What surrounds a layer cluster along its line of sight: whether something led to it, and whether something follows.

A hadron of the pile-up comes with its own track and goes on; what is far out in a shower begins where it is.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from recon.hgcal_clustering.shower_candidates import Points

RADII = (15.0, 40.0)
"""Of the cylinders around a layer cluster, mm in the plane."""
BANDS = (-5, 0, 1, 6)
"""First layers, from that of the layer cluster on, of all parts of a cylinder but the first, which is all before."""


def surrounding_energy(points: Points) -> Float[np.ndarray, "n b"]:
    """Energy around every layer cluster without its own: for each of `RADII` one part after the other, GeV.

    The parts are what is more than five layers before, the five layers before, the same layer, the five layers behind,
    and what is more than five layers behind.

    Args:
        points: layer clusters of one endcap.
    """
    n, parts = len(points.energy), len(BANDS) + 1
    pairs = cKDTree(points.xy).query_pairs(RADII[-1], output_type="ndarray") if n else np.zeros((0, 2), int)
    one, other = pairs.T
    distance = np.hypot(*(points.xy[one] - points.xy[other]).T)
    behind = points.layer[other] - points.layer[one]
    columns = []
    for radius in RADII:
        near = distance < radius
        sums = np.zeros(n * parts)
        for here, there, step in ((one, other, behind), (other, one, -behind)):
            part = np.searchsorted(BANDS, step[near], side="right")
            sums += np.bincount(
                here[near] * parts + part, weights=points.energy[there[near]], minlength=n * parts
            )
        columns.append(sums.reshape(n, parts))
    return np.concatenate(columns, 1)
