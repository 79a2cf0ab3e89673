"""Calorimeter events from ROOT files of either kind: ours, or NanoAOD-like ones of CMS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError
from recon.io import root_file, root_nano_rechits, root_rechits
from recon.types import CalorimeterEvent


class CalorimeterFile(NamedTuple):
    """What a file says before its events are read.

    Attributes:
        path: of the file.
        n_events: number of events.
        metadata: what was given to the writer; empty for files of CMS.
        nano: a NanoAOD-like file, whose hits have no cells.
    """

    path: Path
    n_events: int
    metadata: dict[str, Any]
    nano: bool


def describe_calorimeter_file(path: str | Path) -> CalorimeterFile:
    """Look into a file.

    Raises:
        DataError: a file that is missing, truncated, damaged or holds no calorimeter events.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        held = root_file.guarded(lambda: file.keys(recursive=False, cycle=False), path, "directory")
        nano = root_rechits.TREE not in held and root_nano_rechits.TREE in held
        if nano:
            table = root_file.guarded(lambda: file[root_nano_rechits.TREE], path, "directory")
            return CalorimeterFile(path, int(table.num_entries), {}, nano)
        has_metadata = root_file.METADATA in held
        metadata = root_file.get_metadata(file, path) if has_metadata else {}
    return CalorimeterFile(path, root_rechits.count_rechit_events(path), metadata, nano)


def read_calorimeter_file(
    file: CalorimeterFile,
    layer_z: Float[np.ndarray, " l"] | None = None,
    *,
    entry_start: int | None = None,
    entry_stop: int | None = None,
) -> Iterator[CalorimeterEvent]:
    """Read events lazily.

    Args:
        file: of `describe_calorimeter_file`.
        layer_z: planes of the geometry, mm; needed for NanoAOD-like files, whose hits name no layer.
        entry_start: first entry, from 0.
        entry_stop: one past the last entry.

    Yields:
        Unpadded events.

    Raises:
        ConfigError: a NanoAOD-like file without `layer_z`.
        DataError: as the readers of both kinds.
    """
    if not file.nano:
        yield from root_rechits.read_rechits(file.path, entry_start=entry_start, entry_stop=entry_stop)
        return
    if layer_z is None:
        raise ConfigError(f"{file.path} says nothing of layers: name the geometry of its hits")
    yield from root_nano_rechits.read_nano_rechits(
        file.path, layer_z, entry_start=entry_start, entry_stop=entry_stop
    )
