"""Jets in ROOT and parquet files: what goes in comes out, and what is wrong is said."""

from __future__ import annotations

import itertools
import sys

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import ConfigError, DataError
from recon.io import jets_layout
from recon.io.jet_columns import jet_columns
from recon.io.jets import count_jets, jet_file_columns, read_jet_metadata, read_jets, write_jets
from recon.io.root_jets import read_root_jets
from tests.recon.tagging.small_jets import make_table

FORMATS = [("jets.root", "ttree"), ("jets.root", "rntuple"), ("jets.parquet", "ttree")]


@pytest.fixture(params=FORMATS, ids=["ttree", "rntuple", "parquet"])
def target(request, tmp_path):
    name, layout = request.param
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    return tmp_path / name, layout


def assert_same(left, right):
    assert sorted(left.fields) == sorted(right.fields)
    for name in left.fields:
        assert left[name].type == right[name].type, name
        assert ak.array_equal(left[name], right[name], equal_nan=True), name


def write(path, tables, layout="ttree", **settings):
    return write_jets(path, tables, layout=layout, **settings)


def test_round_trip(target):
    path, layout = target
    tables = [make_table(7, seed=1), make_table(0), make_table(5, seed=2)]
    assert write(path, iter(tables), layout, metadata={"seed": 3}) == 12
    assert_same(ak.concatenate(list(read_jets(path))), ak.concatenate(tables))
    assert count_jets(path) == 12
    metadata = read_jet_metadata(path)
    assert metadata["seed"] == 3
    assert metadata["recon"]["schema"] == "recon.jets"
    assert set(make_table(1).fields) <= set(jet_file_columns(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_ranges_and_columns_across_groups(target, monkeypatch):
    path, layout = target
    # Small groups, so that one range crosses several.
    for module in ("jets_layout", "root_jets", "parquet_jets"):
        monkeypatch.setattr(f"recon.io.{module}.GROUP_JETS", 4)
    table = make_table(17, seed=4)
    write(path, [table[:6], table[6:]], layout)
    part = list(read_jets(path, ["jet_pt", "part_px"], entry_start=3, entry_stop=15))
    assert len(part) > 1
    assert_same(ak.concatenate(part), table[["jet_pt", "part_px"]][3:15])
    assert list(read_jets(path, entry_start=17)) == []


def test_missing_columns_are_named_with_near_spellings(target):
    path, layout = target
    write(path, [make_table(3)], layout)
    message = r"there is no branch 'jet_pT' \(near: 'jet_pt'.*\); 'quark_gluon'; it has"
    with pytest.raises(DataError, match=message):
        next(read_jets(path, ["jet_pT", "quark_gluon", "part_px"]))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_truncated_files_are_refused(target, share):
    path, layout = target
    write(path, [make_table(300, candidates=(20, 40))], layout)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=path.name):
        list(read_jets(path))


def test_absent_files_and_folders(target):
    path, layout = target
    with pytest.raises(DataError, match="no such file"):
        next(read_jets(path))
    with pytest.raises(ConfigError, match="does not exist"):
        write(path.parent / "none" / path.name, [make_table(2)], layout)


def test_nothing_appears_where_writing_fails(target):
    path, layout = target
    other = make_table(6000, candidates=(0, 0), vertices=(0, 0))
    fewer = other[[name for name in other.fields if name != "jet_eta"]]
    with pytest.raises(DataError, match=r"columns \['jet_eta'\] are not in all jets"):
        write(path, [other, fewer], layout)
    with pytest.raises(DataError, match="no jet to write"):
        write(path, [], layout)
    with pytest.raises(ConfigError, match="metadata"):
        write(path, [make_table(2)], layout, metadata={"x": object()})
    with pytest.raises(ConfigError, match="reserved"):
        write(path, [make_table(2)], layout, metadata={"recon": 1})
    assert list(path.parent.iterdir()) == []


def test_lists_of_another_name_do_not_fit_into_root(tmp_path):
    table = ak.Array({"hit_x": ak.Array([[1.0], []])})
    with pytest.raises(DataError, match=r"hit_x: entries are var \* float64; allowed are numbers, and lists"):
        write(tmp_path / "jets.root", [table])


def test_file_of_jetclass(tmp_path):
    """A TTree called `tree`, counters and all, as JetClass's own files."""
    path = tmp_path / "JetClass_example.root"
    table = make_table(9, seed=5)
    names = ["jet_pt", "part_px", "part_charge"]
    with uproot.recreate(path) as file:
        file.mktree("tree", {"jet_pt": "float32", "part_px": "var * float32", "part_charge": "var * float32"})
        file["tree"].extend({name: table[name] for name in names})
        file.mktree("other", {"x": "float32"})
    got = ak.concatenate(list(read_root_jets(path, names)))
    assert_same(got, table[names])
    with pytest.raises(DataError, match="expected a TTree or RNTuple called 'none'"):
        next(read_root_jets(path, tree="none"))


def test_flat_columns():
    table = make_table(6, seed=6)
    columns = jet_columns(table)
    assert columns.candidate_count.tolist() == ak.num(table["part_px"]).to_list()
    assert columns.vertex_count.tolist() == ak.num(table["sv_px"]).to_list()
    np.testing.assert_array_equal(columns.candidates["part_px"], ak.flatten(table["part_px"]))
    np.testing.assert_array_equal(columns.jets["jet_pt"], table["jet_pt"])
    assert "jet_pt" not in columns.candidates


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"part_a": [[1.0], []], "part_b": [[1.0], [2.0]]},
            "part_b has 1 values in jet 1, other part.* have 0",
        ),
        ({"track_a": [[1.0], []]}, r"column track_a has entries of type .*; lists are part_\*, sv_\*"),
        ({"jet_a": ["one", "two"]}, "column jet_a is not made of numbers"),
        ({"jet_a": [1.0, None]}, "column jet_a is not made of numbers"),
    ],
)
def test_tables_that_are_no_jets(columns, message):
    with pytest.raises(DataError, match=message):
        jet_columns(ak.Array({name: ak.Array(values) for name, values in columns.items()}))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'recon-hep\[parquet\]'"):
        next(read_jets(tmp_path / "jets.parquet"))


