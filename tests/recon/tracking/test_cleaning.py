"""Cuts on hits and on fitted tracks, at their boundaries."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.tracking.cleaning import CleaningConfig, accept, remove_outliers
from recon.tracking.fitting import FitResult

# Every number that matters is given: the defaults may be tuned.
CONFIG = CleaningConfig(hit_chi2=10.0, outlier_share=0.5, rounds=1, min_hits=4, pt_min=0.5, chi2_per_dof=3.0)

remove_jit = jax.jit(remove_outliers, static_argnums=2)
accept_jit = jax.jit(accept, static_argnums=2)


def fitted(hit_chi2, *, chi2=1.0, ndof=5, pt=1.0, charge=1, theta=1.5, converged=True):
    """A fit of as many tracks as there are rows of `hit_chi2`."""
    hit_chi2 = np.atleast_2d(np.asarray(hit_chi2, np.float32))
    n = len(hit_chi2)
    parameters = np.zeros((n, 5), np.float32)
    parameters[:, 3] = theta
    parameters[:, 4] = charge * np.sin(theta) / pt
    return FitResult(
        parameters=parameters,
        covariance=np.tile(np.eye(5, dtype=np.float32), (n, 1, 1)),
        chi2=np.full(n, chi2, np.float32),
        ndof=np.full(n, ndof, np.int32),
        hit_chi2=hit_chi2,
        converged=np.full(n, converged),
    )


def cleaned(hits, hit_chi2, config=CONFIG, **fit):
    """Hits that remain of one track."""
    hits = np.atleast_2d(np.asarray(hits, np.int32))
    return np.asarray(remove_jit(hits, fitted(hit_chi2, **fit), config)).tolist()[0]


def accepted(n_hits=6, config=CONFIG, **fit):
    return bool(accept_jit(np.array([n_hits], np.int32), fitted(np.zeros((1, 6)), **fit), config)[0])


def test_outlier_leaves():
    assert cleaned([5, 7, 2, 9, 4, 1], [1, 2, 50, 3, 1, 0]) == [5, 7, -1, 9, 4, 1]


def test_good_track_keeps_its_hits():
    assert cleaned([5, 7, 2, 9, 4, 1], [1, 2, 10.0, 3, 1, 0]) == [5, 7, 2, 9, 4, 1]


def test_hit_chi2_is_an_upper_bound():
    above = np.nextafter(np.float32(10), np.float32(11))
    assert cleaned([5, 7, 2, 9, 4, 1], [1, 2, above, 3, 1, 0]) == [5, 7, -1, 9, 4, 1]


@pytest.mark.parametrize(
    ("share", "left"),
    [
        (0.0, [-1, 7, -1, 9, -1, 1, 3]),
        (0.4, [-1, 7, -1, 9, 4, 1, 3]),  # 40 is half of 80, 20 a quarter
        (0.5, [-1, 7, -1, 9, 4, 1, 3]),  # exactly the share
        (0.51, [5, 7, -1, 9, 4, 1, 3]),
        (1.0, [5, 7, -1, 9, 4, 1, 3]),
    ],
)
def test_only_the_worst_outliers_leave(share, left):
    chi2 = [40, 2, 80, 3, 20, 0, 0]
    assert cleaned([5, 7, 2, 9, 4, 1, 3], chi2, replace(CONFIG, outlier_share=share)) == left


@pytest.mark.parametrize(("min_hits", "leaves"), [(5, True), (6, False)])
def test_enough_hits_must_remain(min_hits, leaves):
    left = cleaned([5, 7, 2, 9, 4, 1], [1, 2, 50, 3, 1, 0], replace(CONFIG, min_hits=min_hits))
    assert (left[2] == -1) == leaves


def test_padding_does_not_count_as_hits():
    # Five hits and a padding; what stands in the chi2 of the padding is nobody's.
    hits, chi2 = [5, 7, 2, 9, 4, -1], [1, 2, 50, 3, 1, 1e9]
    assert cleaned(hits, chi2) == [5, 7, -1, 9, 4, -1]
    assert cleaned(hits, chi2, replace(CONFIG, min_hits=5)) == hits


def test_fit_that_did_not_converge_judges_no_hits():
    assert cleaned([5, 7, 2, 9, 4, 1], [1, 2, 50, 3, 1, 0], converged=False) == [5, 7, 2, 9, 4, 1]


def test_tracks_are_judged_one_by_one():
    hits = np.arange(12, dtype=np.int32).reshape(2, 6)
    chi2 = np.zeros((2, 6), np.float32)
    chi2[1, 3] = 99
    left = np.asarray(remove_jit(hits, fitted(chi2), CONFIG))
    np.testing.assert_array_equal(left[0], hits[0])
    assert left[1].tolist() == [6, 7, 8, -1, 10, 11]


def test_good_track_is_accepted():
    assert accepted()
    assert accepted(charge=-1)


@pytest.mark.parametrize(("n_hits", "good"), [(3, False), (4, True)])
def test_number_of_hits(n_hits, good):
    assert accepted(n_hits) == good


@pytest.mark.parametrize(("chi2", "good"), [(14.9, True), (15.0, True), (15.1, False)])
def test_chi2_per_degree_of_freedom(chi2, good):
    assert accepted(chi2=chi2, ndof=5) == good


def test_chi2_without_degrees_of_freedom():
    assert accepted(chi2=2.9, ndof=0)
    assert not accepted(chi2=3.1, ndof=0)


@pytest.mark.parametrize(("pt", "good"), [(0.49, False), (0.51, True)])
@pytest.mark.parametrize("charge", [-1, 1])
@pytest.mark.parametrize("theta", [0.1, 1.5, 3.0])
def test_transverse_momentum(pt, good, charge, theta):
    assert accepted(pt=pt, charge=charge, theta=theta) == good


def test_straight_track_is_not_soft():
    assert accepted(pt=1e12)


def test_fit_that_did_not_converge_is_no_track():
    assert not accepted(converged=False)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("hit_chi2", 0.0), ("chi2_per_dof", -1.0), ("rounds", -1), ("min_hits", 2)],
)
def test_settings_out_of_range(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} = {value}"):
        CleaningConfig(**{setting: value})
