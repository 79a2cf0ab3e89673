"""Events of a calorimeter in ROOT files, as TTree or RNTuple; written and read in small groups of events.

One entry an event. `hit_*` are jagged with `n_hits` values; `hit_time` and `hit_time_error` (ns, NaN for a hit without
a time) may be missing, together. With truth there are `particle_*` with `n_particles` and
`share_*` with `n_shares` values: particle `share_particle` made the fraction `share_fraction` of the energy of hit
`share_hit`, both rows of the same entry. Lengths are mm, energies and momenta GeV, charges e.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import DataError
from recon.io import root_file, root_table
from recon.io.rechit_checks import check_calorimeter_event
from recon.io.root_table import Layout
from recon.types import CalorimeterEvent, HitTimes, RecHits, ShowerTruth

TREE = "rechits"
SCHEMA, SCHEMA_VERSION = "recon.rechits", 1
UNITS = {"length": "mm", "energy": "GeV", "momentum": "GeV", "charge": "e", "time": "ns"}

HITS: Mapping[str, str] = {
    "hit_x": "float32",
    "hit_y": "float32",
    "hit_z": "float32",
    "hit_energy": "float32",
    "hit_layer": "int32",
    "hit_cell": "int32",
    "hit_sigma_noise": "float32",
}
TIMES: Mapping[str, str] = {"hit_time": "float32", "hit_time_error": "float32"}
"""Where they were measured."""
PARTICLES: Mapping[str, str] = {
    "particle_px": "float32",
    "particle_py": "float32",
    "particle_pz": "float32",
    "particle_vx": "float32",
    "particle_vy": "float32",
    "particle_vz": "float32",
    "particle_charge": "int32",
    "particle_pdg": "int32",
    "particle_hard_scatter": "bool",
}
SHARES: Mapping[str, str] = {"share_hit": "int32", "share_particle": "int32", "share_fraction": "float32"}
"""Together with `PARTICLES`: simulation only."""
_COUNTERS = {"hit": "n_hits", "particle": "n_particles", "share": "n_shares"}


def write_rechits(
    path: str | Path,
    events: Iterable[CalorimeterEvent],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
    n_layers: int | None = None,
    n_cells: int | None = None,
) -> int:
    """Write events, one entry each; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        events: taken one by one; the first decides whether the file holds truth and times.
        layout: "ttree" or "rntuple".
        metadata: geometry, seeds, configuration: anything JSON.
        n_layers: of the calorimeter; a bound that reading checks against.
        n_cells: of the calorimeter; the same.

    Returns:
        The number of events written.

    Raises:
        DataError: an event that `recon.io.rechit_checks.check_calorimeter_event` refuses, truth or times in some events
            only.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    bounds = {name: n for name, n in (("n_layers", n_layers), ("n_cells", n_cells)) if n is not None}
    written = 0
    with root_file.created(path) as file:
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS, **bounds}
        root_file.put_metadata(file, metadata or {}, own)
        tree = None
        for group in root_table.grouped(events, lambda event: len(event.hits.energy)):
            for event in group:
                check_calorimeter_event(event, f"{path}, event {event.number}", **bounds)
            columns = [columns_of(event) for event in group]
            if tree is None:
                tree, names = _new_tree(file, layout, columns[0]), set(columns[0])
            for event, given in zip(group, columns, strict=True):
                if set(given) != names:
                    raise DataError(
                        f"{path}, event {event.number}: {_unlike(names, set(given))}, other than those before; all "
                        "events or none must have that"
                    )
            root_table.extend(tree, [event.number for event in group], columns, _COUNTERS)
            written += len(group)
        if tree is None:
            _new_tree(file, layout, HITS)
    return written


