"""Labels, working points, sculpting, calibration."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from recon.errors import ConfigError, DataError
from recon.tagging.calibration import (
    calibrated,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)
from recon.tagging.labels import GROUPS, JETCLASS_LABELS, LABELS, discriminant, label_index
from recon.tagging.metrics import jensen_shannon, mass_sculpting, working_points


def test_labels_are_those_of_cms():
    assert len(LABELS) == len(set(LABELS)) == 17
    assert LABELS[:2] == ("Tbcq", "Tbqq")
    assert LABELS[12:] == GROUPS["QCD"]
    assert {name for group in GROUPS.values() for name in group} <= set(LABELS)
    assert label_index("Hbb") == 9
    with pytest.raises(ConfigError, match="no class 'Hbc'; there are Tbcq, Tbqq"):
        label_index("Hbc")


def test_discriminant_by_hand():
    scores = np.zeros((3, 17))
    scores[0, [0, 1, 16]] = 0.3, 0.3, 0.2
    scores[1, 9], scores[1, 12] = 0.5, 0.5
    assert discriminant(scores, "T").tolist() == pytest.approx([0.75, 0, 0])
    assert discriminant(scores, "Hbb").tolist() == pytest.approx([0, 0.5, 0])
    assert discriminant(scores, ("Tbcq",), ("Tbqq", "QCDothers")).tolist() == pytest.approx([0.375, 0, 0])


def test_discriminant_of_jetclass_takes_the_class_of_the_name():
    scores = np.zeros((1, 10))
    scores[0, [0, 1, 2]] = 0.25, 0.5, 0.25
    assert discriminant(scores, "Hbb", labels=JETCLASS_LABELS).item() == pytest.approx(2 / 3)


def test_discriminant_refuses():
    with pytest.raises(DataError, match=r"shape \(2, 16\)"):
        discriminant(np.zeros((2, 16)), "T")
    with pytest.raises(ConfigError, match="Hbb cannot be signal and background"):
        discriminant(np.zeros((2, 17)), "Hbb", "H")


def test_working_points_by_hand():
    # Background 0.0, 0.1 ... 0.9: at 20 % the jets at 0.9 and 0.8 pass.
    scores = np.r_[np.arange(10) / 10, [0.75, 0.85, 0.95]]
    label = np.arange(13) >= 10
    (point,) = working_points(label, scores, {"some": 0.2})
    assert 0.7 < point.threshold <= 0.75
    assert (point.mistag.passed, point.mistag.total) == (2, 10)
    assert (point.efficiency.passed, point.efficiency.total) == (3, 3)


def test_working_points_never_let_more_through():
    rng = np.random.default_rng(0)
    scores, label = np.round(rng.normal(size=20_000), 2), rng.random(20_000) < 0.3
    points = working_points(label, scores)
    assert [point.name for point in points] == ["loose", "medium", "tight"]
    for point, rate in zip(points, (0.1, 0.01, 0.001), strict=True):
        assert point.mistag.value <= rate
        # Ties are 0.01 wide here: the next looser cut would let too many through.
        looser = (scores[~label] >= point.threshold - 0.01).mean()
        assert looser > rate


def test_working_points_refuse():
    with pytest.raises(ConfigError, match=r"'odd' is 1\.5"):
        working_points(np.zeros(5, bool), np.arange(5.0), {"odd": 1.5})
    with pytest.raises(DataError, match="1000 at least"):
        working_points(np.zeros(5, bool), np.arange(5.0), {"tight": 0.001})
    with pytest.raises(DataError, match="1 of them NaN"):
        working_points(np.zeros(2, bool), np.array([0.0, np.nan]))


def test_jensen_shannon():
    rng = np.random.default_rng(0)
    p, q = rng.random(8), rng.random(8)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, 2) ** 2)
    assert jensen_shannon(p, 7 * p) == pytest.approx(0, abs=1e-12)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == 1
    assert np.isnan(jensen_shannon(p, 0 * p))
    with pytest.raises(DataError, match="negative"):
        jensen_shannon(p, -q)


def test_a_score_that_is_the_mass_sculpts_and_a_random_one_does_not():
    rng = np.random.default_rng(1)
    mass, background = rng.exponential(60, 40_000) + 30, rng.random(40_000) < 0.8
    blind = mass_sculpting(mass, rng.random(40_000), background)
    seeing = mass_sculpting(mass, mass, background)
    assert blind.divergence < 0.005
    assert seeing.divergence > 0.5
    for found in (blind, seeing):
        assert found.passed.sum() + found.failed.sum() + found.outside == background.sum()
    weighted = mass_sculpting(mass, mass, background, weight=np.full(40_000, 2.0))
    assert weighted.divergence == pytest.approx(seeing.divergence)
    assert weighted.passed.sum() == 2 * seeing.passed.sum()


def test_sculpting_refuses_shapes():
    with pytest.raises(DataError, match=r"\(3,\), \(2,\)"):
        mass_sculpting(np.zeros(3), np.zeros(2), np.zeros(3, bool))


def test_reliability_by_hand():
    found = reliability(np.array([True, False, True, True]), np.array([0.1, 0.2, 0.9, 1.0]), bins=2)
    assert found.edges.tolist() == [0, 0.5, 1]
    assert found.predicted.tolist() == pytest.approx([0.15, 0.95])
    assert found.observed.value.tolist() == [0.5, 1]
    assert found.error == pytest.approx((0.35 + 0.05) / 2)
    empty = reliability(np.array([True]), np.array([0.9]), bins=2)
    assert np.isnan(empty.predicted[0])
    assert empty.error == pytest.approx(0.1)


def test_reliability_of_honest_probabilities():
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    assert reliability(rng.random(50_000) < p, p).error < 0.01
    assert reliability(rng.random(50_000) < p**2, p).error > 0.1


def test_reliability_refuses():
    with pytest.raises(DataError, match="from 0 to 1"):
        reliability(np.array([True]), np.array([1.2]))
    with pytest.raises(ConfigError, match="bins is 0"):
        reliability(np.array([True]), np.array([0.2]), bins=0)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(20_000, 5))
    honest = calibrated(logits, 1.0)
    label = (honest.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    found = fit_temperature(label, temperature * logits)
    assert found == pytest.approx(temperature, rel=0.05)
    after = negative_log_likelihood(label, temperature * logits / found)
    assert after <= negative_log_likelihood(label, temperature * logits)


def test_calibration_refuses():
    with pytest.raises(DataError, match="0 to 2"):
        fit_temperature(np.array([3]), np.zeros((1, 3)))
    with pytest.raises(DataError, match=r"\(0,\)"):
        fit_temperature(np.zeros(0, int), np.zeros((0, 3)))
    with pytest.raises(ConfigError, match="temperature is 0"):
        calibrated(np.zeros((1, 3)), 0.0)


def test_temperatures_by_hand():
    """A hot network is less sure, the order of the classes stays."""
    logits = np.array([[0.0, 2.0, 4.0]])
    odds = np.exp([0.0, 1.0, 2.0])
    np.testing.assert_allclose(calibrated(logits, 2.0)[0], odds / odds.sum())
    assert negative_log_likelihood(np.array([2]), logits / 2) == pytest.approx(-np.log(odds[2] / odds.sum()))


@pytest.mark.parametrize("shape", [(17,), (3, 2, 17)])
def test_discriminant_of_one_jet_and_of_tables_of_jets(shape):
    scores = np.random.default_rng(0).random(shape)
    found = discriminant(scores, "T")
    assert found.shape == shape[:-1]
    np.testing.assert_allclose(np.ravel(found), discriminant(scores.reshape(-1, 17), "T"))
    with pytest.raises(DataError, match="the last axis must be the 17 classes"):
        discriminant(np.moveaxis(scores[None], -1, 0), "T")
