"""Weights of hits in the TrackML score."""

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.trackml import trackml_weights
from recon.types import NOISE

from .conftest import make_event


def one_particle(detector, z, *, pt=3.0, primary=True, vertex_z=0.0):
    """Hits at the given z, all of one particle."""
    event = make_event(detector, n_hits=len(z), n_particles=1)
    position = event.hits.position.copy()
    position[:, 2] = z
    particles = event.particles._replace(
        momentum=np.array([[0, pt, 1]], np.float32),
        vertex=np.array([[0, 0, vertex_z]], np.float32),
        primary=np.array([primary]),
        hit_particle=np.zeros(len(z), np.int32),
    )
    return event._replace(particles=particles, truth=event.truth._replace(position=position))


def slow_weights(event):
    """Hit by hit, as the challenge describes it."""
    owner = event.particles.hit_particle
    weights = np.zeros(len(owner))
    for hit, particle in enumerate(owner):
        if particle == NOISE or not event.particles.primary[particle]:
            continue
        distance = np.abs(event.truth.position[:, 2].astype(float) - event.particles.vertex[particle, 2])
        own = np.flatnonzero(owner == particle)
        place = int((distance[own] < distance[hit]).sum())
        if len(own) < 4 or place >= 20:
            continue
        support = np.arange(9) * (min(len(own), 20) - 1) / 8
        profile = np.interp(np.arange(min(len(own), 20)), support, [10, 8, 6, 5, 3, 3, 3, 5, 6])
        pt = np.hypot(*event.particles.momentum[particle, :2].astype(float))
        by_pt = 0 if pt < 0.05 else min(max(0.2, 0.2 + 0.8 * (pt - 0.5) / 2.5), 1)
        weights[hit] = profile[place] / profile.sum() * by_pt
    return weights / weights.sum() if weights.sum() else weights


def test_nine_hits_by_hand(detector):
    """Nine hits get the nine weights themselves, whose sum is 49, ordered from the vertex at z = 100."""
    z = np.array([60, 20, 100, 90, 70, 80, 50, 40, 30], float)
    weights = trackml_weights(one_particle(detector, z, vertex_z=100.0))
    expected = dict(zip(sorted(z, reverse=True), [10, 8, 6, 5, 3, 3, 3, 5, 6], strict=True))
    np.testing.assert_allclose(weights, [expected[value] / 49 for value in z])


def test_transverse_momentum(detector):
    """Two particles of four hits: the weights are to each other as those of their transverse momenta."""
    for pt, by_pt in ((0.04, 0.0), (0.06, 0.2), (0.5, 0.2), (1.75, 0.6), (3.0, 1.0), (50.0, 1.0)):
        event = one_particle(detector, np.arange(8.0))
        particles = make_event(detector, n_hits=8, n_particles=2).particles._replace(
            momentum=np.array([[0, 3, 1], [pt, 0, 1]], np.float32),
            vertex=np.zeros((2, 3), np.float32),
            primary=np.ones(2, bool),
            hit_particle=np.repeat(np.arange(2, dtype=np.int32), 4),
        )
        event = event._replace(particles=particles, particle_id=np.array([1, 2], np.uint64))
        weights = trackml_weights(event)
        assert weights[4:].sum() / weights[:4].sum() == pytest.approx(by_pt, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_against_the_slow_twin(seed, detector):
    event = make_event(detector, seed, n_hits=150, n_particles=12)
    np.testing.assert_allclose(trackml_weights(event), slow_weights(event), rtol=1e-9, atol=1e-15)


def test_long_particles(detector):
    """Past the twentieth hit nothing weighs anything."""
    event = one_particle(detector, np.arange(25.0))
    weights = trackml_weights(event)
    assert (weights > 0).sum() == 20
    np.testing.assert_allclose(weights, slow_weights(event))


@pytest.mark.parametrize(("n_hits", "primary"), [(3, True), (9, False), (0, True)])
def test_nothing_weighs_anything(n_hits, primary, detector):
    weights = trackml_weights(one_particle(detector, np.arange(float(n_hits)), primary=primary))
    assert weights.tolist() == [0.0] * n_hits


def test_permuting_hits_permutes_weights(detector):
    event = make_event(detector, 1, n_hits=100, n_particles=8)
    order = np.random.default_rng(0).permutation(100)
    permuted = event._replace(
        hits=event.hits._replace(position=event.hits.position[order]),
        particles=event.particles._replace(hit_particle=event.particles.hit_particle[order]),
        truth=event.truth._replace(position=event.truth.position[order]),
    )
    np.testing.assert_allclose(trackml_weights(permuted), trackml_weights(event)[order])


def test_data_have_no_weights(event):
    with pytest.raises(DataError, match="event 3 has no particles"):
        trackml_weights(event._replace(particles=None, truth=None))
