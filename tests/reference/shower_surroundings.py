"""Slow twin of `recon.hgcal_clustering.neighbourhood`: every pair of layer clusters."""

from __future__ import annotations

import math

import numpy as np


def surrounding_energy(points):
    """What `neighbourhood.surrounding_energy` gives."""
    n = len(points.energy)
    found = np.zeros((n, 10))
    for one in range(n):
        for other in range(n):
            distance = math.dist(points.xy[one], points.xy[other])
            step = int(points.layer[other]) - int(points.layer[one])
            part = 0 if step < -5 else 1 if step < 0 else 2 if step == 0 else 3 if step <= 5 else 4
            for number, radius in enumerate((15.0, 40.0)):
                if one != other and distance < radius:
                    found[one, 5 * number + part] += float(points.energy[other])
    return found
