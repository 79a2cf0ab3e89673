"""ROOT files as such: whole or not at all on the way out, complete on the way in, JSON beside the data."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uproot

from recon.errors import ConfigError, DataError
from recon.io.metadata import OWN, metadata_text

Result = TypeVar("Result")

METADATA = "metadata"

# zstd at level 3: simulated events are a quarter smaller than with lz4, and as small as with zlib at level 6 in
# a sixth of the time.
_COMPRESSION = uproot.ZSTD(3)
_BIG_FILE_VERSION = 1_000_000  # from here on the ROOT header holds 64-bit addresses


@contextmanager
def created(path: Path) -> Iterator[Any]:
    """Open a new ROOT file that appears under its name only when it is complete.

    Args:
        path: the final name; an older file is replaced at the end, in one step.

    Yields:
        The writable uproot directory.

    Raises:
        ConfigError: where the folder does not exist.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with uproot.recreate(partial, compression=_COMPRESSION) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a ROOT file for reading, without caches: events are read once and memory stays bounded.

    Yields:
        The readable uproot directory.

    Raises:
        DataError: no such file, not a ROOT file, truncated.
    """
    _check_header(path)
    file = guarded(
        lambda: uproot.open({str(path): None}, object_cache=None, array_cache=None), path, "directory"
    )
    with file:
        yield file


def guarded(read: Callable[[], Result], path: Path, what: str) -> Result:
    """Call `read`, turning whatever uproot stumbles over into a `DataError` that names the file.

    Raises:
        DataError: if `read` fails.
    """
    try:
        return read()
    except (
        Exception
    ) as problem:  # damaged bytes surface as struct.error, KeyError, zlib's, cramjam's own types, ...
        raise DataError(
            f"{path}: cannot read {what}, the file is damaged: {type(problem).__name__}: {problem}"
        ) from problem


def put_metadata(file: Any, metadata: Mapping[str, object], own: Mapping[str, object]) -> None:
    """Write `metadata` and this package's `own` entries as one JSON string.

    Raises:
        ConfigError: where the name `OWN` is taken or a value is not JSON.
    """
    file[METADATA] = metadata_text(metadata, own)


def get_metadata(file: Any, path: Path) -> dict[str, Any]:
    """Read what `put_metadata` wrote.

    Raises:
        DataError: where there is none or it is not JSON.
    """
    if not guarded(lambda: METADATA in file, path, "directory"):
        raise DataError(f"{path}: no object '{METADATA}'; the file was not written by recon")
    try:
        loaded = json.loads(str(guarded(lambda: file[METADATA], path, METADATA)))
    except json.JSONDecodeError as problem:
        raise DataError(f"{path}: '{METADATA}' is not JSON: {problem}") from problem
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: '{METADATA}' is a JSON {type(loaded).__name__}; expected an object")
    return loaded


def own_metadata(file: Any, path: Path, schema: str, version: int) -> dict[str, Any]:
    """Return this package's own metadata entry; empty where the file has none.

    Args:
        file: from `opened`.
        path: for messages.
        schema: the schema to read.
        version: the newest version of it that can be read.

    Raises:
        DataError: metadata that cannot be read, another schema, a newer version.
    """
    if not guarded(lambda: METADATA in file, path, "directory"):
        return {}
    own = get_metadata(file, path).get(OWN)
    if not isinstance(own, dict):
        return {}
    given = own.get("schema"), own.get("schema_version")
    if given[0] != schema or not isinstance(given[1], int) or given[1] > version:
        allowed = f"this version reads {schema} up to version {version}"
        raise DataError(f"{path}: holds schema {given[0]} version {given[1]}; {allowed}")
    return own


def _check_header(path: Path) -> None:
    """Compare the promised length with the length on disk: uproot would notice late or never."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as stream:
        head = stream.read(20)
    if len(head) < 20 or head[:4] != b"root":
        raise DataError(f"{path}: not a ROOT file (it does not start with 'root')")
    (version,) = struct.unpack(">i", head[4:8])
    (end,) = (
        struct.unpack(">q", head[12:20]) if version >= _BIG_FILE_VERSION else struct.unpack(">i", head[12:16])
    )
    size = path.stat().st_size
    if size < end:
        raise DataError(f"{path}: truncated, {size} bytes on disk where the header promises {end}")
