"""Showers found in a calorimeter, in ROOT files, one entry an event.

`hit_*` have one value for every hit of the event, in the order of the file of hits: `hit_trackster` and, where there
are layer clusters, `hit_cluster` are rows of the same entry, -1 for none. `cluster_*` and `trackster_*` have one value
for every layer cluster and trackster. Lengths are mm, energies GeV; the principal axes of a trackster are
`trackster_axis0_x` to `trackster_axis2_z`, the longest first. `trackster_seed` is the row of a layer cluster, or of a
hit where there are no layer clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from recon.errors import DataError
from recon.geometry import eta
from recon.io import root_file, root_table
from recon.io.checks import refuse
from recon.io.root_table import Layout
from recon.types import NOISE, Clusters, Tracksters

TREE = "showers"
SCHEMA, SCHEMA_VERSION = "recon.showers", 1
UNITS = {"length": "mm", "variance": "mm^2", "energy": "GeV"}

_AXES = [f"trackster_axis{axis}_{name}" for axis in range(3) for name in "xyz"]
_VARIANCES = [f"trackster_variance{axis}" for axis in range(3)]
_FLOATS = (
    *(f"trackster_{name}" for name in ("x", "y", "z", "energy", "regressed_energy")),
    *_AXES,
    *_VARIANCES,
)
TRACKSTERS: Mapping[str, str] = {
    "hit_trackster": "int32",
    **dict.fromkeys(_FLOATS, "float32"),
    "trackster_size": "int32",
    "trackster_seed": "int32",
}
CLUSTERS: Mapping[str, str] = {
    "hit_cluster": "int32",
    **{f"cluster_{name}": "float32" for name in ("x", "y", "z", "energy")},
    **{f"cluster_{name}": "int32" for name in ("size", "layer", "seed", "trackster")},
}
"""Only in files of algorithms that make layer clusters."""
_DERIVED: Mapping[str, str] = {"trackster_eta": "float32", "trackster_phi": "float32"}
"""Of the barycentre; written for other programs, not read."""
_COUNTERS = {"hit": "n_hits", "cluster": "n_clusters", "trackster": "n_tracksters"}


class StoredShowers(NamedTuple):
    """The showers of one event as they lie in a file; host arrays without padding.

    Attributes:
        number: event number.
        hit_trackster: for every hit the row of its trackster; `NOISE` for none.
        tracksters: made of the layer clusters, or of the hits where there are none.
        clusters: layer clusters; `None` where hits were clustered in three dimensions at once.
    """

    number: int
    hit_trackster: Int32[np.ndarray, " n"]
    tracksters: Tracksters
    clusters: Clusters | None


def write_showers(
    path: str | Path,
    showers: Iterable[StoredShowers],
    *,
    layout: Layout = "ttree",
    metadata: Mapping[str, object] | None = None,
) -> int:
    """Write the showers of every event; the file appears under its name only when all of them are in.

    Args:
        path: file to create or replace.
        showers: taken one by one; the first decides whether the file holds layer clusters.
        layout: "ttree" or "rntuple".
        metadata: configuration, versions: anything JSON.

    Returns:
        The number of tracksters written.

    Raises:
        DataError: rows that do not exist, padding, or layer clusters in some events only.
        ConfigError: unknown layout, missing folder, metadata that is not JSON.
    """
    path = Path(path)
    written = 0
    with root_file.created(path) as file:
        own = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "units": UNITS}
        root_file.put_metadata(file, metadata or {}, own)
        tree, names = None, set[str]()
        for group in root_table.grouped(showers, lambda event: len(event.hit_trackster)):
            columns = [_columns(event, f"{path}, event {event.number}") for event in group]
            if tree is None:
                tree, names = _new_tree(file, layout, columns[0]), set(columns[0])
            for event, given in zip(group, columns, strict=True):
                if set(given) != names:
                    problem = "has layer clusters" if "hit_cluster" in given else "has no layer clusters"
                    raise DataError(f"{path}, event {event.number}: {problem}, other than those before")
            root_table.extend(tree, [event.number for event in group], columns, _COUNTERS)
            written += sum(len(event["trackster_x"]) for event in columns)
        if tree is None:
            _new_tree(file, layout, {**TRACKSTERS, **_DERIVED, **CLUSTERS})
    return written


def read_showers(
    path: str | Path, *, entry_start: int | None = None, entry_stop: int | None = None
) -> Iterator[StoredShowers]:
    """Read the showers of one event after the other.

    Args:
        path: a file of `write_showers`, either layout.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry.

    Yields:
        The showers of each event.

    Raises:
        DataError: a file that is missing, truncated, damaged or someone else's, or rows that do not exist.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        tree = root_table.table(file, path, TREE)
        root_file.own_metadata(file, path, SCHEMA, SCHEMA_VERSION)
        types = _expected_columns(tree, path)
        start, stop, _ = slice(entry_start, entry_stop).indices(tree.num_entries)
        for step in root_table.steps(tree, path, "n_hits", start, stop):
            for where, number, columns in root_table.read_columns(tree, path, types, step):
                _check_rows(columns, where)
                yield _stored(columns, number)


