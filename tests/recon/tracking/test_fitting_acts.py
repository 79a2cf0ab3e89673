"""The track fit against the Kalman fit of ACTS and against truth, on simulated t tbar events."""

from __future__ import annotations

import operator
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("acts.examples", reason="pyacts is not installed")
pytest.importorskip("pythia8mc", reason="pythia8mc is not installed")

from recon.geometry import perigee_parameters
from recon.sim.acts_fit import fit_tracks_kalman
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.detector import load_detector, load_passive_material
from recon.tracking.fit_setup import FitConfig, fit_surfaces
from recon.tracking.fitting import fit_tracks
from recon.types import Event, Hits

CAPACITY, WIDTH, HITS = 1024, 16, 16_384


def true_tracks(event: Event) -> tuple[list[np.ndarray], np.ndarray]:
    """Hits of the primary charged particles from the beam spot, in the order of their paths."""
    particles, hits = event.particles, event.hits
    rows = np.lexsort((event.truth.order, particles.hit_particle))
    rows = rows[particles.hit_particle[rows] >= 0]
    owner = particles.hit_particle[rows]
    borders = np.flatnonzero(np.diff(owner, prepend=-1, append=-1))
    distance = np.linalg.norm(hits.position, axis=1)
    lists, found = [], []
    for low, high in pairwise(borders):
        particle, track = owner[low], rows[low:high]
        prompt = np.hypot(*particles.vertex[particle, :2]) < 19
        curls = (np.diff(distance[track]) < -8).any()
        if particles.primary[particle] and prompt and 5 <= len(track) <= WIDTH and not curls:
            lists.append(track)
            found.append(particle)
    return lists, np.array(found)


@pytest.mark.slow
def test_agrees_with_acts_and_has_unit_pulls(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    events = list(simulate_events(TrackerSimulation(pileup=10, events=20, minbias_pool=200, seed=5)))
    detector = load_detector()
    surfaces = fit_surfaces(detector, load_passive_material())
    config = FitConfig()
    chosen = [true_tracks(event) for event in events]
    flat = [(np.cumsum([0, *map(len, lists)]), np.concatenate(lists)) for lists, _ in chosen]
    peers = fit_tracks_kalman(events, flat, detector)
    to_acts, pull, theta = [], [], []
    for event, (lists, rows), peer in zip(events, chosen, peers, strict=True):
        padding = HITS - len(event.hits.valid)
        hits = Hits(*(np.concatenate([a, np.zeros((padding, *a.shape[1:]), a.dtype)]) for a in event.hits))
        table = np.full((CAPACITY, WIDTH), -1, np.int32)
        for number, track in enumerate(lists):
            table[number, : len(track)] = track
        result = fit_tracks(hits, jnp.asarray(table), surfaces, config)
        result = jax.tree.map(np.asarray, jax.tree.map(operator.itemgetter(slice(len(lists))), result))
        particles = event.particles
        momentum = particles.momentum[rows].astype(np.float64)
        truth = perigee_parameters(
            particles.vertex[rows].astype(np.float64), momentum, particles.charge[rows], config.field
        )
        pt = np.hypot(momentum[:, 0], momentum[:, 1])
        use = result.converged & peer.valid & (pt > 1) & (np.abs(particles.pdg[rows]) != 11)
        complete = np.diff(peer.offsets) == [len(track) for track in lists]
        for reference, store, keep in ((truth, pull, use), (peer.parameters, to_acts, use & complete)):
            difference = result.parameters - reference
            difference[:, 2] = np.mod(difference[:, 2] + np.pi, 2 * np.pi) - np.pi
            sigma = np.sqrt(np.einsum("tii->ti", result.covariance[keep]))
            store.append(difference[keep] / sigma)
        theta.append(truth[use & complete, 3])
        assert result.converged.mean() > 0.98
    difference, pulls = np.abs(np.concatenate(to_acts)), np.concatenate(pull)
    eta = -np.log(np.tan(np.concatenate(theta) / 2))
    for low, high in ((0, 1.5), (1.5, 2.5), (2.5, 4.1)):
        close = difference[(np.abs(eta) >= low) & (np.abs(eta) < high)]
        assert len(close) > 300
        # In q/p the ACTS fit lacks the energy loss in the beam pipe, 0.02 sigma at 1 GeV.
        assert (np.median(close, axis=0) < [0.02, 0.02, 0.02, 0.02, 0.04]).all()
        assert ((close < 0.1).mean(0) > 0.95).all()
    width = np.diff(np.quantile(pulls, [0.1587, 0.8413], axis=0), axis=0)[0] / 2
    np.testing.assert_allclose(width, 1, atol=0.1)
    assert width[4] == pytest.approx(1, abs=0.05)
