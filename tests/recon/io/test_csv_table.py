"""Strict CSV: numbers come back exactly, and every fault is named with file, line and column."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recon.errors import ConfigError, DataError
from recon.io.csv_table import (
    find_rows,
    read_table,
    require_finite,
    require_unique,
    rows_of,
    write_table,
)

TYPES = {"hit_id": "u8", "x": "f8", "layer": "i4"}
ENDINGS = [".csv", ".csv.gz"]
LENGTHS = st.shared(st.integers(0, 20), key="length")


def columns_of(kind, **elements):
    return LENGTHS.flatmap(lambda n: hnp.arrays(kind, n, elements=elements or None))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=columns_of("u8"), x=columns_of("f8"), y=columns_of("f4"), ending=st.sampled_from([".csv", ".csv.gz"])
)
def test_round_trip_to_the_last_bit(ids, x, y, ending, tmp_path):
    path = tmp_path / f"table{ending}"
    write_table(path, {"hit_id": ids, "x": x, "y": y})
    table = read_table(path, {"hit_id": "u8", "x": "f8", "y": "f4"})
    np.testing.assert_array_equal(table["hit_id"], ids)
    np.testing.assert_array_equal(table["x"], x)
    np.testing.assert_array_equal(table["y"], y)


def test_other_columns_order_spaces_and_line_ends_do_not_matter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfnote,layer, x ,hit_id\r\nsome text,3, 1.5,18446744073709551615\r\n\r\n")
    table = read_table(path, TYPES, {"absent": "f8"})
    assert set(table.columns) == set(TYPES)
    assert (table["hit_id"][0], table["x"][0], table["layer"][0]) == (2**64 - 1, 1.5, 3)


def test_only_a_header(tmp_path):
    (tmp_path / "t.csv").write_text("hit_id,x,layer\n")
    table = read_table(tmp_path / "t.csv", TYPES)
    assert [len(values) for values in table.columns.values()] == [0, 0, 0]
    assert table["layer"].dtype == np.int32


MALFORMED = {
    "empty file": ("", r"t\.csv: empty"),
    "missing column": (
        "hit_id,x\n1,2\n",
        r"line 1: columns \['layer'\] are missing; found \['hit_id",
    ),
    "column twice": ("hit_id,x,layer,x\n1,2,3,4\n", r"line 1: columns \['x'\] occur more than once"),
    "text": ("hit_id,x,layer\n1,2,3\n1,a,3\n", r"line 3, column x: 'a' is not a number"),
    "nothing": ("hit_id,x,layer\n1,2,3\n,2,3\n", r"line 3, column hit_id: '' is not a non-negative integer"),
    "fraction": ("hit_id,x,layer\n1.0,2,3\n", r"line 2, column hit_id: '1\.0' is not a non-negative integer"),
    "exponent": ("hit_id,x,layer\n1,2,1e1\n", r"line 2, column layer: '1e1' is not an integer"),
    "negative": ("hit_id,x,layer\n-1,2,3\n", r"line 2, column hit_id: '-1' is not a non-negative"),
    "past 64 bits": ("hit_id,x,layer\n18446744073709551616,2,3\n", r"line 2, column hit_id: .*below 2\^64"),
    "past 32 bits": (
        "hit_id,x,layer\n1,2,4294967296\n",
        r"line 2, column layer: '4294967296' is not",
    ),
    "hexadecimal": ("hit_id,x,layer\n1,0x4,3\n", r"line 2, column x: '0x4' is not a number"),
    "underscore": ("hit_id,x,layer\n1_0,2,3\n", r"line 2, column hit_id: '1_0'"),
    "cell too few": ("hit_id,x,layer\n1,2,3\n1,2\n", r"line 3: 2 cells where the header has 3 columns"),
    "cell too many": ("hit_id,x,layer\n1,2,3,4\n", r"line 2: 4 cells where the header has 3 columns"),
    "blank line": ("hit_id,x,layer\n1,2,3\n\n4,5,6\n", r"line 3: 0 cells where"),
    "comment": ("hit_id,x,layer\n#1,2,3\n", r"line 2, column hit_id: '#1'"),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_files(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.csv", TYPES)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: no such file"):
        read_table(tmp_path / "t.csv", TYPES)


def test_truncated_gzip(tmp_path):
    path = tmp_path / "t.csv.gz"
    content = gzip.compress(b"hit_id,x,layer\n" + b"1,2,3\n" * 1000)
    for damaged in (content[: len(content) // 2], b"hit_id,x,layer\n1,2,3\n", content[:-9] + bytes(9)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"t\.csv\.gz: cannot be read"):
            read_table(path, TYPES)


def test_not_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"hit_id,x,layer\n\xff\xfe,2,3\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "t.csv", TYPES)


def test_rules_name_the_line(tmp_path):
    (tmp_path / "t.csv").write_text("hit_id,x,layer\n7,2,3\n8,nan,3\n7,inf,3\n")
    table = read_table(tmp_path / "t.csv", TYPES)
    with pytest.raises(DataError, match=r"line 3, column x: nan \(and 1 more lines\); it must be finite"):
        require_finite(table, "layer", "x")
    with pytest.raises(DataError, match="lines 2 and 4, column hit_id: 7 occurs twice"):
        require_unique(table, "hit_id")
    with pytest.raises(DataError, match="line 3, column hit_id: 8; no such identifier in the hits"):
        rows_of(table, "hit_id", np.array([9, 7], np.uint64), "the hits")


def test_missing_folder(tmp_path):
    with pytest.raises(ConfigError, match="the folder"):
        write_table(tmp_path / "nowhere" / "t.csv", {"x": np.zeros(1)})


@given(
    known=hnp.arrays("u8", st.integers(0, 12), elements=st.integers(0, 20), unique=True),
    ids=hnp.arrays("u8", st.integers(0, 12), elements=st.integers(0, 20)),
)
def test_find_rows_against_a_dictionary(known, ids):
    rows, found = find_rows(ids, known)
    row_of = {int(value): row for row, value in enumerate(known)}
    assert [(int(r), bool(f)) for r, f in zip(rows, found, strict=True)] == [
        (row_of.get(int(value), 0), int(value) in row_of) for value in ids
    ]


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_line_without_cells_is_not_left_out(tmp_path, blank):
    """In a table of one column it would pass for a row, which NumPy drops."""
    (tmp_path / "t.csv").write_text(f"x\n1\n{blank}\n2\n")
    with pytest.raises(DataError, match=r"t\.csv, line 3: 0 cells where the header has 1 columns"):
        read_table(tmp_path / "t.csv", {"x": "f8"})
