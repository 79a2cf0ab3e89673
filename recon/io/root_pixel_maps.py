"""Neutrino events in ROOT files: hits of pixel maps, one entry an event.

`hit_*` are jagged with `n_hits` values: view (0 is xz, 1 is yz), plane and cell within the window of the event, charge
in GeV. One value an event have `label`, `n_outside` (hits that the window does not hold), `first_plane`, `median_x`,
`median_y` (where the window is in the detector) and, in simulations, `truth_*` in GeV and mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import awkward as ak
import numpy as np

from recon.errors import ConfigError, DataError
from recon.io import root_file, root_table
from recon.io.jets_layout import require
from recon.io.pixel_maps import check_events, drop_outside, pixel_maps
from recon.io.root_table import Layout
from recon.types import NeutrinoEvents, NeutrinoTruth, PixelMaps

TREE = "events"
SCHEMA, SCHEMA_VERSION = "recon.pixel_maps", 1
UNITS = {"length": "mm", "energy": "GeV", "momentum": "GeV", "charge": "GeV"}
GROUP_EVENTS = 4000
"""Events that are read together."""

# Small integers: half of the size of a file is in the numbers of planes and cells otherwise.
HITS: Mapping[str, str] = {
    "hit_view": "uint8",
    "hit_plane": "uint8",
    "hit_cell": "uint8",
    "hit_charge": "float32",
}
EVENT: Mapping[str, str] = {
    "label": "int32",
    "n_outside": "int32",
    "first_plane": "int32",
    "median_x": "int32",
    "median_y": "int32",
}
TRUTH: Mapping[str, str] = {
    "truth_mode": "int32",
    "truth_flavour": "int32",
    "truth_energy": "float32",
    "truth_visible_energy": "float32",
    **{f"truth_lepton_p{axis}": "float32" for axis in "xyz"},
    **{f"truth_vertex_{axis}": "float32" for axis in "xyz"},
}
"""Simulation only."""


class ScoredEvents(NamedTuple):
    """Events with further numbers.

    Attributes:
        events: the events.
        columns: one float32 an event, by the name of the branch.
    """

    events: NeutrinoEvents
    columns: Mapping[str, np.ndarray]


def write_neutrino_events(
    path: str | Path,
    tables: Iterable[NeutrinoEvents | ScoredEvents],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
) -> int:
    """Write events; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        tables: many events each, taken one by one; the first decides whether the file holds truth and further branches.
        layout: "ttree" or "rntuple".
        metadata: seeds, configuration, versions: anything JSON.

    Returns:
        The number of events written.

    Raises:
        DataError: events that `recon.io.pixel_maps.check_events` refuses, hits outside of the window, truth in some
            events only, no event at all.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    written, tree, with_truth = 0, None, False
    with root_file.created(path) as file:
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
        root_file.put_metadata(file, metadata or {}, own)
        for table in tables:
            events, more = table if isinstance(table, ScoredEvents) else (table, {})
            check_events(events, str(path), windowed=True)
            if tree is None:
                with_truth = events.truth is not None
                tree = _new_tree(file, layout, with_truth, list(more))
            if with_truth != (events.truth is not None):
                raise DataError(
                    f"{path}: some events have truth, others have none; give it to all or to none"
                )
            more = {name: np.asarray(column, np.float32) for name, column in more.items()}
            tree.extend(_entries(events, counted=layout == "ttree") | more)
            written += len(events.label)
        if tree is None:
            raise DataError(f"{path}: there is no event to write")
    return written


def read_neutrino_events(
    path: str | Path, *, entry_start: int | None = None, entry_stop: int | None = None
) -> Iterator[NeutrinoEvents]:
    """Read events as hits, lazily, some thousand at a time.

    Hits outside of the window, which other programs may have written, are left out and counted in `outside`.

    Args:
        path: a file of `write_neutrino_events`, or any with the branches of `HITS`; of the others, those that are
            missing read as unknown.
        entry_start: first event, from 0.
        entry_stop: one past the last event; at most the number of events counts.

    Yields:
        Host arrays; `truth` is `None` where the file holds none.

    Raises:
        DataError: a file that is missing, truncated or damaged; a missing branch: named, with those that are spelled
            nearly the same; charges that are NaN or negative, views that do not exist: with the branch and the event.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        root_file.own_metadata(file, path, SCHEMA, SCHEMA_VERSION)
        table = root_table.table(file, path, TREE)
        held = [str(name) for name in root_file.guarded(table.keys, path, "branch names")]
        require(HITS, held, f"{path}, '{TREE}'")
        if set(TRUTH) & set(held):
            require(TRUTH, held, f"{path}, '{TREE}'")
        names = [name for name in (root_table.NUMBER, *EVENT, *HITS, *TRUTH) if name in held]
        start, stop, _ = slice(entry_start, entry_stop).indices(table.num_entries)
        for low in range(start, stop, GROUP_EVENTS):
            yield _read_range(table, path, names, low, min(low + GROUP_EVENTS, stop))


def read_pixel_maps(
    path: str | Path,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
    empty_views: Literal["keep", "refuse"] = "keep",
) -> Iterator[PixelMaps]:
    """Read events as images, lazily, some thousand at a time.

    Args:
        path: as `read_neutrino_events`.
        entry_start: first event, from 0.
        entry_stop: one past the last event.
        empty_views: what to do with events that have no hit in one of the views.

    Yields:
        Host arrays.

    Raises:
        DataError: as `read_neutrino_events`; an empty view that is refused.
    """
    for events in read_neutrino_events(path, entry_start=entry_start, entry_stop=entry_stop):
        yield pixel_maps(events, empty_views=empty_views, where=str(path))


def count_neutrino_events(path: str | Path) -> int:
    """Number of events of a file, without reading them.

    Raises:
        DataError: a file that is missing, truncated or damaged, or without the table.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        return int(root_table.table(file, path, TREE).num_entries)


