"""Neutrino events in ROOT files: what goes in comes out, and damage is named."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import ConfigError, DataError
from recon.io import root_pixel_maps
from recon.io.pixel_maps import join_events, pixel_maps, take_events
from recon.io.root import read_metadata
from recon.io.root_pixel_maps import (
    count_neutrino_events,
    read_neutrino_events,
    read_pixel_maps,
    write_neutrino_events,
)
from tests.recon.io.neutrino_events import assert_same, make_events

LAYOUTS = ("ttree", "rntuple")


def read(path, **options):
    return join_events(list(read_neutrino_events(path, **options)))


def foreign(path, **changes):
    """A file of another program: wide integers, other names where a change says so."""
    columns = {
        "hit_view": [[0, 1], [1]],
        "hit_plane": [[3, 4], [5]],
        "hit_cell": [[10, 11], [12]],
        "hit_charge": [[0.01, 0.02], [0.03]],
    } | changes
    with uproot.recreate(path) as file:
        entries = {name: ak.Array(values) for name, values in columns.items() if values is not None}
        file.mktree("events", {name: values.type.content for name, values in entries.items()}).extend(entries)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("truth", [True, False])
def test_events_survive_the_file(tmp_path, layout, truth):
    events, path = make_events(30, truth=truth), tmp_path / "events.root"
    tables = [take_events(events, rows) for rows in np.split(np.arange(30), [7, 8])]
    assert write_neutrino_events(path, tables, layout=layout, metadata={"seed": 5}) == 30
    assert_same(read(path), events)
    assert count_neutrino_events(path) == 30
    metadata = read_metadata(path)
    assert metadata["seed"] == 5
    assert metadata["recon"]["schema"] == "recon.pixel_maps"
    assert metadata["recon"]["units"]["charge"] == "GeV"


def test_parts_of_a_file(tmp_path, monkeypatch):
    events, path = make_events(20), tmp_path / "events.root"
    write_neutrino_events(path, [events])
    monkeypatch.setattr(root_pixel_maps, "GROUP_EVENTS", 6)
    groups = list(read_neutrino_events(path))
    assert [len(group.label) for group in groups] == [6, 6, 6, 2]
    assert_same(join_events(groups), events)
    assert_same(read(path, entry_start=3, entry_stop=16), take_events(events, np.arange(3, 16)))
    assert_same(read(path, entry_start=18, entry_stop=99), take_events(events, np.arange(18, 20)))
    assert list(read_neutrino_events(path, entry_start=5, entry_stop=5)) == []


def test_images_of_a_file(tmp_path):
    events, path = make_events(9), tmp_path / "events.root"
    write_neutrino_events(path, [events])
    (maps,) = read_pixel_maps(path)
    for ours, theirs in zip(maps, pixel_maps(events), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="event 40: branch hit_view has no hit in one of the views"):
        list(read_pixel_maps(path, empty_views="refuse"))


def test_hits_take_little_space(tmp_path):
    events, path = make_events(400, hits=200), tmp_path / "events.root"
    write_neutrino_events(path, [events])
    # Four bytes of charge and three of place, before compression; the images would be 64 kB an event.
    assert path.stat().st_size < 7.5 * len(events.charge) + 60 * 400 + 20_000


def test_files_open_anywhere(tmp_path):
    events, path = make_events(5), tmp_path / "events.root"
    write_neutrino_events(path, [events])
    with uproot.open(path) as file:
        arrays = file["events"].arrays(library="np")
    np.testing.assert_array_equal(arrays["n_hits"], np.diff(events.offsets))
    np.testing.assert_array_equal(arrays["truth_lepton_py"], events.truth.lepton[:, 1])
    assert arrays["hit_cell"][1].dtype == np.uint8


def test_files_of_other_programs(tmp_path):
    events = read(foreign(tmp_path / "other.root"))
    assert events.label.tolist() == [-1, -1]
    assert events.window.tolist() == [[-1, -1, -1]] * 2
    assert events.number.tolist() == [0, 1]
    assert events.truth is None
    assert events.charge.tolist() == pytest.approx([0.01, 0.02, 0.03])


def test_hits_outside_of_the_window_are_counted(tmp_path):
    path = foreign(tmp_path / "other.root", hit_plane=[[3, 140], [5]], hit_cell=[[-4, 11], [12]])
    events = read(path)
    assert events.outside.tolist() == [2, 0]
    assert np.diff(events.offsets).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hit_charge": [[0.01, float("nan")], [0.03]]}, "event 0: branch hit_charge is nan at hit 1; it must be finite"),
     ({"hit_view": [[0, 1], [7]]}, "event 1: branch hit_view is 7 at hit 0"),
     ({"hit_charge": None, "hit_charg": [[1.0, 2.0], [3.0]]}, r"there is no branch 'hit_charge' \(near: 'hit_charg'"),
     ({"hit_cell": None}, "there is no branch 'hit_cell'"),
     ({"hit_cell": [[10], [12]]}, "hit_cell has other numbers of hits than hit_view"),
     ({"hit_cell": [[1.5, 2.5], [0.5]]}, "branch hit_cell: expected a list of int32 an entry"),
     ({"label": [0.5, 1.5]}, "branch label: expected one int32 an entry"),
     ({"truth_mode": [0, 1]}, "there is no branch 'truth_flavour'")],
)  # fmt: skip
def test_bad_files_are_named(tmp_path, changes, message):
    path = foreign(tmp_path / "other.root", **changes)
    with pytest.raises(DataError, match=message):
        read(path)


def test_damaged_files(tmp_path):
    path = tmp_path / "events.root"
    with pytest.raises(DataError, match="no such file"):
        read(path)
    write_neutrino_events(path, [make_events(200)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read(path)
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="not a ROOT file"):
        count_neutrino_events(path)


def test_what_is_not_written(tmp_path):
    path = tmp_path / "events.root"
    events = make_events(3)
    with pytest.raises(DataError, match="there is no event to write"):
        write_neutrino_events(path, [])
    with pytest.raises(DataError, match="some events have truth"):
        write_neutrino_events(path, [events, make_events(3, truth=False)])
    with pytest.raises(DataError, match="branch hit_plane is 100"):
        write_neutrino_events(path, [events._replace(plane=np.full_like(events.plane, 100))])
    with pytest.raises(ConfigError, match="the folder"):
        write_neutrino_events(tmp_path / "nowhere" / "events.root", [events])
    assert list(tmp_path.iterdir()) == []
