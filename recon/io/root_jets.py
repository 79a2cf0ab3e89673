"""Jets in ROOT files, as TTree or RNTuple: our own, JetClass's, and whatever has lists called `part_*`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from recon.errors import ConfigError, DataError
from recon.io import root_file, root_table
from recon.io.jets_layout import (
    COUNTERS,
    GROUP_JETS,
    SCHEMA,
    SCHEMA_VERSION,
    TREE,
    UNITS,
    grouped,
    prefix,
    require,
)
from recon.io.root_table import Layout


def write_root_jets(
    path: Path,
    tables: Iterable[Any],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
) -> int:
    """Write jets, one entry each; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        tables: awkward arrays of records, as of `recon.sim.jets.simulate_jets`; all with the same columns.
        layout: "ttree" or "rntuple".
        metadata: seeds, configuration, versions: anything JSON.

    Returns:
        The number of jets written.

    Raises:
        DataError: no jet at all, a column that is neither numbers nor lists of numbers, columns that differ.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    written, tree, fields = 0, None, []
    with root_file.created(path) as file:
        root_file.put_metadata(
            file, metadata or {}, {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
        )
        for table in grouped(tables, ak.concatenate):
            if tree is None:
                fields = table.fields
                tree = _new_tree(file, layout, table, path)
            if set(table.fields) != set(fields):
                differing = sorted(set(fields) ^ set(table.fields))
                raise DataError(f"{path}: columns {differing} are not in all jets")
            tree.extend(_entries(table, counted=layout == "ttree"))
            written += len(table)
        if tree is None:
            raise DataError(f"{path}: there is no jet to write")
    return written


def read_root_jets(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    tree: str | None = None,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> Iterator[Any]:
    """Read jets lazily, a few thousand at a time.

    Args:
        path: the file.
        columns: to read; all if not given.
        tree: name of the table; "tree" if not given, or the only one there is.
        entry_start: first jet, from 0.
        entry_stop: one past the last jet.

    Yields:
        Awkward arrays of records.

    Raises:
        DataError: a file that is missing, truncated or damaged, no such table, a missing column: named, with those
            that are spelled nearly the same.
    """
    with root_file.opened(path) as file:
        table = root_table.table(file, path, _name_of_tree(file, path, tree))
        held = _branches(table, path)
        names = [name for name in held if name not in COUNTERS.values()] if columns is None else list(columns)
        require(names, held, f"{path}, '{table.name}'")
        start, stop, _ = slice(entry_start, entry_stop).indices(table.num_entries)
        for low in range(start, stop, GROUP_JETS):
            yield read_range(table, path, names, low, min(low + GROUP_JETS, stop))


def root_columns(path: Path, tree: str | None = None) -> list[str]:
    """Names of the columns of a file.

    Raises:
        DataError: as `read_root_jets`.
    """
    with root_file.opened(path) as file:
        return _branches(root_table.table(file, path, _name_of_tree(file, path, tree)), path)


def count_root_jets(path: Path, tree: str | None = None) -> int:
    """Number of jets of a file, without reading them.

    Raises:
        DataError: as `read_root_jets`.
    """
    with root_file.opened(path) as file:
        return int(root_table.table(file, path, _name_of_tree(file, path, tree)).num_entries)


def read_range(table: Any, path: Path, names: Sequence[str], low: int, high: int) -> Any:
    """Read entries of a TTree or RNTuple into an awkward array of records.

    Args:
        table: from `recon.io.root_table.table`.
        path: for messages.
        names: columns, which exist.
        low: first entry.
        high: one past the last entry.

    Raises:
        DataError: damaged data.
    """
    entries = f"entries {low} to {high - 1}"
    arrays = root_file.guarded(
        lambda: table.arrays(list(names), entry_start=low, entry_stop=high, library="ak"), path, entries
    )
    # Not `zip`: that would broadcast the lists of candidates against those of vertices.
    return ak.Array({name: arrays[name] for name in names})


def _branches(table: Any, path: Path) -> list[str]:
    return [str(name) for name in root_file.guarded(table.keys, path, "branch names")]


def _name_of_tree(file: Any, path: Path, tree: str | None) -> str:
    if tree is not None:
        return tree
    held = root_file.guarded(lambda: file.classnames(recursive=True, cycle=False), path, "directory")
    tables = [name for name, kind in held.items() if kind in ("TTree", "ROOT::RNTuple")]
    return tables[0] if len(tables) == 1 else TREE


def _new_tree(file: Any, layout: str, table: Any, path: Path) -> Any:
    types = {name: _type(table[name], f"{path}, column {name}") for name in table.fields}
    counted = {COUNTERS[prefix(name)] for name, kind in types.items() if isinstance(kind, ak.types.ListType)}
    if layout == "rntuple":
        return file.mkrntuple(
            TREE, ak.forms.from_type(ak.types.RecordType(list(types.values()), list(types)))
        )
    if layout == "ttree":
        counters = {name: ak.types.NumpyType("int32") for name in counted}
        return file.mktree(TREE, counters | types, counter_name=lambda column: COUNTERS[prefix(column)])
    raise ConfigError(f"layout is {layout!r}; allowed are 'ttree' and 'rntuple'")


def _type(column: Any, where: str) -> Any:
    """Type of one entry: a number, or a list of numbers whose name begins with one of `COUNTERS`."""
    content = column.type.content
    if isinstance(content, ak.types.NumpyType):
        return content
    name = prefix(where.rsplit(" ", maxsplit=1)[-1])
    if (
        isinstance(content, ak.types.ListType)
        and isinstance(content.content, ak.types.NumpyType)
        and name in COUNTERS
    ):
        return ak.types.ListType(content.content)
    allowed = (
        f"allowed are numbers, and lists of numbers called {', '.join(f'{word}_*' for word in COUNTERS)}"
    )
    raise DataError(f"{where}: entries are {content}; {allowed}")


def _entries(table: Any, *, counted: bool) -> dict[str, Any]:
    entries = {name: table[name] for name in table.fields}
    for name in table.fields:
        if counted and table[name].ndim == 2:
            entries.setdefault(COUNTERS[prefix(name)], np.asarray(ak.num(table[name]), np.int32))
    return entries
