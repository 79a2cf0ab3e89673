"""Hits and images of neutrino events, and the checks of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import DataError
from recon.io.pixel_maps import (
    check_events,
    drop_outside,
    grey_values,
    has_empty_view,
    join_events,
    pixel_maps,
    take_events,
)
from tests.recon.io.neutrino_events import assert_same, make_events


def slow_maps(events):
    """One hit after the other."""
    images = np.zeros((2, len(events.label), 100, 80, 1))
    for row in range(len(events.label)):
        for hit in range(events.offsets[row], events.offsets[row + 1]):
            images[events.view[hit], row, events.plane[hit], events.cell[hit]] += events.charge[hit]
    lit = images > 0
    images[lit] = np.minimum(np.maximum(np.floor(images[lit] / 0.06 * 255), 1), 255) / 255
    return images


def test_images_beside_a_loop():
    events = make_events(20, seed=4)
    maps = pixel_maps(events)
    xz, yz = slow_maps(events)
    np.testing.assert_allclose(maps.xz, xz, atol=1e-6)
    np.testing.assert_allclose(maps.yz, yz, atol=1e-6)
    np.testing.assert_array_equal(maps.label, events.label)
    assert maps.xz.dtype == np.float32
    assert maps.xz.shape == (20, 100, 80, 1)


def test_hits_of_one_pixel_add_up():
    events = make_events(2, seed=1, hits=1)
    twice = {name: np.repeat(getattr(events, name), 2) for name in ("view", "plane", "cell")}
    charge = np.array([0.01, 0.02], np.float32)
    doubled = events._replace(offsets=np.array([0, 0, 2]), charge=charge, **twice)
    lit = np.concatenate([part[part > 0] for part in pixel_maps(doubled)[:2]])
    assert lit.tolist() == pytest.approx([127 / 255])


def test_grey_values():
    # 60 MeV is the brightest; a hit is never as dark as no hit.
    charge = np.array([1e-6, 0.0119, 0.03, 0.06, 5.0], np.float32)
    assert (grey_values(charge) * 255).round(4).tolist() == [1, 50, 127, 255, 255]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000))
def test_the_order_of_events_is_kept(n, seed):
    events = make_events(n, seed=seed)
    rows = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(pixel_maps(take_events(events, rows)).xz, pixel_maps(events).xz[rows])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000), st.integers(0, 9))
def test_parts_join_to_the_whole(n, seed, cut):
    events = make_events(n, seed=seed)
    parts = [take_events(events, rows) for rows in np.split(np.arange(n), [min(cut, n)])]
    assert_same(join_events(parts), events)


def test_no_events():
    none = take_events(make_events(3), np.zeros(0, int))
    assert pixel_maps(none).xz.shape == (0, 100, 80, 1)
    assert has_empty_view(none).shape == (0,)


def test_empty_views():
    events = make_events(12, seed=2)
    slow = [
        set(events.view[low:high]) != {0, 1}
        for low, high in zip(events.offsets, events.offsets[1:], strict=False)
    ]
    assert has_empty_view(events).tolist() == slow
    assert slow[0]
    with pytest.raises(
        DataError, match=r"a\.root: event 40: branch hit_view has no hit in one of the views \("
    ):
        pixel_maps(events, empty_views="refuse", where="a.root")
    whole = take_events(events, np.flatnonzero(~has_empty_view(events)))
    assert len(pixel_maps(whole, empty_views="refuse").label) == slow.count(False)


def test_hits_outside_of_the_window_are_counted():
    events = make_events(5, seed=3)
    plane, cell = events.plane.copy(), events.cell.copy()
    plane[0], cell[1], cell[-1] = 100, -1, 80
    moved = events._replace(plane=plane, cell=cell)
    dropped = drop_outside(moved)
    assert dropped.outside.sum() == events.outside.sum() + 3
    assert len(dropped.charge) == len(events.charge) - 3
    row = np.repeat(np.arange(5), np.diff(events.offsets))
    kept = np.delete(np.arange(len(row)), [0, 1, len(row) - 1])
    np.testing.assert_array_equal(np.diff(dropped.offsets), np.bincount(row[kept], minlength=5))
    np.testing.assert_array_equal(dropped.charge, events.charge[kept])
    with pytest.raises(
        DataError, match=r"branch hit_plane is 100 at hit 0; allowed are 0 to 99 \(1 such hits\)"
    ):
        pixel_maps(moved)
    assert drop_outside(events) is events


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("charge", np.nan, "branch hit_charge is nan at hit 2; it must be finite"),
     ("charge", np.inf, "branch hit_charge is inf at hit 2"),
     ("charge", -0.5, r"branch hit_charge is -0\.5 at hit 2; it must be positive"),
     ("charge", 0.0, r"branch hit_charge is 0\.0 at hit 2; it must be positive"),
     ("view", 2, "branch hit_view is 2 at hit 2; allowed are 0 and 1"),
     ("view", -1, "branch hit_view is -1")],
)  # fmt: skip
def test_bad_hits_are_named(column, value, message):
    events = make_events(4, seed=8)
    row = 2
    hit = int(events.offsets[row]) + 2
    assert hit < events.offsets[row + 1]
    values = getattr(events, column).copy()
    values[hit] = value
    with pytest.raises(DataError, match=f"file: event {40 + row}: {message}"):
        check_events(events._replace(**{column: values}), "file")


def test_bad_events_are_named():
    events = make_events(4)
    label = events.label.copy()
    label[3] = -2
    with pytest.raises(DataError, match="event 43: branch label is -2"):
        check_events(events._replace(label=label), "file")
    energy = events.truth.energy.copy()
    energy[1] = np.nan
    with pytest.raises(DataError, match="event 41: branch truth_energy is nan"):
        check_events(events._replace(truth=events.truth._replace(energy=energy)), "file")
    with pytest.raises(DataError, match="columns of the hits have lengths"):
        check_events(events._replace(charge=events.charge[:-1]), "file")


def test_truth_for_all_or_for_none():
    with pytest.raises(DataError, match="some events have truth, others have none"):
        join_events([make_events(2), make_events(2, truth=False)])


def test_the_borders_of_the_window_are_inside():
    """The first and the last plane and cell, beside hits that are one further."""
    events = make_events(2, seed=5, hits=9)
    n = len(events.charge)
    assert n >= 5
    plane, cell = (
        np.resize(np.array(values, np.int32), n) for values in ([0, 99, 0, 100, -1], [0, 79, 80, 0, 0])
    )
    dropped = drop_outside(events._replace(plane=plane, cell=cell))
    inside = np.arange(n) % 5 < 2
    np.testing.assert_array_equal(dropped.charge, events.charge[inside])
    assert {(int(p), int(c)) for p, c in zip(dropped.plane, dropped.cell, strict=True)} == {(0, 0), (99, 79)}
    maps = pixel_maps(dropped)
    assert (maps.xz[1, 0, 0] + maps.yz[1, 0, 0] > 0) & (maps.xz[1, 99, 79] + maps.yz[1, 99, 79] > 0)
