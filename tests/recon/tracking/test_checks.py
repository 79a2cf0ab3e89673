"""Input that the tracking chain refuses, by column and row; padding of hits."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import CapacityError, DataError
from recon.tracking.checks import LEAST_HITS, check_hits, pad_hits, padded_length


def changed(hits, name, row, value):
    column = getattr(hits, name).copy()
    column[row] = value
    return hits._replace(**{name: column})


def test_good_hits_pass(small_event, generic):
    check_hits(small_event.hits, generic)


def test_no_hits_pass(small_event, generic, select_hits):
    check_hits(select_hits(small_event, np.arange(0)).hits, generic)


def test_an_unknown_sensor_passes(small_event, generic):
    check_hits(changed(small_event.hits, "module", 3, -1), generic)


@pytest.mark.parametrize("name", ["position", "local", "variance", "features"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(small_event, generic, name, value):
    hits = changed(small_event.hits, name, (17, 1), value)
    with pytest.raises(DataError, match=rf"hits\.{name} is not finite in row 17: .*{value}.*\(1 such rows\)"):
        check_hits(hits, generic)


def test_the_first_of_several_rows_is_named(small_event, generic):
    hits = changed(small_event.hits, "position", [40, 9, 12], np.nan)
    with pytest.raises(DataError, match=r"row 9: .*\(3 such rows\)"):
        check_hits(hits, generic)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("layer", 48, "0 to 47"),
        ("layer", -1, "0 to 47"),
        ("module", 18_728, "-1 to 18727"),
        ("module", -2, "-1 to 18727"),
    ],
)
def test_indices_out_of_range_are_named(small_event, generic, name, value, allowed):
    with pytest.raises(DataError, match=rf"hits\.{name} is {value} in row 5; allowed are {allowed}"):
        check_hits(changed(small_event.hits, name, 5, value), generic)


def test_padding_is_not_looked_at(small_event, generic):
    hits = changed(small_event.hits, "valid", 4, False)
    for name, value in (("position", np.nan), ("layer", -1), ("features", np.inf)):
        hits = changed(hits, name, 4, value)
    check_hits(hits, generic)


@pytest.mark.parametrize("name", ["position", "module", "local", "variance", "features", "valid"])
def test_columns_of_another_length_are_named(small_event, generic, name):
    n = len(small_event.hits.layer)
    hits = small_event.hits._replace(**{name: getattr(small_event.hits, name)[:-2]})
    with pytest.raises(DataError, match=rf"hits\.{name} has {n - 2} rows, hits\.layer has {n}"):
        check_hits(hits, generic)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("position", (8, 2)), ("local", (8,)), ("variance", (8, 3)), ("module", (8, 1)), ("valid", (8, 1))],
)
def test_columns_of_another_shape_are_named(small_event, generic, select_hits, name, shape):
    hits = select_hits(small_event, np.arange(8)).hits
    column = np.ones(shape, getattr(hits, name).dtype)
    with pytest.raises(DataError, match=rf"hits\.{name} has shape \({shape[0]},.*needed is one event, \(8,"):
        check_hits(hits._replace(**{name: column}), generic)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_cluster_sizes_are_asked_for(small_event, generic, select_hits, shape):
    hits = select_hits(small_event, np.arange(8)).hits._replace(features=np.ones(shape, np.float32))
    with pytest.raises(DataError, match="cluster sizes along u and v as the first two columns"):
        check_hits(hits, generic)


def test_a_batch_is_refused(small_event, generic):
    batch = type(small_event.hits)(*(column[None] for column in small_event.hits))
    with pytest.raises(DataError, match="needed is one event"):
        check_hits(batch, generic)


def test_padded_hits_keep_their_rows_and_mark_the_rest(small_event):
    n = len(small_event.hits.layer)
    padded = pad_hits(small_event.hits, n + 9)
    for before, after in zip(small_event.hits, padded, strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after[:n], before)
    assert not padded.valid[n:].any()
    np.testing.assert_array_equal(padded.layer[n:], -1)
    np.testing.assert_array_equal(padded.module[n:], -1)
    # One over the variance is taken of padding as well.
    np.testing.assert_array_equal(padded.variance[n:], 1)


@pytest.mark.parametrize("n", [0, 1, LEAST_HITS, LEAST_HITS + 1, 3000])
def test_lengths_come_from_a_ladder(learning_events, select_hits, n):
    hits = select_hits(learning_events[0], np.arange(n)).hits
    length = len(pad_hits(hits).layer)
    assert length >= max(n, LEAST_HITS)
    assert length <= max(1.25 * n, LEAST_HITS)
    assert len(pad_hits(pad_hits(hits)).layer) == length


def test_one_length_holds_several_events(learning_events, small_event):
    several = [event.hits for event in (small_event, *learning_events)]
    assert padded_length(several) == max(len(pad_hits(hits).layer) for hits in several)
    assert padded_length([]) == LEAST_HITS


def test_too_short_a_length_is_refused(small_event):
    n = len(small_event.hits.layer)
    with pytest.raises(CapacityError, match=f"{n} rows of .* do not fit into a capacity of {n - 1}"):
        pad_hits(small_event.hits, n - 1)
