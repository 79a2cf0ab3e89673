"""Pixel maps as images for networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import DataError
from recon.io.pixel_maps import CELLS, PLANES, packed, pixel_maps, take_events
from recon.tagging.pixel_maps import exchanged, images_of, merged_images, reflected, two_views
from tests.recon.io.neutrino_events import make_events


def test_views_are_channels():
    events = make_events(4)
    maps = pixel_maps(events)
    images = two_views(maps)
    assert images.shape == (4, PLANES, CELLS, 2)
    np.testing.assert_array_equal(images[..., :1], maps.xz)
    np.testing.assert_array_equal(images[..., 1:], maps.yz)
    # An event without a hit is an image of zeros.
    assert not images[0].any()


def test_images_of_some_events():
    events, rows = make_events(6), np.array([4, 1])
    np.testing.assert_array_equal(images_of(events, rows), two_views(pixel_maps(events))[rows])
    assert len(take_events(events, rows).label) == 2


def test_wrong_images_are_named():
    maps = pixel_maps(make_events(3))
    with pytest.raises(DataError, match=r"yz has shape \(3, 80, 100, 1\)"):
        two_views(maps._replace(yz=maps.yz.transpose(0, 2, 1, 3)))
    with pytest.raises(DataError, match=r"xz has shape \(3, 1, 100, 80\)"):
        two_views(maps._replace(xz=maps.xz.transpose(0, 3, 1, 2)))
    for bad in (np.nan, -0.1):
        spoiled = np.array(maps.xz)
        spoiled[2, 5, 5] = bad
        with pytest.raises(DataError, match="xz of event 2 has pixels that are NaN or negative"):
            two_views(maps._replace(xz=spoiled))


def test_reflection_exchanges_left_and_right_only():
    events = make_events(200, hits=4)
    mirrored = reflected(events, np.random.default_rng(0), noise=0.0)
    np.testing.assert_array_equal(mirrored.charge, events.charge)
    before, after = two_views(pixel_maps(events)), two_views(pixel_maps(mirrored))
    # Up and down are not the same: cosmic rays come from above, and the beam goes up.
    np.testing.assert_array_equal(before[..., 1], after[..., 1])
    flipped = np.zeros(200, bool)
    for event in range(200):
        same = np.array_equal(before[event, ..., 0], after[event, ..., 0])
        other = np.array_equal(before[event, :, ::-1, 0], after[event, ..., 0])
        assert same or other
        flipped[event] = other and not same
    filled = (before[..., 0] > 0).any((1, 2))
    assert 0.4 < flipped[filled].mean() < 0.6


def test_exchanged_images_are_those_of_mirrored_events():
    events = make_events(6, hits=9)
    cell = np.where(events.view == 0, CELLS - 1 - events.cell, events.cell).astype(np.int32)
    expected = two_views(pixel_maps(events._replace(cell=cell)))
    np.testing.assert_array_equal(exchanged(two_views(pixel_maps(events))), expected)


def test_bytes_hold_the_same_events():
    events = make_events(8, hits=30)
    small = packed(events)
    hits = (events.view, events.plane, events.cell)
    assert sum(x.nbytes for x in (small.view, small.plane, small.cell)) * 4 == sum(x.nbytes for x in hits)
    rng = [np.random.default_rng(7) for _ in range(2)]
    for one, other in ((small, events), (reflected(small, rng[0]), reflected(events, rng[1]))):
        np.testing.assert_array_equal(two_views(pixel_maps(one)), two_views(pixel_maps(other)))


def test_noise_changes_charges_a_little():
    events = make_events(100)
    ratio = reflected(events, np.random.default_rng(1), noise=0.01).charge / events.charge
    assert 0.007 < ratio.std() < 0.013
    assert abs(ratio.mean() - 1) < 0.002


def test_merged_picture_by_hand():
    images = jnp.zeros((1, PLANES, CELLS, 2)).at[0, 10:12, 40:44, 0].set(1.0).at[0, 90, 20, 1].set(0.5)
    picture = merged_images(images, 160)
    assert picture.shape == (1, 160, 160, 3)
    for channel in range(1, 3):
        np.testing.assert_array_equal(picture[..., channel], picture[..., 0])
    # 160 cells above each other keep their rows; 100 planes are stretched to 160 columns.
    rows, columns = np.nonzero(np.asarray(picture[0, :, :, 0]) > 0.3)
    upper = rows < 80
    assert rows[upper].min() == 40
    assert rows[upper].max() == 43
    assert 14 <= columns[upper].min() < columns[upper].max() <= 19
    assert set(rows[~upper]) == {100}
    assert abs(columns[~upper].mean() - 1.6 * 90.5) < 1.5


def test_merging_keeps_the_mean():
    images = jnp.asarray(two_views(pixel_maps(make_events(3))))
    picture = jax.jit(merged_images)(images)
    np.testing.assert_allclose(picture[..., 0].mean((1, 2)), images.mean((1, 2, 3)), rtol=0.1, atol=1e-6)
