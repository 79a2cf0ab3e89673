"""CMS's PFNano with more branches of its AK8 jets: every event as it was, and scores as `FatJet_*`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
from jaxtyping import Float32

from recon.errors import DataError
from recon.io import root_file, root_table
from recon.io.root_jets import read_range
from recon.io.root_pfnano import GROUP_EVENTS, TREE

JETS = "FatJet"
COUNTER = "nFatJet"
_OTHER_TREES = ("Runs", "LuminosityBlocks")
_NUMBERS = ("run", "luminosityBlock", "event")

Keep = Literal["all", "jets"]


def write_pfnano_scores(
    source: str | Path,
    output: str | Path,
    scores: Iterable[Float32[np.ndarray, "_ k"]],
    names: Sequence[str],
    *,
    keep: Keep = "all",
) -> tuple[int, list[str]]:
    """Copy PFNano and add a branch of its AK8 jets for every class.

    Args:
        source: the file whose jets were scored.
        output: file to create or replace; it appears under its name only when all events are in.
        scores: probabilities of the classes, in pieces of any length, of all jets in the order of the file.
        names: of the branches behind `FatJet_`, one a class.
        keep: every branch, or those of AK8 jets and the numbers of the event; setting up a file of the thousands of
            branches that NanoAOD has takes ten seconds.

    Returns:
        The number of jets, and the names of what could not be copied.

    Raises:
        DataError: a file that is damaged, a branch of a new name that is there already, or too few or too many scores.
        ConfigError: missing folder.
    """
    source, output = Path(source), Path(output)
    supply = _Supply(scores, source)
    added = [f"{JETS}_{name}" for name in names]
    with root_file.opened(source) as file, root_file.created(output) as copy:
        tree = root_table.table(file, source, TREE)
        held = [str(name) for name in root_file.guarded(tree.keys, source, "branch names")]
        if taken := sorted(set(added) & set(held)):
            raise DataError(f"{source}: there is a branch {taken[0]!r} already; choose another name")
        wanted = [name for name in held if keep == "all" or name in _NUMBERS or name.startswith(f"{JETS}_")]
        left_out = _copy(copy, tree, source, wanted, added, lambda part: supply.columns(part, added))
        for name in _OTHER_TREES if keep == "all" else ():
            if name in file:
                names_left = _copy(copy, file[name], source, file[name].keys(), [], lambda _: {})
                left_out += [f"{name}: {branch}" for branch in names_left]
        if keep == "all":
            kept = {TREE, *_OTHER_TREES}
            left_out += [key for key in file.keys(recursive=False, cycle=False) if key not in kept]
        supply.finish()
    return supply.given, left_out


class _Supply:
    """Hands out scores by event, in whatever pieces they come."""

    def __init__(self, scores: Iterable[np.ndarray], source: Path) -> None:
        self._pieces: Iterator[np.ndarray] = iter(scores)
        self._source, self.given = source, 0
        self._left: np.ndarray | None = None

    def columns(self, events: Any, names: Sequence[str]) -> dict[str, Any]:
        """One jagged column a class for some events."""
        counts = np.asarray(ak.num(events[f"{JETS}_pt"]), np.int64)
        rows = self._take(int(counts.sum()), len(names))
        return {name: ak.unflatten(np.ascontiguousarray(rows[:, k]), counts) for k, name in enumerate(names)}

    def _take(self, wanted: int, classes: int) -> np.ndarray:
        held = [np.zeros((0, classes), np.float32)] if self._left is None else [self._left]
        while sum(map(len, held)) < wanted:
            piece = next(self._pieces, None)
            if piece is None:
                raise DataError(
                    f"{self._source}: there are scores of {self.given + sum(map(len, held))} jets only"
                )
            held.append(np.asarray(piece, np.float32))
        joined = np.concatenate(held)
        self._left, self.given = joined[wanted:], self.given + wanted
        return joined[:wanted]

    def finish(self) -> None:
        """Refuse scores of jets that there are none of."""
        rest = (0 if self._left is None else len(self._left)) + sum(len(piece) for piece in self._pieces)
        if rest:
            raise DataError(f"{self._source}: there are scores of {rest} jets too many")


def _copy(
    copy: Any, tree: Any, source: Path, wanted: Iterable[str], added: Sequence[str], more: Any
) -> list[str]:
    """Write a tree with those of the branches that are numbers or lists of numbers, and lists that `more` gives.

    Returns:
        The branches that are neither.
    """
    wanted = list(wanted)
    types, counters = _types(tree, set(wanted))
    left_out = [name for name in wanted if name not in types and name not in counters.values()]
    counters |= dict.fromkeys(added, COUNTER)
    # Type objects, because awkward takes 25 ms to read a type from a string.
    declared = types | dict.fromkeys(added, ak.types.ListType(ak.types.NumpyType("float32")))
    # Counters are branches of their own in the copy as in the original.
    new = copy.mktree(
        tree.name,
        dict.fromkeys(counters.values(), ak.types.NumpyType("int32")) | declared,
        counter_name=lambda column: counters[column],
    )
    for low in range(0, tree.num_entries, GROUP_EVENTS):
        events = read_range(tree, source, list(types), low, min(low + GROUP_EVENTS, tree.num_entries))
        columns = {name: events[name] for name in types} | more(events)
        for name, counter in counters.items():
            columns.setdefault(counter, np.asarray(ak.num(columns[name]), np.int32))
        new.extend(columns)
    return left_out


def _types(tree: Any, wanted: set[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Types of the branches that can be copied, and the branch that counts each list."""
    types: dict[str, Any] = {}
    counters: dict[str, str] = {}
    for branch in tree.branches:
        name = str(branch.name)
        if name not in wanted:
            continue
        interpretation = branch.interpretation
        dtype = getattr(interpretation, "to_dtype", None)
        if dtype is not None and dtype.subdtype is None and dtype.names is None:
            types[name] = ak.types.NumpyType(dtype.newbyteorder("=").name)
            continue
        content: Any = getattr(getattr(interpretation, "content", None), "to_dtype", None)
        leaf = branch.member("fLeaves")[0].member("fLeafCount") if content is not None else None
        if leaf is not None and content.subdtype is None:
            types[name] = ak.types.ListType(ak.types.NumpyType(content.newbyteorder("=").name))
            counters[name] = str(leaf.member("fName"))
    for counter in set(counters.values()):
        types.pop(counter, None)
    return types, counters
