"""Tables of a ROOT file, one entry an event: TTree and RNTuple behind the same few functions.

Jagged columns are named after what they count: `hit_x` and all of `hit_*` have `n_hits` values in an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import awkward as ak
import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.root_file import guarded

Layout = Literal["ttree", "rntuple"]
Item = TypeVar("Item")

NUMBER = "event_number"
# A group is closed at this many rows or events: large enough to compress, small enough for memory.
GROUP_ROWS = 100_000
GROUP_EVENTS = 256


def table(file: Any, path: Path, name: str) -> Any:
    """Return the TTree or RNTuple called `name`.

    Raises:
        DataError: where it is missing or something else, listing what the file holds.
    """
    held = guarded(lambda: file.classnames(recursive=True, cycle=False), path, "directory")
    if held.get(name) not in ("TTree", "ROOT::RNTuple"):
        listed = ", ".join(f"{key} ({kind})" for key, kind in held.items()) or "nothing"
        raise DataError(f"{path}: expected a TTree or RNTuple called '{name}', found {listed}")
    found = guarded(lambda: file[name], path, f"'{name}'")
    guarded(lambda: found.num_entries, path, f"'{name}'")  # an RNTuple reads its header only now
    return found


def new_table(
    file: Any, layout: str, name: str, lists: Mapping[str, str], counters: Mapping[str, str]
) -> Any:
    """Create an empty TTree or RNTuple with the event number, the counters and jagged columns.

    Args:
        file: from `created`.
        layout: "ttree" or "rntuple".
        name: of the table.
        lists: name of a jagged column to the type of its numbers.
        counters: first word of a jagged column's name ("hit") to the column that counts it ("n_hits").

    Returns:
        The writable table.

    Raises:
        ConfigError: for another layout.
    """
    # Type objects, because awkward takes 25 ms to read a type from a string.
    types = {NUMBER: ak.types.NumpyType("uint64")}
    types |= {counter: ak.types.NumpyType("int32") for counter in _used(counters, lists).values()}
    types |= {column: ak.types.ListType(ak.types.NumpyType(dtype)) for column, dtype in lists.items()}
    if layout == "rntuple":
        return file.mkrntuple(
            name, ak.forms.from_type(ak.types.RecordType(list(types.values()), list(types)))
        )
    if layout == "ttree":
        return file.mktree(name, types, counter_name=lambda column: counters[_prefix(column)])
    raise ConfigError(f"layout is {layout!r}; allowed are 'ttree' and 'rntuple'")


def extend(
    tree: Any, numbers: list[int], columns: list[dict[str, np.ndarray]], counters: Mapping[str, str]
) -> None:
    """Append entries to a table of `new_table`.

    Args:
        tree: the table.
        numbers: event numbers.
        columns: jagged columns of every event.
        counters: as in `new_table`.
    """
    entries: dict[str, Any] = {NUMBER: np.array(numbers, np.uint64)}
    for name in columns[0]:
        counts = np.array([len(event[name]) for event in columns], np.int32)
        entries[counters[_prefix(name)]] = counts
        entries[name] = ak.unflatten(np.concatenate([event[name] for event in columns]), counts)
    tree.extend(entries)


def _prefix(column: str) -> str:
    return column.split("_", maxsplit=1)[0]


def _used(counters: Mapping[str, str], columns: Iterable[str]) -> dict[str, str]:
    prefixes = {_prefix(column) for column in columns}
    return {prefix: counter for prefix, counter in counters.items() if prefix in prefixes}


def grouped(items: Iterable[Item], rows: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Collect items into groups of about `GROUP_ROWS` rows and at most `GROUP_EVENTS` items.

    Args:
        items: taken one by one.
        rows: number of rows of an item.

    Yields:
        Groups, none of them empty.
    """
    group: list[Item] = []
    n_rows = 0
    for item in items:
        group.append(item)
        n_rows += rows(item)
        if n_rows >= GROUP_ROWS or len(group) >= GROUP_EVENTS:
            yield group
            group, n_rows = [], 0
    if group:
        yield group


