"""Small events made of helices through cylinders, and toy finders for them."""

from __future__ import annotations

import numpy as np

from recon.geometry import helix_position
from recon.tracking.matching import TrackHits
from recon.tracking.resolution import truth_parameters
from recon.types import NOISE, Event, Hits, Particles

PATHS = np.linspace(40.0, 1000.0, 10)


def particles(hit_particle, *, pt=2.0, eta=0.0, radius=0.0, charge=1, primary=True, valid=True):
    """Particles along +x with the given properties, each a number or one a particle."""
    hit_particle = np.asarray(hit_particle, np.int32)
    n = max(int(hit_particle.max(initial=NOISE)) + 1, np.size(pt), np.size(eta), np.size(radius))
    pt, eta, radius = (np.broadcast_to(np.asarray(x, np.float32), n) for x in (pt, eta, radius))
    zero = np.zeros(n, np.float32)
    return Particles(
        momentum=np.stack([pt, zero, pt * np.sinh(eta)], axis=1).astype(np.float32),
        vertex=np.stack([radius, zero, zero], axis=1).astype(np.float32),
        charge=np.broadcast_to(np.asarray(charge, np.int32), n).copy(),
        pdg=np.full(n, 211, np.int32),
        primary=np.broadcast_to(np.asarray(primary, bool), n).copy(),
        valid=np.broadcast_to(np.asarray(valid, bool), n).copy(),
        hit_particle=hit_particle,
    )


def event(truth, position=None, number=0):
    """An event with the given truth; hits lie at the origin unless placed."""
    n = len(truth.hit_particle)
    hits = Hits(
        position=np.zeros((n, 3), np.float32) if position is None else position.astype(np.float32),
        layer=np.zeros(n, np.int32),
        module=np.full(n, -1, np.int32),
        local=np.zeros((n, 2), np.float32),
        variance=np.ones((n, 2), np.float32),
        features=np.zeros((n, 1), np.float32),
        valid=np.ones(n, bool),
    )
    return Event(
        number, hits, truth, None, np.arange(n, dtype=np.uint64), np.arange(len(truth.valid), dtype=np.uint64)
    )


def track_hits(*tracks):
    """Hit lists from sequences of rows."""
    sizes = [len(track) for track in tracks]
    rows = [row for track in tracks for row in track]
    return TrackHits(np.append(0, np.cumsum(sizes)).astype(np.int64), np.asarray(rows, np.int32))


def helix_event(rng, n_particles=30, n_noise=60, number=0):
    """Ten hits a particle along its true helix in 2 T, and noise; hits in random order."""
    pt, eta, phi = (
        rng.uniform(0.6, 6, n_particles),
        rng.uniform(-2.3, 2.3, n_particles),
        rng.uniform(-3, 3, n_particles),
    )
    truth = Particles(
        momentum=np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1).astype(np.float32),
        vertex=np.stack([*rng.normal(0, 0.02, (2, n_particles)), rng.normal(0, 50, n_particles)], 1).astype(
            np.float32
        ),
        charge=rng.choice([-1, 1], n_particles).astype(np.int32),
        pdg=np.full(n_particles, 211, np.int32),
        primary=rng.random(n_particles) < 0.9,
        valid=np.ones(n_particles, bool),
        hit_particle=np.zeros(0, np.int32),
    )
    points = helix_position(truth_parameters(truth)[:, None, :], np.cosh(eta)[:, None] * PATHS, 2.0)
    noise = rng.uniform(-800, 800, (n_noise, 3))
    owner = np.append(np.repeat(np.arange(n_particles), PATHS.size), np.full(n_noise, NOISE)).astype(np.int32)
    order = rng.permutation(owner.size)
    position = np.concatenate([points.reshape(-1, 3), noise])[order]
    return event(truth._replace(hit_particle=owner[order]), position, number)


def random_tracks(rng, hit_particle, n_tracks=40):
    """Tracks of every quality: mostly hits of one particle, some foreign, some lost; hits may be shared."""
    made = {p: np.flatnonzero(hit_particle == p) for p in np.unique(hit_particle[hit_particle >= 0])}
    tracks = []
    for _ in range(n_tracks):
        own = made[rng.choice(list(made))]
        kept = rng.choice(own, rng.integers(1, len(own) + 1), replace=False)
        foreign = rng.choice(len(hit_particle), rng.integers(0, 8), replace=False)
        tracks.append(np.unique(np.append(kept, foreign if rng.random() < 0.7 else foreign[:0])))
    return tracks


def perfect_finder(found, rng, smear=1.0):
    """All particles with true parameters smeared by a known covariance: (hit lists, parameters, covariance)."""
    truth = truth_parameters(found.particles)
    hits = [np.flatnonzero(found.particles.hit_particle == row) for row in range(len(truth))]
    sigma = np.stack(
        [np.full(len(truth), s) for s in (0.02, 0.05, 1e-3, 1e-3)] + [0.02 * np.abs(truth[:, 4])], axis=1
    )
    covariance = np.einsum("ti,ij->tij", sigma**2, np.eye(5))
    return track_hits(*hits), truth + smear * sigma * rng.normal(size=truth.shape), covariance
