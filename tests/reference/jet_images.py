"""Slow NumPy twin of the images of jets: one jet, one candidate at a time."""

from __future__ import annotations

import numpy as np


def jet_image(candidates, valid, pixels, half_width):
    """Image and what is outside, for one jet."""
    image, outside = np.zeros((pixels, pixels)), 0.0
    for (eta, phi, log_share), good in zip(candidates, valid, strict=True):
        if not good:
            continue
        # In single precision, as the program: pixels are cut sharply.
        row, column = (
            int(np.floor((np.float32(x) + np.float32(half_width)) * np.float32(pixels / (2 * half_width))))
            for x in (eta, phi)
        )
        if 0 <= row < pixels and 0 <= column < pixels:
            image[row, column] += np.exp(log_share)
        else:
            outside += np.exp(log_share)
    return image, outside


def principal_axis(place, share):
    """Direction of largest second moment about the origin, by its eigenvector."""
    moments = np.zeros((2, 2))
    for vector, weight in zip(place, share, strict=True):
        moments += weight * np.outer(vector, vector)
    return np.linalg.eigh(moments)[1][:, -1]
