"""Named tuples of arrays as files of the cache: whole or absent."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ArraysT = TypeVar("ArraysT")
"""A NamedTuple of arrays."""


def read_arrays(path: Path, kind: type[ArraysT]) -> ArraysT | None:
    """Read a file of `write_arrays`; `None` where there is none, or none that is whole: make it again then.

    Args:
        path: of the file.
        kind: the NamedTuple that was written.
    """
    try:
        # Opened here: NumPy leaves its own handle open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return kind(**{name: file[name] for name in kind._fields})  # type: ignore[attr-defined]
    # An array without an archive around it is no context.
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None


def write_arrays(path: Path, arrays: Any) -> None:
    """Write a NamedTuple of arrays into one file, whole or not at all.

    Args:
        path: of the file, `*.npz`; missing directories are made.
        arrays: the NamedTuple.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may make the same file: the last rename wins and the content is the same.
    partial = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    np.savez(partial, **arrays._asdict())
    partial.replace(path)
