"""The chain as one program: what the host's chain finds, whatever the order and the padding."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.hgcal_clustering import chain
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.pipeline import find_showers
from recon.padding import pad_event
from recon.types import NOISE, RecHits
from tests.recon.hgcal_clustering.wedge_events import wedge_event
from tests.reference.toy_showers import take_hits

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = HgcalConfig()
LENGTH = 1024

_showers = jax.jit(chain.shower_chain, static_argnames=("config", "capacity"))
_layers = jax.jit(chain.layer_chain, static_argnames=("config", "capacity"))


@pytest.fixture(scope="module")
def cells(calorimeter):
    return CellGraph.from_calorimeter(calorimeter, cache=False)


@pytest.fixture(scope="module")
def events(wedge, calorimeter, lookup):
    return [wedge_event(wedge, calorimeter, lookup, number) for number in range(3)]


def padded(hits):
    """As a server pads: with zeros."""
    longer = pad_event(hits, {"n": LENGTH})
    return longer._replace(**{name: np.maximum(getattr(longer, name), 0) for name in ("layer", "cell")})


def run(cells, hits, capacity=None, config=CONFIG):
    """(clusters, tracksters, overflow) without padding."""
    n, room = len(hits.energy), capacity or chain.capacity_for(LENGTH)
    clusters, tracksters, overflow = jax.device_get(_showers(cells, padded(hits), config, room))
    assert (clusters.member_cluster[n:] == NOISE).all()
    n_clusters, n_tracksters = int(clusters.valid.sum()), int(tracksters.valid.sum())
    clusters = type(clusters)(clusters.member_cluster[:n], *(c[:n_clusters] for c in clusters[1:]))
    tracksters = type(tracksters)(
        tracksters.member_trackster[:n_clusters], *(c[:n_tracksters] for c in tracksters[1:])
    )
    return clusters, tracksters, bool(overflow)


def assert_same(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        if ours.dtype == np.float32:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
        else:
            np.testing.assert_array_equal(ours, theirs)


def test_ids_are_those_of_the_host(cells, events):
    for event in events:
        wanted = find_showers(event, CONFIG, cells=cells)
        clusters, tracksters, overflow = run(cells, event.hits)
        assert not overflow
        assert len(tracksters.valid) >= 2
        assert_same(clusters, wanted.clusters)
        assert_same(tracksters, wanted.tracksters)


def test_permuted_hits_give_permuted_ids(cells, events):
    hits = events[0].hits
    order = np.random.default_rng(3).permutation(len(hits.energy))
    one, other = run(cells, hits)[0], run(cells, take_hits(hits, order))[0]
    back = np.empty_like(other.member_cluster)
    back[order] = other.member_cluster
    pairs = set(zip(one.member_cluster.tolist(), back.tolist(), strict=True))
    assert len(pairs) == len(set(one.member_cluster.tolist())) == len(set(back.tolist()))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_hits(cells, events, n):
    hits = take_hits(events[0].hits, np.arange(n))
    wanted = find_showers(hits, CONFIG, cells=cells)
    clusters, tracksters, overflow = run(cells, hits)
    assert not overflow
    assert_same(clusters, wanted.clusters)
    assert_same(tracksters, wanted.tracksters)


def test_a_capacity_one_too_small_sets_the_flag(cells, events):
    hits, room = events[1].hits, chain.capacity_for(LENGTH)
    clusters, tracksters, _ = run(cells, hits)
    exact = room._replace(layer_clusters=len(clusters.valid), tracksters=len(tracksters.valid))
    assert not run(cells, hits, exact)[2]
    assert run(cells, hits, exact._replace(tracksters=exact.tracksters - 1))[2]
    for less in (
        exact._replace(layer_clusters=exact.layer_clusters - 1),
        exact._replace(cells=room.cells._replace(far=1)),
        exact._replace(cells=room.cells._replace(more=1)),
    ):
        assert jax.device_get(_layers(cells, padded(hits), CONFIG, less)[1])
    assert not jax.device_get(_layers(cells, padded(hits), CONFIG, exact)[1])


def test_two_hits_in_a_cell_set_the_flag(cells, events):
    hits = events[0].hits
    assert (hits.position[:, 2] > 0)[0]
    twice = RecHits(*(np.concatenate([column, column[:1]]) for column in hits))
    assert run(cells, twice)[2]
    other_side = twice._replace(position=twice.position.copy())
    other_side.position[-1, 2] *= -1
    free = not ((hits.cell == hits.cell[0]) & (hits.position[:, 2] < 0)).any()
    assert run(cells, other_side)[2] == (not free)


def test_negative_energies_count_as_none(cells, events):
    hits = events[0].hits
    energy = hits.energy.copy()
    energy[::3] *= -1
    found = run(cells, hits._replace(energy=energy))
    wanted = run(cells, hits._replace(energy=np.maximum(energy, 0)))
    for ours, theirs in zip(found[:2], wanted[:2], strict=True):
        assert_same(ours, theirs)


def test_events_of_one_size_share_a_program(cells, events):
    run(cells, events[0].hits)
    before = _showers._cache_size()
    run(cells, events[2].hits)
    assert _showers._cache_size() == before


@pytest.mark.parametrize("method", ["imaging", "clusters"])
def test_other_methods_find_what_the_host_finds(method, cells, events):
    config = HgcalConfig(method=method)
    for event in events:
        clusters, tracksters, overflow = run(cells, event.hits, config=config)
        wanted = find_showers(event, config, cells=cells)
        assert not overflow
        assert len(wanted.tracksters.valid) > 0
        assert_same(clusters, wanted.clusters)
        assert_same(tracksters, wanted.tracksters)


def test_hits_straight_to_showers(events):
    config = HgcalConfig(method="hits")
    program = jax.jit(chain.hit_chain, static_argnames=("config", "capacity"))
    for event in events:
        wanted = find_showers(event, config)
        found, overflow = jax.device_get(
            program(padded(event.hits), config=config, capacity=chain.capacity_for(LENGTH))
        )
        assert not overflow
        n, count = len(event.hits.energy), int(found.valid.sum())
        np.testing.assert_array_equal(found.member_trackster[:n], wanted.hit_trackster)
        assert (found.member_trackster[n:] == NOISE).all()
        np.testing.assert_allclose(found.energy[:count], wanted.tracksters.energy, rtol=1e-5)
    few = chain.capacity_for(LENGTH)._replace(tracksters=count - 1)
    assert program(padded(events[-1].hits), config=config, capacity=few)[1]


def test_the_hybrid_is_no_single_program(cells, events):
    with pytest.raises(
        ConfigError, match="method 'hybrid' is no single program: allowed are clue3d, clusters"
    ):
        run(cells, events[0].hits, config=HgcalConfig(method="hybrid"))
