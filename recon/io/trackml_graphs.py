"""Graphs that others have made of TrackML events, in the .npz format of the HEP.TrkX and Exa.TrkX projects.

A file holds one event: the hits of the barrel on ten layers and the candidate segments between neighbouring layers,
each marked true or false.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.errors import DataError
from recon.io.checks import refuse

COLUMNS = {"node_features": 2, "senders": 1, "receivers": 1, "edge_label": 1}
"""Arrays of a file by their number of axes."""

SCALE = np.array([1000.0, np.pi, 1000.0], np.float32)
"""Files hold r / 1000 mm, phi / pi and z / 1000 mm."""


class SegmentGraph(NamedTuple):
    """The hits of one event and the candidate segments between them.

    Attributes:
        name: of the file, without its ending.
        cylindrical: r mm, phi rad, z mm of every hit.
        senders: inner hit of each segment.
        receivers: outer hit of each segment, sorted.
        label: whether the segment joins two hits in a row of one particle.
    """

    name: str
    cylindrical: Float32[np.ndarray, "n 3"]
    senders: Int32[np.ndarray, " e"]
    receivers: Int32[np.ndarray, " e"]
    label: Bool[np.ndarray, " e"]


def read_segment_graphs(directory: str | Path) -> list[SegmentGraph]:
    """Read every .npz file of a directory, in the order of their names.

    Raises:
        DataError: a directory without such files, or a file that is none.
    """
    paths = sorted(Path(directory).glob("*.npz"))
    if not paths:
        raise DataError(f"{directory} holds no .npz file; a directory of TrackML graphs is needed")
    return [read_segment_graph(path) for path in paths]


def read_segment_graph(path: str | Path) -> SegmentGraph:
    """Read one event; segments come sorted by their outer hit.

    Raises:
        DataError: a file that is missing or no .npz, an array that is absent or of the wrong shape, a position that is
            not finite, a segment to a hit that does not exist or that does not lead outwards, a label but 0 and 1.
    """
    path = Path(path)
    arrays = _load(path)
    cylindrical = (arrays["node_features"] * SCALE).astype(np.float32)
    refuse(
        ~np.isfinite(cylindrical).all(axis=1),
        arrays["node_features"],
        str(path),
        "node_features",
        "it must be finite",
    )
    senders, receivers, label = (arrays[name] for name in ("senders", "receivers", "edge_label"))
    for name, rows in (("senders", senders), ("receivers", receivers)):
        outside = (rows < 0) | (rows >= len(cylindrical))
        refuse(
            outside, rows, str(path), name, f"allowed are the rows of the hits, 0 to {len(cylindrical) - 1}"
        )
    refuse((label != 0) & (label != 1), label, str(path), "edge_label", "allowed are 0 and 1")
    inwards = cylindrical[senders, 0] >= cylindrical[receivers, 0]
    refuse(inwards, senders, str(path), "senders", "the sender must be the inner hit")
    order = np.argsort(receivers, kind="stable")
    return SegmentGraph(
        name=path.stem,
        cylindrical=cylindrical,
        senders=senders[order].astype(np.int32),
        receivers=receivers[order].astype(np.int32),
        label=label[order].astype(bool),
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, checked for presence and shape."""
    try:
        # Opened here: NumPy leaves a file that it cannot read open.
        with path.open("rb") as handle, np.load(handle) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz: {error}") from error
    _check_shapes(arrays, path)
    return arrays


def _check_shapes(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    missing = [name for name in COLUMNS if name not in arrays]
    if missing:
        given = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {given}")
    for name, axes in COLUMNS.items():
        if arrays[name].ndim != axes:
            raise DataError(f"{path}: {name} has shape {arrays[name].shape}; {axes} axes are needed")
    nodes = arrays["node_features"]
    if nodes.shape[1] != len(SCALE):
        raise DataError(f"{path}: node_features has {nodes.shape[1]} columns; r, phi, z are needed")
    for name in ("senders", "receivers"):
        if not np.issubdtype(arrays[name].dtype, np.integer):
            raise DataError(f"{path}: {name} holds {arrays[name].dtype}; whole numbers are needed")
    lengths = {name: len(arrays[name]) for name in ("senders", "receivers", "edge_label")}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"{path}: {listed}; one row a segment is needed in each")
