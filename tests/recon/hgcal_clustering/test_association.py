"""Shared energies, scores and the V-measure: by hand, against loops, and what must change nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recon.errors import DataError
from recon.hgcal_clustering.association import agreement, associate, hit_clusters
from recon.types import NOISE, Clusters, ShowerTruth, Tracksters
from tests.reference import shower_metrics as slow
from tests.reference.toy_showers import dominant_particle, toy_event


def truth_of(entries, count, energy=10.0):
    """ShowerTruth of (hit, particle, fraction) rows."""
    hit, particle, fraction = (np.array(column) for column in zip(*entries, strict=True))
    momentum = np.tile(np.array([0.3, 0.0, 0.9], np.float32) * energy, (count, 1))
    return ShowerTruth(
        momentum,
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.int32),
        np.full(count, 22, np.int32),
        np.ones(count, bool),
        hit.astype(np.int32),
        particle.astype(np.int32),
        fraction.astype(np.float32),
    )


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=4, showers=7)


def random_labels(event, seed, keep=0.8, count=9):
    """The truth with a part of the hits elsewhere."""
    rng = np.random.default_rng(seed)
    label = np.where(
        rng.random(len(event.hits.energy)) < keep, dominant_particle(event), rng.integers(-1, count, 1)
    )
    return label


def as_dict(pairs):
    values = np.stack([pairs.shared_energy, pairs.reco_to_sim, pairs.sim_to_reco], 1)
    return dict(zip(zip(pairs.cluster.tolist(), pairs.particle.tolist(), strict=True), values, strict=True))


def test_by_hand():
    # Hit 0 (2 GeV) belongs to particle 0, hit 1 (4 GeV) to 0 and 1 as 3 to 1, hit 2 (1 GeV) to 1, hit 3 is noise.
    energy = np.array([2.0, 4.0, 1.0, 3.0])
    truth = truth_of([(0, 0, 1.0), (1, 0, 0.75), (1, 1, 0.25), (2, 1, 1.0)], 2)
    pairs = associate(energy, truth, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(pairs.cluster_energy, [6, 4])
    np.testing.assert_array_equal(pairs.cluster_size, [2, 2])
    np.testing.assert_array_equal(pairs.particle_energy, [5, 2])
    found = as_dict(pairs)
    assert set(found) == {(0, 0), (0, 1), (1, 1)}
    # Of cluster 0, 20 GeV^2, particle 0 misses a quarter of the 4 GeV; nothing of it lies elsewhere but that quarter.
    np.testing.assert_allclose(found[0, 0], [5, (0.25**2 * 16) / 20, (0.25**2 * 16) / (4 + 9)])
    # Particle 1: r - f = 1 and 0.75; its own fraction of 0.25 is less than what the cluster adds.
    np.testing.assert_allclose(found[0, 1], [1, (4 + 0.75**2 * 16) / 20, (0.25**2 * 16 + 1) / (1 + 1)])
    np.testing.assert_allclose(found[1, 1], [1, 9 / 10, (0.25**2 * 16) / 2])


def test_perfect_clusters():
    energy = np.array([1.0, 2.0, 3.0])
    pairs = associate(energy, truth_of([(0, 0, 1.0), (1, 0, 1.0), (2, 1, 1.0)], 2), np.array([0, 0, 1]))
    assert as_dict(pairs).keys() == {(0, 0), (1, 1)}
    assert not pairs.reco_to_sim.any()
    assert not pairs.sim_to_reco.any()
    assert agreement(pairs) == (1, 1, 1, 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_against_loops(event, seed):
    label = random_labels(event, seed)
    found = as_dict(associate(event.hits.energy, event.truth, label))
    expected = slow.associate(event.hits.energy, event.truth, label)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for pair, values in expected.items():
        np.testing.assert_allclose(found[pair], values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agreement_against_entropies(event, seed):
    label = random_labels(event, seed, keep=0.5)
    got = agreement(associate(event.hits.energy, event.truth, label))
    inside = label[event.truth.hit] >= 0
    weights = (event.truth.fraction * event.hits.energy[event.truth.hit]).astype(float)
    expected = slow.v_measure(
        event.truth.particle[inside].tolist(),
        label[event.truth.hit][inside].tolist(),
        weights[inside].tolist(),
    )
    np.testing.assert_allclose(got[:3], expected, rtol=1e-6)
    np.testing.assert_allclose(got.clustered, weights[inside].sum() / weights.sum(), rtol=1e-6)
    assert 0 < got.v < 1


def test_v_by_hand():
    """Two particles of equal energy, one of them cut in two halves."""
    truth = truth_of([(0, 0, 1.0), (1, 1, 1.0), (2, 1, 1.0)], 2)
    got = agreement(associate(np.array([2.0, 1.0, 1.0]), truth, np.array([0, 1, 2])))
    completeness = 1 - 0.5 * math.log(2) / (1.5 * math.log(2))
    np.testing.assert_allclose(got, [1, completeness, 2 * completeness / (1 + completeness), 1])


def test_everything_in_one_cluster():
    truth = truth_of([(0, 0, 1.0), (1, 1, 1.0)], 2)
    got = agreement(associate(np.array([2.0, 2.0]), truth, np.array([0, 0])))
    np.testing.assert_allclose(got, [0, 1, 0, 1])


def test_names_of_clusters_do_not_matter(event):
    label = random_labels(event, 5)
    names = np.append(np.random.default_rng(1).permutation(label.max() + 1), NOISE)
    one = agreement(associate(event.hits.energy, event.truth, label))
    other = agreement(associate(event.hits.energy, event.truth, names[label]))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_nothing_clustered(event):
    pairs = associate(event.hits.energy, event.truth, np.full(len(event.hits.energy), NOISE))
    assert len(pairs.cluster) == 0
    got = agreement(pairs)
    assert np.isnan(got[:3]).all()
    assert got.clustered == 0


def test_no_particles_and_no_hits():
    empty = ShowerTruth(*(column[:0] for column in truth_of([(0, 0, 1.0)], 1)))
    pairs = associate(np.ones(2), empty, np.array([0, NOISE]))
    assert len(pairs.cluster) == 0
    np.testing.assert_array_equal(pairs.cluster_energy, [1])
    assert np.isnan(agreement(associate(np.zeros(0), empty, np.zeros(0, int)))).all()


def test_hits_without_energy_are_not_associated():
    pairs = associate(np.zeros(1), truth_of([(0, 0, 1.0)], 1), np.array([0]))
    assert (pairs.reco_to_sim, pairs.sim_to_reco) == (1, 1)


def test_columns_that_do_not_fit():
    truth = truth_of([(0, 0, 1.0), (5, 0, 1.0)], 1)
    with pytest.raises(DataError, match=r"truth.hit is 5 in row 1; allowed are 0 to 1"):
        associate(np.ones(2), truth, np.array([0, 0]))
    with pytest.raises(DataError, match="3 hits have a cluster, 2 an energy"):
        associate(np.ones(2), truth, np.array([0, 0, 0]))
    foreign = truth_of([(0, 0, 1.0), (1, 7, 1.0)], 1)
    with pytest.raises(DataError, match=r"truth.particle is 7 in row 1; allowed are 0 to 0"):
        associate(np.ones(2), foreign, np.array([0, 0]))


def test_hits_follow_their_layer_clusters():
    member = np.array([1, NOISE, 0, 2], np.int32)
    clusters = Clusters(member, *[np.zeros(0)] * 6)
    tracksters = Tracksters(np.array([4, NOISE, 3], np.int32), *[np.zeros(0)] * 8)
    np.testing.assert_array_equal(hit_clusters(clusters, tracksters), [NOISE, NOISE, 4, 3])
