"""Small events for the tests of the tuned and the hybrid clustering."""

from __future__ import annotations

import numpy as np

from recon.hgcal_clustering.condensation import Shares
from recon.hgcal_clustering.shower_graph import EDGE_FEATURES, NODE_FEATURES, ShowerGraph
from recon.hgcal_clustering.training_data import TrainingEvent
from tests.recon.hgcal_clustering.showers_by_hand import along_a_line, join


def two_showers(pileup=200, seed=0, energies=(1.0, 1.0)):
    """Two showers of 20 layers, 0.6 rad apart, and soft layer clusters; every layer cluster is of one particle."""
    rng = np.random.default_rng(seed)
    parts, owner = [], []
    for number, (phi, energy) in enumerate(zip((0.0, 0.6), energies, strict=True)):
        for offset, scale in ((0.0, 1.0), (12.0, 0.2)):
            parts.append(along_a_line(0.2, phi, np.arange(2, 22), energy * scale, offset))
            owner += [number] * 20
    layers = rng.integers(0, 34, pileup)
    position = along_a_line(rng.uniform(0.1, 0.4, pileup), rng.uniform(-3, 3, pileup), layers, 1.0)[0]
    parts.append((position, rng.exponential(0.1, pileup) + 0.06, layers))
    owner = np.array(owner + list(range(2, 2 + pileup)))
    clusters = join(*parts)
    shares = Shares(np.arange(len(owner)), owner, clusters.energy.astype(np.float64))
    deposited = np.bincount(owner, weights=clusters.energy)
    return TrainingEvent(clusters, shares, deposited, deposited)


def bare_graph(candidate, energy, seeds):
    """A graph whose features are all 0."""
    n = len(energy)
    candidate = np.asarray(candidate, np.int32)
    return ShowerGraph(
        np.zeros((n, NODE_FEATURES), np.float32),
        np.zeros((*candidate.shape, EDGE_FEATURES), np.float32),
        candidate,
        np.full(n, -1, np.int32),
        np.asarray(energy, np.float32),
        np.ones(n, np.float32),
        np.arange(seeds, dtype=np.int32),
        np.arange(n, dtype=np.int32),
    )
