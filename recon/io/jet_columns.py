"""Raw jets as flat NumPy columns: the way from awkward arrays to arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from jaxtyping import Int64, Shaped

from recon.errors import DataError
from recon.io.jets_layout import COUNTERS, prefix


class JetColumns(NamedTuple):
    """Jets, their candidates and their secondary vertices; a column is an array by its name in the file.

    Attributes:
        jets: one value a jet.
        candidates: `part_*`, one value a candidate, one jet after the other.
        candidate_count: candidates of every jet.
        vertices: `sv_*`, one value a vertex, one jet after the other.
        vertex_count: vertices of every jet.
    """

    jets: Mapping[str, Shaped[np.ndarray, " j"]]
    candidates: Mapping[str, Shaped[np.ndarray, " c"]]
    candidate_count: Int64[np.ndarray, " j"]
    vertices: Mapping[str, Shaped[np.ndarray, " v"]]
    vertex_count: Int64[np.ndarray, " j"]


def jet_columns(table: Any) -> JetColumns:
    """Take an awkward array of jets apart.

    Args:
        table: records with one value a jet, and lists called `part_*` and `sv_*`.

    Returns:
        The columns; counts of 0 where there are no such lists.

    Raises:
        DataError: lists of one kind that differ in length, a list of another name, something that is no number.
    """
    n_jets = len(table)
    jets: dict[str, np.ndarray] = {}
    lists: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in COUNTERS}
    counts: dict[str, np.ndarray] = {}
    for name in table.fields:
        column = table[name]
        if column.ndim == 1:
            jets[name] = _numbers(column, name)
            continue
        kind = prefix(name)
        if kind not in lists or column.ndim != 2:
            allowed = ", ".join(f"{word}_*" for word in COUNTERS)
            raise DataError(
                f"jets: column {name} has entries of type {column.type.content}; lists are {allowed}"
            )
        given = ak.to_numpy(ak.num(column)).astype(np.int64)
        if not np.array_equal(counts.setdefault(kind, given), given):
            row = int(np.flatnonzero(counts[kind] != given)[0])
            raise DataError(
                f"jets: {name} has {given[row]} values in jet {row}, other {kind}_* columns have {counts[kind][row]}"
            )
        lists[kind][name] = _numbers(ak.flatten(column), name)
    nothing = np.zeros(n_jets, np.int64)
    return JetColumns(
        jets, lists["part"], counts.get("part", nothing), lists["sv"], counts.get("sv", nothing)
    )


def _numbers(column: Any, name: str) -> np.ndarray:
    problem = DataError(f"jets: column {name} is not made of numbers: {column.type}")
    try:
        values = ak.to_numpy(column, allow_missing=False)
    except ValueError as cause:
        raise problem from cause
    if values.dtype.kind not in "biuf":
        raise problem
    return values


def with_columns(table: Any, columns: Mapping[str, Shaped[np.ndarray, " j"]]) -> Any:
    """A table of jets with more columns of one value a jet.

    Args:
        table: records.
        columns: by name.

    Raises:
        DataError: the table has a column of such a name already, or another number of jets.
    """
    for name, column in columns.items():
        if name in table.fields:
            raise DataError(f"the jets have a column {name!r} already; choose another name for the new one")
        if len(column) != len(table):
            raise DataError(f"column {name!r} has {len(column)} values for {len(table)} jets")
    # Not `zip`: that would broadcast the lists of candidates against those of vertices.
    return ak.Array({name: table[name] for name in table.fields} | dict(columns))
