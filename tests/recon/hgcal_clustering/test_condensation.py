"""Targets, the network, its loss and its showers: by hand, against slow twins, and what must change nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.hgcal_clustering.condensation import (
    LabelledGraph,
    Shares,
    as_density,
    cluster_shares,
    condensation_loss,
    label_graph,
    shower_loss,
    showers_from,
)
from recon.hgcal_clustering.hybrid import HybridConfig, condense, probabilities
from recon.hgcal_clustering.model import (
    CondensationConfig,
    CondensationNetwork,
    agreement,
    messages,
    surroundings,
)
from recon.hgcal_clustering.shower_graph import (
    GraphConfig,
    ShowerGraph,
    pad_graph,
    shower_graph,
)
from recon.hgcal_clustering.training import labelled_graphs, set_scales
from recon.types import Clusters, RecHits, ShowerTruth
from tests.recon.hgcal_clustering.condensing import bare_graph, two_showers
from tests.reference.shower_messages import surroundings as slow_surroundings

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def labelled():
    (graph,) = labelled_graphs(two_showers(), HybridConfig())
    return graph


@pytest.fixture(scope="module")
def network(labelled):
    made = CondensationNetwork(CondensationConfig(hidden=8), rngs=nnx.Rngs(1))
    set_scales(made, [labelled])
    return made


def test_shares_by_hand():
    hits = RecHits(
        np.zeros((3, 3), np.float32),
        np.array([1.0, 2.0, 4.0], np.float32),
        np.zeros(3, np.int32),
        np.zeros(3, np.int32),
        np.zeros(3, np.float32),
        np.ones(3, bool),
    )
    ints, flags = np.zeros(2, np.int32), np.ones(2, bool)
    truth = ShowerTruth(
        np.ones((2, 3), np.float32),
        np.zeros((2, 3), np.float32),
        ints,
        ints,
        flags,
        np.array([0, 0, 1, 2], np.int32),
        np.array([0, 1, 1, 0], np.int32),
        np.array([0.5, 0.5, 1.0, 0.75], np.float32),
    )
    clusters = Clusters(np.array([1, 1, -1], np.int32), *[None] * 6)
    shares = cluster_shares(hits, truth, clusters)
    np.testing.assert_array_equal(shares.cluster, [1, 1])
    np.testing.assert_array_equal(shares.particle, [0, 1])
    np.testing.assert_allclose(shares.energy, [0.5, 2.5])


def test_targets_say_whose_candidate_it_is(labelled):
    graph, target, weight, _ = labelled
    there = graph.candidate >= 0
    np.testing.assert_allclose(target.sum(1)[weight > 0], 1, rtol=1e-5)
    # The showers' layer clusters belong to their first candidate, pile-up to none.
    np.testing.assert_allclose(target[:80, 0], 1)
    np.testing.assert_allclose(target[80:280, -1], 1)
    assert (target[:, :-1][~there] == 0).all()
    assert (weight[~there[:, 0]] == 0).all()


def test_targets_slow_twin():
    event = two_showers(seed=5)
    graph, density = shower_graph(event.clusters, GraphConfig())
    found = label_graph(graph, density, event.shares, event.energy)
    owner = dict(zip(event.shares.cluster.tolist(), event.shares.particle.tolist(), strict=True))
    particle = {}
    for candidate in range(len(graph.seed)):
        total = {}
        for row, label in zip(graph.row, density.ids, strict=True):
            if label == candidate:
                total[owner[row]] = total.get(owner[row], 0) + float(event.clusters.energy[row])
        best = max(total, key=total.get)
        particle[candidate] = best if event.energy[best] > 3 else -1
    for row, candidates, target in zip(graph.row, graph.candidate, found.target, strict=True):
        expected = [float(c >= 0 and particle[int(c)] == owner[row]) for c in candidates]
        np.testing.assert_allclose(target[:-1], expected, atol=1e-6)


def test_particle_below_another_keeps_what_is_its_own():
    """Most of particle 1 lies in the candidate of particle 0; the other candidate, all its own, is its target."""
    event = two_showers(pileup=0, energies=(1.0, 0.3))
    energy = event.clusters.energy.astype(np.float64)
    rows = np.concatenate([np.arange(40), np.arange(80)])
    owner = np.repeat([0, 1, 1], [40, 40, 40])
    share = np.concatenate([0.6 * energy[:40], 0.4 * energy[:40], energy[40:]])
    order = np.lexsort((owner, rows))
    graph, density = shower_graph(event.clusters, GraphConfig())
    shares = Shares(rows[order], owner[order], share[order])
    _, target, _, deposit = label_graph(graph, density, shares, np.array([50.0, 50.0]))
    np.testing.assert_allclose(np.sort(deposit), np.sort(np.bincount(owner, share)), rtol=1e-5)
    np.testing.assert_allclose(target[:40, 0], 0.6, rtol=1e-5)
    np.testing.assert_allclose(target[40:, 0], 1, rtol=1e-5)


def test_probabilities_sum_to_one_and_padding_changes_nothing(labelled, network):
    graph = labelled.graph
    found = [np.exp(one) for one in network(jax.tree.map(jnp.asarray, graph))]
    assert len(found) == 3
    for one in found:
        np.testing.assert_allclose(one.sum(1), 1, rtol=1e-5)
        assert (one[:, :-1][graph.candidate < 0] < 1e-6).all()
    n = int((graph.row >= 0).sum())
    short = ShowerGraph(*(c if name == "seed" else c[:n] for name, c in graph._asdict().items()))
    again = network(jax.tree.map(jnp.asarray, short))
    np.testing.assert_allclose(np.exp(again[-1]), found[-1][:n], atol=1e-5)


def test_numbers_of_candidates_change_nothing(labelled, network):
    graph = labelled.graph
    n = len(graph.seed)
    swap = np.append(np.arange(n)[::-1], -1)
    other = graph._replace(candidate=swap[graph.candidate].astype(np.int32))
    one, two = (network(jax.tree.map(jnp.asarray, which))[-1] for which in (graph, other))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_gradient_against_finite_differences(labelled, network):
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    batch = jax.tree.map(jnp.asarray, labelled)

    def value(tree):
        return condensation_loss(nnx.merge(definition, tree, rest), batch, jax.random.key(0))[0]

    value = jax.jit(value)
    gradient = jax.jit(jax.grad(value))(params)
    leaves, shape = jax.tree.flatten(params)
    for number in (0, len(leaves) - 1):
        direction = np.random.default_rng(number).normal(size=leaves[number].shape).astype(np.float32)
        slope = float((jax.tree.leaves(gradient)[number] * direction).sum())
        step = 1e-2

        def at(scale, number=number, direction=direction):
            moved = [leaf + scale * direction if i == number else leaf for i, leaf in enumerate(leaves)]
            return float(value(jax.tree.unflatten(shape, moved)))

        assert slope == pytest.approx((at(step) - at(-step)) / (2 * step), rel=0.05, abs=2e-3)


def test_loss_ignores_what_has_no_weight(labelled, network):
    batch = jax.tree.map(jnp.asarray, labelled)
    flipped = jnp.where(batch.weight[:, None] > 0, batch.target, 1 - batch.target)
    one, two = (
        condensation_loss(network, batch._replace(target=t), jax.random.key(0))[1]["last_round"]
        for t in (batch.target, flipped)
    )
    assert float(one) == float(two)


def test_lost_showers_by_hand():
    graph = bare_graph([[0, 1], [1, -1], [0, -1]], [10, 20, 8], 3)
    target = np.array([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]], np.float32)
    probability = np.array([[0.75, 0.25, 1e-9], [0.5, 1e-9, 0.5], [0.25, 1e-9, 0.75]])
    batch = LabelledGraph(graph, target, np.ones(3, np.float32), np.array([40.0, 20.0, 0.0], np.float32))
    found = shower_loss(jnp.log(probability), jax.tree.map(jnp.asarray, batch))
    # Candidate 0 gets 7.5 + 2 GeV, 7.5 of its 40 GeV are right; candidate 1 gets 2.5 + 10, of which 5 of its 20 GeV.
    parts = np.array([[7.5 / 40, 7.5 / 9.5], [5 / 20, 5 / 12.5]])
    expected = 1 - (1 / (1 + np.exp((0.5 - parts) / 0.1))).prod(1)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)
    soft = batch._replace(deposit=np.array([40.0, 10.0, 0.0], np.float32))
    parts[1, 0] *= 2
    expected = 1 - (1 / (1 + np.exp((0.5 - parts) / 0.1))).prod(1)
    found = shower_loss(jnp.log(probability), jax.tree.map(jnp.asarray, soft))
    assert float(found) == pytest.approx((expected[0] + expected[1] / 64) / (1 + 1 / 64), rel=1e-5)


def test_perfect_decisions_lose_nothing_and_pileup_does_not_count(labelled):
    batch = jax.tree.map(jnp.asarray, labelled)
    wanted = batch._replace(deposit=batch.deposit * (batch.deposit > 15))
    assert int((wanted.deposit > 0).sum()) == 2
    perfect = jnp.log(jnp.maximum(batch.target, 1e-9))
    # Not quite 0: the logistic function of 5, twice.
    assert float(shower_loss(perfect, wanted)) == pytest.approx(1 - (1 / (1 + np.exp(-5))) ** 2, rel=0.01)
    nothing = jnp.log(jnp.zeros_like(batch.target).at[:, -1].set(1) + 1e-9)
    assert float(shower_loss(nothing, wanted)) > 0.99
    none = batch._replace(deposit=jnp.zeros_like(batch.deposit))
    assert float(shower_loss(perfect, none)) == 0


def test_agreement_by_hand():
    # Layer clusters 1 and 2 follow 0, which has the same candidates in other slots.
    graph = bare_graph([[0, 1], [1, 0], [1, -1]], [10, 3, 1], 2)._replace(
        higher=np.array([-1, 0, 0], np.int32)
    )
    probability = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.9, 1e-9, 0.1]])
    found = agreement(jnp.log(probability), jax.tree.map(jnp.asarray, graph))
    np.testing.assert_allclose(found[:, :, 0], [[0, 0], [0.2, 0.7], [0.2, 0]], atol=1e-6)
    expected = [[0.3 * 3 / 4.01, (0.5 * 3 + 0.9) / 4.01], [0, 0], [0, 0]]
    np.testing.assert_allclose(found[:, :, 1], expected, atol=1e-6)


def test_messages_by_hand():
    graph = bare_graph([[0, 1], [1, -1]], [10, 4], 2)
    probability = np.array([[0.5, 0.25, 0.25], [0.75, 1e-9, 0.25]])
    found = messages(
        jnp.log(probability), jnp.array([[2.0, 1.0], [3.0, 0.0]]), jax.tree.map(jnp.asarray, graph)
    )
    # Candidate 0 gets 5 GeV, candidate 1 gets 2.5 + 3 GeV.
    np.testing.assert_allclose(found[0, :, 0], np.log([5.01, 5.51]), rtol=1e-5)
    np.testing.assert_allclose(found[0, :, 1], [2.5 / 5.01, (2.5 * 0.75 + 3 * 0.25) / 5.51], rtol=1e-5)
    np.testing.assert_allclose(found[:, 0, 4], [0.4, 0.6], rtol=1e-5)
    np.testing.assert_allclose(found[0, :, 5], np.log([0.5, 0.25]) / 3, rtol=1e-5)
    assert found[1, 1, 5] == 0


def test_surroundings_by_hand():
    """Three layer clusters in layers 2, 4 and 7; the first two are in one group and, for candidate 0, in one ring."""
    graph = bare_graph([[0, 1], [0, -1], [0, 1]], [10, 4, 2], 2)
    graph.nodes[:, 1] = np.array([2, 4, 7]) / 20
    graph.edges[:, 0, 1] = [0.1, 0.05, 0.1]
    graph.edges[:, 1, 1] = [0.5, 0.0, 0.5]
    probability = np.array([[0.5, 0.25, 0.25], [0.75, 1e-9, 0.25], [0.5, 0.5, 1e-9]])
    found = surroundings(jnp.log(probability), jax.tree.map(jnp.asarray, graph))
    np.testing.assert_allclose(found[:, 0, 0], np.log([3.01, 5.01, 0.01]), rtol=1e-4)
    np.testing.assert_allclose(found[:, 0, 1], np.log([3.01, 5.01, 0.01]), rtol=1e-4)
    np.testing.assert_allclose(found[:, 0, 2], [3.01 / 4.01, 5.01 / 10.01, 1], rtol=1e-4)
    # Candidate 1 has nothing else in these groups of layers.
    np.testing.assert_allclose(found[[0, 2], 1, 0], np.log(0.01), rtol=1e-3)


def test_surroundings_slow_twin(labelled, network):
    probability = probabilities(network, jax.tree.map(jnp.asarray, labelled.graph))
    found = surroundings(jnp.log(probability), jax.tree.map(jnp.asarray, labelled.graph))
    expected, there = slow_surroundings(np.asarray(probability, float), labelled.graph)
    np.testing.assert_allclose(np.asarray(found)[there], expected[there], rtol=2e-3, atol=2e-3)


def test_showers_by_hand():
    graph = bare_graph([[0, 1], [0, -1], [1, 0], [0, -1], [-1, -1]], [10, 4, 5, 1, 9], 2)
    probability = np.array([[0.9, 0, 0.1], [0.5, 0, 0.5], [0.7, 0.1, 0.2], [0.1, 0, 0.9], [0, 0, 1.0]])
    # Candidate 0 expects 9 + 2 + 0.5 + 0.1 GeV; layer cluster 0 alone is 78 % of that.
    one = showers_from(graph, probability, member_share=0.7, least_probability=0.2)
    np.testing.assert_array_equal(one, [0, -1, 1, -1, -1])
    two = showers_from(graph, probability, member_share=0.8, least_probability=0.2)
    np.testing.assert_array_equal(two, [0, 0, 1, -1, -1])
    three = showers_from(graph, probability, member_share=1.0, least_probability=0.05)
    np.testing.assert_array_equal(three, [0, 0, 1, 0, -1])


def test_density_form():
    graph = bare_graph([[0], [1], [1], [0], [2]], [1, 1, 1, 1, 1], 3)
    found = as_density(np.array([1, 0, 0, 1, -1], np.int32), graph, np.array([1.0, 2, 3, 1, 9]))
    np.testing.assert_array_equal(found.ids, [0, 1, 1, 0, -1])
    np.testing.assert_array_equal(found.is_seed, [True, False, True, False, False])
    np.testing.assert_array_equal(found.nearest_higher, [-1, 2, -1, 0, -1])
    assert int(found.n_clusters) == 2


def test_condense(network):
    event = two_showers(seed=8)
    found = condense(event.clusters, network, HybridConfig(member_share=1.0, least_probability=0.0))
    assert found.ids.shape == event.clusters.energy.shape
    assert int(found.is_seed.sum()) == int(found.n_clusters)
    np.testing.assert_array_equal(found.ids[found.is_seed], np.arange(int(found.n_clusters)))
    none = event.clusters._replace(valid=np.zeros(len(event.clusters.valid), bool))
    assert int(condense(none, network, HybridConfig()).n_clusters) == 0


def test_similar_events_share_a_program(network):
    sizes = set()
    for seed in range(3):
        graph = pad_graph(shower_graph(two_showers(seed=seed).clusters, GraphConfig())[0])
        sizes.add((len(graph.row), len(graph.seed)))
        probabilities(network, jax.tree.map(jnp.asarray, graph))
    assert sizes == {(1024, 64)}


def test_refusals():
    with pytest.raises(ConfigError, match=r"HybridConfig.member_share = 2.0; allowed are 0 to 1"):
        HybridConfig(member_share=2.0)
    with pytest.raises(ConfigError, match="hidden and rounds must be at least 1"):
        CondensationConfig(hidden=0)
