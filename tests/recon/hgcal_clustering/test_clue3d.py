"""CLUE3D: by hand, against the slow twin, and what must change nothing."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import clue3d as module
from recon.hgcal_clustering.clue3d import Clue3dConfig, clue3d
from recon.types import NOISE, Clusters
from tests.recon.hgcal_clustering.showers_by_hand import (
    PLANES,
    along_a_line,
    join,
    layer_clusters,
    random_event,
)
from tests.reference.clue3d import clue3d as slow

pytestmark = pytest.mark.usefixtures("quick_programs")

CONFIG = Clue3dConfig()


def assert_equals_twin(clusters, config=CONFIG):
    found = clue3d(clusters, config)
    ids, rho, nearest, is_seed = slow(clusters.position, clusters.energy, clusters.layer, config)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.nearest_higher, nearest)
    np.testing.assert_array_equal(found.is_seed, is_seed)
    np.testing.assert_allclose(found.rho, rho, rtol=1e-5)
    assert found.n_clusters == ids.max(initial=-1) + 1 == is_seed.sum()
    return found


def test_two_showers_by_hand():
    clusters = join(
        along_a_line(0.2, 0.0, [4, 5, 6], 1.0),
        along_a_line(0.2, 0.3, [5, 6], 2.0),
        along_a_line(0.4, 2.0, [20], 9.0),
    )
    found = clue3d(clusters)
    # Densities: both neighbours for all three (1 + 0.2 * 2), so the one of the highest row is the seed.
    np.testing.assert_allclose(found.rho, [1.4, 1.4, 1.4, 2.4, 2.4, 9.0], rtol=1e-6)
    assert found.ids.tolist() == [0, 0, 0, 1, 1, NOISE]
    assert np.flatnonzero(found.is_seed).tolist() == [2, 4]
    assert found.nearest_higher.tolist() == [1, 2, NOISE, 4, NOISE, NOISE]
    assert found.n_clusters == 2
    assert np.isinf(found.delta[[2, 4, 5]]).all()
    np.testing.assert_allclose(found.delta[:2], 0, atol=0.5)


def test_single_layer_clusters_count_where_they_may():
    alone = along_a_line(0.4, 2.0, [20], 9.0)
    assert clue3d(join(alone)).n_clusters == 0
    found = clue3d(join(alone), dataclasses.replace(CONFIG, min_layer_clusters=1))
    assert (found.n_clusters, found.ids.tolist()) == (1, [0])


@pytest.mark.parametrize(
    ("offset", "rho", "expected"),
    [(30.0, 0.5 + 0.2 * 5, 0), (60.0, 0.5, 0), (100.0, 0.5, NOISE)],
    ids=["in the density", "follower", "outlier"],
)
def test_follower_and_outlier_by_hand(offset, rho, expected):
    clusters = join(
        along_a_line(0.2, 0.0, [4, 5], 2.5), along_a_line(0.2, 0.0, [6], 0.5, offset * PLANES[6] / PLANES[6])
    )
    found = clue3d(clusters)
    np.testing.assert_allclose(found.rho[2], rho, rtol=1e-6)
    assert found.ids.tolist() == [0, 0, expected]


def test_seed_needs_energy_of_its_own():
    # 0.1 GeV between two layers of 5 GeV each: its density of 2.1 GeV is not its own.
    clusters = join(along_a_line(0.2, 0.0, [4, 6], 0.4), along_a_line(0.2, 0.0, [5], 0.1))
    strict = dataclasses.replace(CONFIG, critical_self_density=0.9, min_layer_clusters=1)
    assert clue3d(clusters, strict).n_clusters == 0
    loose = dataclasses.replace(CONFIG, critical_density=0.2, min_layer_clusters=1)
    assert clue3d(clusters, loose).n_clusters == 1


def test_same_layer_counts_only_if_asked():
    clusters = join(along_a_line(0.2, 0.0, [4, 4], 1.0))
    clusters.position[1, 1] += 20
    np.testing.assert_allclose(clue3d(clusters).rho, [1, 1])
    asked = dataclasses.replace(CONFIG, same_layer_density=True)
    np.testing.assert_allclose(clue3d(clusters, asked).rho, [1.2, 1.2], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_against_double_loop(seed):
    found = assert_equals_twin(random_event(seed, crowd=0.05 + 0.1 * (seed % 3)))
    assert found.n_clusters > 3
    assert 0 < (found.ids == NOISE).sum() < len(found.ids)


@pytest.mark.parametrize(
    "changes",
    [
        {"same_layer_density": True},
        {"sibling_layers": 1, "critical_layers": 0},
        {"density_radius": 90.0, "kernel_factor": 0.5},
        {"density_radius": 10.0, "outlier_multiplier": 1.0},
        {"critical_distance": 15.0, "outlier_multiplier": 4.0, "critical_self_density": 0.5},
        {"min_layer_clusters": 6, "critical_density": 3.0},
    ],
    ids=str,
)
def test_other_settings_against_double_loop(changes):
    assert_equals_twin(random_event(11), dataclasses.replace(CONFIG, **changes))


def test_near_the_beam_where_arcs_are_wide():
    """CMS's distance is that of an arc: its chord, which tiles are cut along, can be longer than its measure."""
    rng = np.random.default_rng(5)
    n = 120
    layers = rng.integers(0, 12, n)
    xy = rng.normal(0, 40, (n, 2))
    clusters = layer_clusters(np.c_[xy, PLANES[layers]], rng.exponential(1.0, n), layers)
    assert_equals_twin(clusters)


