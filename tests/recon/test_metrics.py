"""Ratios, ROC curves and binned efficiencies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from recon.errors import ConfigError, DataError
from recon.metrics import (
    Ratio,
    accuracy,
    auc,
    auc_error,
    binned_efficiency,
    confusion,
    efficiency_purity,
    rejection,
    rejection_interval,
    roc,
    roc_band,
)
from tests.reference import track_metrics as twin


def test_ratio_adds_up_and_is_nan_when_empty():
    total = Ratio(3, 4) + Ratio(0, 4)
    assert (total.passed, total.total) == (3, 8)
    assert total.value == 0.375
    empty = Ratio(0, 0)
    assert np.isnan(empty.value)
    assert np.isnan(empty.error)
    for method in ("clopper-pearson", "wilson"):
        assert np.isnan(empty.interval(method)).all()


@pytest.mark.parametrize(("passed", "total"), [(0, 10), (1, 10), (5, 10), (9, 10), (10, 10), (997, 1000)])
def test_clopper_pearson_ends_are_the_tail_probabilities(passed, total):
    low, high = Ratio(passed, total).interval("clopper-pearson", 0.9)
    # By definition: at the lower end "this many or more" has the tail's probability, at the upper end "or fewer".
    if passed > 0:
        assert binom.sf(passed - 1, total, low) == pytest.approx(0.05, rel=1e-6)
    else:
        assert low == 0
    if passed < total:
        assert binom.cdf(passed, total, high) == pytest.approx(0.05, rel=1e-6)
    else:
        assert high == 1


def test_wilson_solves_its_equation():
    ratio = Ratio(np.array([1, 30, 99]), np.array([7, 60, 100]))
    for p in ratio.interval("wilson", 0.95):
        z = (ratio.value - p) / np.sqrt(p * (1 - p) / ratio.total)
        np.testing.assert_allclose(np.abs(z), 1.959964, rtol=1e-5)


def test_error_approaches_the_normal_one_and_is_not_zero_at_the_ends():
    assert Ratio(4000, 10000).error == pytest.approx(np.sqrt(0.4 * 0.6 / 1e4), rel=1e-3)
    assert Ratio(100, 100).error > 0.003
    assert Ratio(0, 100).error == pytest.approx(Ratio(100, 100).error)


@pytest.mark.parametrize(("method", "level"), [("normal", 0.5), ("wilson", 0.0), ("wilson", 1.0)])
def test_interval_refuses(method, level):
    with pytest.raises(ConfigError, match="allowed"):
        Ratio(1, 2).interval(method, level)


def test_confusion_by_hand():
    # Rows are the true classes; a type too small for the product of two classes does not matter.
    truth, found = np.array([0, 0, 2, 2, 2], np.int8), np.array([0, 1, 2, 2, 0])
    np.testing.assert_array_equal(confusion(truth, found, 3), [[1, 1, 0], [0, 0, 0], [1, 0, 2]])
    large = confusion(np.array([19], np.int8), np.array([3]), 20)
    assert (large[19, 3], large.sum()) == (1, 1)


def test_roc_by_hand_with_a_tie():
    curve = roc(np.array([True, True, False, False]), np.array([0.9, 0.5, 0.5, 0.1]))
    assert curve.threshold.tolist() == [np.inf, 0.9, 0.5, 0.1]
    assert curve.true_positive.tolist() == [0, 0.5, 1, 1]
    assert curve.false_positive.tolist() == [0, 0, 0.5, 1]


@pytest.mark.parametrize("n_values", [3, 10, 10_000])
def test_auc_counts_pairs(n_values):
    rng = np.random.default_rng(n_values)
    scores, labels = rng.integers(0, n_values, 300), rng.random(300) < 0.3
    assert auc(labels, scores) == pytest.approx(twin.auc(scores, labels), rel=1e-12)


def test_auc_ignores_padding_and_order():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=200), rng.random(200) < 0.5
    padded, valid = np.append(scores, np.full(50, np.nan)), np.arange(250) < 200
    order = rng.permutation(250)
    found = auc(np.append(labels, np.ones(50, bool))[order], padded[order], valid[order])
    assert found == auc(labels, scores)


def test_auc_needs_both_classes():
    assert np.isnan(auc(np.array([True, True]), np.array([1.0, 2.0])))
    assert np.isnan(auc(np.zeros(0, bool), np.zeros(0)))


def test_scores_that_cannot_be_ranked_are_refused():
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        auc(np.array([True, False]), np.array([np.nan, 1.0]))
    with pytest.raises(DataError, match="2, 3 and 3 entries"):
        auc(np.zeros(2, bool), np.zeros(3))


def test_efficiency_and_purity_of_a_cut():
    scores, labels = np.array([0.2, 0.5, 0.8, 0.9, 0.9]), np.array([True, True, False, True, True])
    valid = np.array([True, True, True, True, False])
    efficiency, purity = efficiency_purity(labels, scores, 0.5, valid)
    assert (efficiency.passed, efficiency.total) == (2, 3)
    assert (purity.passed, purity.total) == (2, 3)
    nothing = efficiency_purity(labels, scores, 2.0, valid)
    assert nothing[0].value == 0
    assert np.isnan(nothing[1].value)


def test_rejection_at_efficiency():
    # Signal at 4, 3; background at 3.5, 1, 0, -1: half of the signal passes free, all of it with one of four.
    scores = np.array([4.0, 3.0, 3.5, 1.0, 0.0, -1.0])
    labels = np.array([True, True, False, False, False, False])
    assert rejection(labels, scores, 0.5) == np.inf
    assert rejection(labels, scores, 1.0) == pytest.approx(4)
    assert rejection(labels, scores, 0.75) == pytest.approx(8)
    assert np.isnan(rejection(np.zeros(6, bool), scores, 0.5))
    with pytest.raises(ConfigError, match="at most 1"):
        rejection(labels, scores, 0.0)


def test_rejection_of_a_random_score_is_one_over_efficiency():
    rng = np.random.default_rng(1)
    scores, labels = rng.random(200_000), rng.random(200_000) < 0.5
    assert rejection(labels, scores, 0.3) == pytest.approx(1 / 0.3, rel=0.02)


def test_rejection_interval_is_that_of_the_background_that_passes():
    # At 100 % efficiency one of four background entries passes.
    scores = np.array([4.0, 3.0, 3.5, 1.0, 0.0, -1.0])
    labels = np.array([True, True, False, False, False, False])
    low, high = Ratio(1, 4).interval()
    assert rejection_interval(labels, scores, 1.0) == pytest.approx((1 / high, 1 / low))
    assert rejection_interval(labels, scores, 0.5)[1] == np.inf
    assert rejection_interval(labels, scores, 0.5)[0] == pytest.approx(1 / Ratio(0, 4).interval()[1])
    assert np.isnan(rejection_interval(np.zeros(6, bool), scores, 0.5)).all()
    with pytest.raises(ConfigError, match="signal_efficiency is 2"):
        rejection_interval(labels, scores, 2.0)


def test_accuracy_counts_both_sides_of_the_cut():
    found = accuracy(np.array([True, True, False, False]), np.array([0.9, 0.5, 0.5, 0.6]))
    assert (found.passed, found.total) == (2, 4)
    masked = accuracy(np.array([True, False]), np.array([1.0, np.nan]), valid=np.array([True, False]))
    assert (masked.passed, masked.total) == (1, 1)


def test_error_of_the_auc_is_its_spread_over_samples():
    rng = np.random.default_rng(3)
    labels = np.arange(300) < 100

    def sample():
        return np.round(rng.normal(size=300) + labels, 1)

    spread = np.std([auc(labels, sample()) for _ in range(400)])
    assert np.mean([auc_error(labels, sample()) for _ in range(20)]) == pytest.approx(spread, rel=0.12)


def test_error_of_the_auc_by_hand():
    # Signal at 3 and 1 beats 2 of 2 and 1 of 2; background at 2 and 0 is beaten by 1 of 2 and 2 of 2.
    found = auc_error(np.array([True, True, False, False]), np.array([3.0, 1.0, 2.0, 0.0]))
    assert found == pytest.approx(np.sqrt(0.125 / 2 + 0.125 / 2))
    assert np.isnan(auc_error(np.array([True, False, False]), np.array([1.0, 2.0, 3.0])))


def test_binned_efficiency_loses_nothing():
    value = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, np.nan])
    passed = np.array([True, True, False, True, True, True, True])
    valid = np.array([True] * 6 + [True])
    binned = binned_efficiency(value, passed, np.array([0.0, 1.0, 2.0]), valid)
    # The last bin contains its upper edge.
    assert binned.ratio.total.tolist() == [2, 2]
    assert binned.ratio.passed.tolist() == [1, 2]
    assert binned.outside == 3
    masked = binned_efficiency(value, passed, np.array([0.0, 1.0, 2.0]), value == 0.5)
    assert masked.ratio.total.tolist() == [1, 0]
    assert np.isnan(masked.ratio.value[1])


@pytest.mark.parametrize("edges", [[1.0], [1.0, 1.0], [2.0, 1.0]])
def test_binned_efficiency_refuses_edges(edges):
    with pytest.raises(ConfigError, match="ascend"):
        binned_efficiency(np.zeros(2), np.zeros(2, bool), np.array(edges))


def test_binned_efficiency_refuses_shapes():
    with pytest.raises(DataError, match=r"\(3,\)"):
        binned_efficiency(np.zeros(3), np.zeros(2, bool), np.array([0.0, 1.0]))


def test_roc_band_by_hand():
    label = np.array([True, True, True, False, False, False, False])
    score = np.array([3.0, 2.0, 1.0, 2.5, 2.0, 0.5, 0.1])
    band = roc_band(label, score)
    np.testing.assert_allclose(band.efficiency, [1 / 3, 2 / 3, 1])
    # Equal scores pass together.
    np.testing.assert_allclose(band.mistag, [0, 0.5, 0.5])
    low, high = Ratio(np.array([0, 2, 2]), np.array([4, 4, 4])).interval()
    np.testing.assert_allclose(band.low, low)
    np.testing.assert_allclose(band.high, high)


def test_roc_band_lies_on_the_roc():
    rng = np.random.default_rng(0)
    label = rng.random(3000) < 0.4
    score = np.round(label + rng.normal(0, 1, 3000), 1)
    whole, band = roc(label, score), roc_band(label, score, points=50)
    assert len(band.efficiency) <= 50
    for x, y in zip(band.efficiency, band.mistag, strict=True):
        row = np.argmin(np.abs(whole.true_positive - x))
        np.testing.assert_allclose([whole.true_positive[row], whole.false_positive[row]], [x, y], atol=1e-12)
    assert ((band.low <= band.mistag) & (band.mistag <= band.high)).all()


def test_roc_band_refuses():
    with pytest.raises(ConfigError, match="points is 0"):
        roc_band(np.array([True]), np.array([1.0]), points=0)
    with pytest.raises(DataError, match="there is no signal among 1 entries"):
        roc_band(np.array([False]), np.array([1.0]))
    assert np.isnan(roc_band(np.array([True]), np.array([1.0])).mistag).all()
