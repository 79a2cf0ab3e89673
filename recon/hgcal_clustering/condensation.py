"""Object condensation on shower candidates: what the network is taught, and showers out of what it says.

In the object condensation of J. Kieseler (Eur. Phys. J. C 80 (2020) 886) every object is condensed onto one point, and
everything else is background. Here the points that may be chosen are the seeds of CLUE: of all candidates of a particle
the one with most of its energy stays, and every layer cluster is told to join the candidate of its particle, in
proportion to the energy that it has from it, or the pile-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from recon.hgcal_clustering.model import CondensationNetwork
from recon.hgcal_clustering.shower_graph import ShowerGraph
from recon.types import NOISE, Array, Clusters, DensityClusters, RecHits, ShowerTruth

TARGET_ENERGY_MIN = 3.0
"""Particles below are background, GeV."""
_SCALE = 20.0
"""Showers of more energy than this count alike in the loss, softer ones less."""
_EARLY = 0.3
"""Weight of the rounds before the last in the loss."""
_SHOWERS = 0.3
"""Weight of the showers in the loss."""
_WANTED = 20.0
"""Particles that left more than this count alike among the showers, GeV."""
_SHARPNESS = 0.1
_LEAST = 1e-6


class LabelledGraph(NamedTuple):
    """A graph and what the network should say about it.

    Attributes:
        graph: features.
        target: part of a layer cluster's energy that the particle of each candidate made; the last column the rest.
        weight: of a layer cluster in the loss; 0 for padding.
        deposit: energy of the particle of a candidate in all layer clusters, GeV; 0 for none.
    """

    graph: ShowerGraph
    target: Float32[Array, "*b n k1"]
    weight: Float32[Array, "*b n"]
    deposit: Float32[Array, "*b s"]


class Shares(NamedTuple):
    """Energy of particles in layer clusters, a sparse table.

    Attributes:
        cluster: row of the layer cluster, ascending.
        particle: row of the particle, ascending within a layer cluster.
        energy: GeV.
    """

    cluster: Int[np.ndarray, " k"]
    particle: Int[np.ndarray, " k"]
    energy: Float[np.ndarray, " k"]


def cluster_shares(hits: RecHits, truth: ShowerTruth, clusters: Clusters) -> Shares:
    """What every particle gave to every layer cluster; host NumPy."""
    n_particles = max(len(truth.pdg), 1)
    cluster = clusters.member_cluster[truth.hit]
    there = cluster >= 0
    key = cluster[there].astype(np.int64) * n_particles + truth.particle[there]
    pair, row = np.unique(key, return_inverse=True)
    given = (truth.fraction * hits.energy[truth.hit])[there].astype(np.float64)
    return Shares(*np.divmod(pair, n_particles), np.bincount(row, weights=given, minlength=len(pair)))


def label_graph(
    graph: ShowerGraph, density: DensityClusters, shares: Shares, particle_energy: Float[np.ndarray, " p"]
) -> LabelledGraph:
    """Targets and weights of a graph; host NumPy.

    Args:
        graph: not padded.
        density: the clustering that its candidates come from.
        shares: of the event.
        particle_energy: true energies, GeV.
    """
    n_particles = max(len(particle_energy), 1)
    particle = _particle_of_candidate(graph, density, shares, particle_energy)
    wanted = np.append(particle, NOISE)[graph.candidate]
    key = shares.cluster * n_particles + shares.particle
    sought = graph.row[:, None].astype(np.int64) * n_particles + np.maximum(wanted, 0)
    place = np.minimum(np.searchsorted(key, sought), max(len(key) - 1, 0))
    hit = (wanted >= 0) & (np.append(key, -1)[place] == sought)
    share = np.where(hit, np.append(shares.energy, 0)[place], 0) / np.maximum(graph.energy, 1e-9)[:, None]
    rest = np.maximum(1 - share.sum(1, keepdims=True), 0)
    scale = np.maximum(graph.scale, 1.0)
    weight = graph.energy / scale * np.minimum(scale / _SCALE, 1) ** 1.5
    weight = np.where(graph.candidate[:, 0] >= 0, weight, 0)
    deposit = np.bincount(shares.particle, weights=shares.energy, minlength=n_particles)
    return LabelledGraph(
        graph,
        np.concatenate([share, rest], 1).astype(np.float32),
        weight.astype(np.float32),
        np.where(particle >= 0, deposit[particle], 0).astype(np.float32),
    )


def _particle_of_candidate(
    graph: ShowerGraph, density: DensityClusters, shares: Shares, energy: np.ndarray
) -> Int[np.ndarray, " s"]:
    """The particle that a candidate is to be the condensation point of; -1 for none.

    It gave the candidate's members more than any other particle did, and no other such candidate more of its energy.
    """
    n, n_particles = len(graph.seed), max(len(energy), 1)
    if n == 0 or len(shares.cluster) == 0:
        return np.full(n, NOISE)
    label = np.full(max(int(shares.cluster.max()), int(graph.row.max(initial=0))) + 1, NOISE)
    label[graph.row] = density.ids
    member = label[shares.cluster]
    there = member >= 0
    key = member[there].astype(np.int64) * n_particles + shares.particle[there]
    pair, row = np.unique(key, return_inverse=True)
    total = np.bincount(row, weights=shares.energy[there], minlength=len(pair))
    candidate, particle = np.divmod(pair, n_particles)
    order = np.argsort(total, kind="stable")
    owner, main = np.full(n, NOISE), np.full(n_particles, NOISE)
    owner[candidate[order]] = particle[order]
    own = order[owner[candidate[order]] == particle[order]]
    main[particle[own]] = candidate[own]
    good = (owner >= 0) & (main[owner] == np.arange(n)) & (energy[owner] > TARGET_ENERGY_MIN)
    return np.where(good, owner, NOISE)


def condensation_loss(
    network: CondensationNetwork, batch: LabelledGraph, rng: jax.Array
) -> tuple[Float[Array, ""], Mapping[str, Array]]:
    """What the showers of the last round lack, and how far the layer clusters of all rounds are from their shares.

    Of layer clusters the cross-entropy between the shares of the energy and the probabilities, weighted; the last round
    counts most. It asks as much of a shower that is found anyway as of one that is nearly lost: `shower_loss` does not.
    """
    del rng  # the network has no dropout
    early, last = 0.0, jnp.float32(0)
    total = jnp.maximum(batch.weight.sum(), 1e-9)
    rounds = network(batch.graph)
    for found in rounds:
        early = early + last
        last = -((found * batch.target).sum(1) * batch.weight).sum() / total
    lost = shower_loss(rounds[-1], batch)
    return last + _EARLY * early + _SHOWERS * lost, {"last_round": last, "showers": lost}


def shower_loss(log_probability: Float[Array, "n k1"], batch: LabelledGraph) -> Float[Array, ""]:
    """Part of the particles that are lost, made smooth.

    With `s` the part of a particle's energy that its candidate is given, `p` the part of what the candidate is given
    that is the particle's and `f` the logistic function, the mean over particles of
    `1 - f((s - 1/2) / t) f((p - 1/2) / t)`. Particles of less energy than the showers that are looked for count less.

    Args:
        log_probability: of a round.
        batch: with the targets.
    """
    graph, n = batch.graph, batch.deposit.shape[0]
    there = graph.candidate >= 0
    given = jnp.where(there, jnp.exp(log_probability[:, :-1]), 0) * graph.energy[:, None]
    columns = jnp.stack([given, given * batch.target[:, :-1]], -1).reshape(-1, 2)
    place = jnp.where(there, graph.candidate, n).reshape(-1)
    taken, right = jax.ops.segment_sum(columns, place, n + 1)[:n].T
    weight = jnp.minimum(batch.deposit / _WANTED, 1) ** 6
    parts = jnp.stack([right / jnp.maximum(batch.deposit, _LEAST), right / jnp.maximum(taken, _LEAST)])
    found = jax.nn.sigmoid((parts - 0.5) / _SHARPNESS).prod(0)
    return ((1 - found) * weight).sum() / jnp.maximum(weight.sum(), _LEAST)


def showers_from(
    graph: ShowerGraph,
    probability: Float[np.ndarray, "n k1"],
    *,
    member_share: float,
    least_probability: float,
) -> Int32[np.ndarray, " n"]:
    """The candidate that every layer cluster joins; -1 for none. Host NumPy.

    A layer cluster may only join its most probable candidate. Of those, a candidate takes the most probable ones until
    it has enough: what comes last has more pile-up in it than shower. A layer cluster that a candidate begins at
    belongs to it if the network leaves the candidate anything at all.

    Args:
        graph: not padded.
        probability: of every slot, the last column that of pile-up.
        member_share: part of the energy expected of a shower that is enough.
        least_probability: layer clusters of less are not taken at all.
    """
    n, n_candidates = len(graph.row), len(graph.seed)
    if n == 0 or n_candidates == 0:
        return np.full(n, NOISE, np.int32)
    there = graph.candidate >= 0
    given = np.where(there, probability[:, :-1], 0)
    slot = np.where(there, graph.candidate, n_candidates)
    soft = np.bincount(
        slot.ravel(), weights=(given * graph.energy[:, None]).ravel(), minlength=n_candidates + 1
    )
    best = given.argmax(1)
    row = np.arange(n)
    chosen, sure = slot[row, best], given[row, best]
    able = np.flatnonzero((chosen < n_candidates) & (sure >= least_probability))
    able = able[np.lexsort((able, -sure[able], chosen[able]))]
    amount = sure[able] * graph.energy[able]
    before = np.cumsum(amount) - amount
    start = np.searchsorted(chosen[able], chosen[able], side="left")
    taken = before - before[start] < member_share * soft[chosen[able]]
    label = np.full(n, NOISE, np.int32)
    label[able[taken]] = chosen[able[taken]]
    return label


def as_density(
    label: Int32[np.ndarray, " n"], graph: ShowerGraph, score: Float[np.ndarray, " n"]
) -> DensityClusters:
    """Labels in the form of a density clustering, over the rows of the graph.

    Args:
        label: of `showers_from`.
        graph: not padded.
        score: condensation score times energy, in the place of the density. A shower begins at its member with most,
            the first of equals.
    """
    n = len(label)
    member = np.flatnonzero(label >= 0)
    order = member[np.lexsort((member, -score[member], label[member]))]
    first = order[np.flatnonzero(np.diff(label[order], prepend=-1))]
    is_seed = np.zeros(n, bool)
    is_seed[first] = True
    # Numbered in the order of the seeds, as everywhere.
    ordered = np.sort(first)
    number = np.full(len(graph.seed) + 1, NOISE, np.int32)
    number[label[ordered]] = np.arange(len(ordered), dtype=np.int32)
    seed_of = np.full(len(graph.seed) + 1, NOISE, np.int32)
    seed_of[label[first]] = first
    nearest = np.where((label >= 0) & ~is_seed, seed_of[label], NOISE).astype(np.int32)
    return DensityClusters(
        ids=number[label],
        rho=score.astype(np.float32),
        delta=np.full(n, np.inf, np.float32),
        nearest_higher=nearest,
        is_seed=is_seed,
        n_clusters=np.int32(len(first)),
        overflow=np.bool_(False),
    )
