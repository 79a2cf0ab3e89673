"""HGCAL hits in NanoAOD-like ROOT files of CMS (`RecHitHGC_*`), with the simulated clusters where they are there.

Lengths in these files are cm. Every hit names at most one simulated cluster, the best match; where the file says how
much of the hit's energy matches (`..BestMatchQual`) that is the fraction, else 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from recon.errors import DataError
from recon.io import root_file, root_table
from recon.io.checks import refuse
from recon.io.rechit_checks import check_calorimeter_event
from recon.types import CalorimeterEvent, RecHits, ShowerTruth

TREE = "Events"
HITS: Mapping[str, str] = {f"RecHitHGC_{name}": "float32" for name in ("energy", "x", "y", "z")}
_COUNTER = "nRecHitHGC"
_NUMBER = "event"
_MATCHES = (
    ("RecHitHGC_SimClusterBestMatchIdx", "RecHitHGC_SimClusterBestMatchQual", "SimCluster"),
    ("RecHitHGC_MergedSimClusterBestMatchIdx", "RecHitHGC_MergedSimClusterBestMatchQual", "MergedSimCluster"),
    ("RecHitHGC_BestSimClusterIdx", "", "SimCluster"),
)
"""Column with the matching cluster, column with the quality of the match, collection that is meant; the first wins."""
_CLUSTER = {"pt": "float32", "eta": "float32", "phi": "float32", "pdgId": "int32"}
_MM = 10.0
PLANE_TOLERANCE = 8.0
"""mm that a hit may lie from the plane of its layer: silicon and scintillator of one layer are 2 mm apart."""


def read_nano_rechits(
    path: str | Path,
    layer_z: Float[np.ndarray, " l"],
    *,
    tree: str = TREE,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> Iterator[CalorimeterEvent]:
    """Read events lazily; hits of zero or negative energy are refused.

    Args:
        path: the file; TTree or RNTuple.
        layer_z: `Calorimeter.layer_z` of the geometry, mm: a hit belongs to the nearest plane.
        tree: name of the table.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry.

    Yields:
        Unpadded events, lengths in mm. `cell` is -1 and `sigma_noise` 0: `recon.hgcal_clustering.attachment` finds
        both. `truth` is `None` where the file names no simulated clusters; their vertex is not known and set to 0,
        their charge is set from the particle code where that is a common one, else 0, and all count as hard scatter.

    Raises:
        DataError: a file that is missing, truncated, damaged or lacks a branch; a hit far from all planes; a match
            with a cluster that is not there.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        table = root_table.table(file, path, tree)
        root_table.require_columns(table, path, list(HITS))
        matches = _matches(table, path)
        types = dict(HITS) | {name: dtype for name, dtype in _match_types(matches).items() if name}
        start, stop, _ = slice(entry_start, entry_stop).indices(table.num_entries)
        for low, high in _steps(table, path, start, stop):
            columns, numbers = _read(table, path, types, low, high)
            for row, number in enumerate(numbers):
                where = f"{path}, event {number} (entry {low + row})"
                entry = {name: values[row] for name, values in columns.items()}
                event = CalorimeterEvent(
                    int(number), _hits(entry, layer_z, where), _truth(entry, matches, where)
                )
                check_calorimeter_event(event, where)
                yield event


def _matches(table: Any, path: Path) -> tuple[str, str, str] | None:
    """Choose the kind of truth that the file has whole."""
    for index, quality, collection in _MATCHES:
        wanted = [index, *(f"{collection}_{name}" for name in _CLUSTER)]
        if not root_table.missing_columns(table, path, wanted):
            has_quality = bool(quality) and not root_table.missing_columns(table, path, [quality])
            return index, quality if has_quality else "", collection
    return None


def _match_types(matches: tuple[str, str, str] | None) -> dict[str, str]:
    if matches is None:
        return {}
    index, quality, collection = matches
    return {index: "int32", quality: "float32"} | {
        f"{collection}_{name}": dtype for name, dtype in _CLUSTER.items()
    }


def _steps(table: Any, path: Path, start: int, stop: int) -> Iterator[tuple[int, int]]:
    if root_table.missing_columns(table, path, [_COUNTER]):
        yield from ((entry, entry + 1) for entry in range(start, stop))
    else:
        yield from root_table.steps(table, path, _COUNTER, start, stop)


def _read(
    table: Any, path: Path, types: Mapping[str, str], low: int, high: int
) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Columns of some entries, and the numbers of the events (of the entries where the file has none)."""
    entries = f"entries {low} to {high - 1}"
    numbered = not root_table.missing_columns(table, path, [_NUMBER])
    names = [*types, *([_NUMBER] if numbered else [])]
    arrays = root_file.guarded(
        lambda: table.arrays(names, entry_start=low, entry_stop=high, library="ak"), path, entries
    )
    columns = {
        name: root_table.split(arrays[name], dtype, f"{path}, {entries}, branch {name}")
        for name, dtype in types.items()
    }
    numbers = np.asarray(arrays[_NUMBER]) if numbered else np.arange(low, high)
    return columns, numbers


def _hits(entry: Mapping[str, np.ndarray], layer_z: Float[np.ndarray, " l"], where: str) -> RecHits:
    lengths = {name: len(entry[name]) for name in HITS}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: branches have different lengths: {lengths}")
    position = _MM * np.stack([entry[f"RecHitHGC_{axis}"] for axis in "xyz"], axis=1)
    depth = np.abs(position[:, 2])
    middle = 0.5 * (layer_z[1:] + layer_z[:-1])
    layer = np.searchsorted(middle, depth)
    far = ~(np.abs(depth - layer_z[layer]) < PLANE_TOLERANCE)
    rule = f"every hit lies within {PLANE_TOLERANCE} mm of one of the {len(layer_z)} planes of the geometry"
    refuse(far, entry["RecHitHGC_z"], where, "RecHitHGC_z (cm)", rule, row_name="hit row")
    n = len(depth)
    return RecHits(
        position=position.astype(np.float32),
        energy=entry["RecHitHGC_energy"],
        layer=layer.astype(np.int32),
        cell=np.full(n, -1, np.int32),
        sigma_noise=np.zeros(n, np.float32),
        valid=np.ones(n, bool),
    )


_CHARGES = {11: -1, 13: -1, 15: -1, 211: 1, 321: 1, 2212: 1}


def _truth(
    entry: Mapping[str, np.ndarray], matches: tuple[str, str, str] | None, where: str
) -> ShowerTruth | None:
    if matches is None:
        return None
    index, quality, collection = matches
    pt, eta, phi, pdg = (entry[f"{collection}_{name}"] for name in _CLUSTER)
    n, match = len(pt), entry[index]
    wrong = (match < -1) | (match >= n)
    rule = f"allowed are -1 (none) and the {n} rows of {collection}"
    refuse(wrong, match, where, index, rule, row_name="hit row")
    hit = np.flatnonzero(match >= 0)
    share = entry[quality][hit] if quality else np.ones(len(hit), np.float32)
    charge = np.array([np.sign(code) * _CHARGES.get(abs(int(code)), 0) for code in pdg], np.int32)
    return ShowerTruth(
        momentum=np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1).astype(np.float32),
        vertex=np.zeros((n, 3), np.float32),
        charge=charge,
        pdg=pdg,
        hard_scatter=np.ones(n, bool),
        hit=hit.astype(np.int32),
        particle=match[hit],
        fraction=np.clip(share, 0.0, 1.0),
    )
