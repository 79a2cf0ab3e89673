"""Jets in files, whatever the format: ROOT (TTree, RNTuple) or parquet, by the ending of the name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.io import root_file
from recon.io.parquet_jets import (
    count_parquet_jets,
    parquet_columns,
    read_parquet_jets,
    read_parquet_metadata,
    write_parquet_jets,
)
from recon.io.root_jets import count_root_jets, read_root_jets, root_columns, write_root_jets
from recon.io.root_table import Layout


def write_jets(
    path: str | Path,
    tables: Iterable[Any],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
) -> int:
    """Write jets; the file appears under its name only when all of them are in.

    Args:
        path: parquet if it ends in .parquet, else ROOT.
        tables: awkward arrays of records, taken one by one.
        layout: of ROOT files, "ttree" or "rntuple".
        metadata: anything JSON.

    Returns:
        The number of jets written.

    Raises:
        DataError: no jet at all, columns that differ or that the format cannot hold.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    if is_parquet(path):
        return write_parquet_jets(path, tables, metadata=metadata)
    return write_root_jets(path, tables, layout=layout, metadata=metadata)


def read_jets(
    path: str | Path,
    columns: Sequence[str] | None = None,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> Iterator[Any]:
    """Read jets lazily, a few thousand at a time.

    Args:
        path: parquet if it ends in .parquet, else ROOT.
        columns: to read; all if not given.
        entry_start: first jet, from 0.
        entry_stop: one past the last jet.

    Yields:
        Awkward arrays of records, the columns as `recon.io.jets_layout` says.

    Raises:
        DataError: a file that is missing, truncated or damaged; a missing column: named, with those that are spelled
            nearly the same.
    """
    path = Path(path)
    if is_parquet(path):
        return read_parquet_jets(path, columns, entry_start=entry_start, entry_stop=entry_stop)
    return read_root_jets(path, columns, entry_start=entry_start, entry_stop=entry_stop)


def jet_file_columns(path: str | Path) -> list[str]:
    """Names of the columns of a file.

    Raises:
        DataError: as `read_jets`.
    """
    path = Path(path)
    return parquet_columns(path) if is_parquet(path) else root_columns(path)


def count_jets(path: str | Path) -> int:
    """Number of jets of a file, without reading them.

    Raises:
        DataError: as `read_jets`.
    """
    path = Path(path)
    return count_parquet_jets(path) if is_parquet(path) else count_root_jets(path)


def read_jet_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata given to the writer; the entry `recon` holds schema, units and software.

    Raises:
        DataError: as `read_jets`.
    """
    path = Path(path)
    if is_parquet(path):
        return read_parquet_metadata(path)
    with root_file.opened(path) as file:
        return root_file.get_metadata(file, path)


def is_parquet(path: Path) -> bool:
    """Whether a path names a parquet file."""
    return path.suffix == ".parquet"
