"""Lengths of the program's arrays: enough for ordinary events, grown where they were not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recon.errors import CapacityError, ConfigError
from recon.padding import bucket_size
from recon.tracking import capacity as capacity_module
from recon.tracking import load_model
from recon.tracking.capacity import (
    MAX_TRIES,
    TrackingCapacity,
    TrackingSizes,
    capacity_for,
    capacity_in_use,
    check_sizes,
    grow,
    limits,
    overflows,
)
from recon.tracking.density import SearchDensity, search_density
from recon.tracking.graph import GraphCapacity, GraphSizes
from recon.tracking.windows import WindowConfig, learn_windows


def sizes_of(capacity, **changes):
    """Sizes that exactly fill a capacity, but for the changes."""
    return TrackingSizes(**limits(capacity) | changes)


@pytest.fixture
def capacity():
    graph = GraphCapacity(**{name: 100 + 8 * index for index, name in enumerate(GraphSizes._fields)})
    return TrackingCapacity(graph=graph, tracks=30, track_hits=20)


@pytest.fixture(scope="module")
def pixel_pairs(learning_events, generic):
    return learn_windows(learning_events, generic, WindowConfig(pixel_only=True))


def test_limits_name_every_size_in_order(capacity):
    assert tuple(limits(capacity)) == TrackingSizes._fields
    assert limits(capacity)["queries"] == 100
    assert limits(capacity)["nodes"] == 156
    assert limits(capacity)["track_hits"] == 20


def test_what_just_fits_does_not_overflow(capacity):
    sizes = sizes_of(capacity)
    assert overflows(sizes, capacity) == {}
    check_sizes(sizes, capacity)
    assert grow(sizes, capacity) == capacity


@pytest.mark.parametrize("name", TrackingSizes._fields)
def test_one_too_many_overflows_there_alone(capacity, name):
    needed = limits(capacity)[name] + 1
    sizes = sizes_of(capacity, **{name: needed})
    assert overflows(sizes, capacity) == {name: needed}
    with pytest.raises(
        CapacityError, match=rf"{needed} tracking {name} do not fit .* {needed - 1};"
    ) as caught:
        check_sizes(sizes, capacity)
    assert (caught.value.capacity, caught.value.needed) == (needed - 1, needed)


@pytest.mark.parametrize("name", TrackingSizes._fields)
def test_growth_holds_what_was_needed_and_leaves_the_rest(capacity, name):
    needed = 3 * limits(capacity)[name]
    sizes = sizes_of(capacity, **{name: needed})
    grown = grow(sizes, capacity)
    assert overflows(sizes, grown) == {}
    assert limits(grown)[name] > needed
    assert {key: value for key, value in limits(grown).items() if key != name} == {
        key: value for key, value in limits(capacity).items() if key != name
    }


def test_several_arrays_grow_at_once(capacity):
    sizes = sizes_of(capacity, rows=1000, edges=2000, track_hits=25)
    assert set(overflows(sizes, capacity)) == {"rows", "edges", "track_hits"}
    grown = limits(grow(sizes, capacity))
    # The ladder's steps are a fifth, on top of the tenth that is kept in reserve.
    assert 1100 <= grown["rows"] < 1400
    assert 2200 <= grown["edges"] < 2800
    assert grown["track_hits"] == 27


def test_tries_suffice_if_every_search_hides_the_needs_of_the_next():
    assert len(GraphSizes._fields) <= MAX_TRIES


@pytest.mark.parametrize("n_hits", [0, 512, 20_000, 120_000])
def test_capacities_are_multiples_and_grow_with_the_event(n_hits, pairs):
    small, large = limits(capacity_for(n_hits, pairs)), limits(capacity_for(2 * n_hits + 5000, pairs))
    for name in TrackingSizes._fields[:-1]:
        assert small[name] % 64 == 0
        assert small[name] < large[name]


def test_the_same_length_has_the_same_capacity(pairs):
    # A capacity is part of the program's key: equal ones must compare and hash as equal.
    assert capacity_for(4096, pairs) == capacity_for(4096, pairs)
    assert hash(capacity_for(4096, pairs)) == hash(capacity_for(4096, pairs))


def test_the_shipped_map_gets_the_needs_that_were_measured_with_it():
    density = search_density(load_model().pairs)
    assert density.queries == pytest.approx(capacity_module._MEASURED_WITH.queries, rel=0.01)
    assert density.doublets == pytest.approx(capacity_module._MEASURED_WITH.doublets, rel=0.01)
    for single, paired in capacity_module._factors(capacity_module._MEASURED_WITH).values():
        assert single in (0, 1)
        assert paired in (0, 1)


def test_wider_windows_get_more_room_where_windows_matter(pairs):
    wide = pairs._replace(delta_phi=2 * pairs.delta_phi, curvature=2 * pairs.curvature)
    narrow, wide = (limits(capacity_for(40_000, each)) for each in (pairs, wide))
    assert wide["queries"] == narrow["queries"]
    assert wide["rows"] == narrow["rows"]
    assert 1.8 * narrow["doublets"] < wide["doublets"] < 2 * narrow["doublets"]
    # Chance neighbours on both sides: more than in proportion.
    assert wide["triplets"] > 3 * narrow["triplets"]
    assert wide["edges"] > narrow["edges"]


def test_pixel_layers_alone_get_less_room_but_as_many_tracks(pairs, pixel_pairs):
    every, pixel = (limits(capacity_for(40_000, each)) for each in (pairs, pixel_pairs))
    for name in GraphSizes._fields:
        assert pixel[name] < every[name]
    assert pixel["queries"] < 0.6 * every["queries"]
    assert pixel["tracks"] >= every["tracks"]


# Sizes of two t tbar events, with 40 and 200 pile-up collisions, by map: its density, hits, `GraphSizes`.
MEASURED = [
    # The shipped map.
    ((1.934, 10.22), 35332, (73217, 132662, 86150, 109434, 62530, 50047, 20370, 12634)),
    ((1.934, 10.22), 136614, (282906, 512952, 600540, 1326655, 666224, 1024634, 94872, 55525)),
    # All layers, 1 GeV.
    ((1.904, 8.83), 35332, (72464, 121840, 78417, 96648, 52950, 39228, 19515, 12097)),
    ((1.904, 8.83), 136614, (279978, 472406, 549841, 1147776, 530932, 712507, 85739, 51195)),
    # All layers, 0.5 GeV.
    ((1.904, 19.1), 35332, (72464, 133000, 111685, 208586, 117995, 138594, 45268, 24879)),
    ((1.904, 19.1), 136614, (279978, 514851, 862032, 2535752, 1261355, 3412188, 302315, 111130)),
    # Pixels, 1 GeV.
    ((0.911, 6.4), 35332, (34459, 62241, 43238, 67916, 31528, 18715, 13741, 8116)),
    ((0.911, 6.4), 136614, (138225, 246955, 310738, 811438, 289846, 260785, 57295, 32392)),
    # Pixels, 0.5 GeV.
    ((0.911, 13.83), 35332, (34459, 64308, 58055, 141682, 65216, 55378, 29771, 15513)),
    ((0.911, 13.83), 136614, (138225, 255517, 479234, 1744032, 657308, 1118876, 151613, 67306)),
]


@pytest.mark.parametrize(("density", "n_hits", "sizes"), MEASURED)
def test_measured_events_fit_without_much_waste(monkeypatch, pairs, density, n_hits, sizes):
    monkeypatch.setattr(capacity_module, "search_density", lambda _: SearchDensity(*density))
    allowed = limits(capacity_for(bucket_size(n_hits, steps_per_octave=8), pairs))
    for name, needed in zip(GraphSizes._fields, sizes, strict=True):
        assert needed <= allowed[name] < 3.5 * needed


def test_a_capacity_in_use_stays(pairs, capacity):
    known = {1024: capacity}
    assert capacity_in_use(known, 1024, pairs) is capacity
    first = capacity_in_use(known, 2048, pairs)
    assert first == capacity_for(2048, pairs)
    assert known == {1024: capacity, 2048: first}


@pytest.mark.parametrize(("name", "value"), [("tracks", 0), ("track_hits", 2)])
def test_capacities_without_room_are_refused(capacity, name, value):
    with pytest.raises(ConfigError, match=rf"{name} = {value}"):
        replace(capacity, **{name: value})
