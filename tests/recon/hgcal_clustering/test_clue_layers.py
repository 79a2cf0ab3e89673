"""CLUE in the layers and in three dimensions: their coordinates, thresholds and who does not see whom."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import DataError
from recon.hgcal_clustering.clue_clusters import project
from recon.hgcal_clustering.clue_hits import HitClueConfig, clue_hits
from recon.hgcal_clustering.clue_layers import LayerClueConfig, clue_layers
from recon.types import NOISE, RecHits
from tests.reference.clue import clue as twin
from tests.reference.toy_showers import dominant_particle, take_hits, toy_event

pytestmark = pytest.mark.usefixtures("quick_programs")


def hits_at(position, energy, layer, sigma=0.01):
    n = len(energy)
    return RecHits(
        np.asarray(position, np.float32).reshape(n, 3),
        np.asarray(energy, np.float32),
        np.asarray(layer, np.int32),
        np.full(n, -1, np.int32),
        np.full(n, sigma, np.float32),
        np.ones(n, bool),
    )


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=12, showers=6, both_ends=True)


def same_groups(one, other):
    groups = [
        {frozenset(np.flatnonzero(ids == name)) for name in np.unique(ids[ids >= 0])} for ids in (one, other)
    ]
    return groups[0] == groups[1]


def test_layers_endcaps_and_thresholds_by_hand():
    # Two neighbours, the same on another layer and in the other endcap, one alone below nine sigma, one above.
    position = [[0, 0, 3300], [10, 0, 3300], [10, 0, 3400], [10, 0, -3300], [300, 0, 3300], [600, 0, 3300]]
    found = clue_layers(hits_at(position, [1.0, 0.5, 1.0, 1.0, 0.08, 0.1], [3, 3, 4, 3, 3, 3]))
    assert found.ids.tolist() == [0, 0, 1, 2, NOISE, 3]
    np.testing.assert_allclose(found.rho, [1.25, 1.0, 1, 1, 0.08, 0.1], rtol=1e-6)


def test_tiles_are_compared_in_eta_and_phi():
    # 30 mm apart in phi at a radius of 1.5 m, and across the line where phi comes back to itself.
    position = [[-1500, 15, 4500], [-1500, -15, 4500]]
    hits = hits_at(position, [1.0, 0.5], [40, 40])
    assert clue_layers(hits).n_clusters == 2
    found = clue_layers(hits, scintillator=np.ones(2, bool))
    assert found.ids.tolist() == [0, 0]
    np.testing.assert_allclose(found.delta[1], 0.02, rtol=1e-3)
    mixed = clue_layers(hits, scintillator=np.array([True, False]))
    assert mixed.n_clusters == 2


def test_layers_against_double_loop(event):
    config = LayerClueConfig(kappa=20.0)
    found = clue_layers(event.hits, config)
    for layer in (3, 4):
        for side in (-1, 1):
            rows = np.flatnonzero((event.hits.layer == layer) & (np.sign(event.hits.position[:, 2]) == side))
            expected = twin(
                event.hits.position[rows, :2],
                event.hits.energy[rows],
                d_c=13.0,
                rho_c=20.0 * event.hits.sigma_noise[rows],
            )
            np.testing.assert_allclose(found.rho[rows], expected.rho, rtol=1e-5)
            np.testing.assert_array_equal(found.is_seed[rows], expected.is_seed)
            np.testing.assert_array_equal(found.nearest_higher[rows] < 0, expected.nearest_higher < 0)


def test_projection_by_hand():
    config = HitClueConfig(plane=1000.0, layer_step=5.0)
    hits = hits_at([[300, 200, 2000], [300, 200, -4000]], [1.0, 1.0], [2, 7])
    found = project(hits.position, hits.layer, config.plane, config.layer_step)
    np.testing.assert_allclose(found, [[150, 100, 10], [75, 50, 35]], rtol=1e-6)


def test_hits_find_the_showers(event):
    found = clue_hits(event.hits, HitClueConfig(rho_c=1.0))
    particle = dominant_particle(event)
    for name in range(6):
        label = found.ids[(particle == name) & (found.ids >= 0)]
        most = np.bincount(label).argmax()
        energy = event.hits.energy * (particle == name)
        assert energy[found.ids == most].sum() > 0.5 * energy.sum()


@pytest.mark.parametrize("cluster", [clue_layers, clue_hits])
def test_padding_and_permutation_change_nothing(event, cluster):
    expected = cluster(event.hits)
    order = np.random.default_rng(4).permutation(len(event.hits.energy))
    shuffled = cluster(take_hits(event.hits, order))
    back = np.empty_like(shuffled.ids)
    back[order] = shuffled.ids
    assert same_groups(back, expected.ids)
    off = np.arange(len(order)) % 3 == 0
    hidden = event.hits._replace(valid=~off, energy=np.where(off, np.float32(np.nan), event.hits.energy))
    found, kept = cluster(hidden), cluster(take_hits(event.hits, np.flatnonzero(~off)))
    assert (found.ids[off] == NOISE).all()
    np.testing.assert_array_equal(found.ids[~off], kept.ids)


@pytest.mark.parametrize("cluster", [clue_layers, clue_hits])
def test_what_cannot_be_used_is_named(event, cluster):
    energy = event.hits.energy.copy()
    energy[5] = np.nan
    with pytest.raises(DataError, match="hits: energy is nan in row 5; allowed is 0 or more"):
        cluster(event.hits._replace(energy=energy))
    assert cluster(take_hits(event.hits, np.arange(0))).n_clusters == 0
    assert cluster(take_hits(event.hits, np.arange(1))).ids.shape == (1,)
