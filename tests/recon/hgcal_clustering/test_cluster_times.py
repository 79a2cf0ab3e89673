"""Times of layer clusters, and how well they go with a candidate: by hand, and against a slow twin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import DataError
from recon.hgcal_clustering.cluster_times import (
    TIME_UNIT,
    ClusterTimes,
    cluster_times,
    time_features,
)
from recon.hgcal_clustering.model import arrivals
from recon.types import HitTimes
from tests.recon.hgcal_clustering.condensing import bare_graph
from tests.reference.shower_messages import arrivals as slow_arrivals


def hit_times(time, error):
    return HitTimes(np.asarray(time, np.float32), np.asarray(error, np.float32))


def test_mean_of_hits_by_how_well_they_are_known():
    times = hit_times([0.2, 0.5, np.nan, 0.3, 9.0], [0.1, 0.05, np.nan, 0.2, 0.1])
    found = cluster_times(times, np.array([0, 0, 0, 2, -1], np.int32), 4)
    assert found.time[0] == pytest.approx((100 * 0.2 + 400 * 0.5) / 500)
    assert found.error[0] == pytest.approx(1 / np.sqrt(500))
    assert found.time[2] == pytest.approx(0.3)
    np.testing.assert_array_equal(found.time[[1, 3]], 0.0)
    np.testing.assert_array_equal(found.error[[1, 3]], np.inf)
    features = time_features(found)
    np.testing.assert_allclose(features[2], [1.0, np.log(0.2), 0.3 / TIME_UNIT], rtol=1e-6)
    np.testing.assert_array_equal(features[1], 0.0)
    assert found.at(np.array([2, 0])).time[0] == pytest.approx(0.3)


def test_without_times_it_is_said_what_to_do():
    with pytest.raises(DataError, match=r"no times .*hit_time.*--algorithm hybrid"):
        cluster_times(None, np.zeros(3, np.int32), 1)
    with pytest.raises(DataError, match=r"2 times and 2 errors of hits; the event has 3 hits"):
        cluster_times(hit_times([0.0, 0.0], [0.1, 0.1]), np.zeros(3, np.int32), 1)


def graph_with(times, candidate, seeds):
    graph = bare_graph(candidate, np.ones(len(candidate)), seeds)
    return graph._replace(nodes=np.concatenate([graph.nodes, time_features(times)], 1))


def random_case(seed, n=60, slots=3, seeds=5):
    rng = np.random.default_rng(seed)
    candidate = np.sort(np.argsort(rng.random((n, seeds)), 1)[:, :slots], 1)
    candidate[rng.random((n, slots)) < 0.2] = -1
    there = rng.random(n) < 0.7
    error = np.where(there, rng.uniform(0.03, 0.12, n), np.inf)
    times = ClusterTimes(np.where(there, rng.normal(0.0, 0.2, n), 0.0), error)
    return graph_with(times, candidate, seeds), rng.uniform(0.0, 1.0, (n, slots)), times


@pytest.mark.parametrize("seed", range(3))
def test_arrivals_against_loops(seed):
    graph, weight, times = random_case(seed)
    found = np.asarray(arrivals(jnp.asarray(weight, jnp.float32), jax.tree.map(jnp.asarray, graph)))
    expected = slow_arrivals(weight, times, graph.candidate, len(graph.seed))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert (found[..., 3] == 1).sum() > 50
    assert not found[np.isinf(times.error)].any()


def test_what_is_late_stands_out_and_does_not_move_the_candidate():
    """Nine layer clusters at one time, one a nanosecond later: its own deviation is large, theirs is not."""
    time = np.r_[np.full(9, 0.1), 1.1]
    graph = graph_with(ClusterTimes(time, np.full(10, 0.05)), np.zeros((10, 1), int), 1)
    found = np.asarray(arrivals(jnp.ones((10, 1)), jax.tree.map(jnp.asarray, graph)))[:, 0]
    assert found[9, 0] == pytest.approx(8 / 3)
    np.testing.assert_allclose(found[:9, 0], 0.0, atol=0.01)


def test_alone_in_its_candidate_nothing_is_said():
    graph = graph_with(ClusterTimes(np.array([0.4]), np.array([0.05])), np.zeros((1, 1), int), 1)
    assert not np.asarray(arrivals(jnp.ones((1, 1)), jax.tree.map(jnp.asarray, graph))).any()
