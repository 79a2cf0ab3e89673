"""Layer clusters: positions by hand, against the slow twin, and what must change nothing."""

from __future__ import annotations

import math
from functools import partial

import jax
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.hgcal_clustering.layer_clusters import LayerClusterConfig, layer_clusters
from recon.padding import pad_event
from recon.types import NOISE, RecHits
from tests.recon.hgcal_clustering.clusters_by_truth import by_particle_and_layer, group, pad_density
from tests.reference.layer_clusters import layer_clusters as slow
from tests.reference.toy_showers import take_hits, toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = LayerClusterConfig()
CAPACITY = 128

compiled = jax.jit(layer_clusters, static_argnames=("config", "capacity"))


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=1)


def row_of_cells(energy, x, layer=3, z=3300.0):
    n = len(energy)
    return RecHits(
        np.c_[x, np.zeros(n), np.full(n, z)].astype(np.float32),
        np.asarray(energy, np.float32),
        np.full(n, layer, np.int32),
        np.full(n, -1, np.int32),
        np.full(n, 0.01, np.float32),
        np.ones(n, bool),
    )


def make(hits, density, config=CONFIG, capacity=CAPACITY, scintillator=None):
    made, overflow = compiled(hits, density, config, capacity=capacity, scintillator=scintillator)
    assert not overflow
    return jax.tree.map(np.asarray, made)


def trimmed(made):
    return type(made)(made.member_cluster, *(column[made.valid] for column in made[1:]))


def test_two_cells_by_hand():
    hits = row_of_cells([3.0, 1.0], [0.0, 10.0])
    made = make(hits, group([0, 0], hits.energy))
    weights = 2.9 + math.log(0.75), 2.9 + math.log(0.25)
    np.testing.assert_allclose(made.position[0], [10 * weights[1] / sum(weights), 0, 3300], rtol=1e-6)
    assert made.energy[0] == 4
    assert (made.size[0], made.layer[0], made.seed[0]) == (2, 3, 0)
    assert made.valid.sum() == 1


def test_scintillator_counts_by_energy():
    hits = row_of_cells([3.0, 1.0], [0.0, 40.0])
    made = make(hits, group([0, 0], hits.energy), scintillator=np.ones(2, bool))
    np.testing.assert_allclose(made.position[0, 0], 10.0)


def test_far_and_weak_cells_do_not_move_the_cluster():
    # exp(-2.9) is 5.5 %: the third cell is too weak, the second one beyond 13 mm.
    hits = row_of_cells([10.0, 4.0, 0.3], [0.0, 20.0, 10.0])
    made = make(hits, group([0, 0, 0], hits.energy))
    np.testing.assert_array_equal(made.position[0], [0, 0, 3300])
    np.testing.assert_allclose(made.energy[0], 14.3, rtol=1e-6)
    assert made.size[0] == 3


def test_many_equal_cells_count_by_energy():
    hits = row_of_cells(np.ones(40), np.arange(40.0))
    made = make(hits, group(np.zeros(40, int), hits.energy))
    np.testing.assert_allclose(made.position[0, 0], 19.5, rtol=1e-6)


def test_against_loops(event):
    density = by_particle_and_layer(event)
    tiles = np.random.default_rng(2).random(len(event.hits.energy)) < 0.3
    for scintillator in (None, tiles):
        made = trimmed(make(event.hits, density, scintillator=scintillator))
        expected = slow(event.hits, density, CONFIG, scintillator)
        assert len(expected.energy) > 40
        np.testing.assert_allclose(made.position, expected.position, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(made.energy, expected.energy, rtol=1e-5)
        for name in ("member_cluster", "size", "layer", "seed"):
            np.testing.assert_array_equal(getattr(made, name), getattr(expected, name), err_msg=name)


def test_energy_is_conserved(event):
    density = by_particle_and_layer(event)
    made = make(event.hits, density)
    np.testing.assert_allclose(made.energy.sum(), event.hits.energy[density.ids != NOISE].sum(), rtol=1e-5)
    assert made.size.sum() == (density.ids != NOISE).sum()


def test_padding_changes_nothing(event):
    density = by_particle_and_layer(event)
    n = len(event.hits.energy)
    padded = pad_event(event.hits, {"n": n + 37})
    padded.position[n:] = np.nan
    made = make(padded, pad_density(density, n + 37), capacity=CAPACITY + 5)
    expected = make(event.hits, density)
    np.testing.assert_array_equal(made.member_cluster[:n], expected.member_cluster)
    assert (made.member_cluster[n:] == NOISE).all()
    for one, other in zip(trimmed(made)[1:], trimmed(expected)[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert not made.position[~made.valid].any()
    assert (made.layer[~made.valid] == -1).all()


def test_permuted_hits_give_the_same_clusters(event):
    density = by_particle_and_layer(event)
    order = np.random.default_rng(3).permutation(len(event.hits.energy))
    shuffled = density._replace(ids=density.ids[order], is_seed=density.is_seed[order])
    made = make(take_hits(event.hits, order), shuffled)
    expected = make(event.hits, density)
    np.testing.assert_array_equal(made.member_cluster, expected.member_cluster[order])
    np.testing.assert_allclose(made.position, expected.position, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(order[made.seed[made.valid]], expected.seed[expected.valid])


def test_moving_all_hits_moves_the_clusters(event):
    density = by_particle_and_layer(event)
    shift = np.array([256.0, -512.0, 0.0], np.float32)
    moved = make(event.hits._replace(position=event.hits.position + shift), density)
    expected = make(event.hits, density)
    np.testing.assert_allclose(
        moved.position[moved.valid], expected.position[expected.valid] + shift, rtol=1e-5, atol=2e-3
    )


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_hits(n):
    hits = row_of_cells(np.ones(n), np.zeros(n))
    made = make(hits, group(np.zeros(n, int), hits.energy))
    assert made.valid.sum() == min(n, 1)
    assert all(np.isfinite(column).all() for column in made)


def test_energy_of_zero_has_a_position():
    hits = row_of_cells([0.0, 0.0], [5.0, 15.0])
    made = make(hits, group([0, 0], hits.energy))
    np.testing.assert_array_equal(made.position[0], [5, 0, 3300])
    assert made.energy[0] == 0


def test_capacity_too_small_raises_the_flag(event):
    density = by_particle_and_layer(event)
    count = int(density.n_clusters)
    for capacity, expected in ((count, False), (count - 1, True)):
        made, overflow = compiled(event.hits, density, CONFIG, capacity=capacity)
        assert bool(overflow) is expected
        assert np.asarray(made.member_cluster).max() == capacity - 1
    _, overflow = compiled(event.hits, density._replace(overflow=np.bool_(True)), CONFIG, capacity=count)
    assert overflow


def test_batch_of_events_and_one_compilation(event):
    density = by_particle_and_layer(event)
    traces = []

    @jax.jit
    @jax.vmap
    def batch(hits, density):
        traces.append(1)
        return partial(layer_clusters, config=CONFIG, capacity=CAPACITY)(hits, density)

    expected = make(event.hits, density)
    for _ in range(2):
        made, overflow = batch(*jax.tree.map(lambda x: np.stack([x, x]), (event.hits, density)))
        assert not overflow.any()
        for one, other in zip(made, expected, strict=True):
            np.testing.assert_allclose(one[1], other, rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize("setting", [{"log_offset": 0.0}, {"window": -1.0}, {"min_size": 0}])
def test_settings_outside_their_range(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        LayerClusterConfig(**setting)
