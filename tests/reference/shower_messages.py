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


def arrivals(weight, times, candidate, n_candidates):
    """What `model.arrivals` gives, a candidate and a layer cluster at a time."""
    found = np.zeros((*candidate.shape, 4))
    for number in range(n_candidates):
        members = [
            (row, slot) for row, slot in np.argwhere(candidate == number) if np.isfinite(times.error[row])
        ]
        known = {pair: weight[pair] / times.error[pair[0]] ** 2 for pair in members}
        own = dict(known)
        for last in (False, False, True):
            deviations = {}
            for pair in members:
                others = [(own[other], times.time[other[0]]) for other in members if other != pair]
                total = max(sum(share for share, _ in others), 1.0)
                mean = sum(share * time for share, time in others) / total
                z = (times.time[pair[0]] - mean) / np.sqrt(times.error[pair[0]] ** 2 + 1 / total)
                deviations[pair] = z, total
            if last:
                for pair, (z, total) in deviations.items():
                    if total > 2:
                        told = np.clip(z, -8, 8) / 3
                        found[pair] = told, abs(told), np.log(total) / 5, 1
            own = {pair: known[pair] * np.exp(-min(z**2, 64) / 4) for pair, (z, _) in deviations.items()}
    return found
