"""The graph of layer clusters and candidates: pairs and pile-up by hand, features, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import CapacityError, ConfigError
from recon.hgcal_clustering.shower_candidates import Candidates, Points, best_pairs, find_candidates, smooth
from recon.hgcal_clustering.shower_graph import (
    EDGE_FEATURES,
    NODE_FEATURES,
    GraphConfig,
    expected_core,
    join_seeds,
    pad_graph,
    shower_graph,
    spread,
)
from recon.types import NOISE, Clusters, DensityClusters
from tests.recon.hgcal_clustering.condensing import two_showers
from tests.recon.hgcal_clustering.showers_by_hand import along_a_line, join

pytestmark = pytest.mark.usefixtures("quick_programs")


def rotated(clusters, angle):
    x, y, z = clusters.position.astype(float).T
    turned = np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], 1)
    return clusters._replace(position=turned.astype(np.float32))


def test_smooth_by_hand():
    rows = np.array([[0.0, 0, 5, 0, 0, 0], [5, 0, 0, 0, 0, 5]])
    np.testing.assert_allclose(smooth(rows), [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])


def test_smooth_twin(rng):
    rows = rng.random((3, 12))
    expected = [[sum(row[max(i - 2, 0) : i + 3]) / 5 for i in range(12)] for row in rows]
    np.testing.assert_allclose(smooth(rows), expected)


def test_best_pairs_by_hand():
    # Layer cluster 0 has the pairs 0, 2 and 3, layer cluster 2 has the pair 1.
    found = Candidates(*[None] * 2, np.array([0, 2, 0, 0]), np.array([0, 0, 1, 2]), None, None)
    table, filled = best_pairs(found, np.array([1.0, 5.0, 3.0, 2.0]), 3, 2)
    np.testing.assert_array_equal(filled, [[True, True], [False, False], [True, False]])
    np.testing.assert_array_equal(table[0], [2, 3])
    assert table[2, 0] == 1


def test_best_pairs_against_sorting(rng):
    """With equal preferences too, of which the first comes first."""
    member, candidate = np.divmod(rng.permutation(40 * 9)[:200], 9)
    order = np.lexsort((member, candidate))
    member, candidate = member[order], candidate[order]
    preference = rng.integers(1, 6, 200).astype(float)
    table, filled = best_pairs(Candidates(*[None] * 2, member, candidate, None, None), preference, 40, 4)
    for row in range(40):
        pairs = np.flatnonzero(member == row)
        expected = pairs[np.argsort(-preference[pairs], kind="stable")][:4]
        np.testing.assert_array_equal(table[row][filled[row]], expected)


def test_hard_candidates_come_first():
    """A layer cluster in front of a hard core, closer to a soft one at its depth: the hard one is preferred."""
    seed, ring = np.array([0, 1]), np.zeros((4, 2, 50))
    ring[1, 0, 15:25], ring[1, 1, 9:12] = 10.0, 0.5
    found = Candidates(
        seed, ring, np.array([2, 2]), np.array([0, 1]), np.array([80.0, 50.0]), np.full(3, 1e-6)
    )
    points = Points(np.zeros((3, 2)), np.ones(3), np.array([20, 10, 10]))
    preference = expected_core(points, found) * spread(points, found)
    table, _ = best_pairs(found, preference, 3, 2)
    np.testing.assert_array_equal(found.candidate[table[2]], [0, 1])


def seeds_at(xy, rho, ids):
    """Layer clusters that are seeds, and one more that follows each."""
    n = len(rho)
    points = Points(np.repeat(np.asarray(xy, float), 2, 0), np.ones(2 * n), np.arange(2 * n))
    is_seed = np.tile([True, False], n)
    ids, rho = np.repeat(np.asarray(ids, np.int32), 2), np.repeat(np.asarray(rho, np.float32), 2)
    rows = np.zeros(2 * n, np.int32)
    return points, DensityClusters(ids, rho, rho, rows, is_seed, np.int32(n), np.bool_(False))


def test_join_seeds_by_hand():
    """Of two at 10 mm the denser one stays; the third is near the second only, which is none any more."""
    points, density = seeds_at([[0, 0], [10, 0], [30, 0], [100, 0]], [5, 4, 3, 9], [0, 1, 2, 3])
    joined = join_seeds(points, density, 25.0)
    np.testing.assert_array_equal(joined.is_seed, [True, False, False, False, True, False, True, False])
    np.testing.assert_array_equal(joined.ids, [0, 0, 0, 0, 1, 1, 2, 2])
    assert int(joined.n_clusters) == 3
    np.testing.assert_array_equal(join_seeds(points, density, 5.0).ids, density.ids)


def test_join_seeds_twin(rng):
    """Against a loop from the densest seed down; loose layer clusters stay loose."""
    points, density = seeds_at(rng.uniform(0, 200, (40, 2)), rng.permutation(40) + 1.0, rng.permutation(40))
    density.ids[5] = NOISE
    joined = join_seeds(points, density, 25.0)
    kept = []
    for row in sorted(range(0, 80, 2), key=lambda row: -density.rho[row]):
        near = [other for other in kept if np.hypot(*(points.xy[row] - points.xy[other])) <= 25.0]
        if not near:
            kept.append(row)
        owner = near[0] if near else row
        assert joined.ids[row] == joined.ids[owner] == sum(density.is_seed[:owner] & joined.is_seed[:owner])
        assert joined.ids[row + 1] == (NOISE if row + 1 == 5 else joined.ids[row])
    np.testing.assert_array_equal(np.flatnonzero(joined.is_seed), sorted(kept))


def test_two_cores_on_one_axis_are_one_candidate():
    """A shower that begins again twelve layers behind: CLUE has two seeds, the graph one candidate."""
    front, back = np.arange(2, 12), np.arange(24, 34)
    clusters = join(along_a_line(0.2, 0.0, front, 1.0), along_a_line(0.2, 0.0, back, 1.0, 8.0))
    graph, density = shower_graph(clusters, GraphConfig())
    assert int(density.n_clusters) == len(graph.seed) == 1
    np.testing.assert_array_equal(density.ids, 0)
    apart, _ = shower_graph(clusters, GraphConfig(separation=1.0))
    assert len(apart.seed) == 2


def test_candidates_of_two_showers():
    graph, density = shower_graph(two_showers().clusters, GraphConfig())
    assert len(graph.seed) == int(density.n_clusters) >= 2
    label = density.ids[:80]
    # Every layer cluster of a shower has its own candidate first, and no candidate of the other: it is too far.
    np.testing.assert_array_equal(graph.candidate[:80, 0], np.repeat([label[0], label[40]], 40))
    assert not np.isin(label[40], graph.candidate[:40])


def test_rings_are_above_pileup():
    clusters = two_showers(pileup=0).clusters
    graph, density = shower_graph(clusters, GraphConfig())
    points = Points(
        (clusters.position[:, :2] / clusters.position[:, 2:] * 3300).astype(float),
        clusters.energy.astype(float),
        clusters.layer,
    )
    found = find_candidates(points, density, 220.0, 50)
    np.testing.assert_allclose(found.ring[1].sum(1), [24, 24], rtol=0.02)
    np.testing.assert_allclose(graph.scale[0], found.ring[1][0].clip(0).sum(), rtol=1e-5)
    assert (found.distance[found.member < 40] >= 0).all()


def test_features_are_finite_and_a_rotation_changes_none(rng):
    clusters = two_showers(seed=3).clusters
    # Among equally dense layer clusters rounding decides which is the nearest higher: let there be none.
    factor = rng.uniform(0.9, 1.1, len(clusters.energy)).astype(np.float32)
    clusters = clusters._replace(energy=clusters.energy * factor)
    one, _ = shower_graph(clusters, GraphConfig())
    other, _ = shower_graph(rotated(clusters, 0.7), GraphConfig())
    assert one.nodes.shape[1] == NODE_FEATURES
    assert one.edges.shape[2] == EDGE_FEATURES
    assert np.isfinite(one.nodes).all()
    assert np.isfinite(one.edges).all()
    np.testing.assert_array_equal(one.candidate, other.candidate)
    np.testing.assert_allclose(one.edges, other.edges, atol=2e-3)
    np.testing.assert_allclose(one.nodes, other.nodes, atol=2e-3)


def test_order_changes_nothing(rng):
    clusters = two_showers(seed=4).clusters
    order = rng.permutation(len(clusters.energy))
    mixed = Clusters(clusters.member_cluster, *(column[order] for column in clusters[1:]))
    one, other = (shower_graph(which, GraphConfig())[0] for which in (clusters, mixed))
    back = np.empty(len(order), int)
    back[other.row] = np.arange(len(order))
    place = back[np.argsort(order)]
    np.testing.assert_allclose(one.edges[:, 0], other.edges[place, 0], atol=1e-4)


def test_padding():
    graph, _ = shower_graph(two_showers().clusters, GraphConfig())
    padded = pad_graph(graph)
    n = len(graph.row)
    assert len(padded.row) == 1024
    assert (padded.candidate[n:] == -1).all()
    assert (padded.row[n:] == -1).all()
    assert not padded.energy[n:].any()
    np.testing.assert_array_equal(padded.edges[:n], graph.edges)


def test_without_candidates_and_without_anything():
    clusters = two_showers().clusters
    soft = clusters._replace(energy=clusters.energy * 0.06)
    graph, _ = shower_graph(soft, GraphConfig())
    assert len(graph.seed) == 0
    assert (graph.candidate == -1).all()
    none = clusters._replace(valid=np.zeros(len(clusters.valid), bool))
    assert len(shower_graph(none, GraphConfig())[0].row) == 0


def test_refusals():
    with pytest.raises(ConfigError, match=r"reach = -1.0 must be above 0"):
        GraphConfig(reach=-1.0)
    with pytest.raises(CapacityError, match="layers"):
        shower_graph(two_showers().clusters, GraphConfig(layers=10))
