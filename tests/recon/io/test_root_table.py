"""Tables of a ROOT file: grouping, steps, types of columns, and the header of the file."""

import struct

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from recon.errors import ConfigError, DataError
from recon.io.root_file import created, get_metadata, guarded, opened, own_metadata, put_metadata
from recon.io.root_table import (
    GROUP_EVENTS,
    GROUP_ROWS,
    extend,
    grouped,
    new_table,
    read_columns,
    require_columns,
    split,
    steps,
    table,
)

COUNTERS = {"hit": "n_hits", "jet": "n_jets"}
LISTS = {"hit_x": "float32", "hit_id": "uint64", "jet_pt": "float32"}
layouts = pytest.mark.parametrize("layout", ["ttree", "rntuple"])


# ---------------------------------------------------------------- groups and steps


@given(st.lists(st.integers(0, GROUP_ROWS), max_size=30))
def test_groups_keep_everything_in_order_and_stay_small(sizes):
    groups = list(grouped(iter(sizes), lambda size: size))
    assert [size for group in groups for size in group] == sizes
    assert all(groups)
    for group in groups:
        assert sum(group[:-1]) < GROUP_ROWS
        assert len(group) <= GROUP_EVENTS
    for group in groups[:-1]:
        assert sum(group) >= GROUP_ROWS or len(group) == GROUP_EVENTS


def test_many_empty_events_are_cut_by_number():
    assert [len(group) for group in grouped([0] * 600, lambda size: size)] == [256, 256, 88]


def test_groups_are_lazy():
    """The next event is not asked for before the group is complete, nor one more after it."""
    taken = []

    def items():
        for item in range(5):
            taken.append(item)
            yield GROUP_ROWS

    groups = grouped(items(), lambda size: size)
    next(groups)
    assert taken == [0]


@layouts
@pytest.mark.parametrize(("start", "stop"), [(0, 300), (5, 299), (7, 8), (4, 4)])
def test_steps_cover_the_range_once(layout, start, stop, tmp_path):
    counts = np.where(np.arange(300) % 50 == 0, GROUP_ROWS, 3)
    with uproot.recreate(tmp_path / "a.root") as file:
        if layout == "ttree":
            file.mktree("events", {"n_hits": "int32"})
        else:
            file.mkrntuple("events", {"n_hits": "int32"})
        file["events"].extend({"n_hits": counts.astype(np.int32)})
    with opened(tmp_path / "a.root") as file:
        found = list(steps(table(file, tmp_path, "events"), tmp_path, "n_hits", start, stop))
    assert [entry for low, high in found for entry in range(low, high)] == list(range(start, stop))
    for low, high in found:
        assert high - low == 1 or counts[low:high].sum() <= GROUP_ROWS


# ---------------------------------------------------------------- columns


@layouts
def test_two_counters_in_one_table(layout, tmp_path):
    events = [
        {"hit_x": np.arange(n, dtype=np.float32), "hit_id": np.arange(n, dtype=np.uint64), "jet_pt": jets}
        for n, jets in (
            (2, np.zeros(1, np.float32)),
            (0, np.zeros(0, np.float32)),
            (1, np.ones(3, np.float32)),
        )
    ]
    with created(tmp_path / "a.root") as file:
        extend(new_table(file, layout, "events", LISTS, COUNTERS), [7, 8, 2**63], events, COUNTERS)
    with opened(tmp_path / "a.root") as file:
        tree = table(file, tmp_path / "a.root", "events")
        require_columns(tree, tmp_path, ["event_number", "n_hits", "n_jets", *LISTS])
        back = list(read_columns(tree, tmp_path / "a.root", LISTS, (1, 3)))
    assert [number for _, number, _ in back] == [8, 2**63]
    assert back[1][0].endswith("a.root, event 9223372036854775808 (entry 2)")
    for (_, _, columns), given_columns in zip(back, events[1:], strict=True):
        for name, dtype in LISTS.items():
            np.testing.assert_array_equal(columns[name], given_columns[name])
            assert columns[name].dtype == dtype


def test_a_missing_column_lists_what_there_is(tmp_path):
    with created(tmp_path / "a.root") as file:
        new_table(file, "rntuple", "events", LISTS, COUNTERS)
    with opened(tmp_path / "a.root") as file:
        tree = table(file, tmp_path, "events")
        with pytest.raises(
            DataError, match=r"lacks the branches \['hit_y'\]; expected .*hit_y.*found .*jet_pt"
        ):
            require_columns(tree, tmp_path, ["hit_x", "hit_y"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.5], [2.5, 3.5]], "float32"),
        ([[1], [], [2, 3]], "float32"),
        ([[1], [], [2, 3]], "int32"),
        ([[0], [2**31 - 1]], "int32"),
        ([[True], [False, True]], "bool"),
        ([[], []], "float32"),
    ],
)
def test_split_converts_what_fits(values, dtype):
    expected = [np.array(entry, dtype) for entry in values]
    for found, wanted in zip(split(ak.Array(values), dtype, ""), expected, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1.5], [2.5]], "int32"),
        ([[2**31]], "int32"),
        ([[-1]], "uint64"),
        ([[1]], "bool"),
        ([[[1.0], [2.0]]], "float32"),
        ([1.0, 2.0], "float32"),
        ([["a"]], "float32"),
    ],
)
def test_split_refuses_what_does_not_fit(values, dtype):
    with pytest.raises(DataError, match=f"here: expected a list of {dtype} an entry, found type"):
        split(ak.Array(values), dtype, "here")


# ---------------------------------------------------------------- the file


def test_header_of_a_file_past_two_gigabytes(tmp_path):
    """Its addresses have 64 bits: the promised length is 3 GB, the file has 64 bytes."""
    path = tmp_path / "big.root"
    path.write_bytes((b"root" + struct.pack(">iiq", 1_062_400, 100, 3_000_000_000)).ljust(64, b"\0"))
    with (
        pytest.raises(DataError, match=r"big\.root: truncated, 64 bytes on disk .* promises 3000000000"),
        opened(path),
    ):
        pass


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file"), opened(tmp_path):
        pass


def test_guarded_names_file_part_and_cause(tmp_path):
    with pytest.raises(DataError, match=r"a\.root: cannot read the tree, .*damaged: KeyError: 'x'") as caught:
        guarded(lambda: {}["x"], tmp_path / "a.root", "the tree")
    assert isinstance(caught.value.__cause__, KeyError)


def write_text(path, text):
    with uproot.recreate(path) as file:
        file["metadata"] = text


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "is a JSON list; expected an object")]
)
def test_metadata_of_somebody_else(text, message, tmp_path):
    write_text(tmp_path / "a.root", text)
    with opened(tmp_path / "a.root") as file, pytest.raises(DataError, match=message):
        get_metadata(file, tmp_path / "a.root")


def test_own_metadata(tmp_path):
    path = tmp_path / "a.root"
    with created(path) as file:
        put_metadata(file, {"seed": 1}, {"schema": "recon.events", "schema_version": 2})
    with opened(path) as file:
        assert own_metadata(file, path, "recon.events", 2)["schema_version"] == 2
        for schema, version in (("recon.events", 1), ("recon.tracks", 2)):
            with pytest.raises(DataError, match=rf"holds schema recon\.events version 2; .* reads {schema}"):
                own_metadata(file, path, schema, version)
    write_text(path, '{"seed": 1}')
    with opened(path) as file:
        assert own_metadata(file, path, "recon.events", 1) == {}


def test_created_needs_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"), created(tmp_path / "nowhere" / "a.root"):
        pass
