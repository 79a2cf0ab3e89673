"""Lengths of the program's arrays: enough for ordinary events, grown where they were not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recon.errors import CapacityError, ConfigError
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
from recon.tracking.data import event_graph
from recon.tracking.density import search_density
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
    assert wide["edges"] > 2 * narrow["edges"]


def test_pixel_layers_alone_get_less_room_but_as_many_tracks(pairs, pixel_pairs):
    every, pixel = (limits(capacity_for(40_000, each)) for each in (pairs, pixel_pairs))
    for name in GraphSizes._fields:
        assert pixel[name] < every[name]
    assert pixel["queries"] < 0.6 * every["queries"]
    assert pixel["tracks"] >= every["tracks"]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("pt_min", [0.9, 0.45])
@pytest.mark.parametrize("pixel_only", [False, True])
def test_the_first_capacity_holds_an_event(learning_events, simulated_events, generic, pt_min, pixel_only):
    windows = WindowConfig(pt_min=pt_min, pixel_only=pixel_only)
    pairs = learn_windows(learning_events, generic, windows)
    event, known = simulated_events[0], {}
    event_graph(event, generic, pairs, known)
    assert list(known.values()) == [capacity_for(*known, pairs)]


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