def test_groups_are_large_enough_and_lose_nothing():
    sizes = [3000, 3000, 0, 100]
    groups = list(
        jets_layout.grouped(([0] * size for size in sizes), lambda parts: list(itertools.chain(*parts)))
    )
    assert [len(group) for group in groups] == [6000, 100]


@pytest.fixture
def foreign(tmp_path):
    """A parquet file as other programs write it: every column, and every value of a list, may be null."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(columns, metadata=None):
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        path = tmp_path / "foreign.parquet"
        parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=2)
        return path

    return write


def test_parquet_of_others_reads_as_if_nothing_could_be_null(foreign):
    path = foreign(
        {
            "jet_pt": [1.0, 2.0, 3.0],
            "part_px": [[1.0], [], [2.0, 3.0]],
            "part_isMuon": [[True], [], [False] * 2],
        }
    )
    got = ak.concatenate(list(read_jets(path)))
    assert (
        got.to_list()
        == ak.zip(
            {
                "jet_pt": [1.0, 2.0, 3.0],
                "part_px": [[1.0], [], [2.0, 3.0]],
                "part_isMuon": [[True], [], [False] * 2],
            },
            depth_limit=1,
        ).to_list()
    )
    assert "?" not in str(got.type)
    assert "option" not in str(got.type)
    assert jet_columns(got).candidate_count.tolist() == [1, 0, 2]
    assert read_jet_metadata(path) == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        # Both columns lack the same jet: without a check it would be lost in silence.
        ({"jet_pt": [1.0, 2.0, None], "jet_eta": [1.0, 2.0, None]}, "jet_pt is null in jet 2"),
        ({"jet_pt": [1.0, 2.0, 3.0], "part_px": [[1.0], None, []]}, "part_px is null in jet 1"),
        ({"jet_pt": [1.0, 2.0, 3.0], "part_px": [[1.0], [], [2.0, None]]}, "part_px is null in jet 2"),
    ],
)
def test_nulls_in_parquet_are_named(foreign, columns, message):
    path = foreign(columns)
    with pytest.raises(DataError, match=rf"foreign\.parquet: {message}"):
        list(read_jets(path))


@pytest.mark.parametrize("text", [b"{oops", b"3"])
def test_metadata_of_others_under_our_name(foreign, text):
    with pytest.raises(DataError, match=r"foreign\.parquet: the metadata 'recon' is not a JSON object"):
        read_jet_metadata(foreign({"jet_pt": [1.0]}, {b"recon": text}))


def test_the_order_of_columns_does_not_matter(target):
    path, layout = target
    table = make_table(5500, seed=7, candidates=(0, 1), vertices=(0, 1))
    turned = table[table.fields[::-1]]
    write(path, [table, turned[:4]], layout)
    got = ak.concatenate(list(read_jets(path)))
    assert len(got) == 5504
    assert_same(got[5500:], table[:4])
