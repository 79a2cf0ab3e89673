"""The walk through the graph, the loose hits and the hit lists."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tracking.building import BuildingConfig, Chains, attach_loose, list_candidates, walk
from tests.reference import building as slow

# Every number that matters is given: the defaults may be tuned.
CONFIG = BuildingConfig(
    edge_score=0.2, attach_score=0.4, attach_to=3, attach_rounds=1, min_hits=3, max_steps=16
)
N_NODES, N_EDGES = 40, 120

walk_jit = jax.jit(walk, static_argnums=(4, 5))
attach_jit = jax.jit(attach_loose, static_argnums=5)
list_jit = jax.jit(list_candidates, static_argnums=3, static_argnames=("capacity", "width"))


class Edges(NamedTuple):
    """A padded edge list with scores."""

    score: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    valid: np.ndarray


def make_edges(score, senders, receivers, capacity=N_EDGES, last=N_NODES - 1):
    """Pads; a padded edge joins the last node to itself with a score that would be walked."""
    fill = capacity - len(score)
    return Edges(
        np.pad(np.asarray(score, np.float32), (0, fill), constant_values=1.0),
        np.pad(np.asarray(senders, np.int32), (0, fill), constant_values=last),
        np.pad(np.asarray(receivers, np.int32), (0, fill), constant_values=last),
        np.arange(capacity) < len(score),
    )


def graph(scores):
    """The graph of a dict (sender, receiver) -> score."""
    pairs = sorted(scores, key=lambda pair: pair[1])
    return make_edges([scores[pair] for pair in pairs], *zip(*pairs, strict=True))


def chains_of(edges, config=CONFIG, n_nodes=N_NODES):
    return jax.device_get(walk_jit(*edges, n_nodes, config))


def groups(head):
    """Chains of two nodes and more as sets."""
    sets = [frozenset(np.flatnonzero(head == node).tolist()) for node in np.unique(head)]
    return {group for group in sets if len(group) > 1}


def random_dag(seed, decimals=2):
    return make_edges(*slow.layered_dag(np.random.default_rng(seed), 8, 5, 110, decimals=decimals))


def test_chain():
    chains = chains_of(graph({(0, 1): 0.9, (1, 2): 0.8, (2, 3): 0.7}))
    assert chains.head[:4].tolist() == [0, 0, 0, 0]
    assert chains.length[:4].tolist() == [4, 4, 4, 4]
    np.testing.assert_array_equal(chains.head[4:], np.arange(4, N_NODES))
    assert set(chains.length[4:].tolist()) == {1}


def test_chain_is_cut_at_a_weak_segment():
    scores = {(0, 1): 0.9, (1, 2): 0.2, (2, 3): 0.9}
    assert groups(chains_of(graph(scores)).head) == {frozenset({0, 1}), frozenset({2, 3})}
    # The cut itself is excluded, the next number above is not.
    above = scores | {(1, 2): float(np.nextafter(np.float32(0.2), np.float32(1)))}
    assert groups(chains_of(graph(above)).head) == {frozenset({0, 1, 2, 3})}


def test_branch_goes_to_the_better_rest_of_the_path():
    # The segment 1 -> 2 is the best one, but what follows 3 is worth more.
    scores = {(0, 1): 0.9, (1, 2): 0.9, (1, 3): 0.6, (3, 4): 0.9, (4, 5): 0.9}
    assert groups(chains_of(graph(scores)).head) == {frozenset({0, 1, 3, 4, 5})}


def test_hit_goes_to_the_longer_path_behind_it():
    # 3 has a better segment from 2, but the path over 1 has more behind it.
    scores = {(0, 1): 0.9, (1, 3): 0.6, (2, 3): 0.9, (3, 4): 0.9}
    assert groups(chains_of(graph(scores)).head) == {frozenset({0, 1, 3, 4})}


def test_shared_hit_is_on_one_track():
    # Two tracks, 0 1 4 2 3 and 5 6 4 7 8, cross in node 4: one gets it, the other is cut.
    scores = {(0, 1): 0.9, (1, 4): 0.9, (4, 2): 0.9, (2, 3): 0.9}
    scores |= {(5, 6): 0.9, (6, 4): 0.7, (4, 7): 0.7, (7, 8): 0.9}
    found = groups(chains_of(graph(scores)).head)
    assert found == {frozenset({0, 1, 4, 2, 3}), frozenset({5, 6}), frozenset({7, 8})}


def test_overlapping_sensors_leave_one_hit_loose():
    # a -> {b1, b2} -> c: the walk takes one of the two hits of the layer.
    scores = {(0, 1): 0.9, (0, 2): 0.8, (1, 3): 0.9, (2, 3): 0.8, (3, 4): 0.9}
    edges = graph(scores)
    chains = chains_of(edges)
    assert groups(chains.head) == {frozenset({0, 1, 3, 4})}
    head = np.asarray(attach_jit(chains, *edges, CONFIG))
    assert groups(head) == {frozenset({0, 1, 2, 3, 4})}


def test_equal_paths_go_to_the_lowest_node():
    scores = {(0, 3): 0.5, (1, 3): 0.5, (2, 3): 0.5, (3, 4): 0.5, (3, 5): 0.5}
    assert groups(chains_of(graph(scores)).head) == {frozenset({0, 3, 4})}


def test_graph_without_edges():
    edges = make_edges([], [], [])
    chains = chains_of(edges)
    np.testing.assert_array_equal(chains.head, np.arange(N_NODES))
    np.testing.assert_array_equal(chains.length, 1)
    np.testing.assert_array_equal(attach_jit(chains, *edges, CONFIG), np.arange(N_NODES))
    found = list_jit(
        chains.head, np.ones(N_NODES, np.float32), np.ones(N_NODES, bool), CONFIG, capacity=4, width=5
    )
    assert int(found.n_needed) == 0
    assert (np.asarray(found.nodes) == -1).all()
    assert (np.asarray(found.n_hits) == 0).all()


@pytest.mark.parametrize("decimals", [7, 1])
@pytest.mark.parametrize("seed", range(12))
def test_walk_equals_its_twin(seed, decimals):
    edges = random_dag(seed, decimals)
    chains = chains_of(edges)
    head, length = slow.walk(*edges, N_NODES, CONFIG)
    assert len(groups(head)) >= 3
    np.testing.assert_array_equal(chains.head, head)
    np.testing.assert_array_equal(chains.length, length)


def test_a_candidate_that_would_be_too_long_takes_no_loose_hits():
    scores = {(0, 1): 0.9, (0, 2): 0.8, (1, 3): 0.9, (2, 3): 0.8, (3, 4): 0.9}
    edges = graph(scores)
    chains = chains_of(edges)
    for most, group in ((5, {0, 1, 2, 3, 4}), (4, {0, 1, 3, 4})):
        head = np.asarray(attach_jit(chains, *edges, replace(CONFIG, max_hits=most)))
        assert groups(head) == {frozenset(group)}


@pytest.mark.parametrize(("rounds", "max_hits"), [(1, 20), (2, 20), (3, 20), (3, 6)])
@pytest.mark.parametrize("seed", range(6))
def test_attach_equals_its_twin(seed, rounds, max_hits):
    edges = random_dag(seed)
    config = replace(CONFIG, attach_rounds=rounds, max_hits=max_hits)
    chains = chains_of(edges)
    expected = slow.attach_loose(*chains, *edges, config)
    # A low limit may leave nothing to attach.
    assert (expected != chains.head).any() or max_hits < CONFIG.max_hits
    np.testing.assert_array_equal(attach_jit(chains, *edges, config), expected)


@pytest.mark.parametrize("seed", range(4))
def test_renumbering_nodes_renumbers_chains(seed):
    # With distinct scores nothing hangs on the numbers of the nodes or the order of the edges.
    edges = random_dag(seed, decimals=7)
    n_edges = int(edges.valid.sum())
    new = np.random.default_rng(seed).permutation(N_NODES).astype(np.int32)
    order = np.argsort(new[edges.receivers[:n_edges]], kind="stable")
    score, senders, receivers = (column[:n_edges][order] for column in edges[:3])
    renamed = make_edges(score, new[senders], new[receivers])
    chains, other = chains_of(edges), chains_of(renamed)
    assert groups(other.head) == {frozenset(new[list(group)].tolist()) for group in groups(chains.head)}
    head = np.asarray(attach_jit(chains, *edges, CONFIG))
    other_head = np.asarray(attach_jit(other, *renamed, CONFIG))
    assert groups(other_head) == {frozenset(new[list(group)].tolist()) for group in groups(head)}


def test_padding_changes_nothing():
    score, senders, receivers = slow.layered_dag(np.random.default_rng(3), 8, 5, 110, decimals=2)
    chains = chains_of(make_edges(score, senders, receivers))
    padded_edges = make_edges(score, senders, receivers, capacity=160, last=47)
    padded = chains_of(padded_edges, n_nodes=48)
    np.testing.assert_array_equal(padded.head[:N_NODES], chains.head)
    np.testing.assert_array_equal(padded.head[N_NODES:], np.arange(N_NODES, 48))
    np.testing.assert_array_equal(padded.length[:N_NODES], chains.length)


def test_longest_allowed_chain_is_whole():
    steps = CONFIG.max_steps
    chains = chains_of(graph({(node, node + 1): 0.9 for node in range(steps)}))
    np.testing.assert_array_equal(chains.head[: steps + 1], 0)
    np.testing.assert_array_equal(chains.length[: steps + 1], steps + 1)


def test_step_limit_bounds_what_a_path_is_worth():
    # Behind 5 lie five weak segments, behind 7 a strong one: of two steps each the strong ones are worth more.
    weak = {(node, node + 1): 0.5 for node in range(5)} | {(5, 8): 0.5}
    edges = graph(weak | {(6, 7): 0.9, (7, 8): 0.65})
    assert groups(chains_of(edges).head) == {frozenset({0, 1, 2, 3, 4, 5, 8}), frozenset({6, 7})}
    short = chains_of(edges, replace(CONFIG, max_steps=2)).head
    assert short[[6, 7, 8]].tolist() == [6, 6, 6]


def test_walk_compiles_once():
    traces = []

    @jax.jit
    def traced(score, senders, receivers, valid):
        traces.append(1)
        return walk(score, senders, receivers, valid, N_NODES, CONFIG)

    for seed in range(3):
        traced(*random_dag(seed))
    assert len(traces) == 1


LONG = {(0, 1): 0.9, (1, 2): 0.9}


@pytest.mark.parametrize(
    ("extra", "joins"),
    [
        ({(2, 3): 0.4}, False),  # at the cut, and the walk is stopped below
        ({(2, 3): 0.41}, True),
        ({(3, 1): 0.41}, True),  # from inside
    ],
)
def test_attach_score_is_a_lower_bound(extra, joins):
    edges = graph(LONG | extra)
    config = replace(CONFIG, edge_score=0.8)
    head = np.asarray(attach_jit(chains_of(edges, config), *edges, config))
    assert (head[3] == 0) == joins


@pytest.mark.parametrize(("attach_to", "joins"), [(3, True), (4, False)])
def test_attach_to_counts_the_hits_of_the_chain(attach_to, joins):
    edges = graph(LONG | {(2, 3): 0.7})
    config = replace(CONFIG, edge_score=0.8, attach_to=attach_to)
    head = np.asarray(attach_jit(chains_of(edges, config), *edges, config))
    assert (head[3] == 0) == joins


@pytest.mark.parametrize(("rounds", "joined"), [(0, []), (1, [3]), (2, [3, 4]), (3, [3, 4, 5])])
def test_attach_rounds_reach_so_far(rounds, joined):
    edges = graph(LONG | {(2, 3): 0.7, (3, 4): 0.7, (4, 5): 0.7})
    config = replace(CONFIG, edge_score=0.8, attach_rounds=rounds)
    head = np.asarray(attach_jit(chains_of(edges, config), *edges, config))
    assert np.flatnonzero(head == 0).tolist() == [0, 1, 2, *joined]


def test_loose_hit_joins_through_its_best_segment():
    scores = LONG | {(3, 4): 0.9, (4, 5): 0.9} | {(2, 6): 0.6, (5, 6): 0.7}
    edges = graph(scores)
    config = replace(CONFIG, edge_score=0.8)
    assert np.asarray(attach_jit(chains_of(edges, config), *edges, config))[6] == 3


def test_hits_of_long_chains_stay():
    chains = Chains(np.array([0, 0, 0, 3, 3, 3], np.int32), np.full(6, 3, np.int32))
    edges = graph({(2, 3): 0.9, (0, 4): 0.9})
    np.testing.assert_array_equal(attach_jit(chains, *edges, CONFIG), chains.head)


def test_candidates_are_ordered_by_distance():
    head = np.array([2, 1, 2, 2, 1, 5, 1, 7], np.int32)
    distance = np.array([30, 5, 10, 20, 1, 1, 9, 2], np.float32)
    valid = np.ones(8, bool)
    found = jax.device_get(list_jit(head, distance, valid, CONFIG, capacity=3, width=4))
    assert found.nodes.tolist() == [[4, 1, 6, -1], [2, 3, 0, -1], [-1] * 4]
    assert found.n_hits.tolist() == [3, 3, 0]
    assert (int(found.n_needed), int(found.longest)) == (2, 3)


@pytest.mark.parametrize(("min_hits", "n_tracks"), [(3, 2), (4, 1), (5, 0)])
def test_short_candidates_are_left_out(min_hits, n_tracks):
    head = np.array([0, 0, 0, 3, 3, 3, 3, 7], np.int32)
    config = replace(CONFIG, min_hits=min_hits)
    found = list_jit(head, np.arange(8, dtype=np.float32), np.ones(8, bool), config, capacity=4, width=4)
    assert int(found.n_needed) == n_tracks
    assert int((np.asarray(found.n_hits) > 0).sum()) == n_tracks


def test_padded_nodes_are_on_no_candidate():
    valid = np.arange(8) < 3
    found = jax.device_get(
        list_jit(np.zeros(8, np.int32), np.arange(8.0, dtype=np.float32), valid, CONFIG, capacity=2, width=9)
    )
    assert found.n_hits.tolist() == [3, 0]
    assert found.nodes[0, :4].tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("capacity", [8, 64])  # fewer and more than the nodes
def test_candidates_equal_their_twin(seed, capacity):
    rng = np.random.default_rng(seed)
    edges = random_dag(seed)
    chains = chains_of(edges)
    head = np.asarray(attach_jit(chains, *edges, CONFIG))
    distance, valid = rng.random(N_NODES).astype(np.float32), rng.random(N_NODES) < 0.9
    expected = slow.list_candidates(head, distance, valid, CONFIG)
    assert len(expected) >= 2
    found = jax.device_get(list_jit(head, distance, valid, CONFIG, capacity=capacity, width=N_NODES))
    assert [nodes[nodes >= 0].tolist() for nodes in found.nodes[: len(expected)]] == expected
    assert (found.nodes[len(expected) :] == -1).all()
    np.testing.assert_array_equal(found.n_hits, (found.nodes >= 0).sum(1))
    assert int(found.n_needed) == len(expected)


def test_overflow_is_reported():
    head = np.repeat(np.array([0, 4, 8], np.int32), 4)
    distance, valid = np.arange(12, dtype=np.float32), np.ones(12, bool)
    found = list_jit(head, distance, valid, CONFIG, capacity=2, width=3)
    assert (int(found.n_needed), int(found.longest)) == (3, 4)
    fits = list_jit(head, distance, valid, CONFIG, capacity=3, width=4)
    assert jnp.array_equal(fits.nodes, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("edge_score", -0.1), ("edge_score", 1.0), ("attach_score", 1.5), ("min_hits", 2), ("max_steps", 0)],
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} = {re.escape(str(value))}"):
        BuildingConfig(**{setting: value})
