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
    pad_graph,
    shower_graph,
)
from recon.types import Clusters
from tests.recon.hgcal_clustering.condensing import two_showers

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


def test_features_are_finite_and_a_rotation_changes_none():
    clusters = two_showers(seed=3).clusters
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
