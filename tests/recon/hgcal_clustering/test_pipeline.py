"""The whole chain, hits to showers: what it finds, what it refuses, and what must change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from recon import hgcal_clustering
from recon.errors import CapacityError, DataError
from recon.hgcal_clustering import HgcalConfig, find_showers
from recon.hgcal_clustering import pipeline as module
from recon.hgcal_clustering.calibration import CalibrationConfig
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.hgcal_clustering.metrics import ShowerSelection, evaluate_event, rate
from recon.types import NOISE, RecHits
from tests.reference.toy_showers import take_hits, toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")

METHODS = [HgcalConfig(), HgcalConfig(method="hits"), HgcalConfig(method="imaging")]
each_method = pytest.mark.parametrize("config", METHODS, ids=lambda config: config.method)


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=21, showers=6, n_layers=20, both_ends=True)


def assert_consistent(showers, hits):
    """Rows belong together, energies add up and nothing is left of the padding."""
    tracksters, clusters = showers.tracksters, showers.clusters
    assert showers.hit_trackster.shape == hits.energy.shape
    assert tracksters.valid.all()
    assert {len(column) for column in tracksters[1:]} == {len(tracksters.valid)}
    member = tracksters.member_trackster
    np.testing.assert_array_equal(
        np.bincount(member[member >= 0], minlength=len(tracksters.valid)), tracksters.size
    )
    on = showers.hit_trackster >= 0
    sums = np.bincount(showers.hit_trackster[on], weights=hits.energy[on], minlength=len(tracksters.valid))
    np.testing.assert_allclose(tracksters.energy, sums, rtol=1e-4)
    np.testing.assert_array_equal(member[tracksters.seed], np.arange(len(tracksters.seed)))
    assert all(np.isfinite(column).all() for column in tracksters)
    if clusters is not None:
        assert clusters.valid.all()
        assert len(member) == len(clusters.valid)
        on = clusters.member_cluster >= 0
        sums = np.bincount(
            clusters.member_cluster[on], weights=hits.energy[on], minlength=len(clusters.valid)
        )
        np.testing.assert_allclose(clusters.energy, sums, rtol=1e-4)
        np.testing.assert_array_equal(clusters.layer[clusters.member_cluster[on]], hits.layer[on])


@each_method
def test_toy_showers_are_found(event, config):
    showers = find_showers(event, config)
    assert_consistent(showers, event.hits)
    selection = ShowerSelection(eta_min=0.0, eta_max=10.0)
    evaluation = evaluate_event(event, showers.hit_trackster, selection)
    assert rate(evaluation, "efficiency_simple", selection).value >= 0.8
    assert np.sign(event.hits.position[:, 2])[showers.hit_trackster >= 0].min() == -1


def test_name_in_the_package(event):
    showers = hgcal_clustering.find_showers(event.hits)
    np.testing.assert_array_equal(showers.hit_trackster, find_showers(event).hit_trackster)


def test_first_axis_points_away_from_the_interaction_point(event):
    tracksters = find_showers(event).tracksters
    large = tracksters.energy > 3
    direction = tracksters.position / np.linalg.norm(tracksters.position, axis=1, keepdims=True)
    assert large.sum() >= 4
    assert ((tracksters.axes[large, 0] * direction[large]).sum(1) > 0.9).all()


def test_calibration_is_applied(event):
    config = HgcalConfig(calibration=CalibrationConfig(scale=0.8))
    tracksters = find_showers(event, config).tracksters
    np.testing.assert_allclose(tracksters.regressed_energy, tracksters.energy / 0.8, rtol=1e-6)


@each_method
def test_permuted_hits_give_permuted_labels(event, config):
    order = np.random.default_rng(2).permutation(len(event.hits.energy))
    one, other = find_showers(event, config), find_showers(take_hits(event.hits, order), config)
    back = np.empty_like(other.hit_trackster)
    back[order] = other.hit_trackster
    assert {frozenset(np.flatnonzero(back == name)) for name in range(back.max() + 1)} == {
        frozenset(np.flatnonzero(one.hit_trackster == name)) for name in range(back.max() + 1)
    }


@each_method
def test_the_endcaps_do_not_see_each_other(event, config):
    side = event.hits.position[:, 2] > 0
    whole = find_showers(event, config)
    parts = [find_showers(take_hits(event.hits, np.flatnonzero(half)), config) for half in (side, ~side)]
    assert len(whole.tracksters.valid) == sum(len(part.tracksters.valid) for part in parts)
    np.testing.assert_allclose(
        np.sort(whole.tracksters.energy),
        np.sort(np.concatenate([part.tracksters.energy for part in parts])),
        rtol=1e-5,
    )


@each_method
def test_hits_that_are_not_valid_do_not_count(event, config):
    off = np.arange(len(event.hits.energy)) % 4 == 0
    hidden = event.hits._replace(
        valid=~off, position=np.where(off[:, None], np.float32(np.nan), event.hits.position)
    )
    found = find_showers(hidden, config)
    kept = find_showers(take_hits(event.hits, np.flatnonzero(~off)), config)
    np.testing.assert_array_equal(found.hit_trackster[~off], kept.hit_trackster)
    assert (found.hit_trackster[off] == NOISE).all()
    np.testing.assert_array_equal(found.tracksters.energy, kept.tracksters.energy)


@each_method
@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_hits(event, config, n):
    showers = find_showers(take_hits(event.hits, np.arange(n)), config)
    assert_consistent(showers, take_hits(event.hits, np.arange(n)))
    assert showers.hit_trackster.dtype == np.int32


@each_method
def test_all_hits_equal(event, config):
    showers = find_showers(take_hits(event.hits, np.zeros(50, int)), config)
    assert_consistent(showers, take_hits(event.hits, np.zeros(50, int)))
    assert len(np.unique(showers.hit_trackster)) == 1


@each_method
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("energy", np.nan, r"hits: energy is nan in row 3; allowed is 0 or more \(1 such rows\)"),
        ("energy", -0.5, r"hits: energy is -0.5 in row 3"),
        ("position", np.nan, r"hits: position is \[nan, nan, nan\] in row 3; allowed is finite"),
        ("position", 0.0, r"hits: z is 0.0 in row 3"),
        ("layer", -1, r"hits.layer is -1 in row 3; allowed is 0 or more"),
        ("sigma_noise", np.inf, r"hits.sigma_noise is inf in row 3"),
    ],
)
def test_what_cannot_be_used_is_named(event, config, column, value, message):
    values = getattr(event.hits, column).copy()
    values[3] = value
    with pytest.raises(DataError, match=message):
        find_showers(event.hits._replace(**{column: values}), config)


def test_columns_of_other_lengths_are_named(event):
    with pytest.raises(DataError, match=r"hits.energy has shape \(2,\)"):
        module.check_rechits(event.hits._replace(energy=event.hits.energy[:2]))


def test_limits_one_too_small_are_named(event):
    showers = find_showers(event)
    n_clusters, n_tracksters = len(showers.clusters.valid), len(showers.tracksters.valid)
    find_showers(event, max_layer_clusters=n_clusters, max_tracksters=n_tracksters)
    with pytest.raises(CapacityError, match=f"{n_clusters} layer clusters do not fit .*max_layer_clusters"):
        find_showers(event, max_layer_clusters=n_clusters - 1)
    with pytest.raises(CapacityError, match=f"{n_tracksters} tracksters do not fit .*max_tracksters"):
        find_showers(event, max_tracksters=n_tracksters - 1)


@pytest.fixture(scope="module")
def cells():
    """(calorimeter, graph) of a wedge of three layers."""
    geometry = EndcapGeometry(n_layers=3, phi_min=0.0, phi_max=0.3)
    calorimeter = build_calorimeter(geometry)
    return calorimeter, CellGraph.from_calorimeter(calorimeter, cache=False)


def hits_in_cells(calorimeter, seed=1, n=400):
    rng = np.random.default_rng(seed)
    cell = rng.choice(np.flatnonzero(np.hypot(*calorimeter.position.T[:2]) < 600), n, replace=False).astype(
        np.int32
    )
    return RecHits(
        calorimeter.position[cell],
        rng.exponential(0.05, n).astype(np.float32),
        calorimeter.layer[cell],
        cell,
        calorimeter.sigma_noise[cell],
        np.ones(n, bool),
    )


def test_cells_give_the_same_as_positions(cells):
    calorimeter, graph = cells
    hits = hits_in_cells(calorimeter)
    mirrored = hits._replace(position=hits.position * np.array([1, 1, -1], np.float32))
    for one in (hits, mirrored):
        by_cell, by_position = find_showers(one, cells=graph), find_showers(one)
        assert len(by_cell.clusters.valid) == len(by_position.clusters.valid) > 50
        # On a lattice many hits are at the same distance, where cells and positions choose another one.
        np.testing.assert_array_equal(by_cell.clusters.seed, by_position.clusters.seed)
        joined = [showers.clusters.member_cluster >= 0 for showers in (by_cell, by_position)]
        np.testing.assert_array_equal(*joined)


def test_cells_that_are_not_there_are_named(cells):
    calorimeter, graph = cells
    hits = hits_in_cells(calorimeter)
    cell = hits.cell.copy()
    cell[7] = graph.n_cells
    with pytest.raises(
        DataError, match=rf"hits.cell is {graph.n_cells} in row 7; the calorimeter has the cells 0 to"
    ):
        find_showers(hits._replace(cell=cell), cells=graph)
    cell[7] = cell[6]
    with pytest.raises(DataError, match="cell"):
        find_showers(hits._replace(cell=cell), cells=graph)
    off = np.arange(len(cell)) != 7
    assert find_showers(hits._replace(cell=cell, valid=off), cells=graph).hit_trackster[7] == NOISE


def test_tiles_are_known_by_their_cells(cells):
    calorimeter, graph = cells
    hits = hits_in_cells(calorimeter)
    is_tile = np.zeros(graph.n_cells, bool)
    is_tile[hits.cell[5]] = True
    assert np.flatnonzero(module.in_scintillator(hits, graph._replace(is_tile=is_tile))).tolist() == [5]
    assert not module.in_scintillator(hits, None).any()


def test_clock_sees_the_steps(event):
    for config, expected in zip(METHODS, (4, 2, 4), strict=True):
        seen = []
        find_showers(event, config, clock=lambda name, _, seen=seen: seen.append(name))
        assert len(seen) == expected
        assert seen[-1] == "tracksters"


def test_events_of_one_size_share_their_programs(event):
    find_showers(event)
    before = [step._cache_size() for step in module.STEPS]
    find_showers(take_hits(event.hits, np.arange(len(event.hits.energy) - 5)))
    assert [step._cache_size() for step in module.STEPS] == before
