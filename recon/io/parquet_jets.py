"""Jets in parquet files: the same columns as in ROOT, a row group every few thousand jets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.jets_layout import GROUP_JETS, SCHEMA, SCHEMA_VERSION, UNITS, grouped, require
from recon.io.metadata import metadata_text

_METADATA = b"recon"


def write_parquet_jets(
    path: Path, tables: Iterable[Any], *, metadata: Mapping[str, object] | None = None
) -> int:
    """Write jets, one row each; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        tables: awkward arrays of records, all with the same columns.
        metadata: seeds, configuration, versions: anything JSON.

    Returns:
        The number of jets written.

    Raises:
        DataError: no jet at all, columns that differ.
        ConfigError: missing folder, metadata that is not JSON, no pyarrow.
    """
    parquet = _pyarrow_parquet()
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    writer, written = None, 0
    try:
        for table in grouped(tables, ak.concatenate):
            arrow = ak.to_arrow_table(table, list_to32=True, extensionarray=False)
            if writer is None:
                own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
                schema = arrow.schema.with_metadata({_METADATA: metadata_text(metadata or {}, own)})
                writer = parquet.ParquetWriter(partial, schema, **_encoding(table))
            if set(arrow.schema.names) != set(schema.names):
                differing = sorted(set(schema.names) ^ set(arrow.schema.names))
                raise DataError(f"{path}: columns {differing} are not in all jets")
            writer.write_table(arrow.select(schema.names).cast(schema), row_group_size=2 * GROUP_JETS)
            written += len(table)
        if writer is None:
            raise DataError(f"{path}: there is no jet to write")
        writer.close()
        writer = None
        partial.replace(path)
    finally:
        if writer is not None:
            writer.close()
        partial.unlink(missing_ok=True)
    return written


def read_parquet_jets(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> Iterator[Any]:
    """Read jets lazily, one row group at a time.

    Args:
        path: the file.
        columns: to read; all if not given.
        entry_start: first jet, from 0.
        entry_stop: one past the last jet.

    Yields:
        Awkward arrays of records.

    Raises:
        DataError: a file that is missing, truncated or damaged; a missing column: named, with those that are spelled
            nearly the same; a null: with its column and its jet.
        ConfigError: no pyarrow.
    """
    with _opened(path) as file:
        held = file.schema_arrow.names
        names = list(held) if columns is None else list(columns)
        require(names, held, str(path))
        start, stop, _ = slice(entry_start, entry_stop).indices(file.metadata.num_rows)
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            low, high = max(start - first, 0), min(stop - first, size)
            if low < high:
                yield _read_group(file, path, group, names)[low:high]
            first += size


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a file.

    Raises:
        DataError: as `read_parquet_jets`.
    """
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def count_parquet_jets(path: Path) -> int:
    """Number of jets of a file, without reading them.

    Raises:
        DataError: as `read_parquet_jets`.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def read_parquet_metadata(path: Path) -> dict[str, Any]:
    """What was given to the writer; the entry `recon` holds schema, units and software. Empty for other files.

    Raises:
        DataError: as `read_parquet_jets`.
    """
    with _opened(path) as file:
        text = (file.schema_arrow.metadata or {}).get(_METADATA)
    try:
        return dict(json.loads(text)) if text else {}
    except (TypeError, ValueError) as problem:
        raise DataError(
            f"{path}: the metadata {_METADATA.decode()!r} is not a JSON object: {problem}"
        ) from problem


def _encoding(table: Any) -> dict[str, Any]:
    """Numbers of detectors repeat too rarely for dictionaries; bytes of one significance together compress well."""
    floats = [name for name in table.fields if "float" in str(table[name].type)]
    paths = [name if table[name].ndim == 1 else f"{name}.list.element" for name in floats]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": False,
        "use_byte_stream_split": paths,
    }


def _read_group(file: Any, path: Path, group: int, names: Sequence[str]) -> Any:
    try:
        arrow = file.read_row_group(group, columns=list(names), use_threads=False)
    except Exception as problem:
        raise DataError(f"{path}: cannot read row group {group}, the file is damaged: {problem}") from problem
    table = ak.from_arrow(arrow)
    first = sum(file.metadata.row_group(row).num_rows for row in range(group))
    return ak.Array({name: _without_option(table[name], path, name, first) for name in names})


def _without_option(column: Any, path: Path, name: str, first: int) -> Any:
    """Every column of a foreign file may have nulls; where it has none, its type need not say so."""
    if not any(mark in str(column.type) for mark in ("?", "option")):
        return column
    is_null = ak.is_none(column)
    if column.ndim > 1:
        is_null = is_null | ak.fill_none(ak.any(ak.is_none(column, axis=1), axis=1), False)
    if rows := np.flatnonzero(ak.to_numpy(is_null)).tolist():
        raise DataError(
            f"{path}: {name} is null in jet {first + rows[0]} ({len(rows)} such jets in its row group)"
        )
    return ak.transform(_required, column)


def _required(layout: Any, **_: Any) -> Any:
    return ak.transform(_required, layout.project(), highlevel=False) if layout.is_option else None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    parquet = _pyarrow_parquet()
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        file = parquet.ParquetFile(path)
    except Exception as problem:  # pyarrow has its own types for bytes that are missing or wrong
        raise DataError(f"{path}: not a parquet file, or a truncated one: {problem}") from problem
    with file:
        yield file


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415  optional
    except ImportError as error:
        raise ConfigError(
            f"parquet files need the package pyarrow, which cannot be imported ({error}); "
            "install it with: pip install 'recon-hep[parquet]'"
        ) from error
    return parquet
