"""Results of parts of the points, put back among all."""

from __future__ import annotations

import numpy as np

from recon.hgcal_clustering.rows import join_rows, nothing, to_rows
from recon.types import NOISE
from tests.recon.hgcal_clustering.clusters_by_truth import group


def test_spread_by_hand():
    found = group([0, 0, NOISE], [1.0, 2.0, 3.0])._replace(
        nearest_higher=np.array([1, NOISE, NOISE], np.int32)
    )
    spread = to_rows(found, np.array([1, 3, 4]), 6)
    assert spread.ids.tolist() == [NOISE, 0, NOISE, 0, NOISE, NOISE]
    assert spread.nearest_higher.tolist() == [NOISE, 3, NOISE, NOISE, NOISE, NOISE]
    assert spread.is_seed.tolist() == [False, False, False, True, False, False]
    assert spread.rho.tolist() == [0, 1, 0, 2, 3, 0]
    assert np.isinf(spread.delta[[0, 2, 5]]).all()
    assert spread.n_clusters == 1


def test_padding_of_a_part_is_dropped():
    found = group([0, 0, NOISE, NOISE], [1.0, 2.0, 0.0, 0.0])
    assert to_rows(found, np.array([2, 0]), 3).ids.tolist() == [0, NOISE, 0]


def test_joined_clusters_are_numbered_by_their_seeds():
    # Seeds in rows 4 and 0 of the first part, 2 of the second.
    first = group([0, 0, 1], [1.0, 2.0, 3.0])
    second = group([0, 0], [5.0, 1.0])
    joined = join_rows([(first, np.array([1, 4, 0])), (second, np.array([2, 3]))], 6)
    assert np.flatnonzero(joined.is_seed).tolist() == [0, 2, 4]
    assert joined.ids.tolist() == [0, 2, 1, 1, 2, NOISE]
    assert joined.n_clusters == 3
    assert not joined.overflow


def test_joining_one_part_changes_nothing():
    rng = np.random.default_rng(1)
    found = group(rng.integers(-1, 5, 30), rng.random(30))
    joined = join_rows([(found, np.arange(30))], 30)
    names = {tuple(sorted(np.flatnonzero(found.ids == k))) for k in range(5)}
    assert {tuple(sorted(np.flatnonzero(joined.ids == k))) for k in range(5)} == names
    assert (np.diff(joined.ids[joined.is_seed]) == 1).all()


def test_a_part_that_overflowed_marks_the_whole():
    found = group([0], [1.0])._replace(overflow=np.bool_(True))
    assert join_rows([(found, np.array([0])), (nothing(1), np.array([1]))], 2).overflow


def test_no_parts():
    joined = join_rows([], 3)
    assert joined.ids.tolist() == [NOISE] * 3
    assert joined.n_clusters == 0
