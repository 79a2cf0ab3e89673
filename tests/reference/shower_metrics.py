"""Slow twins of the comparison of clusters with particles: dictionaries of hits, sums from the definitions."""

from __future__ import annotations

import math

import numpy as np


def fractions(truth):
    """{particle: {hit: fraction}}."""
    made = {particle: {} for particle in range(len(truth.pdg))}
    for hit, particle, fraction in zip(truth.hit, truth.particle, truth.fraction, strict=True):
        made[int(particle)][int(hit)] = float(fraction)
    return made


def members(hit_cluster):
    """{cluster: set of hits}."""
    found = {}
    for hit, cluster in enumerate(hit_cluster.tolist()):
        if cluster >= 0:
            found.setdefault(cluster, set()).add(hit)
    return found


def scores(energy, made, hits):
    """(shared energy, reco_to_sim, sim_to_reco) of one particle's fractions and one cluster's hits."""
    energy = energy.astype(float)
    shared = sum(fraction * energy[hit] for hit, fraction in made.items() if hit in hits)
    reco = sum(min((1 - made.get(hit, 0)) ** 2, 1) * energy[hit] ** 2 for hit in hits)
    reco /= sum(energy[hit] ** 2 for hit in hits)
    sim = sum(min(((hit in hits) - f) ** 2, f**2) * energy[hit] ** 2 for hit, f in made.items())
    sim /= sum(f**2 * energy[hit] ** 2 for hit, f in made.items())
    return shared, reco, sim


def associate(energy, truth, hit_cluster):
    """{(cluster, particle): scores} of the pairs that share a hit."""
    made, clusters = fractions(truth), members(hit_cluster)
    return {
        (cluster, particle): scores(energy, made[particle], hits)
        for cluster, hits in clusters.items()
        for particle in made
        if hits & set(made[particle])
    }


def v_measure(labels, clusters, weights):
    """(homogeneity, completeness, v) of weighted entries, from conditional entropies written out."""
    total = sum(weights)

    def conditional(one, other):
        """Entropy of `one` within every value of `other`."""
        result = 0.0
        for value in set(other):
            inside = [k for k, name in enumerate(other) if name == value]
            group = sum(weights[k] for k in inside)
            for name in {one[k] for k in inside}:
                part = sum(weights[k] for k in inside if one[k] == name)
                if part > 0:
                    result -= part / total * math.log(part / group)
        return result

    everywhere = [0] * len(labels)
    of_labels, of_clusters = conditional(labels, everywhere), conditional(clusters, everywhere)
    h = 1 - conditional(labels, clusters) / of_labels if of_labels else 1.0
    c = 1 - conditional(clusters, labels) / of_clusters if of_clusters else 1.0
    return h, c, 2 * h * c / (h + c) if h + c else 0.0


def rates(energy, truth, hit_cluster, selection):
    """Counts (passed, total) of every rate of `recon.hgcal_clustering.metrics`, deposits and eta not cut on."""
    made, clusters = fractions(truth), members(hit_cluster)
    pairs = {(c, p): scores(energy, made[p], hits) for c, hits in clusters.items() for p in made if made[p]}
    total = {c: sum(float(energy[hit]) for hit in hits) for c, hits in clusters.items()}
    deposit = {p: sum(f * float(energy[hit]) for hit, f in made[p].items()) for p in made}
    momentum = np.linalg.norm(truth.momentum.astype(float), axis=1)
    wanted = [p for p in made if momentum[p] >= selection.energy_min and truth.hard_scatter[p]]
    counted = [c for c in clusters if total[c] >= selection.cluster_energy_min]
    good = {p: [c for c in clusters if pairs[c, p][2] < selection.pure_score] for p in made}
    best = {p: max(clusters, key=lambda c: (pairs[c, p][0], -c)) for p in wanted} if clusters else {}
    shared = {p: pairs[best[p], p][0] / deposit[p] for p in best}
    purity = {p: pairs[best[p], p][0] / total[best[p]] for p in best}
    makers = {c: [p for p in made if pairs[c, p][1] < selection.fake_score] for c in clusters}
    split = {c for p in made if len(good[p]) > 1 for c in good[p]}
    return {
        "efficiency": (sum(s >= selection.shared_min for s in shared.values()), len(wanted)),
        "efficiency_simple": (
            sum(shared[p] > selection.shared_min and purity[p] > selection.purity_min for p in best),
            len(wanted),
        ),
        "purity": (sum(bool(good[p]) for p in wanted), len(wanted)),
        "duplicate": (sum(len(good[p]) > 1 for p in wanted), len(wanted)),
        "fake": (sum(not makers[c] for c in counted), len(counted)),
        "merge": (sum(len(makers[c]) > 1 for c in counted), len(counted)),
        "split": (sum(c in split for c in counted), len(counted)),
    }
