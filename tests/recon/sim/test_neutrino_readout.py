"""From deposits to pixel maps beside loops over all hits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.sim.neutrino_detector import (
    CELL_PITCH,
    CELLS,
    HALF_WIDTH,
    LENGTH,
    LIGHT_YIELD,
    PLANE_PITCH,
    PLANES,
    THRESHOLD,
)
from recon.sim.neutrino_light import attenuation, attenuation_table, darken, deposit, new_light
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_readout import digitise, find_window, new_readout, slice_hits, write_hits
from tests.reference.neutrino import arriving, map_of, slice_of, window_of


@pytest.fixture
def light():
    return new_light()


@pytest.fixture
def state():
    new = np.zeros(4, np.uint64)
    seed_stream(new, 3, 0, 0)
    return new


def load(readout, hits):
    for row, (plane, cell, charge) in enumerate(hits):
        readout.plane[row], readout.cell[row], readout.charge[row] = plane, cell, charge
    return len(hits)


def random_hits(rng, n, spread):
    """Clusters of hits in distinct cells; some are far from all others."""
    centre = rng.integers([200, 100], [600, 280])
    keys = {tuple(key) for key in (centre + rng.normal(0, spread, (n, 2))).astype(int)}
    keys |= {tuple(key) for key in rng.integers([0, 0], [PLANES, CELLS], (4, 2))}
    inside = [(p, c) for p, c in sorted(keys) if 0 <= p < PLANES and 0 <= c < CELLS]
    return [
        (p, c, float(charge))
        for (p, c), charge in zip(inside, rng.uniform(16, 300, len(inside)), strict=True)
    ]


@pytest.mark.parametrize("distance", [0.0, 10.0, 3000.0, 7622.4, 15244.0])
def test_attenuation_beside_the_twin(light, distance):
    assert attenuation(light, distance) == pytest.approx(arriving(distance), rel=1e-4)


def test_light_fades_with_distance(light):
    table = attenuation_table()
    assert table[0] == 1
    assert (np.diff(table) < 0).all()
    assert attenuation(light, -5.0) == 1.0
    assert attenuation(light, 1e9) == pytest.approx(table[-1])
    # A muon's 11 MeV leave about 20 photo-electrons at the far end, as the experiment was designed for.
    assert 11 * LIGHT_YIELD * table[-1] == pytest.approx(20, rel=0.15)


def test_one_deposit_by_hand(light):
    # Plane 10 is vertical: x chooses the cell, y is along it; 5 mm behind the front of the plane.
    x, y, z = 0.5 * CELL_PITCH, 1000.0, 10 * PLANE_PITCH + 5.0
    deposit(light, x, y, z, 0.01, 2e-4)
    assert light.touched[: light.size[0]].tolist() == [10 * CELLS + CELLS // 2]
    expected = 10 / (1 + 0.12 * 0.2) * LIGHT_YIELD * arriving(HALF_WIDTH - y)
    assert light.expected[10, CELLS // 2] == pytest.approx(expected, rel=1e-4)
    assert light.energy[0] == 0.01
    # Plane 11 is horizontal: the roles of x and y change.
    deposit(light, 1000.0, 0.5 * CELL_PITCH, z + PLANE_PITCH, 0.01, 2e-4)
    assert light.expected[11, CELLS // 2] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "place",
    [(0.0, 0.0, 5.0), (20.0, 0.0, 62.0), (20.0, 0.0, PLANE_PITCH + 5), (20.0, 0.0, -1.0), (20.0, 0.0, LENGTH + 1),
     (HALF_WIDTH + 5, 0.0, 5.0), (-HALF_WIDTH - 30, 0.0, 5.0)],
    ids=["wall of a cell", "between planes", "wall of a horizontal cell", "before", "behind", "beside", "far beside"],
)  # fmt: skip
def test_what_is_not_scintillator_makes_no_light(light, place):
    deposit(light, *place, 0.01, 2e-4)
    assert light.size[0] == 0
    assert light.energy[0] == 0


def test_dense_ionisation_is_quenched(light):
    deposit(light, 20.0, 0.0, 5.0, 0.01, 2e-4)
    deposit(light, 60.0, 0.0, 5.0, 0.01, 5e-3)
    thin, dense = light.expected[0, CELLS // 2], light.expected[0, CELLS // 2 + 1]
    assert dense / thin == pytest.approx((1 + 0.12 * 0.2) / (1 + 0.12 * 5.0), rel=1e-6)


def test_dark_again(light):
    for cell in range(20):
        deposit(light, 20.0 + cell * CELL_PITCH, 0.0, 5.0, 0.01, 2e-4)
    darken(light)
    assert not light.expected.any()
    assert light.size[0] == 0
    assert light.energy[0] == 0


def test_photoelectrons_and_threshold(light, state):
    readout = new_readout()
    for cell, mean in enumerate((2.0, 14.0, 30.0, 400.0)):
        light.expected[100, cell] = mean
        light.touched[cell] = 100 * CELLS + cell
    light.size[0] = 4
    seen = {cell: [] for cell in range(4)}
    for _ in range(1500):
        for row in range(digitise(state, light, readout)):
            seen[int(readout.cell[row])].append(readout.charge[row])
    assert seen[0] == []
    assert 0.2 < len(seen[1]) / 1500 < 0.6
    assert all(min(seen[cell]) > THRESHOLD for cell in (1, 2, 3))
    assert len(seen[3]) == 1500
    assert np.mean(seen[3]) == pytest.approx(400, rel=0.01)
    assert np.std(seen[3]) == pytest.approx(np.sqrt(400 + 4), rel=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_slices_windows_and_calibration_beside_the_twin(light, seed):
    rng = np.random.default_rng(seed)
    hits = random_hits(rng, int(rng.integers(5, 120)), rng.uniform(4, 60))
    readout = new_readout()
    n = load(readout, hits)
    kept = slice_of(hits)
    assert slice_hits(readout, n) == len(kept)
    assert not readout.blocks.any()
    charge = readout.charge[:n]
    assert [hit for hit, left in zip(hits, charge, strict=True) if left > 0] == kept
    if not kept:
        return
    window = find_window(readout, n)
    assert (window[1], window[2], window[3]) == window_of(kept)
    assert window[0] == len(kept)
    out = np.zeros((n, 4))
    inside, outside = write_hits(light, readout, n, window, out, 0)
    expected, lost = map_of(kept)
    assert (inside, outside) == (len(expected), lost)
    np.testing.assert_allclose(out[:inside], expected, rtol=1e-3)


def test_an_empty_view(light):
    readout = new_readout()
    n = load(readout, [(100, 50, 40.0), (102, 51, 40.0), (104, 51, 40.0)])
    assert slice_hits(readout, n) == 3
    window = find_window(readout, n)
    assert tuple(window) == (3, 100, 51, -1)
    out = np.zeros((3, 4))
    assert write_hits(light, readout, n, window, out, 0) == (3, 0)
    assert out[:, 0].tolist() == [0, 0, 0]
    assert out[:, 1].tolist() == [0, 1, 2]
    assert out[:, 2].tolist() == [39, 40, 40]
    # Without the other view the light is taken to come from the middle.
    assert out[0, 3] == pytest.approx(0.040 / (LIGHT_YIELD * arriving(HALF_WIDTH)), rel=1e-3)


def test_no_hits_at_all():
    window = find_window(new_readout(), 0)
    assert (window[0], window[2], window[3]) == (0, -1, -1)


def test_hits_that_find_no_room_are_counted(light):
    readout = new_readout()
    n = load(readout, [(100 + row, 50, 40.0) for row in range(10)])
    window = find_window(readout, n)
    out = np.zeros((4, 4))
    assert write_hits(light, readout, n, window, out, 0) == (10, 0)
    assert (out[:, 3] > 0).all()
