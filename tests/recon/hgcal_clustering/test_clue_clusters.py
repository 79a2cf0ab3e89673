"""CLUE on layer clusters: a hand case, its slow twin, and what must change nothing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, chosen_rows, clue_clusters, project
from recon.types import Clusters
from tests.recon.hgcal_clustering.condensing import two_showers
from tests.recon.hgcal_clustering.showers_by_hand import along_a_line, join, random_event
from tests.reference import clue as reference

pytestmark = pytest.mark.usefixtures("quick_programs")


def take(clusters, rows):
    return Clusters(clusters.member_cluster, *(column[rows] for column in clusters[1:]))


def test_projection_by_hand():
    position = np.array([[10.0, 20.0, -3300.0], [10.0, 20.0, 6600.0]], np.float32)
    layer = np.array([0, 7], np.int32)
    expected = [[10, 20, 0], [5, 10, 21]]
    np.testing.assert_allclose(project(position, layer, 3300.0, 3.0), expected)
    np.testing.assert_allclose(project(jnp.asarray(position), jnp.asarray(layer), 3300.0, 3.0), expected)


def test_a_deep_shower_is_one_and_two_are_two():
    event = two_showers(pileup=0)
    found = clue_clusters(event.clusters)
    assert int(found.n_clusters) == 2
    np.testing.assert_array_equal(found.ids, np.repeat([0, 1], 40))


def test_soft_layer_clusters_are_left_out():
    clusters = join(
        along_a_line(0.2, 0.0, np.arange(5, 15), 1.0), along_a_line(0.2, 0.0, np.arange(15, 18), 0.01)
    )
    found = clue_clusters(clusters, ClusterClueConfig(energy_min=0.05))
    np.testing.assert_array_equal(found.ids, [0] * 10 + [-1] * 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_slow_twin(seed):
    clusters, config = random_event(seed), ClusterClueConfig(d_c=25.0, rho_c=1.0)
    rows = np.flatnonzero(clusters.energy >= config.energy_min)
    z = np.abs(clusters.position[rows, 2:])
    points = np.concatenate([clusters.position[rows, :2] / z * 3300, clusters.layer[rows, None] * 3.0], 1)
    twin = reference.clue(points.astype(np.float32), clusters.energy[rows], d_c=25.0, rho_c=1.0)
    found = clue_clusters(clusters, config)
    np.testing.assert_array_equal(found.ids[rows], twin.ids)
    assert int(found.n_clusters) == twin.n_clusters > 3


def test_order_changes_nothing(rng):
    clusters = random_event(5)
    order = rng.permutation(len(clusters.energy))
    one, other = clue_clusters(clusters), clue_clusters(take(clusters, order))
    seed_of = {}
    for mine, theirs in zip(one.ids[order], other.ids, strict=True):
        assert seed_of.setdefault(int(mine), int(theirs)) == int(theirs)


def test_nothing_in_nothing_out():
    clusters = take(random_event(1), np.zeros(0, int))
    found = clue_clusters(clusters)
    assert int(found.n_clusters) == 0
    assert found.ids.shape == (0,)


def test_refusals():
    clusters = random_event(1)
    with pytest.raises(ConfigError, match=r"ClusterClueConfig.d_c = -1.0; allowed is more than 0"):
        ClusterClueConfig(d_c=-1.0)
    with pytest.raises(ConfigError, match=r"outlier_delta_factor = 0.5; allowed is 1 or more"):
        ClusterClueConfig(outlier_delta_factor=0.5)
    with pytest.raises(ConfigError, match="energy_min = nan"):
        ClusterClueConfig(energy_min=float("nan"))
    bad = clusters._replace(energy=np.where(np.arange(len(clusters.energy)) == 3, np.nan, clusters.energy))
    with pytest.raises(DataError, match=r"energy is nan in row 3"):
        chosen_rows(bad, 0.0)
