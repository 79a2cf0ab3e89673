"""Numbers of classifiers of neutrino events, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import DataError
from recon.tagging.neutrino_performance import (
    TAU,
    Judged,
    beam_accuracy,
    best_cut,
    measure_neutrinos,
)


def judged(*events):
    """Events of (label, likeliest class, energy); the score of the likeliest is 0.6."""
    scores = np.full((len(events), 5), 0.1, np.float32)
    for row, (_, found, _) in enumerate(events):
        scores[row, found] = 0.6
    label, _, energy = zip(*events, strict=True)
    return Judged(np.array(label, np.int32), scores, np.array(energy, np.float32))


EVENTS = judged((0, 0, 2.0), (0, 3, 2.5), (1, 1, 1.2), (2, 2, 8.0), (3, 1, 3.0), (3, 3, 7.0), (4, 4, 2.0))


def test_counts_by_hand():
    found = measure_neutrinos(EVENTS)
    assert found.events == 7
    assert (found.accuracy.passed, found.accuracy.total) == (5, 7)
    assert [(r.passed, r.total) for r in found.efficiency] == [(1, 2), (1, 1), (1, 1), (1, 2), (1, 1)]
    assert [(r.passed, r.total) for r in found.purity] == [(1, 1), (1, 2), (1, 1), (1, 2), (1, 1)]
    expected = np.zeros((5, 5), int)
    for true, likeliest in ((0, 0), (0, 3), (1, 1), (2, 2), (3, 1), (3, 3), (4, 4)):
        expected[true, likeliest] += 1
    np.testing.assert_array_equal(found.confusion, expected)


def test_beam_accuracy_leaves_tau_out_on_both_sides():
    assert beam_accuracy(EVENTS).total == 5
    assert beam_accuracy(EVENTS).passed == 3
    # An event taken for a tau neutrino is given to the next best of the four.
    one = judged((0, TAU, 2.0))
    one.scores[0, 0] = 0.3
    assert (beam_accuracy(one).passed, beam_accuracy(one).total) == (1, 1)


def test_bins_of_energy():
    found = measure_neutrinos(EVENTS, np.array([1.0, 2.2, 4.0]))
    assert found.energy_efficiency[0].ratio.total.tolist() == [1, 1]
    assert found.energy_efficiency[0].ratio.passed.tolist() == [1, 0]
    assert found.energy_purity[1].ratio.total.tolist() == [1, 1]
    assert found.energy_purity[1].ratio.passed.tolist() == [1, 0]
    assert found.energy_efficiency[2].outside == 1


def test_best_cut_as_by_trying_all():
    rng = np.random.default_rng(0)
    signal = rng.random(300) < 0.3
    score = np.round(np.where(signal, rng.beta(3, 2, 300), rng.beta(2, 4, 300)), 2)
    valid = rng.random(300) < 0.9
    merits = {}
    for threshold in np.unique(score[valid]):
        passes = valid & (score >= threshold)
        merits[threshold] = (passes & signal).sum() / np.sqrt(passes.sum())
    found = best_cut(signal, score, valid)
    assert merits[found.threshold] == pytest.approx(max(merits.values()))
    passes = valid & (score >= found.threshold)
    assert (found.efficiency.passed, found.purity.total) == ((passes & signal).sum(), passes.sum())
    assert found.efficiency.total == (signal & valid).sum()


def test_no_signal_has_no_cut():
    found = best_cut(np.zeros(3, bool), np.arange(3.0), np.ones(3, bool))
    assert np.isnan(found.threshold)
    assert np.isnan(found.efficiency.value)


def test_order_of_events_does_not_matter():
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.ones(5), 100).astype(np.float32)
    some = Judged(rng.integers(0, 5, 100).astype(np.int32), scores, rng.uniform(0, 9, 100).astype(np.float32))
    mixed = Judged(*(column[::-1] for column in some))
    one, other = measure_neutrinos(some), measure_neutrinos(mixed)
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_allclose(one.area, other.area)
    assert [cut.threshold for cut in one.best] == [cut.threshold for cut in other.best]


def test_what_cannot_be_measured():
    with pytest.raises(DataError, match="one event at least"):
        measure_neutrinos(
            Judged(np.zeros(0, np.int32), np.zeros((0, 5), np.float32), np.zeros(0, np.float32))
        )
    with pytest.raises(DataError, match="5 classes"):
        measure_neutrinos(
            Judged(np.zeros(2, np.int32), np.zeros((2, 4), np.float32), np.zeros(2, np.float32))
        )
