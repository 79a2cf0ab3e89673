"""Slow twin of the messages in `recon.hgcal_clustering.model`: loops over layer clusters, in double precision."""

from __future__ import annotations

import numpy as np

EDGES = (15.0, 30.0, 60.0, 120.0)


def surroundings(probability, graph):
    """What `model.surroundings` gives, and which slots have a candidate."""
    bins = {}
    for row, slot in np.argwhere(graph.candidate >= 0):
        group = min(round(float(graph.nodes[row, 1]) * 20) // 5, 9)
        ring = sum(float(graph.edges[row, slot, 1]) * 100 > edge for edge in EDGES)
        bins[row, slot] = (int(graph.candidate[row, slot]), group, ring)
    found = np.zeros((*graph.candidate.shape, 3))
    for (row, slot), (candidate, group, ring) in bins.items():
        near = [
            (probability[other] * float(graph.energy[other[0]]), float(graph.energy[other[0]]), key[2])
            for other, key in bins.items()
            if key[:2] == (candidate, group) and other != (row, slot)
        ]
        in_group = sum(given for given, _, _ in near)
        in_ring = sum(given for given, _, place in near if place == ring)
        whole = sum(energy for _, energy, place in near if place == ring)
        found[row, slot] = np.log(in_group + 0.01), np.log(in_ring + 0.01), (in_ring + 0.01) / (whole + 0.01)
    return found, graph.candidate >= 0
