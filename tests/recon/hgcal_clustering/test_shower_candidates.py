"""Candidates: pairs, rings, axes and pile-up against slow twins and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.shower_candidates import RINGS, Points, find_candidates, pileup_density, smooth
from recon.types import DensityClusters

LAYERS = 12


def cloud(rng, n=80):
    xy = np.array([600.0, 100.0]) + rng.normal(0, 60, (n, 2))
    return Points(xy, rng.gamma(2.0, 0.5, n), rng.integers(0, LAYERS, n))


def seeded(n, seeds):
    ids, is_seed = np.zeros(n, np.int32), np.zeros(n, bool)
    is_seed[list(seeds)] = True
    ids[list(seeds)] = np.arange(len(seeds))
    zero = np.zeros(n, np.float32)
    return DensityClusters(
        ids, zero, zero, np.full(n, -1, np.int32), is_seed, np.int32(len(seeds)), np.bool_(False)
    )


def axis_of(points, seed):
    near = np.hypot(*(points.xy - points.xy[seed]).T) < 15
    near &= np.abs(points.layer - points.layer[seed]) < 10
    return np.average(points.xy[near], axis=0, weights=points.energy[near])


def test_pairs_and_distances(rng):
    points = cloud(rng)
    found = find_candidates(points, seeded(80, [3, 40]), 70.0, LAYERS)
    expected = [
        (candidate, row)
        for candidate, seed in enumerate([3, 40])
        for row in range(80)
        if np.hypot(*(points.xy[row] - points.xy[seed])) <= 70
    ]
    assert list(zip(found.candidate.tolist(), found.member.tolist(), strict=True)) == expected
    for candidate, row, distance in zip(found.candidate, found.member, found.distance, strict=True):
        axis = axis_of(points, [3, 40][candidate])
        assert distance == pytest.approx(np.hypot(*(points.xy[row] - axis)))


def test_rings_slow_twin(rng):
    points = cloud(rng)
    found = find_candidates(points, seeded(80, [7]), 500.0, LAYERS)
    axis = axis_of(points, 7)
    for (inner, outer), ring in zip(RINGS, found.ring, strict=True):
        sums = np.zeros((1, LAYERS))
        for position, energy, layer in zip(*points, strict=True):
            if inner <= np.hypot(*(position - axis)) < outer:
                sums[0, layer] += energy
        # What is taken away for pile-up goes with the area of the ring.
        zone = np.searchsorted(np.geomspace(250.0, 2000.0, 17), np.hypot(*points.xy[7])) - 1
        pileup = pileup_density(points, LAYERS)[zone] * np.pi * (outer**2 - inner**2)
        np.testing.assert_allclose(ring[0], smooth(sums)[0] - pileup, atol=1e-9)


def test_pileup_by_hand():
    # One layer cluster of 0.5 GeV and a hard one, which counts as 1 GeV, in one ring around the beam and one layer.
    points = Points(np.array([[260.0, 0.0], [0.0, 260.0]]), np.array([0.5, 50.0]), np.array([5, 5]))
    density = pileup_density(points, LAYERS)
    edges = np.geomspace(250.0, 2000.0, 17)
    area = np.pi * (edges[1] ** 2 - edges[0] ** 2)
    np.testing.assert_allclose(
        density[0], np.where(np.abs(np.arange(LAYERS) - 5) <= 2, 1.5 / area / 5, 0), atol=1e-15
    )
    assert not density[1:].any()


def test_twice_the_energy_is_twice_in_the_rings():
    rng = np.random.default_rng(3)
    soft = cloud(rng)
    soft = soft._replace(energy=soft.energy * 0.05)
    one = find_candidates(soft, seeded(80, [1, 2]), 200.0, LAYERS)
    two = find_candidates(soft._replace(energy=2 * soft.energy), seeded(80, [1, 2]), 200.0, LAYERS)
    np.testing.assert_allclose(two.ring, 2 * one.ring)
    np.testing.assert_allclose(two.pileup, 2 * one.pileup)
    np.testing.assert_allclose(two.distance, one.distance)


def test_without_seeds(rng):
    found = find_candidates(cloud(rng), seeded(80, []), 100.0, LAYERS)
    assert found.ring.shape == (len(RINGS), 0, LAYERS)
    assert len(found.member) == 0