def test_phi_wraps_around():
    event = random_event(3)
    turn = np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], np.float32)
    there = clue3d(event._replace(position=event.position @ turn.T))
    np.testing.assert_array_equal(there.ids, clue3d(event).ids)


def test_other_endcap_is_the_mirror_image():
    event = random_event(3)
    mirrored = event._replace(position=event.position * np.array([1, 1, -1], np.float32))
    np.testing.assert_array_equal(clue3d(mirrored).ids, clue3d(event).ids)


def test_permuted_layer_clusters_give_permuted_labels():
    event = random_event(4)
    order = np.random.default_rng(8).permutation(len(event.energy))
    shuffled = Clusters(event.member_cluster, *(column[order] for column in event[1:]))
    one, other = clue3d(event), clue3d(shuffled)
    groups = {frozenset(np.flatnonzero(one.ids == name)) for name in range(one.n_clusters)}
    back = {frozenset(order[np.flatnonzero(other.ids == name)]) for name in range(other.n_clusters)}
    assert groups == back


def test_small_and_invalid_layer_clusters_are_left_out():
    event = random_event(6)
    off = np.random.default_rng(9).random(len(event.energy)) < 0.3
    kept = Clusters(event.member_cluster, *(column[~off] for column in event[1:]))
    expected = clue3d(kept)
    for hidden in (
        event._replace(valid=~off, position=np.where(off[:, None], np.nan, event.position)),
        event._replace(size=np.where(off, 1, 3).astype(np.int32)),
    ):
        found = clue3d(hidden)
        np.testing.assert_array_equal(found.ids[~off], expected.ids)
        assert (found.ids[off] == NOISE).all()
        assert not found.is_seed[off].any()
        through = np.append(np.flatnonzero(~off), NOISE)
        np.testing.assert_array_equal(found.nearest_higher[~off], through[expected.nearest_higher])


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_associate(n):
    found = clue3d(join(along_a_line(0.2, 0.0, list(range(n)), 1.0)))
    assert found.n_clusters == 0
    assert found.ids.tolist() == [NOISE] * n
    assert found.ids.dtype == np.int32


def test_all_equal():
    clusters = layer_clusters(np.tile([600.0, 0, 3300.0], (40, 1)), np.ones(40), np.full(40, 3))
    assert_equals_twin(clusters)
    assert clue3d(clusters).ids.tolist() == [0] * 40
    assert np.flatnonzero(clue3d(clusters).is_seed).tolist() == [39]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("energy", np.nan, r"layer clusters: energy is nan in row 2; allowed is 0 or more"),
        ("energy", -1.0, r"energy is -1.0 in row 2"),
        ("position", [1.0, np.inf, 3300.0], r"position is \[1.0, inf, 3300.0\] in row 2; allowed is finite"),
        ("position", [1.0, 2.0, 0.0], r"z is 0.0 in row 2; allowed is not 0"),
        ("position", [1.0, 2.0, -3300.0], r"z is -3300.0 in row 2; allowed is on one side"),
    ],
)
def test_what_cannot_be_used_is_named(column, value, message):
    event = random_event(1)
    getattr(event, column)[2] = value
    with pytest.raises(DataError, match=message):
        clue3d(event)


@pytest.mark.parametrize(
    "setting",
    [
        {"critical_density": 0.0},
        {"kernel_factor": -0.1},
        {"outlier_multiplier": 0.5},
        {"min_layer_clusters": 0},
    ],
)
def test_settings_outside_their_range(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Clue3dConfig(**setting)


def test_events_of_one_size_share_their_programs():
    clue3d(random_event(0))
    before = [step._cache_size() for step in module.STEPS]
    clue3d(random_event(7, showers=11))
    assert [step._cache_size() for step in module.STEPS] == before


def test_batch_of_events():
    events = [random_event(seed) for seed in (0, 1)]
    length = 512
    parts = []
    for event in events:
        n = len(event.energy)
        pad = lambda column: module.pad_rows(column, length)  # noqa: E731
        points = module.line_points(
            *(jax.numpy.asarray(pad(c)) for c in (event.position, event.energy, event.layer))
        )
        near = module.find_tiles(event.position, event.layer, module.near_reach(CONFIG), 5)
        far = module.find_tiles(event.position, event.layer, module.far_reach(CONFIG), 5)
        parts.append(
            (points, np.arange(length) < n, *(module.pad_tiles(t, length, length) for t in (near, far)))
        )

    def program(points, valid, near, far):
        return module.search_far(points, valid, module.search_near(points, valid, near, CONFIG), far, CONFIG)

    batch = jax.tree.map(lambda *columns: np.stack(columns), *parts)
    found = jax.jit(jax.vmap(program))(*batch)
    for index, event in enumerate(events):
        np.testing.assert_array_equal(found.ids[index][: len(event.energy)], clue3d(event).ids)