def steps(tree: Any, path: Path, counter: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut entries `start` to `stop` into steps of about `GROUP_ROWS` rows by the column `counter`.

    Yields:
        First entry and one past the last entry of each step.

    Raises:
        DataError: where the counter cannot be read.
    """
    if stop <= start:
        return
    counts = guarded(
        lambda: tree[counter].array(entry_start=start, entry_stop=stop, library="np"), path, counter
    )
    total = np.cumsum(counts.astype(np.int64))
    low = 0
    while low < stop - start:
        before = total[low - 1] if low else 0
        full = int(np.searchsorted(total, before + GROUP_ROWS, side="right"))
        high = min(max(low + 1, full), low + GROUP_EVENTS)
        yield start + low, start + high
        low = high


def missing_columns(tree: Any, path: Path, wanted: Iterable[str]) -> list[str]:
    """Return the columns of `wanted` that the table lacks."""
    found = set(guarded(tree.keys, path, "branch names"))
    return [name for name in wanted if name not in found]


def require_columns(tree: Any, path: Path, wanted: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        DataError: naming the missing, the expected and the found columns.
    """
    missing = missing_columns(tree, path, wanted)
    if missing:
        found = sorted(tree.keys())
        raise DataError(
            f"{path}: '{tree.name}' lacks the branches {missing}; expected {list(wanted)}, found {found}"
        )


def read_columns(
    tree: Any, path: Path, types: Mapping[str, str], step: tuple[int, int]
) -> Iterator[tuple[str, int, dict[str, np.ndarray]]]:
    """Read the entries of one step.

    Args:
        tree: TTree or RNTuple with the column `event_number`.
        path: for messages.
        types: jagged columns to read and their types.
        step: first entry and one past the last.

    Yields:
        Where the entry is (for messages), its event number and its columns.

    Raises:
        DataError: damaged data, a column of another type, columns of different lengths.
    """
    low, high = step
    entries = f"entries {low} to {high - 1}"
    names = [NUMBER, *types]
    arrays = guarded(
        lambda: tree.arrays(names, entry_start=low, entry_stop=high, library="ak"), path, entries
    )
    columns = {
        name: split(arrays[name], dtype, f"{path}, {entries}, branch {name}") for name, dtype in types.items()
    }
    for row, number in enumerate(np.asarray(arrays[NUMBER])):
        where = f"{path}, event {number} (entry {low + row})"
        entry = {name: values[row] for name, values in columns.items()}
        _check_lengths(entry, where)
        yield where, int(number), entry


def _check_lengths(columns: Mapping[str, np.ndarray], where: str) -> None:
    """Compare the lengths of all columns that share the first word of their name."""
    kinds: dict[str, dict[str, int]] = {}
    for name, values in columns.items():
        kinds.setdefault(_prefix(name), {})[name] = len(values)
    for lengths in kinds.values():
        first = next(iter(lengths))
        wrong = {name: length for name, length in lengths.items() if length != lengths[first]}
        if wrong:
            raise DataError(
                f"{where}: {first} has {lengths[first]} values, but {wrong}; all must have the same length"
            )


def split(column: ak.Array, dtype: str, where: str) -> list[np.ndarray]:
    """Take a jagged column apart into one array an event, in the declared type.

    Args:
        column: as uproot read it.
        dtype: the declared type; another width is converted, another kind refused.
        where: file and column.

    Raises:
        DataError: where the column is not a list of numbers an entry, or its numbers do not fit the type.
    """
    try:
        counts = np.asarray(ak.num(column, axis=1))
        flat = np.asarray(ak.flatten(column, axis=1))
    except Exception as problem:
        raise DataError(
            f"{where}: expected a list of {dtype} an entry, found type {column.type}"
        ) from problem
    target = np.dtype(dtype)
    if flat.ndim != 1 or not _fits(flat, target):
        raise DataError(f"{where}: expected a list of {dtype} an entry, found type {column.type}")
    return np.split(flat.astype(target, copy=False), np.cumsum(counts)[:-1]) if counts.size else []


def _fits(flat: np.ndarray, target: np.dtype[Any]) -> bool:
    if flat.dtype == target:
        return True
    if target.kind == "f":
        return flat.dtype.kind in "fiu"
    if target.kind in "iu" and flat.dtype.kind in "iu":
        limits = np.iinfo(target)
        return flat.size == 0 or (int(flat.min()) >= limits.min and int(flat.max()) <= limits.max)
    return False
