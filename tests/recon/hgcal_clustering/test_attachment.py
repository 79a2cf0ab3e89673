"""Cells for hits that have nothing but a position."""

from __future__ import annotations

import numpy as np

from recon.hgcal_clustering.attachment import attach_cells
from recon.types import RecHits


def hits_at(position, layer):
    n = len(layer)
    return RecHits(
        position=position.astype(np.float32),
        energy=np.ones(n, np.float32),
        layer=np.asarray(layer, np.int32),
        cell=np.full(n, -1, np.int32),
        sigma_noise=np.zeros(n, np.float32),
        valid=np.ones(n, bool),
    )


def test_cells_are_found_again(calorimeter, lookup, rng):
    rows = np.sort(rng.choice(len(calorimeter.layer), 500, replace=False))
    position = calorimeter.position[rows].copy()
    position[::2, 2] *= -1.0  # the other endcap has the same cells
    found = attach_cells(hits_at(position, calorimeter.layer[rows]), calorimeter, lookup)
    np.testing.assert_array_equal(found.cell, rows)
    np.testing.assert_array_equal(found.sigma_noise, calorimeter.sigma_noise[rows])
    np.testing.assert_array_equal(found.position, position)


def test_hits_elsewhere_and_padding_stay_as_they_are(calorimeter, lookup):
    position = np.stack([calorimeter.position[10], calorimeter.position[10], [0.0, 0.0, 3221.55]])
    given = hits_at(position, [0, 0, 0])._replace(valid=np.array([True, False, True]))
    found = attach_cells(given, calorimeter, lookup)
    assert found.cell.tolist() == [10, -1, -1]
    assert found.sigma_noise[1:].tolist() == [0.0, 0.0]
