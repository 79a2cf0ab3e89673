"""The imaging algorithm and its association over layers: by hand, against slow twins, and what must change nothing."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import imaging as module
from recon.hgcal_clustering.imaging import ImagingConfig, PlanePoints, imaging
from recon.hgcal_clustering.multiclusters import multiclusters
from recon.types import NOISE, RecHits
from tests.recon.hgcal_clustering.showers_by_hand import along_a_line, join, random_event
from tests.reference import imaging as slow
from tests.reference.clue import position_rank
from tests.reference.toy_showers import take_hits, toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = ImagingConfig()


def in_one_layer(x, energy, sigma=0.01):
    n = len(energy)
    return RecHits(
        np.c_[x, np.zeros(n), np.full(n, 3300.0)].astype(np.float32),
        np.asarray(energy, np.float32),
        np.full(n, 3, np.int32),
        np.full(n, -1, np.int32),
        np.full(n, sigma, np.float32),
        np.ones(n, bool),
    )


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=31, showers=10, n_layers=6, both_ends=True, spread=0.03)


def groups(ids):
    return {frozenset(np.flatnonzero(ids == name)) for name in np.unique(ids[ids >= 0])}


def test_two_peaks_by_hand():
    # 9 mm from each other, every hit sees two on either side.
    hits = in_one_layer([0, 9, 18, 27, 36, 45], [1.0, 3.0, 1.0, 0.5, 4.0, 1.0])
    found = imaging(hits)
    np.testing.assert_allclose(found.clusters.rho, [5, 5.5, 9.5, 9.5, 6.5, 5.5])
    # Of equal densities the one further right is the higher: row 3 is the only peak.
    assert found.clusters.nearest_higher.tolist() == [1, 2, 3, NOISE, 3, 4]
    assert found.clusters.ids.tolist() == [0] * 6
    apart = imaging(in_one_layer([0, 12, 24, 54, 66, 78], [1.0, 3.0, 1.0, 0.5, 4.0, 1.0]))
    assert apart.clusters.ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.flatnonzero(apart.clusters.is_seed).tolist() == [1, 4]
    np.testing.assert_allclose(apart.clusters.delta, [12, 54, 12, 12, np.inf, 12])
    assert not apart.halo.any()


def test_halo_by_hand():
    # Peaks of 10 and 8 GeV at 0 and 48 mm, a bridge of weak hits: those next to each other are the borders.
    hits = in_one_layer([0, 12, 24.5, 36, 48], [10.0, 1.0, 0.2, 1.0, 8.0])
    found = imaging(hits)
    np.testing.assert_allclose(found.clusters.rho, [11, 11.2, 2.2, 9.2, 9], rtol=1e-6)
    assert found.clusters.ids.tolist() == [0, 0, 1, 1, 1]
    # Row 1 (11.2) and row 2 (2.2) see each other: of the first cluster nothing is denser than its border.
    assert found.halo.tolist() == [True, True, True, False, False]
    core = found.core()
    assert core.ids.tolist() == [NOISE, NOISE, NOISE, 0, 0]
    assert core.n_clusters == 1
    assert np.flatnonzero(core.is_seed).tolist() == [3]


def test_single_hits_are_all_halo():
    found = imaging(in_one_layer([0, 300], [1.0, 2.0]))
    assert found.clusters.ids.tolist() == [0, 1]
    assert found.halo.all()
    assert found.core().n_clusters == 0


def test_weak_hits_follow_however_far():
    found = imaging(in_one_layer([0, 12, 900], [1.0, 1.0, 0.05]))
    assert found.clusters.ids.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.clusters.delta[2], 888)
    nothing = imaging(in_one_layer([0, 900], [0.05, 0.04]))
    assert nothing.clusters.ids.tolist() == [NOISE, NOISE]
    assert nothing.clusters.n_clusters == 0


@pytest.mark.parametrize("d_c", [12.0, 35.0])
def test_against_double_loop(event, d_c):
    hits = event.hits
    found = imaging(hits, replace(CONFIG, d_c=d_c))
    side = hits.position[:, 2] > 0
    xy = hits.position[:, :2]
    rank = position_rank(xy, hits.energy)
    expected = slow.imaging(xy, hits.energy, 2 * hits.layer + side, 9 * hits.sigma_noise, d_c, rank)
    clusters = found.clusters
    np.testing.assert_allclose(clusters.rho, expected["rho"], rtol=1e-5)
    seeds = np.append(np.flatnonzero(clusters.is_seed), NOISE)
    np.testing.assert_array_equal(seeds[clusters.ids], expected["root"])
    np.testing.assert_array_equal(clusters.nearest_higher, expected["nearest"])
    np.testing.assert_allclose(clusters.delta, expected["delta"], rtol=1e-4)
    np.testing.assert_array_equal(found.halo, expected["halo"])
    assert 0 < found.halo.sum() < (clusters.ids >= 0).sum()


def test_tiles_have_their_own_radius():
    hits = in_one_layer([0, 45, 90], [1.0, 0.5, 0.2])
    assert imaging(hits).clusters.n_clusters == 3
    tiles = imaging(hits, scintillator=np.ones(3, bool)).clusters
    assert tiles.ids.tolist() == [0, 0, 0]
    mixed = imaging(hits, scintillator=np.array([True, False, True])).clusters
    assert mixed.n_clusters == 3


def test_permutation_and_padding_change_nothing(event):
    expected = imaging(event.hits)
    order = np.random.default_rng(1).permutation(len(event.hits.energy))
    found = imaging(take_hits(event.hits, order))
    back = np.empty_like(found.clusters.ids)
    back[order] = found.clusters.ids
    assert groups(back) == groups(expected.clusters.ids)
    np.testing.assert_array_equal(found.halo, expected.halo[order])
    off = np.arange(len(order)) % 5 == 0
    hidden = event.hits._replace(valid=~off, energy=np.where(off, np.float32(np.nan), event.hits.energy))
    found, kept = imaging(hidden), imaging(take_hits(event.hits, np.flatnonzero(~off)))
    np.testing.assert_array_equal(found.clusters.ids[~off], kept.clusters.ids)
    np.testing.assert_array_equal(found.halo[~off], kept.halo)
    assert not found.halo[off].any()


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_and_equal_hits(n):
    found = imaging(in_one_layer(np.zeros(n), np.ones(n)))
    assert found.clusters.ids.tolist() == [0] * n
    assert found.clusters.n_clusters == min(n, 1)
    assert found.halo.tolist() == [n == 1] * n


def test_batch_of_events():
    """One traceable function: the search in the whole layer in the place of rounds of wider ones."""

    def program(points, rho_c, valid, near, far):
        rho = module.imaging_density(points, near, 20.0)
        nearest, delta = module.imaging_nearest_higher(points, rho, far, 1e6)
        return module.imaging_clusters(points, rho, nearest, delta, rho_c, valid, near, 20.0)

    events = [toy_event(seed, showers=4, n_layers=4, noise=10).hits for seed in (1, 2)]
    length, parts = 512, []
    for hits in events:
        n = len(hits.energy)
        xy = hits.position[:, :2]
        rank = position_rank(xy, hits.energy).astype(np.int32)
        columns = (module.pad_rows(c, length) for c in (xy[:, 0], xy[:, 1], hits.layer, hits.energy))
        points = PlanePoints(*columns, np.arange(length, dtype=np.int32), module.pad_rows(rank, length))
        tiles = (module._tiles(xy, hits.layer, rank, reach, length) for reach in (20.0, 1e6))
        parts.append((points, module.pad_rows(9 * hits.sigma_noise, length), np.arange(length) < n, *tiles))
    found = jax.jit(jax.vmap(program))(*jax.tree.map(lambda *columns: np.stack(columns), *parts))
    for index, hits in enumerate(events):
        expected = imaging(hits)
        np.testing.assert_array_equal(found.clusters.ids[index][: len(hits.energy)], expected.clusters.ids)
        np.testing.assert_array_equal(found.halo[index][: len(hits.energy)], expected.halo)


def test_multiclusters_by_hand():
    strong, weak = along_a_line(0.2, 0.0, [3, 4, 5], 2.0), along_a_line(0.2, 0.0, [3, 4, 6], 1.0, 25.0)
    near = along_a_line(0.2, 0.0, [8], 0.5, 15.0)
    found = multiclusters(join(strong, weak, near))
    assert found.ids.tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert found.nearest_higher.tolist() == [NOISE, 0, 0, NOISE, 3, 3, 0]
    np.testing.assert_allclose(found.delta[[1, 6]], [0, 15], atol=0.5)
    assert multiclusters(join(strong, near), replace(CONFIG, min_layer_clusters=5)).n_clusters == 0


@pytest.mark.parametrize("radius", [15.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_multiclusters_against_greedy_loop(seed, radius):
    clusters = random_event(seed)
    found = multiclusters(clusters, replace(CONFIG, radius=radius))
    expected = slow.multiclusters(clusters.position, clusters.energy, radius, CONFIG.min_layer_clusters)
    seeds = np.append(np.flatnonzero(found.is_seed), NOISE)
    np.testing.assert_array_equal(seeds[found.ids], expected)
    assert 3 < found.n_clusters < 60


@pytest.mark.parametrize("n", [0, 1, 20])
def test_multiclusters_of_few_and_equal(n):
    layers = np.full(n, 3)
    found = multiclusters(join(along_a_line(0.2, 0.0, layers, 1.0)))
    assert found.ids.tolist() == ([0] * n if n >= 3 else [NOISE] * n)


def test_what_cannot_be_used_is_named(event):
    energy = event.hits.energy.copy()
    energy[2] = -1
    with pytest.raises(DataError, match=r"hits: energy is -1.0 in row 2"):
        imaging(event.hits._replace(energy=energy))
    for setting in ({"d_c": 0.0}, {"kappa": -1.0}, {"min_layer_clusters": 0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            ImagingConfig(**setting)


def test_events_of_one_size_share_their_programs(event):
    imaging(event.hits)
    before = [step._cache_size() for step in module.STEPS]
    imaging(take_hits(event.hits, np.arange(1, len(event.hits.energy))))
    assert [step._cache_size() for step in module.STEPS] == before
