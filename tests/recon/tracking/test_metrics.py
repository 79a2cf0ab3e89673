"""Matching of tracks to particles, criteria, rates and tables."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.tracking.matching import TrackHits, duplicate, from_tracks, match_tracks, trackml_score
from recon.tracking.metrics import (
    CandidateSelection,
    EventCounts,
    TargetSelection,
    count_interactions,
    double_majority,
    efficiency_in_bins,
    evaluate_edges,
    evaluate_event,
    impure,
    lhc,
    merge,
    perfect,
    rate_in_bins,
    target_particles,
)
from recon.types import NOISE, EdgeList, Tracks
from tests.reference import toy_tracks as toy
from tests.reference import track_metrics as twin

WIDE = TargetSelection(min_hits=3)


def one_match(track, hit_particle):
    return match_tracks(toy.track_hits(track), toy.particles(hit_particle))


# Particle 0 has 10 hits (rows 0 to 9), particle 1 has 10 (rows 10 to 19), rows 20 to 29 are noise.
TWO = np.repeat([0, 1, NOISE], 10)


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        pytest.param(range(10), "dp l", id="all hits and no other"),
        pytest.param(range(9), "d  l", id="one hit missing is not perfect"),
        pytest.param([*range(10), 20], "d  l", id="one noise hit is not perfect"),
        pytest.param(range(6), "d  l", id="six of ten hits"),
        pytest.param(range(5), "   l", id="half of the particle is no majority"),
        pytest.param([*range(6), *range(20, 25)], "d   ", id="six of eleven"),
        pytest.param([*range(6), *range(20, 26)], "  i ", id="half of the track is no majority"),
        pytest.param([*range(6), 20, 21], "d  l", id="three quarters exactly pass the LHC criterion"),
        pytest.param([*range(8), 20, 21, 22], "d   ", id="8 of 11 do not"),
        pytest.param([*range(4), *range(10, 14)], "  i ", id="two particles alike"),
        pytest.param([*range(5), *range(10, 14)], "    ", id="pure enough but half of the particle only"),
        pytest.param(range(20, 28), "  i ", id="noise"),
        pytest.param([], "    ", id="no hits: no track"),
    ],
)
def test_criteria_on_both_sides_of_their_boundaries(track, expected):
    match = one_match(list(track), TWO)
    for letter, criterion in (("d", double_majority), ("p", perfect), ("i", impure), ("l", lhc)):
        assert criterion(match).tolist() == [letter in expected], criterion.__name__


def test_match_names_the_majority_particle():
    match = match_tracks(toy.track_hits([0, 1, 10, 11, 12, 20], [0, 10], [20, 21], []), toy.particles(TWO))
    assert match.particle.tolist() == [1, 0, NOISE, NOISE]
    assert match.n_common.tolist() == [3, 1, 0, 0]
    assert match.n_track.tolist() == [6, 2, 2, 0]
    assert match.n_particle.tolist() == [10, 10, 0, 0]


def test_from_tracks_keeps_rows_and_drops_invalid_ones():
    hit_track = np.array([2, 0, NOISE, 2, 1], np.int32)
    tracks = Tracks(
        hit_track=hit_track,
        parameters=np.zeros((3, 5), np.float32),
        covariance=np.zeros((3, 5, 5), np.float32),
        chi2=np.zeros(3, np.float32),
        n_hits=np.array([1, 1, 2], np.int32),
        valid=np.array([True, False, True]),
    )
    lists = from_tracks(tracks)
    assert lists.offsets.tolist() == [0, 1, 1, 3]
    assert lists.hits.tolist() == [1, 0, 3]
    with pytest.raises(DataError, match="track 3, but there are only 3"):
        from_tracks(tracks._replace(hit_track=hit_track + np.int32(1)))


@pytest.mark.parametrize(
    ("offsets", "hits", "message"),
    [
        ([0, 2], [0, 30], "rows 0 to 29"),
        ([0, 2], [-1, 3], "from row -1"),
        ([0, 3], [4, 5, 4], "hit 4 is listed more than once on track 0"),
        ([0, 3], [4, 5], "ascend"),
        ([0, 2, 1, 2], [4, 5], "ascend"),
    ],
)
def test_hit_lists_that_do_not_fit_are_refused(offsets, hits, message):
    with pytest.raises(DataError, match=message):
        match_tracks(TrackHits(np.array(offsets, np.int64), np.array(hits, np.int32)), toy.particles(TWO))


def test_duplicates_lose_against_more_common_hits_then_shorter_then_earlier():
    tracks = toy.track_hits(range(7), range(8), [*range(8), 20], range(1, 9), range(10, 20))
    match = match_tracks(tracks, toy.particles(TWO))
    assert duplicate(match, np.ones(5, bool)).tolist() == [True, False, True, True, False]
    # Tracks that do not count make no duplicates.
    assert duplicate(match, np.array([True, False, False, False, True])).tolist() == [False] * 5


def target(**properties):
    truth = toy.particles(np.zeros(properties.pop("n_hits", 7), np.int32), **properties)
    return target_particles(truth, TargetSelection()).tolist()


def test_target_cuts_on_both_sides():
    assert target() == [True]
    assert target(n_hits=6) == [False]
    assert target(pt=1.0) == [False]
    assert target(pt=1.001) == [True]
    assert target(eta=4.001) == [False]
    assert target(eta=-3.99) == [True]
    assert target(radius=24.0) == [False]
    assert target(radius=23.9) == [True]
    assert target(charge=0) == [False]
    assert target(primary=False) == [False]
    assert target(valid=False) == [False]


def test_target_range_in_eta_starts_at_its_lower_edge():
    truth = toy.particles(np.repeat([0, 1], 7), eta=np.array([0.0, 3.0]))
    assert target_particles(truth, TargetSelection(eta_min=2.0)).tolist() == [False, True]
    with pytest.raises(ConfigError, match="eta_min < eta_max"):
        TargetSelection(eta_min=4.0)
    with pytest.raises(ConfigError, match="min_hits is 0"):
        TargetSelection(min_hits=0)


def parameters(*pts, eta=0.0):
    polar = 2 * np.arctan(np.exp(-eta))
    return np.array([[0.0, 0.0, 0.0, polar, np.sin(polar) / pt] for pt in pts])


def test_candidates_need_hits_and_fitted_momentum():
    event = toy.event(toy.particles(TWO))
    tracks = toy.track_hits(range(20, 26), range(20, 25), range(10))
    assert evaluate_event(event, tracks).counts.candidates == 2
    assert evaluate_event(event, tracks, parameters(0.91, 5, 0.89)).counts.candidates == 1
    assert evaluate_event(event, tracks, parameters(5, 5, 5, eta=4.1)).counts.candidates == 0
    counts = evaluate_event(event, tracks, parameters(0.91, 5, 0.89)).counts
    assert (counts.fakes, counts.found, counts.tracks) == (1, 1, 2)


def test_failed_fit_does_not_hide_a_fake():
    event = toy.event(toy.particles(TWO))
    fit = np.full((1, 5), np.nan)
    counts = evaluate_event(event, toy.track_hits(range(20, 26)), fit, covariance=np.zeros((1, 5, 5))).counts
    assert (counts.candidates, counts.fakes, counts.impure) == (1, 1, 1)


def test_short_tracks_do_not_find():
    event = toy.event(toy.particles(np.repeat([0], 8)))
    assert evaluate_event(event, toy.track_hits(range(5))).counts.found == 0
    assert evaluate_event(event, toy.track_hits(range(6))).counts.found == 1


@pytest.mark.parametrize("seed", range(6))
def test_counts_agree_with_the_twin(seed):
    rng = np.random.default_rng(seed)
    event = toy.helix_event(rng)
    tracks = toy.random_tracks(rng, event.particles.hit_particle)
    fit = parameters(*rng.uniform(0.5, 3, len(tracks)), eta=rng.uniform(3.5, 4.2))
    polar = fit[:, 3]
    pt, eta = np.sin(polar) / np.abs(fit[:, 4]), -np.log(np.tan(polar / 2))
    lists = toy.track_hits(*tracks)
    candidates = CandidateSelection()
    for chosen, given in ((None, {}), (fit, {"pt": pt, "eta": eta})):
        counts = evaluate_event(event, lists, chosen, WIDE).counts
        expected = twin.counts([set(t.tolist()) for t in tracks], event.particles, WIDE, candidates, **given)
        assert {name: getattr(counts, name) for name in expected} == expected
    weights = rng.random(len(event.particles.hit_particle))
    score = evaluate_event(event, lists, weights=weights).counts.mean_score
    tracks = [set(t.tolist()) for t in tracks]
    assert score == pytest.approx(twin.trackml_score(tracks, event.particles.hit_particle, weights))


def test_permuting_hits_tracks_and_particles_changes_no_count():
    rng = np.random.default_rng(3)
    event = toy.helix_event(rng)
    tracks = toy.random_tracks(rng, event.particles.hit_particle)
    counts = evaluate_event(event, toy.track_hits(*tracks)).counts
    order = rng.permutation(len(event.particles.hit_particle))
    place = np.argsort(order)
    row = rng.permutation(len(event.particles.valid))
    new_row = np.append(np.argsort(row), NOISE)
    truth = event.particles
    moved = truth._replace(
        **{
            name: getattr(truth, name)[row]
            for name in ("momentum", "vertex", "charge", "pdg", "primary", "valid")
        },
        hit_particle=new_row[truth.hit_particle][order].astype(np.int32),
    )
    shuffled = [rng.permutation(place[tracks[i]]) for i in rng.permutation(len(tracks))]
    assert evaluate_event(toy.event(moved), toy.track_hits(*shuffled)).counts == counts


def test_padding_changes_nothing():
    rng = np.random.default_rng(4)
    event = toy.helix_event(rng)
    tracks = toy.random_tracks(rng, event.particles.hit_particle)
    plain = evaluate_event(event, toy.track_hits(*tracks))
    truth = event.particles
    padded = truth._replace(
        momentum=np.concatenate([truth.momentum, np.zeros((5, 3), np.float32)]),
        vertex=np.concatenate([truth.vertex, np.zeros((5, 3), np.float32)]),
        **{n: np.append(getattr(truth, n), np.zeros(5, np.int32)) for n in ("charge", "pdg")},
        **{n: np.append(getattr(truth, n), np.zeros(5, bool)) for n in ("primary", "valid")},
        hit_particle=np.append(truth.hit_particle, np.full(9, NOISE, np.int32)),
    )
    again = evaluate_event(toy.event(padded), toy.track_hits(*tracks, [], []))
    assert again.counts == plain.counts
    for old, new in zip(plain.tracks, again.tracks, strict=True):
        np.testing.assert_array_equal(old, new)


def test_empty_event_and_all_noise():
    nothing = toy.event(toy.particles(np.zeros(0, np.int32)))
    counts = evaluate_event(nothing, toy.track_hits()).counts
    assert counts == EventCounts(events=1)
    assert np.isnan(counts.efficiency.value)
    assert np.isnan(counts.mean_score)
    noise = toy.event(toy.particles(np.full(12, NOISE)))
    counts = evaluate_event(noise, toy.track_hits(range(6), range(6, 12))).counts
    assert counts == EventCounts(events=1, tracks=2, candidates=2, fakes=2, impure=2)


def test_event_without_truth_is_refused():
    event = toy.event(toy.particles(TWO))._replace(particles=None, number=17)
    with pytest.raises(DataError, match="event 17 has no truth"):
        evaluate_event(event, toy.track_hits())


def test_arrays_of_wrong_length_are_refused():
    event = toy.event(toy.particles(TWO))
    with pytest.raises(DataError, match="parameters has 2 rows for 1 tracks"):
        evaluate_event(event, toy.track_hits(range(6)), np.zeros((2, 5)))


def test_residuals_and_pulls_of_smeared_truth():
    rng = np.random.default_rng(5)
    each = []
    for number in range(8):
        event = toy.helix_event(rng, n_particles=100, n_noise=0, number=number)
        lists, fit, covariance = toy.perfect_finder(event, rng)
        each.append(evaluate_event(event, lists, fit, covariance=covariance))
    tracks = merge(each).tracks
    assert tracks.pull.shape == (800, 5)
    np.testing.assert_allclose(tracks.pull.std(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(tracks.residual[:, 0].std(), 0.02, rtol=0.1)
    np.testing.assert_allclose(tracks.pt, tracks.truth_pt, rtol=0.15)


def test_residual_of_phi_goes_the_short_way_round():
    event = toy.event(
        toy.particles(np.repeat([0], 7))._replace(momentum=np.array([[-2, 1e-3, 0]], np.float32))
    )
    fit = np.array([[0, 0, -np.pi + 1e-3, np.pi / 2, 0.5]])
    residual = evaluate_event(event, toy.track_hits(range(7)), fit).tracks.residual
    assert residual[0, 2] == pytest.approx(1.5e-3, abs=1e-6)


def test_merge_adds_counts_and_tables():
    rng = np.random.default_rng(6)
    each = []
    for _ in range(3):
        event = toy.helix_event(rng)
        each.append(
            evaluate_event(event, toy.track_hits(*toy.random_tracks(rng, event.particles.hit_particle)))
        )
    total = merge(each)
    for field in dataclasses.fields(EventCounts):
        assert getattr(total.counts, field.name) == sum(getattr(e.counts, field.name) for e in each)
    assert len(total.tracks.pt) == sum(len(e.tracks.pt) for e in each)
    assert total.particles.target.sum() == total.counts.targets
    assert (total.particles.target & total.particles.found).sum() == total.counts.found
    with pytest.raises(DataError, match="at least one event"):
        merge([])


def test_bins_leave_out_the_cut_on_their_own_variable():
    truth = toy.particles(
        np.repeat([0, 1, 2, 3], 7),
        pt=np.array([2, 0.7, 2, 2]),
        eta=np.array([0, 0, 4.5, 0]),
        radius=[0, 0, 0, 50],
    )
    evaluation = evaluate_event(
        toy.event(truth), toy.track_hits(range(7), range(7, 14), range(21, 28)), pileup=40
    )
    assert evaluation.counts.targets == 1
    pt = efficiency_in_bins(evaluation, "pt", np.array([0.5, 1.0, 3.0]))
    assert (pt.ratio.passed.tolist(), pt.ratio.total.tolist()) == ([1, 1], [1, 1])
    eta = efficiency_in_bins(evaluation, "eta", np.array([-1.0, 1.0, 5.0]))
    assert (eta.ratio.passed.tolist(), eta.ratio.total.tolist()) == ([1, 0], [1, 1])
    radius = efficiency_in_bins(evaluation, "radius", np.array([0.0, 24.0, 100.0]))
    assert (radius.ratio.passed.tolist(), radius.ratio.total.tolist()) == ([1, 1], [1, 1])
    pileup = efficiency_in_bins(evaluation, "pileup", np.array([39.5, 40.5]), "perfect")
    assert (pileup.ratio.passed.tolist(), pileup.ratio.total.tolist()) == ([1], [1])


def test_rates_in_bins_are_of_candidates():
    event = toy.event(toy.particles(TWO))
    tracks = toy.track_hits(range(10), range(20, 26), range(10, 15))
    evaluation = evaluate_event(event, tracks, parameters(1.5, 3, 3))
    fakes = rate_in_bins(evaluation, "fake", "pt", np.array([1.0, 2.0, 4.0]))
    assert (fakes.ratio.passed.tolist(), fakes.ratio.total.tolist()) == ([0, 1], [1, 1])
    for rate, variable in (("good", "pt"), ("fake", "radius")):
        with pytest.raises(ConfigError, match="allowed"):
            rate_in_bins(evaluation, rate, variable, np.array([0.0, 1.0]))
    with pytest.raises(ConfigError, match="allowed"):
        efficiency_in_bins(evaluation, "n_hits", np.array([0.0, 1.0]))


def test_interactions_are_places_with_three_particles():
    truth = toy.particles(np.zeros(0, np.int32), radius=np.zeros(9))
    vertex = truth.vertex.copy()
    # Three at one place (one after nanometres of flight), two at another, four far from the beam line.
    vertex[:5, 2] = [10, 10, 10.00001, 30, 30]
    vertex[5:, 0] = 5
    assert count_interactions(truth._replace(vertex=vertex)) == 1
    assert count_interactions(truth._replace(vertex=vertex, valid=np.zeros(9, bool))) == 0


def edge_list(*pairs, overflow=False):
    senders, receivers = np.array(pairs, np.int32).reshape(-1, 2).T
    return EdgeList(senders, receivers, senders >= 0, np.array(overflow))


def test_edges_against_segments():
    edges = edge_list((0, 1), (1, 2), (5, 6), (7, 8), (-1, -1))
    targets = (np.array([0, 1, 2]), np.array([1, 2, 3]))
    truth = (np.array([0, 1, 2, 5]), np.array([1, 2, 3, 6]))
    counts = evaluate_edges(edges, targets, truth)
    assert (counts.found, counts.segments) == (2, 3)
    assert (counts.true_edges, counts.target_edges, counts.edges) == (3, 2, 4)
    assert counts.purity.value == 0.75
    cut = evaluate_edges(edges, targets, truth, np.array([True, False, False, True, True]))
    assert (cut.found, cut.edges, cut.true_edges) == (1, 2, 1)
    total = counts + cut
    assert (total.efficiency.passed, total.efficiency.total) == (3, 6)
    # Direction matters: a segment runs from the inner to the outer hit.
    assert evaluate_edges(edge_list((1, 0)), targets).found == 0
    with pytest.raises(DataError, match="overflowed"):
        evaluate_edges(edge_list((0, 1), overflow=True), targets)


def test_score_needs_weights_and_counts_hits_of_the_particle_only():
    tracks = toy.track_hits([*range(10), 20])
    truth = toy.particles(TWO)
    weights = np.arange(30, dtype=np.float64)
    assert trackml_score(match_tracks(tracks, truth), tracks, truth, weights) == sum(range(10))
    with pytest.raises(DataError, match="29 weights for 30 hits"):
        evaluate_event(toy.event(truth), tracks, weights=weights[1:])


def test_large_event_is_quick():
    rng = np.random.default_rng(7)
    hit_particle = rng.permutation(np.append(np.repeat(np.arange(11_000), 10), np.full(20_000, NOISE)))
    truth = toy.particles(hit_particle.astype(np.int32))
    rows = np.argsort(hit_particle, kind="stable")[20_000:50_000].reshape(3000, 10)
    event, tracks = toy.event(truth), toy.track_hits(*rows)
    evaluate_event(event, tracks)
    start = time.process_time()
    counts = evaluate_event(event, tracks).counts
    assert time.process_time() - start < 0.5
    assert counts.found_perfect == 3000
