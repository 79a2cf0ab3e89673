"""Electromagnetic showers: normalisation, place, and the statistics of the spots."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.layers import endcap_layers
from recon.sim.calorimeter_particles import Incident
from recon.sim.calorimeter_showers import (
    SIGNAL,
    SPOT,
    SPOT_SHAPE,
    Sources,
    albedo_spots,
    around_path,
    draw_counts,
    electromagnetic_spots,
    join,
    layer_borders,
    layer_shares,
    path_factor,
)

LAYERS = endcap_layers("v16")


def straight(energy, n=1, pdg=22, slope=(0.0, 0.0), origin=(900.0, 0.0)):
    """Particles along one line."""
    return Incident(
        row=np.arange(n, dtype=np.int32),
        pdg=np.full(n, pdg, np.int32),
        charge=np.zeros(n, np.int32),
        energy=np.full(n, float(energy)),
        x0=np.full(n, origin[0]),
        y0=np.full(n, origin[1]),
        slope_x=np.full(n, slope[0]),
        slope_y=np.full(n, slope[1]),
    )


def showers(incident, rng, start=0.0):
    n = len(incident.row)
    zero = np.zeros(n)
    sources = Sources(np.arange(n), incident.energy, np.full(n, start), zero, zero)
    return electromagnetic_spots(incident, sources, LAYERS, rng)


def weighted_energy(spots, n):
    """Sum of spots times layer weights, GeV, of every particle."""
    return np.bincount(spots.particle, spots.energy * LAYERS.weight[spots.layer], n) * 1e-3


def test_slices_meet_halfway_between_the_sensors():
    np.testing.assert_allclose(layer_borders(np.array([1.0, 3.0, 4.0])), [0.0, 2.0, 3.5, 4.5])
    np.testing.assert_allclose(layer_borders(np.array([2.0])), [0.0, 3.0])


def test_path_factor_is_the_inverse_cosine():
    assert path_factor(straight(1.0, slope=(0.6, 0.8)))[0] == pytest.approx(np.sqrt(2.0))


@pytest.mark.parametrize("energy", [2.0, 50.0])
def test_three_quarters_of_the_energy_are_seen(rng, energy):
    """What the calibration divides by: 0.76 for sensors of 200 um."""
    n = int(10_000 / energy)
    seen = weighted_energy(showers(straight(energy, n), rng), n) / energy
    assert seen.mean() == pytest.approx(0.76, abs=0.03)


def test_signal_follows_the_profile(rng):
    """The sum of spots over depth slices is the signal constant times the energy, but for what copper hides."""
    n = 400
    spots = showers(straight(20.0, n), rng)
    width = np.diff(layer_borders(LAYERS.x0))
    total = (spots.energy * width[spots.layer]).sum() / (20.0 * n)
    assert 0.92 * SIGNAL < total < 0.98 * SIGNAL


def test_spots_have_the_promised_mean_and_spread(rng):
    energy = showers(straight(100.0, 20), rng).energy
    assert energy.mean() == pytest.approx(SPOT, rel=0.02)
    assert energy.std() == pytest.approx(SPOT / np.sqrt(SPOT_SHAPE), rel=0.03)


def test_showers_begin_where_their_source_does(rng):
    spots = showers(straight(50.0, 50), rng, start=10.0)
    assert LAYERS.x0[spots.layer].min() > 9.0
    early = showers(straight(50.0, 50), rng)
    difference = LAYERS.x0[spots.layer].mean() - LAYERS.x0[early.layer].mean()
    assert difference == pytest.approx(10.0, abs=1.0)


def test_showers_get_longer_with_the_logarithm_of_the_energy(rng):
    depth = [
        LAYERS.x0[showers(straight(energy, n), rng).layer].mean()
        for energy, n in ((5.0, 400), (50.0, 150), (500.0, 40))
    ]
    assert np.diff(depth) == pytest.approx([np.log(10.0)] * 2, rel=0.25)


def test_spots_lie_around_the_path(rng):
    incident = straight(200.0, 20, slope=(0.2, -0.1), origin=(100.0, 300.0))
    spots = showers(incident, rng)
    z = LAYERS.z[spots.layer]
    away = np.hypot(spots.x - 100.0 - 0.2 * z, spots.y - 300.0 + 0.1 * z)
    assert np.median(away) < 12.0
    assert away.max() <= 600.001
    assert abs(np.median(spots.x - 100.0 - 0.2 * z)) < 1.0


def test_displaced_sources_shift_the_spots(rng):
    incident = straight(50.0, 1)
    sources = Sources(
        np.zeros(1, np.int64), np.array([50.0]), np.zeros(1), np.array([70.0]), np.array([-40.0])
    )
    spots = electromagnetic_spots(incident, sources, LAYERS, rng)
    assert np.median(spots.x) == pytest.approx(970.0, abs=3.0)
    assert np.median(spots.y) == pytest.approx(-40.0, abs=3.0)


def test_no_showers_no_spots(rng):
    assert len(showers(straight(1.0, 0), rng).energy) == 0
    assert len(join([showers(straight(1.0, 0), rng)] * 2).layer) == 0


def test_albedo_stays_in_front(rng):
    n = 3000
    spots = albedo_spots(straight(50.0, n), np.full(n, 50.0), LAYERS, rng)
    assert spots.layer.max() < 12
    first = (spots.layer == 0).sum() / n
    assert 0.3 < first < 0.6
    assert (spots.layer == 6).sum() / n == pytest.approx(first / np.e, rel=0.2)
    none = albedo_spots(straight(50.0, n), np.zeros(n), LAYERS, rng)
    assert len(none.energy) == 0


def test_numbers_are_poisson(rng):
    expected = np.tile([[0.0, 0.5, 7.0]], (4000, 1))
    row, layer, count = draw_counts(expected, rng)
    assert (count > 0).all()
    assert 0 not in layer
    numbers = np.zeros((4000, 3))
    numbers[row, layer] = count
    np.testing.assert_allclose(numbers.mean(axis=0), [0.0, 0.5, 7.0], rtol=0.05)
    np.testing.assert_allclose(numbers.var(axis=0), [0.0, 0.5, 7.0], rtol=0.1)


def test_points_around_a_path_keep_their_distance(rng):
    radius = rng.uniform(0.0, 50.0, 300)
    x, y = around_path(straight(1.0, 1), np.zeros(300, np.int64), np.full(300, 3300.0), radius, rng)
    np.testing.assert_allclose(np.hypot(x - 900.0, y), radius, atol=1e-9)


def test_layers_get_the_integral_of_the_profile():
    """A slow twin: the share of a layer is the numerical integral of the gamma distribution over its slice."""
    maximum, shape = 6.0, 4.0
    borders = layer_borders(LAYERS.x0)
    depth = np.linspace(0.0, borders[-1], 200_001)
    rate = (shape - 1.0) / maximum
    density = (rate * depth) ** (shape - 1.0) * rate * np.exp(-rate * depth) / 6.0
    step = depth[1] - depth[0]
    slow = np.histogram(depth, borders, weights=density * step)[0]
    (fast,) = layer_shares(np.array([maximum]), np.array([shape]), borders[None])
    np.testing.assert_allclose(fast, slow, atol=1e-4)
    assert depth[density.argmax()] == pytest.approx(maximum, abs=1e-3)


def test_soft_showers_are_finite(rng):
    """Far below the energies that the formulae were made for."""
    for energy in (0.0, 1e-4, 0.01, 0.1, 1.0):
        spots = showers(straight(energy, 50), rng)
        assert all(np.isfinite(column).all() for column in spots)
        assert (spots.energy >= 0.0).all()


def test_response_hardly_depends_on_the_energy(rng):
    response = [
        weighted_energy(showers(straight(energy, n), rng), n).mean() / energy
        for energy, n in ((0.5, 6000), (5.0, 1500), (100.0, 100))
    ]
    np.testing.assert_allclose(response, np.mean(response), rtol=0.04)


def test_relative_width_falls_with_the_energy(rng):
    widths = []
    for energy, n in ((2.0, 4000), (50.0, 500)):
        seen = weighted_energy(showers(straight(energy, n), rng), n)
        widths.append(seen.std() / seen.mean())
    # 23 % / sqrt(E) with a constant term below one per cent.
    np.testing.assert_allclose(widths, [0.163, 0.0325], rtol=0.12)


def test_late_parts_of_a_shower_are_wider(rng):
    spots = showers(straight(100.0, 40), rng)
    radius = np.hypot(spots.x - 900.0, spots.y)
    early, late = (np.median(radius[(spots.layer >= a) & (spots.layer < b)]) for a, b in ((3, 8), (18, 24)))
    assert late > 2.0 * early
