"""Jets in files: the names every reader and writer agrees on, and the checks that all of them make.

A file holds one entry a jet. `part_*` and `sv_*` are lists with one value a candidate or a secondary vertex, all else
is one value a jet. `recon.sim.jets_table` lists the columns of simulated jets; files of JetClass and anything else
with these two prefixes can be read the same way.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from recon.errors import DataError

Item = TypeVar("Item")

SCHEMA, SCHEMA_VERSION = "recon.jets", 1
UNITS = {"length": "mm", "momentum": "GeV", "charge": "e", "angle": "rad"}
TREE = "tree"
"""Name of the table, as in JetClass."""
COUNTERS: Mapping[str, str] = {"part": "n_part", "sv": "n_sv"}
"""First word of a list's name to the column that counts it in a TTree."""

GROUP_JETS = 5000
"""Jets that are written, and read, together: large enough to compress, small enough for memory."""


def prefix(column: str) -> str:
    """First word of a column's name."""
    return column.split("_", maxsplit=1)[0]


def require(wanted: Iterable[str], held: Iterable[str], where: str) -> None:
    """Refuse a file that lacks columns.

    Args:
        wanted: names of columns.
        held: those of the file.
        where: file and table, opens the message.

    Raises:
        DataError: naming every missing column with those that are spelled nearly the same.
    """
    have = list(held)
    missing = [name for name in wanted if name not in set(have)]
    if missing:
        listed = "; ".join(_with_near_spellings(name, have) for name in missing)
        raise DataError(f"{where}: there is no branch {listed}; it has {len(have)} branches")


def _with_near_spellings(name: str, held: Sequence[str]) -> str:
    lower = {other.lower(): other for other in held}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)
    if not near:
        return repr(name)
    return f"{name!r} (near: {', '.join(repr(lower[other]) for other in near)})"


def grouped(tables: Iterable[Item], join: Callable[[list[Item]], Item]) -> Iterator[Item]:
    """Join tables until each holds `GROUP_JETS` jets or a little more; the last may hold fewer.

    Args:
        tables: with a length.
        join: makes one of several.
    """
    group: list[Item] = []
    size = 0
    for table in tables:
        group.append(table)
        size += len(table)  # type: ignore[arg-type]
        if size >= GROUP_JETS:
            yield join(group)
            group, size = [], 0
    if size:
        yield join(group)
