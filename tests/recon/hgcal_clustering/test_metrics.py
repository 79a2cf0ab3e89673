"""Rates, response and resolution: by hand, against loops, in bins, and over several events."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.metrics import (
    CLUSTER_RATES,
    PARTICLE_RATES,
    ShowerSelection,
    evaluate_event,
    merge,
    rate,
    rate_in_bins,
)
from recon.hgcal_clustering.response import energy_response, response_in_bins, summarise
from recon.metrics import Ratio
from recon.types import NOISE
from tests.reference import shower_metrics as slow
from tests.reference.toy_showers import dominant_particle, toy_event

RATES = (*PARTICLE_RATES, *CLUSTER_RATES)
OPEN = ShowerSelection(eta_min=0.0, eta_max=10.0, deposit_min=0.0)


@pytest.fixture(scope="module")
def event():
    return toy_event(seed=6, showers=8)


def spoiled(event, seed):
    """The truth with particle 0 cut in two, 1 and 2 in one cluster, and a third of the other hits anywhere."""
    rng = np.random.default_rng(seed)
    label = dominant_particle(event)
    label = np.where((label == 0) & (rng.random(len(label)) < 0.5), 20, label)
    label = np.where(label == 2, 1, label)
    return np.where((label > 2) & (rng.random(len(label)) < 0.3), rng.integers(-1, 25, len(label)), label)


def values(evaluation, selection=OPEN):
    return {name: rate(evaluation, name, selection) for name in RATES}


def test_perfect_clusters(event):
    evaluation = evaluate_event(event, dominant_particle(event), OPEN)
    got = {name: float(ratio.value) for name, ratio in values(evaluation).items()}
    assert got == {
        "efficiency": 1,
        "efficiency_simple": 1,
        "purity": 1,
        "duplicate": 0,
        "fake": 0,
        "merge": 0,
        "split": 0,
    }
    assert evaluation.particles.purity.min() > 0.9
    assert evaluation.events.v[0] > 0.9
    np.testing.assert_allclose(np.median(energy_response(evaluation.particles)), 1, atol=0.02)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_rates_against_loops(event, seed):
    label = spoiled(event, seed)
    got = values(evaluate_event(event, label, OPEN))
    expected = slow.rates(event.hits.energy, event.truth, label, OPEN)
    assert {name: (ratio.passed, ratio.total) for name, ratio in got.items()} == expected


def test_every_rate_can_be_other_than_0():
    """A cluster of noise, two particles in one cluster, and a particle in two clusters whose one half is small."""
    event = toy_event(seed=7, showers=3, noise=400)
    label = dominant_particle(event)
    label = np.where(label == NOISE, 5, np.where(label == 2, 1, label))
    loose = ShowerSelection(eta_min=0.0, eta_max=10.0, deposit_min=0.0, pure_score=0.9, fake_score=0.9)
    rng = np.random.default_rng(1)
    label = np.where((label == 0) & (rng.random(len(label)) < 0.5), 6, label)
    got = values(evaluate_event(event, label, loose), loose)
    assert got["duplicate"].passed >= 1
    assert got["split"].passed >= 2
    assert got["merge"].passed >= 1
    assert got["fake"].passed == 1


def test_selection_of_particles_and_clusters(event):
    label = dominant_particle(event)
    truth = event.truth._replace(hard_scatter=np.arange(8) < 5)
    all_energies = np.linalg.norm(truth.momentum, axis=1)
    cut = float(np.median(all_energies))
    chosen = ShowerSelection(eta_min=0.0, eta_max=10.0, energy_min=cut, cluster_energy_min=cut)
    evaluation = evaluate_event(event._replace(truth=truth), label, chosen, pileup=140.0)
    assert len(evaluation.particles.energy) == ((all_energies >= cut) & truth.hard_scatter).sum()
    assert len(evaluation.clusters.energy) < 8
    assert (evaluation.clusters.energy >= cut).all()
    assert (evaluation.particles.pileup == 140).all()
    gap = ShowerSelection(eta_min=0.0, eta_max=10.0, deposit_min=1.0)
    thinned = event._replace(truth=event.truth._replace(fraction=event.truth.fraction / 2))
    assert len(evaluate_event(thinned, label, gap).particles.energy) == 0
    narrow = ShowerSelection(eta_min=0.0, eta_max=1.0)
    assert len(evaluate_event(event, label, narrow).particles.energy) == 0


def test_particle_without_any_cluster(event):
    label = np.where(dominant_particle(event) == 3, NOISE, dominant_particle(event))
    entries = event.truth.particle == 3
    only = np.isin(np.arange(len(label)), event.truth.hit[entries])
    label = np.where(only, NOISE, label)
    table = evaluate_event(event, label, OPEN).particles
    assert (table.shared[3], table.cluster_energy[3], table.score[3], table.n_good[3]) == (0, 0, 1, 0)
    assert np.isnan(table.purity[3])
    assert not table.found[3]
    assert np.isnan(energy_response(table)[3])
    assert energy_response(table, found_only=False)[3] == 0


def test_padding_counts_for_nothing(event):
    label = spoiled(event, 9)
    hits = event.hits
    off = np.random.default_rng(2).random(len(label)) < 0.2
    masked = event._replace(hits=hits._replace(valid=~off))
    gone = event._replace(hits=hits._replace(energy=np.where(off, 0, hits.energy)))
    one = values(evaluate_event(masked, label, OPEN))
    other = values(evaluate_event(gone, np.where(off, NOISE, label), OPEN))
    assert one == other


def test_events_add_up(event):
    other = toy_event(seed=8, showers=3)
    parts = [evaluate_event(e, spoiled(e, 1), OPEN, pileup=float(n)) for n, e in enumerate([event, other])]
    total = merge(parts)
    for name in RATES:
        assert rate(total, name, OPEN) == rate(parts[0], name, OPEN) + rate(parts[1], name, OPEN)
    assert len(total.events.v) == 2
    np.testing.assert_array_equal(np.unique(total.clusters.pileup), [0, 1])
    with pytest.raises(DataError, match="no evaluation"):
        merge([])


@pytest.mark.parametrize("variable", ["energy", "eta", "pileup"])
@pytest.mark.parametrize("name", RATES)
def test_bins_add_up_to_the_total(event, name, variable):
    evaluation = evaluate_event(event, spoiled(event, 2), OPEN, pileup=7.0)
    binned = rate_in_bins(evaluation, name, variable, np.array([0.0, 2.0, 10.0, 500.0]), OPEN)
    total = rate(evaluation, name, OPEN)
    assert binned.outside == 0
    assert Ratio(int(binned.ratio.passed.sum()), int(binned.ratio.total.sum())) == total


def test_response_by_hand():
    ratio = np.array([0.9, 1.0, 1.1, np.nan, 1.0, 1.2])
    got = summarise(ratio)
    assert got.particles == 5
    assert got.response == 1.0
    # Quantiles of 0.9 1 1 1.1 1.2 at 0.15865 and 0.84135: 0.96346 and 1.13654.
    np.testing.assert_allclose(got.resolution, (1.13654 - 0.96346) / 2, rtol=1e-4)
    assert np.isnan(summarise(np.array([np.nan])).response)
    single = summarise(np.array([0.7]))
    assert single.response == 0.7
    assert np.isnan(single.resolution)


def test_width_of_a_normal_distribution():
    got = summarise(np.random.default_rng(3).normal(2.0, 0.2, 200_000))
    np.testing.assert_allclose(got.response, 2.0, atol=5 * got.response_error)
    np.testing.assert_allclose(got.resolution, 0.1, atol=5 * got.resolution_error)
    assert got.resolution_error < 0.001


def test_response_in_bins(event):
    table = evaluate_event(event, dominant_particle(event), OPEN).particles
    edges = np.array([0.0, 30.0, 100.0])
    got = response_in_bins(table, "energy", edges)
    low = summarise(energy_response(table)[table.energy < 30])
    np.testing.assert_allclose(got.response[0], low.response)
    assert got.particles.sum() == len(table.energy)
    closed = response_in_bins(table, "pileup", np.array([-1.0, 0.0]))
    assert closed.particles[0] == len(table.energy)


def test_what_is_not_there_is_named(event):
    evaluation = evaluate_event(event, dominant_particle(event), OPEN)
    with pytest.raises(ConfigError, match="no rate 'speed'; allowed: efficiency"):
        rate(evaluation, "speed", OPEN)
    with pytest.raises(ConfigError, match="no bins of 'mass'"):
        rate_in_bins(evaluation, "fake", "mass", np.array([0.0, 1.0]), OPEN)
    with pytest.raises(ConfigError, match="bin edges are"):
        response_in_bins(evaluation.particles, "energy", np.array([1.0]))
    with pytest.raises(DataError, match="event 0 has no truth"):
        evaluate_event(event._replace(truth=None), dominant_particle(event), OPEN)
    with pytest.raises(ConfigError, match=r"pure_score = 1.5; allowed are 0 to 1"):
        ShowerSelection(pure_score=1.5)
    with pytest.raises(ConfigError, match="eta_min = 3"):
        ShowerSelection(eta_min=3.0, eta_max=2.0)
