"""Lengths of the program's arrays: enough for ordinary events, grown where they were not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recon.errors import CapacityError, ConfigError
from recon.tracking.capacity import (
    MAX_TRIES,
    TrackingCapacity,
    TrackingSizes,
    capacity_for,
    check_sizes,
    grow,
    limits,
    overflows,
)
from recon.tracking.graph import GraphCapacity, GraphSizes


def sizes_of(capacity, **changes):
    """Sizes that exactly fill a capacity, but for the changes."""
    return TrackingSizes(**limits(capacity) | changes)


@pytest.fixture
def capacity():
    graph = GraphCapacity(**{name: 100 + 8 * index for index, name in enumerate(GraphSizes._fields)})
    return TrackingCapacity(graph=graph, tracks=30, track_hits=20)


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
def test_capacities_are_multiples_and_grow_with_the_event(n_hits):
    small, large = limits(capacity_for(n_hits)), limits(capacity_for(2 * n_hits + 5000))
    for name in TrackingSizes._fields[:-1]:
        assert small[name] % 64 == 0
        assert small[name] < large[name]


def test_the_same_length_has_the_same_capacity():
    # A capacity is part of the program's key: equal ones must compare and hash as equal.
    assert capacity_for(4096) == capacity_for(4096)
    assert hash(capacity_for(4096)) == hash(capacity_for(4096))


@pytest.mark.parametrize(("name", "value"), [("tracks", 0), ("track_hits", 2)])
def test_capacities_without_room_are_refused(capacity, name, value):
    with pytest.raises(ConfigError, match=rf"{name} = {value}"):
        replace(capacity, **{name: value})