def _new_tree(file: Any, layout: str, with_truth: bool, more: Sequence[str]) -> Any:
    single = ({**EVENT, **TRUTH} if with_truth else {**EVENT}) | dict.fromkeys(more, "float32")
    types = {root_table.NUMBER: ak.types.NumpyType("uint64")}
    types |= {name: ak.types.NumpyType(dtype) for name, dtype in single.items()}
    lists = {name: ak.types.ListType(ak.types.NumpyType(dtype)) for name, dtype in HITS.items()}
    if layout == "rntuple":
        types |= lists
        return file.mkrntuple(
            TREE, ak.forms.from_type(ak.types.RecordType(list(types.values()), list(types)))
        )
    if layout == "ttree":
        counter = {"n_hits": ak.types.NumpyType("int32")}
        return file.mktree(TREE, types | counter | lists, counter_name=lambda column: "n_hits")
    raise ConfigError(f"layout is {layout!r}; allowed are 'ttree' and 'rntuple'")


def _entries(events: NeutrinoEvents, *, counted: bool) -> dict[str, Any]:
    counts = np.diff(events.offsets)
    entries: dict[str, Any] = {root_table.NUMBER: events.number}
    values = [events.label, events.outside, *events.window.T]
    entries |= dict(zip(EVENT, values, strict=True))
    if events.truth is not None:
        truth = events.truth
        columns = [
            truth.mode,
            truth.flavour,
            truth.energy,
            truth.visible_energy,
            *truth.lepton.T,
            *truth.vertex.T,
        ]
        entries |= dict(zip(TRUTH, columns, strict=True))
    if counted:
        entries["n_hits"] = counts.astype(np.int32)
    hits = (events.view, events.plane, events.cell, events.charge)
    for (name, dtype), column in zip(HITS.items(), hits, strict=True):
        entries[name] = ak.unflatten(column.astype(dtype, copy=False), counts)
    return entries


def _read_range(table: Any, path: Path, names: list[str], low: int, high: int) -> NeutrinoEvents:
    where = f"{path}, entries {low} to {high - 1}"
    arrays = root_file.guarded(
        lambda: table.arrays(names, entry_start=low, entry_stop=high, library="ak"), path, where
    )
    n = high - low
    single = {name: _numbers(arrays[name], dtype, f"{where}, branch {name}")
              for name, dtype in {**EVENT, **TRUTH}.items() if name in names}  # fmt: skip
    number = np.asarray(arrays[root_table.NUMBER]) if root_table.NUMBER in names else np.arange(low, high)
    counts, hits = _hits(arrays, where)
    unknown = np.full(n, -1, np.int32)
    events = NeutrinoEvents(
        number=number.astype(np.uint64),
        label=single.get("label", unknown),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        view=hits["hit_view"],
        plane=hits["hit_plane"],
        cell=hits["hit_cell"],
        charge=hits["hit_charge"],
        outside=single.get("n_outside", np.zeros(n, np.int32)),
        window=np.stack(
            [single.get(name, unknown) for name in ("first_plane", "median_x", "median_y")], axis=1
        ),
        truth=_truth(single) if "truth_mode" in single else None,
    )
    check_events(events, str(path))
    return drop_outside(events)


def _hits(arrays: Any, where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Numbers of hits, and their columns; all columns of an event must have the same length."""
    counts, columns = None, {}
    for name, dtype in HITS.items():
        split = root_table.split(
            arrays[name], "float32" if dtype == "float32" else "int32", f"{where}, branch {name}"
        )
        lengths = np.array([len(part) for part in split], np.int64)
        if counts is not None and not np.array_equal(counts, lengths):
            raise DataError(f"{where}: {name} has other numbers of hits than hit_view")
        counts = lengths
        columns[name] = (
            np.concatenate(split) if split else np.zeros(0, np.float32 if dtype == "float32" else np.int32)
        )
    assert counts is not None
    return counts, columns


def _numbers(column: Any, dtype: str, where: str) -> np.ndarray:
    try:
        return np.asarray(column).astype(dtype, casting="same_kind")
    except (TypeError, ValueError) as problem:
        raise DataError(f"{where}: expected one {dtype} an entry, found type {column.type}") from problem


def _truth(single: Mapping[str, np.ndarray]) -> NeutrinoTruth:
    return NeutrinoTruth(
        mode=single["truth_mode"],
        flavour=single["truth_flavour"],
        energy=single["truth_energy"],
        visible_energy=single["truth_visible_energy"],
        lepton=np.stack([single[f"truth_lepton_p{axis}"] for axis in "xyz"], axis=1),
        vertex=np.stack([single[f"truth_vertex_{axis}"] for axis in "xyz"], axis=1),
    )
