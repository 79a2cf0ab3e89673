"""The layer-pair map: geometry of segments and layers, quantiles of the windows, what cannot be learned."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.tracking.truth import TargetHits, true_segments
from recon.tracking.windows import (
    SIZE_EDGES,
    WindowConfig,
    incidence,
    layer_geometry,
    learn_windows,
    matching_pairs,
    segment_shape,
)
from tests.reference import graph as twin


def selection(config):
    return TargetHits(
        pt_min=config.pt_min, min_hits=config.min_hits, radius_max=config.radius_max, eta_max=config.eta_max
    )


def all_segments(events, detector, config):
    """(layer pairs, shapes) of the true segments of all events."""
    pairs, ends = [], []
    for event in events:
        inner, outer = true_segments(event, selection(config))
        layer = event.hits.layer
        pairs.append(np.stack([layer[inner], layer[outer]], 1))
        ends.append(np.stack([event.hits.position[inner], event.hits.position[outer]], 1))
    ends = np.concatenate(ends)
    return np.concatenate(pairs), segment_shape(ends[:, 0], ends[:, 1])


# Segments.


def test_segment_shape_by_hand():
    # From (0, 30) to (-40, 0) mm in the plane, 10 mm up: a quarter turn, radius 30 to 40.
    shape = segment_shape(np.array([[0.0, 30.0, 5.0]]), np.array([[-40.0, 0.0, 15.0]]))
    assert shape.delta_phi[0] == pytest.approx(np.pi / 2)
    assert shape.delta_r[0] == pytest.approx(10.0)
    assert shape.delta_z[0] == pytest.approx(10.0)
    assert shape.z0[0] == pytest.approx(5.0 - 30.0)
    assert shape.theta[0] == pytest.approx(np.pi / 4)
    # The circle through both and the origin has the hypotenuse, 50 mm, as its diameter.
    assert shape.curvature[0] == pytest.approx(2 / 50)


def test_segment_shape_agrees_with_the_slow_twin():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1000, 1000, (2, 300, 3))
    shape = segment_shape(*points)
    for row in range(300):
        slow = twin.segment(points[:, row], 0, 1)
        for name in ("delta_phi", "delta_r", "delta_z", "z0", "curvature", "theta"):
            assert getattr(shape, name)[row] == pytest.approx(getattr(slow, name), rel=1e-9, abs=1e-12)


def test_rotations_about_the_beam_change_no_shape():
    points = np.random.default_rng(1).uniform(-1000, 1000, (2, 50, 3))
    cos, sin = np.cos(2.7), np.sin(2.7)
    turned = points @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    for before, after in zip(segment_shape(*points), segment_shape(*turned), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-7, atol=1e-9)


def test_segments_at_one_radius_stay_finite():
    shape = segment_shape(np.array([[30.0, 0.0, 0.0]]), np.array([[0.0, 30.0, 1.0]]))
    assert np.isfinite([column[0] for column in shape]).all()


def test_incidence_by_hand():
    # A sensor with u along y, v along z and its normal along x.
    rotation = np.array([[[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]])
    np.testing.assert_allclose(incidence(rotation, np.array([[2.0, -3.0, 1.0]])), [[1.5, 0.5]])
    assert np.isfinite(incidence(rotation, np.array([[0.0, 1.0, 1.0]]))).all()


def test_matching_pairs_agree_with_loops():
    rng = np.random.default_rng(2)
    left, right = rng.integers(0, 12, 40), rng.integers(0, 12, 30)
    slow = {(i, j) for i in range(40) for j in range(30) if left[i] == right[j]}
    i, j = matching_pairs(left, right)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == slow
    assert len(i) == len(slow)


def test_matching_nothing():
    none = np.zeros(0, np.int64)
    for left, right in ((none, np.arange(3)), (np.arange(3), none), (none, none)):
        i, j = matching_pairs(left, right)
        assert len(i) == len(j) == 0


# Layers.


def test_layers_of_the_generic_detector(generic):
    is_barrel, reach, extent, is_pixel = layer_geometry(generic)
    volumes = np.array([generic.volume_id[generic.layer == layer][0] for layer in range(48)])
    np.testing.assert_array_equal(is_barrel, np.isin(volumes, [8, 13, 17]))
    np.testing.assert_array_equal(is_pixel, np.isin(volumes, [7, 8, 9]))
    assert (reach[:, 0] < reach[:, 1]).all()
    assert (extent[:, 0] < extent[:, 1]).all()
    # The innermost layer lies around a radius of 32 mm and is symmetric in z.
    first = np.flatnonzero(volumes == 8)[0]
    assert reach[first, 0] < 32 < reach[first, 1]
    np.testing.assert_allclose(extent[first, 0], -extent[first, 1], atol=1.0)


def test_hits_lie_within_their_layers(learning_events, generic):
    is_barrel, reach, extent, _ = layer_geometry(generic)
    hits = learning_events[0].hits
    x, y, z = hits.position.T
    r, barrel = np.hypot(x, y), is_barrel[hits.layer]
    across, along = np.where(barrel, r, z), np.where(barrel, z, r)
    # The point of a tilted sensor that is nearest to the beam lies between the nine that are looked at.
    for value, limits, slack in ((across, reach, 0.3), (along, extent, 0.1)):
        low, high = limits[hits.layer].T
        assert ((value >= low - slack) & (value <= high + slack)).all()


# Learning.


def test_the_table_is_sorted_and_indexed_by_the_outer_layer(pairs):
    assert (np.diff(pairs.outer) >= 0).all()
    assert len(set(zip(pairs.inner, pairs.outer, strict=True))) == len(pairs.inner)
    for layer in range(len(pairs.first)):
        rows = np.arange(pairs.first[layer], pairs.first[layer] + pairs.count[layer])
        np.testing.assert_array_equal(rows, np.flatnonzero(pairs.outer == layer))
    assert pairs.count.sum() == len(pairs.outer)


def test_pairs_are_those_of_true_segments(pairs, learning_events, generic):
    seen, _ = all_segments(learning_events, generic, WindowConfig())
    number = Counter(map(tuple, seen.tolist()))
    common = {pair for pair, n in number.items() if n >= WindowConfig().min_fraction * len(seen)}
    assert set(zip(pairs.inner.tolist(), pairs.outer.tolist(), strict=True)) == common


@pytest.mark.parametrize("quantile", [0.7, 0.95])
def test_windows_keep_their_share(learning_events, generic, quantile):
    config = WindowConfig(quantile=quantile, margin=1.0)
    learned = learn_windows(learning_events, generic, config)
    seen, shape = all_segments(learning_events, generic, config)
    kept = []
    for row, (inner, outer) in enumerate(zip(learned.inner, learned.outer, strict=True)):
        chosen = (seen[:, 0] == inner) & (seen[:, 1] == outer)
        # A float32 window may cut the segment that defines it.
        inside = np.abs(shape.z0[chosen]) <= learned.z0[row] * (1 + 1e-6)
        assert inside.mean() >= quantile - 1 / chosen.sum()
        assert (
            np.abs(shape.delta_phi[chosen]) <= learned.delta_phi[row]
        ).mean() >= quantile - 1 / chosen.sum()
        # The curvature's window holds the softest particle at least.
        assert learned.curvature[row] >= 0.3e-3 * 2 / config.pt_min * 0.999
        if chosen.sum() > 100:
            # 2 mm are added to the window.
            kept.append((np.abs(shape.z0[chosen]) <= learned.z0[row] - 2.0).mean())
    # Not wider than asked for.
    assert np.mean(kept) == pytest.approx(quantile, abs=0.02)


def test_a_margin_widens_the_windows(learning_events, generic, pairs):
    wide = learn_windows(learning_events, generic, WindowConfig(margin=2.1))
    np.testing.assert_allclose(wide.z0 - 2.0, 2.0 * (pairs.z0 - 2.0), rtol=1e-4)
    np.testing.assert_allclose(wide.delta_phi - 1e-3, 2.0 * (pairs.delta_phi - 1e-3), rtol=1e-4, atol=1e-7)
    finite = np.isfinite(pairs.triplet)
    assert finite.any()
    np.testing.assert_allclose(wide.triplet[finite], 2.0 * pairs.triplet[finite], rtol=1e-4)


def test_azimuth_windows_end_at_a_quarter_turn(learning_events, generic):
    wide = learn_windows(learning_events, generic, WindowConfig(margin=1000.0))
    # The search compares sines.
    np.testing.assert_allclose(wide.delta_phi, np.pi / 2)


def test_slopes_are_those_of_the_clusters(pairs, learning_events):
    hit = np.bincount(np.concatenate([event.hits.layer for event in learning_events]), minlength=48) > 150
    # The synthetic clusters grow by three and two cells with the tangent.
    np.testing.assert_allclose(pairs.slope[hit & pairs.is_barrel, 1], 2.0, rtol=0.1)
    np.testing.assert_allclose(np.median(pairs.slope[hit & pairs.is_barrel, 0]), 3.0, rtol=0.35)


def test_size_windows_keep_their_share(learning_events, generic):
    config = WindowConfig(size_quantile=0.9)
    learned = learn_windows(learning_events, generic, config)
    inside = []
    for event in learning_events:
        hits = event.hits
        inner, outer = true_segments(event, selection(config))
        tangent = incidence(generic.rotation[hits.module[inner]], hits.position[outer] - hits.position[inner])
        for axis in (0, 1):
            expected = learned.slope[hits.layer[inner], axis] * tangent[:, axis]
            bins = hits.layer[inner], axis, np.digitize(expected, SIZE_EDGES)
            residual = hits.features[inner, axis] - expected
            inside.append((residual >= learned.size_low[bins]) & (residual <= learned.size_high[bins]))
    share = np.concatenate(inside).mean()
    assert 0.88 < share < 1.0


def test_windows_of_bins_without_clusters_are_open(pairs):
    unseen = ~np.isfinite(pairs.size_low)
    assert unseen.any()
    assert not unseen.all()
    np.testing.assert_array_equal(pairs.size_low[unseen], -np.inf)
    np.testing.assert_array_equal(pairs.size_high[unseen], np.inf)


def test_events_without_cluster_shapes_leave_the_size_windows_open(learning_events, generic, pairs):
    bare = [
        event._replace(hits=event.hits._replace(features=np.zeros_like(event.hits.features)))
        for event in learning_events
    ]
    learned = learn_windows(bare, generic, WindowConfig())
    assert np.isneginf(learned.size_low).all()
    assert np.isposinf(learned.size_high).all()
    np.testing.assert_array_equal(learned.z0, pairs.z0)


def test_rare_classes_of_triplets_have_no_window(small_event, generic):
    learned = learn_windows([small_event], generic, WindowConfig(pixel_only=True))
    # Three pixel hits are common; with pixels alone there is no strip hit.
    assert np.isfinite(learned.triplet[0]).all()
    assert np.isposinf(learned.triplet[1:]).all()


def test_pixels_alone(learning_events, generic):
    learned = learn_windows(learning_events, generic, WindowConfig(pixel_only=True))
    assert learned.is_pixel[learned.inner].all()
    assert learned.is_pixel[learned.outer].all()
    assert len(learned.inner) > 5


def test_the_order_of_the_events_does_not_matter(learning_events, generic, pairs):
    again = learn_windows(learning_events[::-1], generic, WindowConfig())
    for before, after in zip(pairs, again, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-4)


def test_simulated_events_teach_windows(simulated_events, generic):
    learned = learn_windows(simulated_events, generic, WindowConfig())
    assert len(learned.inner) > 40
    assert (learned.delta_phi < 0.5).all()
    # A tilted track covers more cells.
    assert (learned.slope[learned.is_pixel & learned.is_barrel] > 1.0).all()


# What cannot be learned.


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("quantile", 0.5),
        ("quantile", 1.0),
        ("size_quantile", 1.2),
        ("pt_min", 0.05),
        ("min_fraction", -0.1),
        ("min_fraction", 1.0),
        ("margin", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ConfigError, match=rf"WindowConfig\.{setting} = {value}"):
        WindowConfig(**{setting: value})


def test_events_without_truth_are_refused(learning_events, generic):
    data = learning_events[1]._replace(particles=None, truth=None)
    with pytest.raises(DataError, match="event 1 has no truth"):
        learn_windows([learning_events[0], data], generic, WindowConfig())


def test_no_events_are_refused(generic):
    with pytest.raises(DataError, match="no events"):
        learn_windows([], generic, WindowConfig())


def test_a_selection_that_nobody_passes_is_refused(small_event, generic):
    with pytest.raises(DataError, match=r"no particle in 1 events passes .*pt_min=1000"):
        learn_windows([small_event], generic, WindowConfig(pt_min=1000.0))


def test_pairs_that_are_all_too_rare_are_refused(small_event, generic):
    with pytest.raises(DataError, match=r"no pair of layers holds 0\.9 of the true segments"):
        learn_windows([small_event], generic, WindowConfig(min_fraction=0.9))