def _new_tree(file: Any, layout: Layout, names: Iterable[str]) -> Any:
    declared = {**TRACKSTERS, **_DERIVED, **CLUSTERS}
    return root_table.new_table(file, layout, TREE, {name: declared[name] for name in names}, _COUNTERS)


def _expected_columns(tree: Any, path: Path) -> dict[str, str]:
    """The tracksters always, the layer clusters whole or not at all."""
    root_table.require_columns(tree, path, [root_table.NUMBER, "n_hits", *TRACKSTERS])
    if len(root_table.missing_columns(tree, path, CLUSTERS)) == len(CLUSTERS):
        return dict(TRACKSTERS)
    root_table.require_columns(tree, path, list(CLUSTERS))
    return {**TRACKSTERS, **CLUSTERS}


def _columns(event: StoredShowers, where: str) -> dict[str, np.ndarray]:
    """Flat columns of one event, checked."""
    tracksters, clusters = event.tracksters, event.clusters
    n = len(tracksters.valid)
    floats = np.concatenate(
        [
            tracksters.position,
            tracksters.energy[:, None],
            tracksters.regressed_energy[:, None],
            tracksters.axes.reshape(n, 9),
            tracksters.variance,
        ],
        axis=1,
    )
    columns = dict(zip(_FLOATS, floats.T, strict=True))
    columns |= {"trackster_size": tracksters.size, "trackster_seed": tracksters.seed}
    direction = tracksters.position.astype(np.float64)
    columns |= {
        "trackster_eta": eta(direction),
        "trackster_phi": np.arctan2(direction[:, 1], direction[:, 0]),
    }
    columns |= {"hit_trackster": event.hit_trackster}
    if clusters is not None:
        columns |= dict(zip(("cluster_x", "cluster_y", "cluster_z"), clusters.position.T, strict=True))
        columns |= {
            f"cluster_{name}": getattr(clusters, name) for name in ("energy", "size", "layer", "seed")
        }
        columns |= {"cluster_trackster": tracksters.member_trackster, "hit_cluster": clusters.member_cluster}
    declared = {**TRACKSTERS, **_DERIVED, **(CLUSTERS if clusters is not None else {})}
    typed = {name: np.ascontiguousarray(columns[name], dtype) for name, dtype in declared.items()}
    for made in (tracksters, clusters):
        if made is not None and not np.all(made.valid):
            raise DataError(f"{where}: files hold no padding; {int(np.sum(~made.valid))} rows are not valid")
    _check_rows(typed, where)
    return typed


def _check_rows(columns: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse rows that do not exist, and as many rows as there should be no more or less."""
    n_hits, n_tracksters = len(columns["hit_trackster"]), len(columns["trackster_x"])
    n_clusters = len(columns["cluster_x"]) if "cluster_x" in columns else n_hits
    limits = {
        "hit_trackster": (NOISE, n_tracksters),
        "hit_cluster": (NOISE, n_clusters),
        "cluster_trackster": (NOISE, n_tracksters),
        "cluster_seed": (0, n_hits),
        "trackster_seed": (0, n_clusters),
    }
    for name, (least, end) in limits.items():
        values = columns.get(name, np.zeros(0, np.int32))
        wrong = (values < least) | (values >= end)
        refuse(wrong, values, where, name, f"allowed are {least} to {end - 1}", row_name="row")


def _stored(columns: Mapping[str, np.ndarray], number: int) -> StoredShowers:
    def stacked(names: Iterable[str]) -> np.ndarray:
        return np.stack([columns[name] for name in names], axis=-1)

    n = len(columns["trackster_x"])
    clusters = None
    if "hit_cluster" in columns:
        clusters = Clusters(
            member_cluster=columns["hit_cluster"],
            position=stacked(("cluster_x", "cluster_y", "cluster_z")),
            **{name: columns[f"cluster_{name}"] for name in ("energy", "size", "layer", "seed")},
            valid=np.ones(len(columns["cluster_x"]), bool),
        )
    tracksters = Tracksters(
        member_trackster=columns["cluster_trackster" if clusters is not None else "hit_trackster"],
        position=stacked(("trackster_x", "trackster_y", "trackster_z")),
        axes=stacked(_AXES).reshape(n, 3, 3),
        variance=stacked(_VARIANCES),
        **{name: columns[f"trackster_{name}"] for name in ("energy", "regressed_energy", "size", "seed")},
        valid=np.ones(n, bool),
    )
    return StoredShowers(number, columns["hit_trackster"], tracksters, clusters)
