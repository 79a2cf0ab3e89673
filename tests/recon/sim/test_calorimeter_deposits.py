"""Deposits, noise and zero suppression against slow sums and the statistics they must have."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import norm

from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.hgcal_clustering.lookup import NO_CELL, build_lookup, cell_at
from recon.sim.calorimeter_deposits import Deposits, collect
from recon.sim.calorimeter_noise import read_out
from recon.sim.calorimeter_showers import Spots


@pytest.fixture(scope="module")
def lookup():
    geometry = EndcapGeometry(n_layers=3, phi_min=0.0, phi_max=0.5)
    return build_lookup(geometry, build_calorimeter(geometry))


@pytest.fixture
def spots(rng):
    """Spots of four particles in and around a wedge."""
    n = 5000
    radius, phi = rng.uniform(280.0, 500.0, n), rng.uniform(-0.1, 0.2, n)
    x, y = radius * np.cos(phi), radius * np.sin(phi)
    return Spots(rng.integers(0, 4, n), rng.integers(0, 3, n), x, y, rng.exponential(1.0, n))


def deposits(*rows):
    cell, particle, energy = zip(*rows, strict=True)
    return Deposits(np.array(cell), np.array(particle), np.array(energy, float))


NOTHING = Deposits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def test_spots_are_added_by_cell_and_particle(spots, lookup):
    cell = cell_at(lookup, spots.x, spots.y, spots.layer)
    expected = defaultdict(float)
    for row, particle, energy in zip(cell, spots.particle, spots.energy, strict=True):
        if row != NO_CELL:
            expected[int(row), int(particle)] += energy
    found = collect(spots, 4, lookup)
    pairs = list(zip(found.cell.tolist(), found.particle.tolist(), strict=True))
    assert pairs == sorted(expected)
    np.testing.assert_allclose(found.energy, [expected[pair] for pair in pairs])
    assert 0 < found.energy.sum() < spots.energy.sum()


def test_order_of_the_spots_does_not_matter(spots, lookup, rng):
    order = rng.permutation(len(spots.x))
    one, other = collect(spots, 4, lookup), collect(Spots(*(c[order] for c in spots)), 4, lookup)
    np.testing.assert_array_equal(one.cell, other.cell)
    np.testing.assert_array_equal(one.particle, other.particle)
    np.testing.assert_allclose(one.energy, other.energy)


def test_no_spots_no_deposits(spots, lookup):
    for empty in (Spots(*(c[:0] for c in spots)), spots._replace(x=spots.x - 1e5)):
        assert [len(column) for column in collect(empty, 4, lookup)] == [0, 0, 0]
        assert [len(column) for column in collect(empty, 0, lookup)] == [0, 0, 0]


def test_a_hit_by_hand(rng):
    """Without noise: threshold 3 x 0.1; the cell with 0.25 is lost, that of two particles is shared."""
    given = deposits((2, 0, 0.25), (5, 0, 1.5), (5, 3, 0.5), (7, 1, 4.0))
    out = read_out(given, np.full(10, 0.1), 3.0, rng, noisy=False)
    assert out.cell.tolist() == [5, 7]
    assert out.energy.tolist() == [2.0, 4.0]
    assert out.hit.tolist() == [0, 0, 1]
    assert out.particle.tolist() == [0, 3, 1]
    np.testing.assert_allclose(out.fraction, [0.75, 0.25, 1.0])


def test_noise_makes_the_hits_that_gaussian_tails_would(rng):
    noise = np.repeat([0.1, 0.5], 200_000)
    out = read_out(NOTHING, noise, 3.0, rng)
    assert len(out.cell) == pytest.approx(400_000 * norm.sf(3.0), rel=0.15)
    assert (np.diff(out.cell) > 0).all()
    significance = out.energy / noise[out.cell]
    assert significance.min() > 3.0
    assert significance.mean() == pytest.approx(norm.pdf(3.0) / norm.sf(3.0), rel=0.01)
    assert len(out.hit) == 0


def test_noise_smears_deposits(rng):
    n = 20_000
    given = Deposits(np.arange(n), np.zeros(n, np.int64), np.full(n, 2.0))
    out = read_out(given, np.full(n, 0.2), 3.0, rng)
    assert len(out.cell) == n
    assert out.energy.mean() == pytest.approx(2.0, abs=0.01)
    assert out.energy.std() == pytest.approx(0.2, rel=0.03)
    np.testing.assert_allclose(out.fraction, 2.0 / np.maximum(out.energy, 2.0))


def test_deposits_at_the_threshold_are_seen_half_of_the_time(rng):
    n = 10_000
    given = Deposits(np.arange(n), np.zeros(n, np.int64), np.full(n, 0.3))
    out = read_out(given, np.full(n, 0.1), 3.0, rng)
    assert len(out.cell) == pytest.approx(n / 2, rel=0.05)


def test_shares_never_exceed_the_hit(rng):
    given = Deposits(np.repeat(np.arange(3000), 2), np.tile([0, 1], 3000), rng.exponential(0.5, 6000))
    out = read_out(given, np.full(5000, 0.2), 3.0, rng)
    total = np.bincount(out.hit, out.fraction, len(out.cell))
    assert total.max() <= 1.0 + 1e-12
    assert (np.diff(out.hit) >= 0).all()
    assert (np.diff(out.cell) > 0).all()
    # Hits of noise alone have no share.
    assert set(np.flatnonzero(total == 0.0)) == set(np.flatnonzero(out.cell >= 3000))


def test_without_noise_nothing_comes_of_nothing(rng):
    out = read_out(NOTHING, np.full(1000, 0.1), 3.0, rng, noisy=False)
    assert [len(column) for column in out] == [0] * 5
