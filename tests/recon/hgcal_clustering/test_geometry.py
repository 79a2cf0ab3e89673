"""The table of cells: what CMS says about it, and every point in the cell it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from recon.errors import ConfigError
from recon.hgcal_clustering import geometry as geometry_module
from recon.hgcal_clustering.geometry import (
    SENSORS,
    EndcapGeometry,
    build_calorimeter,
    calorimeter_path,
    load_calorimeter,
)
from recon.hgcal_clustering.layers import endcap_layers, select_layers
from recon.hgcal_clustering.lookup import NO_CELL, build_lookup, cell_at
from recon.hgcal_clustering.sensors import COARSE, FINE, MEDIUM, SCINTILLATOR, cell_pitch
from recon.types import Calorimeter

SILICON = (FINE, MEDIUM, COARSE)


def random_points(geometry, rng, n):
    """Uniform in radius and layer, over the whole wedge and beyond its radii."""
    layer = rng.integers(0, len(geometry.layers().z), n)
    radius = rng.uniform(300.0, 2700.0, n)
    phi = rng.uniform(geometry.phi_min, geometry.phi_max, n)
    return radius * np.cos(phi), radius * np.sin(phi), layer


@pytest.mark.parametrize(("name", "layers", "electromagnetic"), [("v16", 47, 26), ("v10", 50, 28)])
def test_layers_are_those_of_cms(name, layers, electromagnetic):
    table = endcap_layers(name)
    assert len(table.z) == layers
    assert {len(column) for column in table[:-1]} == {layers}
    assert table.n_electromagnetic == electromagnetic
    assert (np.diff(table.z) > 0).all()
    assert (np.diff(table.x0) > 0).all()
    assert 25.0 < table.x0[electromagnetic - 1] < 28.0
    assert 1.3 < table.interaction[electromagnetic - 1] < 1.6
    assert 8.0 < table.interaction[-1] < 10.5
    assert np.isfinite(table.mixed_radius).sum() == 14
    # Covered from eta = 3 on, and nowhere farther in than the beam pipe allows.
    assert (table.radius[:, 0] <= table.z / np.sinh(3.0) + 7.0).all()


def test_weights_follow_the_material():
    """A minimum ionising particle loses 12.7 MeV/cm in lead, 12.6 in copper, 11.4 in steel, 22 in tungsten-copper."""
    table = endcap_layers("v16")
    assert table.weight[1] == pytest.approx(0.605 * 12.6 + 0.28 * 19.0, rel=0.1)
    assert table.weight[40] == pytest.approx(6.32 * 11.4 + 0.635 * 12.6, rel=0.1)


def test_positions_of_v16():
    z = endcap_layers("v16").z
    assert z[[0, 1, 2, 17, 18, 25, 26, 32, 33, 36, 37, 46]].tolist() == [
        3221.55,
        3231.49,
        3252.12,
        3476.05,
        3499.93,
        3611.33,
        3679.76,
        4058.06,
        4119.16,
        4308.31,
        4390.56,
        5130.81,
    ]


def test_first_layers():
    few = select_layers(endcap_layers("v16"), 30)
    assert len(few.z) == 30
    assert few.n_electromagnetic == 26
    assert select_layers(endcap_layers("v16"), 3).n_electromagnetic == 3


def test_noise_of_the_sensors():
    """2000 electrons are 0.32 fC; a particle leaves 2.06 fC in 120 um."""
    assert SENSORS[FINE].noise_mip == pytest.approx(0.3204 / 2.06, rel=1e-3)
    assert [round(sensor.noise_mip, 3) for sensor in SENSORS] == [0.156, 0.112, 0.062, 0.01]
    assert cell_pitch(FINE) == pytest.approx(8.056, abs=1e-3)
    assert cell_pitch(COARSE) == pytest.approx(12.084, abs=1e-3)


def test_a_whole_endcap_has_as_many_cells_as_cms_says():
    """4.13 million cells in both CE-E of V10, one million in the silicon of CE-H of each."""
    whole = build_calorimeter(EndcapGeometry(name="v10"))
    electromagnetic = whole.layer < 28
    assert electromagnetic.sum() == pytest.approx(4.13e6 / 2, rel=0.03)
    assert (~electromagnetic & (whole.sensor != SCINTILLATOR)).sum() == pytest.approx(1.88e6 / 2, rel=0.5)
    assert np.bincount(whole.sensor).min() > 100_000


def test_calibration_of_a_cell(calorimeter):
    fine = np.flatnonzero((calorimeter.sensor == FINE) & (calorimeter.layer == 1))[0]
    assert calorimeter.gev_per_mip[fine] == pytest.approx(12.86e-3 / 0.75)
    assert calorimeter.sigma_noise[fine] == pytest.approx(12.86e-3 / 0.75 * 0.15554, rel=1e-4)
    tile = np.flatnonzero((calorimeter.sensor == SCINTILLATOR) & (calorimeter.layer == 46))[0]
    assert calorimeter.gev_per_mip[tile] == pytest.approx(83.61e-3 / 0.69)


def test_rows_are_sorted_by_layer_and_close_where_the_cells_are(calorimeter):
    assert (np.diff(calorimeter.layer) >= 0).all()
    step = np.linalg.norm(np.diff(calorimeter.position[:, :2], axis=0), axis=1)
    same = np.diff(calorimeter.layer) == 0
    assert np.median(step[same]) < 13.0
    assert step[same].mean() < 25.0


def test_cells_lie_in_the_sensitive_area(calorimeter, wedge):
    radius = np.hypot(*calorimeter.position[:, :2].T)
    low, high = calorimeter.layer_radius[calorimeter.layer].T
    assert (radius >= low - 1e-2).all()
    assert (radius <= high + 1e-2).all()
    np.testing.assert_array_equal(calorimeter.position[:, 2], calorimeter.layer_z[calorimeter.layer])
    mixed = wedge.layers().mixed_radius[calorimeter.layer]
    np.testing.assert_array_equal(calorimeter.sensor == SCINTILLATOR, radius > mixed)


def test_area_of_the_cells_is_that_of_the_layer(calorimeter, wedge):
    """Tiles cover the scintillator without a gap; silicon cells are active over 93 % of their pitch."""
    inner, outer = wedge.layers().mixed_radius[-1], wedge.layers().radius[-1, 1]
    tiles = (calorimeter.sensor == SCINTILLATOR) & (calorimeter.layer == 46)
    angle = wedge.phi_max - wedge.phi_min
    assert calorimeter.area[tiles].sum() == pytest.approx(0.5 * angle * (outer**2 - inner**2), rel=0.05)
    silicon = calorimeter.layer == 0
    low, high = calorimeter.layer_radius[0]
    assert calorimeter.area[silicon].sum() == pytest.approx(0.93 * 0.5 * angle * (high**2 - low**2), rel=0.02)


def test_every_centre_lies_in_its_own_cell(calorimeter, lookup):
    found = cell_at(lookup, *calorimeter.position[:, :2].T, calorimeter.layer)
    np.testing.assert_array_equal(found, np.arange(len(found)))


def test_every_point_of_the_sensitive_area_has_a_cell(wedge, lookup, rng):
    x, y, layer = random_points(wedge, rng, 200_000)
    row = cell_at(lookup, x, y, layer)
    radius = np.hypot(x, y)
    low, high = wedge.layers().radius[layer].T
    inside = (radius >= low) & (radius <= high)
    assert (row[~inside] == NO_CELL).all()
    # Tiles belong to the wedge by their centre.
    phi = np.arctan2(y, x)
    edge = (radius > wedge.layers().mixed_radius[layer]) & (
        np.minimum(phi - wedge.phi_min, wedge.phi_max - phi) < 0.012
    )
    assert (row[inside & ~edge] != NO_CELL).all()


@pytest.mark.parametrize("layer", [0, 20, 30, 40, 46])
def test_silicon_cells_are_the_nearest_of_their_kind(calorimeter, lookup, wedge, rng, layer):
    x, y, _ = random_points(wedge, rng, 20_000)
    row = cell_at(lookup, x, y, np.full(len(x), layer))
    for kinds in ((FINE,), (MEDIUM, COARSE)):
        cells = np.flatnonzero((calorimeter.layer == layer) & np.isin(calorimeter.sensor, kinds))
        picked = np.flatnonzero((row != NO_CELL) & np.isin(calorimeter.sensor[row], kinds))
        if not len(cells):
            continue
        tree = cKDTree(calorimeter.position[cells, :2])
        nearest, _ = tree.query(np.stack([x[picked], y[picked]], axis=1))
        own = np.hypot(
            x[picked] - calorimeter.position[row[picked], 0], y[picked] - calorimeter.position[row[picked], 1]
        )
        np.testing.assert_allclose(own, nearest, atol=1e-3)
        assert own.max() < 2.0 * cell_pitch(kinds[0])


def test_a_tile_holds_its_points(calorimeter, lookup, wedge, rng):
    x, y, layer = random_points(wedge, rng, 50_000)
    row = cell_at(lookup, x, y, layer)
    tile = (row != NO_CELL) & (calorimeter.sensor[row] == SCINTILLATOR)
    assert tile.sum() > 1000
    centre = calorimeter.position[row[tile]]
    angle = 2.0 * np.pi / 288
    phi = np.arctan2(y[tile], x[tile]) - np.arctan2(centre[:, 1], centre[:, 0])
    assert np.abs(phi).max() < angle / 2 + 1e-6
    height = np.log(np.hypot(x[tile], y[tile]) / np.hypot(centre[:, 0], centre[:, 1]))
    assert np.abs(height).max() < angle


def test_points_elsewhere_have_no_cell(lookup):
    x, y = np.array([0.0, 900.0, 900.0, 900.0, -900.0]), np.array([0.0, 450.0, 450.0, 450.0, 450.0])
    row = cell_at(lookup, x, y, np.array([0, 0, -1, 47, 0]))
    assert row[1] != NO_CELL
    assert (row[[0, 2, 3, 4]] == NO_CELL).all()


def test_a_wedge_is_a_part_of_the_endcap():
    wide = build_calorimeter(EndcapGeometry(n_layers=3, phi_min=-0.5, phi_max=0.5))
    slim = build_calorimeter(EndcapGeometry(n_layers=2, phi_min=0.0, phi_max=0.1))
    phi = np.arctan2(wide.position[:, 1], wide.position[:, 0])
    # In single precision a centre on the border itself may fall on either side.
    part = (wide.layer < 2) & (phi >= 0.0) & (phi <= 0.1)
    np.testing.assert_array_equal(wide.position[part], slim.position)
    assert slim.layer_z.shape == (2,)


def test_table_survives_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    geometry = EndcapGeometry(n_layers=1, phi_min=0.0, phi_max=0.123)
    built = build_calorimeter(geometry)
    for damage in (None, 100, b"junk"):
        load_calorimeter.cache_clear()
        path = calorimeter_path(geometry)
        if damage is not None:
            path.write_bytes(path.read_bytes()[:damage] if isinstance(damage, int) else damage)
        loaded = load_calorimeter(geometry)
        for name in Calorimeter._fields:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(built, name), err_msg=name)
        assert [found.name for found in path.parent.iterdir()] == [path.name]
    monkeypatch.setattr(geometry_module, "build_calorimeter", None)
    load_calorimeter.cache_clear()
    assert not load_calorimeter(geometry).position.flags.writeable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_layers": 48}, "n_layers of geometry v16 is 48; allowed: 1 to 47"),
        ({"n_layers": 0}, "allowed: 1 to 47"),
        ({"phi_min": 1.0, "phi_max": 0.5}, "phi of the geometry runs from 1.0 to 0.5"),
        ({"phi_max": 4.0}, "within -pi to pi"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        EndcapGeometry(**settings)


def test_lookup_of_a_wedge_is_small(wedge, calorimeter):
    lookup = build_lookup(wedge, calorimeter)
    assert (lookup.fine.rows != NO_CELL).sum() == (calorimeter.sensor == FINE).sum()
    assert (lookup.tiles != NO_CELL).sum() == (calorimeter.sensor == SCINTILLATOR).sum()
