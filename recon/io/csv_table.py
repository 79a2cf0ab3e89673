"""Strict CSV tables of numbers: every cell counts, and an error names file, line and column.

NumPy's own parser reads the file; only when it stumbles a slow second look finds the cell to name.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file

_HEADER_LINES = 1


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of one CSV file.

    Attributes:
        path: the file, for messages.
        columns: name to array; all of the same length.
    """

    path: Path
    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column."""
        return self.columns[name]


def read_table(path: Path, required: Mapping[str, str], optional: Mapping[str, str] | None = None) -> Table:
    """Read a comma-separated file with one header line; other columns than those asked for are left out.

    Args:
        path: `.csv` or `.csv.gz`.
        required: column name to NumPy type; integers are exact to 64 bits.
        optional: columns to read where the file has them.

    Returns:
        The columns, as long as the file has lines below the header.

    Raises:
        DataError: naming file, line and column: a missing or repeated column, a line with more or fewer cells
            than the header, a cell that is no number of its column's type, a damaged file.
    """
    lines = _lines(path)
    header = [name.strip() for name in lines[0].split(",")]
    types = _present(path, header, required, optional or {})
    rows = lines[_HEADER_LINES:]
    _check_widths(path, header, rows)
    if not rows:
        return Table(path=path, columns={name: np.zeros(0, dtype) for name, dtype in types.items()})
    return Table(path=path, columns=_parse(path, header, types, rows))


def write_table(path: Path, columns: Mapping[str, np.ndarray | list[str]]) -> None:
    """Write columns of equal length; floats with as many digits as it takes to read the same number back.

    Args:
        path: `.csv`, or `.csv.gz` to compress.
        columns: header name to values; text must hold neither comma nor line break unless it is quoted
            already.

    Raises:
        ConfigError: where the folder does not exist.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    # `tolist` of float32 widens to float64 and would print 17 digits; `astype(str)` prints the shortest ones.
    cells = [
        list(values) if isinstance(values, list) else values.astype(str).tolist()
        for values in columns.values()
    ]
    text = "\n".join([",".join(columns), *(",".join(row) for row in zip(*cells, strict=True))]) + "\n"
    content = text.encode()
    replace_file(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def refuse_lines(table: Table, column: str, bad: np.ndarray, rule: str) -> None:
    """Raise `DataError` naming the first line where `bad` is true.

    Args:
        table: from `read_table`.
        column: the column that breaks the rule.
        bad: bool[n].
        rule: what is allowed.

    Raises:
        DataError: naming file, line, column and value.
    """
    rows = np.flatnonzero(bad)
    if rows.size:
        line = int(rows[0]) + 1 + _HEADER_LINES
        more = f" (and {rows.size - 1} more lines)" if rows.size > 1 else ""
        raise DataError(f"{table.path}, line {line}, column {column}: {table[column][rows[0]]}{more}; {rule}")


def require_finite(table: Table, *columns: str) -> None:
    """Refuse NaN and infinite numbers.

    Raises:
        DataError: naming file, line, column and value.
    """
    for column in columns:
        refuse_lines(table, column, ~np.isfinite(table[column]), "it must be finite")


def require_unique(table: Table, column: str) -> None:
    """Refuse an identifier that occurs twice.

    Raises:
        DataError: naming file, both lines, column and value.
    """
    ids = table[column]
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if again.size:
        first, second = order[again[0]] + 1 + _HEADER_LINES, order[again[0] + 1] + 1 + _HEADER_LINES
        value = ids[order[again[0]]]
        raise DataError(f"{table.path}, lines {first} and {second}, column {column}: {value} occurs twice")


def rows_of(table: Table, column: str, known: np.ndarray, owner: str) -> np.ndarray:
    """Look identifiers up.

    Args:
        table: from `read_table`.
        column: the identifiers to look up, [n].
        known: unique identifiers, [m].
        owner: what `known` is, for messages.

    Returns:
        Row in `known` of every identifier, int64[n].

    Raises:
        DataError: naming the line of an identifier that is not in `known`.
    """
    rows, found = find_rows(table[column], known)
    refuse_lines(table, column, ~found, f"no such identifier in {owner}")
    return rows


def find_rows(ids: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row in `known` (unique) of every identifier (0 for none), and whether there is one."""
    if known.size == 0:
        return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, bool)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], ids), known.size - 1)
    rows = order[place]
    found = known[rows] == ids
    return np.where(found, rows, 0), found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: cannot be read, truncated or damaged: {problem}") from problem
    lines = text.rstrip("\r\n").splitlines()
    if not lines:
        raise DataError(f"{path}: empty; expected a header line")
    return lines


def _present(
    path: Path, header: list[str], required: Mapping[str, str], optional: Mapping[str, str]
) -> dict[str, str]:
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(f"{path}, line 1: columns {missing} are missing; found {header}")
    types = {**required, **{name: dtype for name, dtype in optional.items() if name in header}}
    repeated = [name for name in types if header.count(name) > 1]
    if repeated:
        raise DataError(f"{path}, line 1: columns {repeated} occur more than once")
    return types


def _check_widths(path: Path, header: list[str], rows: list[str]) -> None:
    # A line without anything has no cell, not an empty one: NumPy would leave it out.
    commas = np.fromiter((row.count(",") if row.strip() else -1 for row in rows), np.int64, len(rows))
    wrong = np.flatnonzero(commas != len(header) - 1)
    if wrong.size:
        line = int(wrong[0]) + 1 + _HEADER_LINES
        given = int(commas[wrong[0]]) + 1
        raise DataError(f"{path}, line {line}: {given} cells where the header has {len(header)} columns")


def _parse(path: Path, header: list[str], types: Mapping[str, str], rows: list[str]) -> dict[str, np.ndarray]:
    places = [header.index(name) for name in types]
    record = np.dtype(list(types.items()))
    try:
        with warnings.catch_warnings():
            # NumPy only warns where it reads an integer through a float and may lose digits.
            warnings.simplefilter("error")
            loaded = np.loadtxt(rows, dtype=record, delimiter=",", comments=None, usecols=places, ndmin=1)
    except (ValueError, Warning) as problem:
        raise _explained(path, dict(zip(types, places, strict=True)), types, rows, problem) from problem
    return {name: np.ascontiguousarray(loaded[name]) for name in types}


def _explained(
    path: Path, places: Mapping[str, int], types: Mapping[str, str], rows: list[str], problem: Exception
) -> DataError:
    """Find the first cell that its column's type refuses."""
    for row, text in enumerate(rows):
        cells = text.split(",")
        for name, place in places.items():
            if not _is_number(cells[place].strip(), np.dtype(types[name])):
                line = row + 1 + _HEADER_LINES
                given = f"'{cells[place]}' is not {_DESCRIPTION[np.dtype(types[name]).kind]}"
                return DataError(f"{path}, line {line}, column {name}: {given}")
    return DataError(f"{path}: {problem}")


_DESCRIPTION = {"u": "a non-negative integer below 2^64", "i": "an integer", "f": "a number"}


def _is_number(cell: str, dtype: np.dtype) -> bool:
    try:
        if dtype.kind == "f":
            float(cell)
            return "_" not in cell
        limits = np.iinfo(dtype)
        return "_" not in cell and limits.min <= int(cell) <= limits.max
    except ValueError:
        return False
