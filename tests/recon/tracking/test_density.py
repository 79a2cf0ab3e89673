"""Expected candidates of a layer-pair map: hand cases, counted lines, how windows and symmetry act."""

from __future__ import annotations

import numpy as np
import pytest

from recon.tracking.density import PIXEL_HITS, search_density
from recon.tracking.windows import LayerPairs

N_LINES = 3000


def two_layers(reach, extent, is_barrel, *, delta_phi, z0, curvature=1.0, pixel=(True, True)):
    """A map of one pair, from layer 0 to layer 1."""
    return LayerPairs(
        inner=np.array([0]),
        outer=np.array([1]),
        delta_phi=np.array([delta_phi]),
        z0=np.array([z0]),
        curvature=np.array([curvature]),
        first=np.array([0, 0]),
        count=np.array([0, 1]),
        is_barrel=np.array(is_barrel),
        reach=np.array(reach, float),
        extent=np.array(extent, float),
        slope=np.zeros((2, 2)),
        size_low=np.full((2, 2, 5), -np.inf),
        size_high=np.full((2, 2, 5), np.inf),
        triplet=np.full((4, 3), np.inf),
        is_pixel=np.array(pixel),
    )


def barrel(**windows):
    """Two cylinders of radius 100 and 200 mm that cover the same 4 units of pseudorapidity."""
    extent = [[-100 * np.sinh(2), 100 * np.sinh(2)], [-200 * np.sinh(2), 200 * np.sinh(2)]]
    return two_layers([[100, 100], [200, 200]], extent, [True, True], **windows)


def discs(side=1, **windows):
    """Two discs at z = 500 and 1000 mm that cover pseudorapidities from 1 to 2."""
    r = 1 / np.sinh([2.0, 1.0])
    reach = side * np.array([[500, 500], [1000, 1000]])
    return two_layers(reach, [500 * r, 1000 * r], [False, False], **windows)


def counted(pairs, rng):
    """Doublets a hit and 100,000 hits, from pairs of lines drawn flat in pseudorapidity and azimuth."""
    range_of_eta = (-2, 2) if pairs.is_barrel[0] else (1, 2)
    eta, phi = rng.uniform(*range_of_eta, (2, N_LINES)), rng.uniform(-np.pi, np.pi, (2, N_LINES))
    place = pairs.reach.mean(1)[:, None]
    if pairs.is_barrel[0]:
        r, z = np.broadcast_to(place, eta.shape), place * np.sinh(eta)
    else:
        r, z = place / np.sinh(eta), np.broadcast_to(place, eta.shape)
    apart = np.abs((phi[0][:, None] - phi[1] + np.pi) % (2 * np.pi) - np.pi)
    slope = (z[1] - z[0][:, None]) / (r[1] - r[0][:, None])
    found = (apart < pairs.delta_phi) & (np.abs(z[0][:, None] - r[0][:, None] * slope) < pairs.z0)
    return found.sum() / (2 * N_LINES) ** 2 * 1e5


def test_one_pair_by_hand():
    density = search_density(barrel(delta_phi=0.1, z0=10.0))
    # Half of the hits are on the outer layer.
    assert density.queries == pytest.approx(0.5)
    # 10 mm at the beam line are 5 mm on the inner layer; 1 / cosh(eta) averages (2 / 4) (gd(2)) over -2 to 2.
    share = 0.2 / (2 * np.pi) * (2 * 5 / 100) * np.arctan(np.sinh(2)) / 2 / 4
    assert density.doublets == pytest.approx(share / 4 * 1e5, rel=0.01)


@pytest.mark.parametrize("layers", [barrel, discs])
def test_agrees_with_counted_lines(layers):
    pairs = layers(delta_phi=0.3, z0=30.0)
    assert search_density(pairs).doublets == pytest.approx(counted(pairs, np.random.default_rng(5)), rel=0.05)


def test_windows_act_in_proportion():
    before = search_density(barrel(delta_phi=0.1, z0=10.0))
    assert search_density(barrel(delta_phi=0.2, z0=10.0)).doublets == pytest.approx(2 * before.doublets)
    assert search_density(barrel(delta_phi=0.1, z0=30.0)).doublets == pytest.approx(3 * before.doublets)
    assert search_density(barrel(delta_phi=0.2, z0=30.0)).queries == before.queries


def test_the_narrower_of_azimuth_and_curvature_counts():
    # Over 100 mm a curvature of 0.001 / mm turns a segment by 0.05.
    by_curvature = search_density(barrel(delta_phi=0.5, z0=10.0, curvature=1e-3))
    assert by_curvature == pytest.approx(search_density(barrel(delta_phi=0.05, z0=10.0)))


def test_both_ends_of_the_detector_are_alike():
    ahead, behind = (search_density(discs(side, delta_phi=0.1, z0=10.0)) for side in (1, -1))
    assert ahead == pytest.approx(behind)


def test_strips_see_fewer_hits_than_pixels():
    density = search_density(barrel(delta_phi=0.1, z0=10.0, pixel=(True, False)))
    assert density.queries == pytest.approx(1 / (1 + PIXEL_HITS))


def test_layers_that_no_line_crosses_have_no_doublets():
    pairs = discs(delta_phi=0.1, z0=10.0)
    apart = pairs._replace(reach=np.array([[-500.0, -500.0], [1000.0, 1000.0]]))
    assert search_density(apart).doublets == 0


def test_a_real_map_is_estimated_well(pairs):
    density = search_density(pairs)
    assert 1 < density.queries < 4
    assert np.isfinite(density.doublets)
    assert density.doublets > 0
