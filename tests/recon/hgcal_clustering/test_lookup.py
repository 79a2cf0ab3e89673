"""The cell under a point, beside a slow twin that looks at every cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.hgcal_clustering.lookup import NO_CELL, build_lookup, cell_at
from recon.hgcal_clustering.sensors import SCINTILLATOR
from tests.reference.cells import slow_cell_at, slow_wafer_centre

LAYERS_WITH_BORDERS = (0, 12, 26, 33, 38, 46)
"""Layers with 120, 200 and 300 um silicon, and with scintillator in the last three."""


@pytest.mark.parametrize("layer", LAYERS_WITH_BORDERS)
def test_points_anywhere_agree_with_the_twin(calorimeter, lookup, wedge, rng, layer):
    n = 300
    radius = rng.uniform(300.0, 2700.0, n)
    # Away from the edges of the wedge, where the twin does not know that there is nothing beyond.
    phi = rng.uniform(wedge.phi_min + 0.06, wedge.phi_max - 0.06, n)
    x, y = radius * np.cos(phi), radius * np.sin(phi)
    found = cell_at(lookup, x, y, np.full(n, layer))
    expected = [slow_cell_at(calorimeter, wedge.layers(), *point, layer) for point in zip(x, y, strict=True)]
    same = found == expected
    # On the line between two cells rounding decides, and at the very edge of the scintillator the last ring is cut.
    tile = (found != NO_CELL) & (calorimeter.sensor[found] == SCINTILLATOR)
    assert same[~tile].mean() > 0.995
    assert same[tile].all() or same[tile].mean() > 0.9
    assert ((found == NO_CELL) == (np.array(expected) == NO_CELL)).all()


@pytest.mark.parametrize("border", ["fine_radius", "medium_radius", "mixed_radius"])
def test_points_at_the_borders_between_sensors_agree_with_the_twin(calorimeter, lookup, wedge, rng, border):
    layer, n = 46, 300
    limit = getattr(wedge.layers(), border)[layer]
    radius = limit + rng.uniform(-90.0, 90.0, n) * (1.0 if border != "mixed_radius" else 0.2)
    phi = rng.uniform(wedge.phi_min + 0.1, wedge.phi_max - 0.1, n)
    x, y = radius * np.cos(phi), radius * np.sin(phi)
    found = cell_at(lookup, x, y, np.full(n, layer))
    expected = [slow_cell_at(calorimeter, wedge.layers(), *point, layer) for point in zip(x, y, strict=True)]
    assert (found == expected).mean() > 0.99
    assert len(np.unique(calorimeter.sensor[found])) > 1


def test_wafers_of_the_twin_are_the_same(rng):
    from recon.hgcal_clustering.lattice import wafer_of  # noqa: PLC0415
    from recon.hgcal_clustering.sensors import WAFER_SIZE  # noqa: PLC0415

    points = rng.uniform(-2000.0, 2000.0, (2, 400))
    slow = np.array([slow_wafer_centre(*point) for point in points.T]).T
    np.testing.assert_allclose(wafer_of(*points, WAFER_SIZE), slow, atol=1e-6)


def test_order_and_company_do_not_matter(lookup, wedge, rng):
    n = 2000
    radius, phi = rng.uniform(300.0, 1700.0, n), rng.uniform(wedge.phi_min, wedge.phi_max, n)
    layer = rng.integers(0, 47, n)
    x, y = radius * np.cos(phi), radius * np.sin(phi)
    together = cell_at(lookup, x, y, layer)
    order = rng.permutation(n)
    np.testing.assert_array_equal(cell_at(lookup, x[order], y[order], layer[order]), together[order])
    np.testing.assert_array_equal(cell_at(lookup, x[:7], y[:7], layer[:7]), together[:7])
    assert len(cell_at(lookup, x[:0], y[:0], layer[:0])) == 0


_WEDGE = EndcapGeometry(n_layers=1, phi_min=0.0, phi_max=0.1)
_CALORIMETER = build_calorimeter(_WEDGE)
_LOOKUP = build_lookup(_WEDGE, _CALORIMETER)


@settings(max_examples=200, deadline=None)
@given(st.floats(-5000.0, 5000.0), st.floats(-5000.0, 5000.0), st.integers(-3, 3))
def test_any_point_has_a_cell_of_its_layer_or_none(x, y, layer):
    (row,) = cell_at(_LOOKUP, np.array([x]), np.array([y]), np.array([layer]))
    radius, phi = np.hypot(x, y), np.arctan2(y, x)
    low, high = _WEDGE.layers().radius[0]
    inside = layer == 0 and low <= radius <= high and _WEDGE.phi_min <= phi <= _WEDGE.phi_max
    assert (row != NO_CELL) == inside
    if inside:
        centre = _CALORIMETER.position[row]
        assert np.hypot(x - centre[0], y - centre[1]) < 24.0


def test_single_precision_points_are_as_good(calorimeter, lookup):
    x, y, _ = calorimeter.position.T
    np.testing.assert_array_equal(
        cell_at(lookup, x, y, calorimeter.layer),
        cell_at(lookup, x.astype(np.float64), y.astype(np.float64), calorimeter.layer),
    )