def read_rechits(
    path: str | Path, *, entry_start: int | None = None, entry_stop: int | None = None
) -> Iterator[CalorimeterEvent]:
    """Read events lazily, a small group at a time.

    Args:
        path: a file of `write_rechits`, either layout.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry; at most the number of entries counts.

    Yields:
        Unpadded events; `truth` and `times` are `None` where the file holds none.

    Raises:
        DataError: a file that is missing, truncated, damaged or someone else's; an event that
            `recon.io.rechit_checks.check_calorimeter_event` refuses.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        tree = root_table.table(file, path, TREE)
        own = root_file.own_metadata(file, path, SCHEMA, SCHEMA_VERSION)
        bounds = {name: int(own[name]) for name in ("n_layers", "n_cells") if name in own}
        types = _expected_columns(tree, path)
        start, stop, _ = slice(entry_start, entry_stop).indices(tree.num_entries)
        for step in root_table.steps(tree, path, "n_hits", start, stop):
            for where, number, columns in root_table.read_columns(tree, path, types, step):
                event = event_of(columns, number)
                check_calorimeter_event(event, where, **bounds)
                yield event


def count_rechit_events(path: str | Path) -> int:
    """Return the number of events without reading them.

    Raises:
        DataError: a file that is missing, damaged or holds no calorimeter events.
    """
    with root_file.opened(Path(path)) as file:
        return int(root_table.table(file, Path(path), TREE).num_entries)


def columns_of(event: CalorimeterEvent) -> dict[str, np.ndarray]:
    """Lay one event out as flat columns, in the types declared in this module."""
    hits = event.hits
    values: list[Any] = [*hits.position.T, hits.energy, hits.layer, hits.cell, hits.sigma_noise]
    columns = _typed(HITS, values)
    if event.times is not None:
        columns |= _typed(TIMES, list(event.times))
    if event.truth is not None:
        truth = event.truth
        values = [*truth.momentum.T, *truth.vertex.T, truth.charge, truth.pdg, truth.hard_scatter]
        columns |= _typed(PARTICLES, values)
        columns |= _typed(SHARES, [truth.hit, truth.particle, truth.fraction])
    return columns


def event_of(columns: Mapping[str, np.ndarray], number: int) -> CalorimeterEvent:
    """Build the event that `columns_of` laid out; truth and times are `None` where their columns are absent."""
    hits = RecHits(
        position=_stacked(columns, "hit_x", "hit_y", "hit_z"),
        energy=columns["hit_energy"],
        layer=columns["hit_layer"],
        cell=columns["hit_cell"],
        sigma_noise=columns["hit_sigma_noise"],
        valid=np.ones(len(columns["hit_x"]), bool),
    )
    truth = None
    if "share_hit" in columns:
        truth = ShowerTruth(
            momentum=_stacked(columns, "particle_px", "particle_py", "particle_pz"),
            vertex=_stacked(columns, "particle_vx", "particle_vy", "particle_vz"),
            charge=columns["particle_charge"],
            pdg=columns["particle_pdg"],
            hard_scatter=columns["particle_hard_scatter"],
            hit=columns["share_hit"],
            particle=columns["share_particle"],
            fraction=columns["share_fraction"],
        )
    times = HitTimes(*(columns[name] for name in TIMES)) if set(TIMES) <= set(columns) else None
    return CalorimeterEvent(number, hits, truth, times)


def _new_tree(file: Any, layout: Layout, names: Iterable[str]) -> Any:
    declared = {**HITS, **TIMES, **PARTICLES, **SHARES}
    return root_table.new_table(file, layout, TREE, {name: declared[name] for name in names}, _COUNTERS)


def _expected_columns(tree: Any, path: Path) -> dict[str, str]:
    """Choose the columns to read: the hits always, times and truth whole or not at all."""
    root_table.require_columns(tree, path, [root_table.NUMBER, "n_hits", *HITS])
    columns = dict(HITS)
    for group in (TIMES, {**PARTICLES, **SHARES}):
        if len(root_table.missing_columns(tree, path, group)) < len(group):
            root_table.require_columns(tree, path, list(group))
            columns |= group
    return columns


def _unlike(before: set[str], given: set[str]) -> str:
    """What an event has, or lacks, other than those before it."""
    names = {"share_hit": "truth", "hit_time": "times"}
    differing = next(name for name in names if (name in before) != (name in given))
    return f"{'has' if differing in given else 'has no'} {names[differing]}"


def _typed(declared: Mapping[str, str], values: list[Any]) -> dict[str, np.ndarray]:
    pairs = zip(declared.items(), values, strict=True)
    return {name: np.ascontiguousarray(array, dtype=dtype) for (name, dtype), array in pairs}


def _stacked(columns: Mapping[str, np.ndarray], *names: str) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=-1)
