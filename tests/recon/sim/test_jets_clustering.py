"""Clustering, soft drop and N-subjettiness against slow twins and by hand."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from recon.sim.jets_clustering import (
    ClusteredJets,
    _sequence,
    cluster,
    n_subjettiness,
    segment_sum,
    soft_drop,
    take_jets,
)
from tests.reference import jets as twin

fastjet = pytest.importorskip("fastjet")


def momenta(pt, eta, phi, mass=0.0):
    pt, eta, phi = np.broadcast_arrays(*(np.asarray(values, float) for values in (pt, eta, phi)))
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy], axis=-1)


def random_jet(rng, n):
    return momenta(rng.exponential(10, n) + 0.1, rng.normal(0, 0.3, n), rng.normal(2.9, 0.3, n), 0.14)


def test_segment_sums():
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    assert segment_sum(values, np.array([0, 3, 0, 1, 0])).tolist() == [[0], [7], [0], [8], [0]]


def test_two_particles_at_a_distance():
    close, apart = momenta([100, 50], [0, 0], [3.1, -2.7]), momenta([100, 50], [0, 0.9], [0, 0])
    jets = cluster(np.concatenate([close, apart]), np.array([0, 2, 4]), pt_min=20.0)
    # Across the seam of the azimuth, too.
    assert jets.event.tolist() == [0, 1, 1]
    assert np.diff(jets.offsets).tolist() == [2, 1, 1]
    assert jets.constituent[2:].tolist() == [2, 3]
    np.testing.assert_allclose(jets.momentum[0], close.sum(axis=0))


def test_jets_agree_with_the_twin(rng):
    counts = [14, 0, 9]
    parts = [
        momenta(rng.exponential(20, n), rng.normal(0, 0.8, n), rng.uniform(-3, 3, n), 0.14) for n in counts
    ]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    jets = cluster(np.concatenate(parts), offsets, pt_min=10.0)
    expected = [
        (event, {row + offsets[event] for row in rows})
        for event, part in enumerate(parts)
        for rows in twin.anti_kt(part, 0.8, 10)
    ]
    found = [set(jets.constituent[a:b]) for a, b in zip(jets.offsets, jets.offsets[1:], strict=False)]
    assert list(zip(jets.event, found, strict=True)) == expected
    assert len(expected) > 3


def test_taking_jets_takes_their_constituents():
    jets = ClusteredJets(
        np.arange(3), np.arange(12.0).reshape(3, 4), np.array([5, 6, 7, 8, 9]), np.array([0, 2, 2, 5])
    )
    taken = take_jets(jets, np.array([2, 0, 1]))
    assert taken.event.tolist() == [2, 0, 1]
    assert taken.constituent.tolist() == [7, 8, 9, 5, 6]
    assert taken.offsets.tolist() == [0, 3, 5, 5]


def test_soft_drop_by_hand():
    # A soft particle at a wide angle goes, the balanced pair stays.
    constituents = momenta([100, 60, 3], [0, 0.1, 0.5], [0, 0.1, 0.5])
    prongs = soft_drop(constituents, np.array([3]))
    np.testing.assert_allclose(prongs[0], constituents[:2])
    # Everything goes but the hardest.
    prongs = soft_drop(momenta([100, 5, 3], [0, 0.2, 0.5], [0, 0, 0]), np.array([3]))
    np.testing.assert_allclose(prongs[0], [momenta(100, 0, 0), np.zeros(4)])
    assert soft_drop(np.zeros((0, 4)), np.zeros(0, np.int64)).shape == (0, 2, 4)


def test_soft_drop_agrees_with_the_twin_and_fastjet(rng):
    counts = np.array([25, 1, 12, 2, 18, 30])
    parts = [random_jet(rng, n) for n in counts]
    prongs = soft_drop(np.concatenate(parts), counts)
    for row, part in enumerate(parts):
        np.testing.assert_allclose(prongs[row], twin.soft_drop(part, 0.1, 0.0, 0.8), atol=1e-6)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    sequence = _sequence(np.concatenate(parts), offsets, fastjet.cambridge_algorithm, 1000.0)
    groomed = sequence.exclusive_jets_softdrop_grooming(1, beta=0.0, symmetry_cut=0.1, R0=0.8)
    total = prongs.sum(axis=1)
    np.testing.assert_allclose(np.hypot(total[:, 0], total[:, 1]), ak.to_numpy(groomed.ptsoftdrop))
    mass2 = total[:, 3] ** 2 - (total[:, :3] ** 2).sum(axis=1)
    np.testing.assert_allclose(mass2, ak.to_numpy(groomed.msoftdrop) ** 2, atol=1e-6)


def test_subjettiness_by_hand():
    pair = momenta([100, 100], [0, 0], [0, 0.4])
    tau = n_subjettiness(np.concatenate([pair, pair[:1]]), np.array([2, 1]))
    # One axis in the middle: every particle is 0.2 of 0.8 away; two axes: none is.
    np.testing.assert_allclose(tau, [[0.25, 0, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    assert n_subjettiness(np.zeros((0, 4)), np.zeros(0, np.int64)).shape == (0, 4)


def test_fastjet_prints_nothing(capfd):
    cluster(momenta([100], [0], [0]), np.array([0, 1]), pt_min=20.0)
    assert capfd.readouterr().out == ""
