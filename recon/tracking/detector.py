"""The tracking detectors that ship with the package: sensor tables and passive material."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from recon.errors import ConfigError
from recon.types import Detector

DETECTORS = Path(__file__).parent / "detectors"
"""Directory of the shipped tables, one `<name>.npz` a detector."""

PASSIVE_PREFIX = "passive_"
"""Arrays with this prefix in the file belong to `PassiveMaterial`, the others to `Detector`."""


class PassiveMaterial(NamedTuple):
    """Material away from the sensors and their supports, as thin cylinders around the beam line.

    Sorted by radius; row 0 of the generic detector is the beam pipe, row 1 the tube around the pixels. What
    sits on a sensor or carries its layer is part of `Detector.thickness`.

    Attributes:
        radius: mm.
        half_length: along z, centred at 0, mm.
        thickness: in units of radiation lengths at normal incidence.
    """

    radius: Float32[np.ndarray, " s"]
    half_length: Float32[np.ndarray, " s"]
    thickness: Float32[np.ndarray, " s"]


def detector_names() -> tuple[str, ...]:
    """Names that `load_detector` accepts, sorted."""
    return tuple(sorted(path.stem for path in DETECTORS.glob("*.npz")))


@lru_cache(maxsize=4)
def load_detector(name: str = "generic") -> Detector:
    """Load the sensor table of a shipped detector; cached and read-only.

    `generic` is the GenericDetector of ACTS 48.1, which is the detector of the TrackML challenge: 18,728
    sensors on 48 layers, pixels in volumes 7 to 9, short strips in 12 to 14, long strips in 16 to 18.

    Args:
        name: one of `detector_names()`.

    Returns:
        The table; its arrays must not be written to.

    Raises:
        ConfigError: no detector of that name is shipped.

    Example:
        >>> from recon.tracking.detector import load_detector, n_layers
        >>> n_layers(load_detector("generic"))
        48
    """
    return Detector(**_read_arrays(name, Detector._fields, prefix=""))


@lru_cache(maxsize=4)
def load_passive_material(name: str = "generic") -> PassiveMaterial:
    """Load beam pipe and support tube of a shipped detector; cached and read-only.

    Args:
        name: one of `detector_names()`.

    Returns:
        One row a cylinder; the beam pipe comes first.

    Raises:
        ConfigError: no detector of that name is shipped.
    """
    return PassiveMaterial(**_read_arrays(name, PassiveMaterial._fields, prefix=PASSIVE_PREFIX))


def n_layers(detector: Detector) -> int:
    """Count the layers of a detector; layer indices run from 0 to one less."""
    return int(detector.layer.max()) + 1 if detector.layer.size else 0


def to_global(
    detector: Detector, module: Int[np.ndarray, " n"], local: Float[np.ndarray, "n 2"]
) -> Float32[np.ndarray, "n 3"]:
    """Convert positions on sensors into global positions.

    Args:
        detector: the sensor table.
        module: row of the sensor in the table.
        local: position along the first two axes of the sensor, mm.

    Returns:
        Global position, mm; NaN where `module` is negative (unknown sensor).
    """
    rotation = detector.rotation[module].astype(np.float64)
    position = detector.center[module] + np.einsum("ni,nij->nj", local.astype(np.float64), rotation[:, :2])
    return np.where(module[:, None] < 0, np.nan, position).astype(np.float32)


def to_local(
    detector: Detector, module: Int[np.ndarray, " n"], position: Float[np.ndarray, "n 3"]
) -> Float32[np.ndarray, "n 2"]:
    """Project global positions onto sensors; the inverse of `to_global` for points on the sensor plane.

    Args:
        detector: the sensor table.
        module: row of the sensor in the table.
        position: global position, mm.

    Returns:
        Position along the first two axes of the sensor, mm; NaN where `module` is negative.
    """
    offset = position.astype(np.float64) - detector.center[module]
    local = np.einsum("nj,nij->ni", offset, detector.rotation[module][:, :2].astype(np.float64))
    return np.where(module[:, None] < 0, np.nan, local).astype(np.float32)


def write_detector(path: Path, detector: Detector, passive: PassiveMaterial) -> None:
    """Write a detector into one compressed file; the same input gives the same bytes.

    Args:
        path: file to write, `<name>.npz`.
        detector: the sensor table.
        passive: the material away from the sensors.
    """
    passive_arrays = {PASSIVE_PREFIX + name: array for name, array in passive._asdict().items()}
    np.savez_compressed(path, **detector._asdict(), **passive_arrays)


def _read_arrays(name: str, fields: tuple[str, ...], prefix: str) -> dict[str, np.ndarray]:
    if name not in detector_names():
        raise ConfigError(f"unknown detector {name!r}; allowed: {', '.join(detector_names())}")
    with np.load(DETECTORS / f"{name}.npz", allow_pickle=False) as file:
        arrays = {field: file[prefix + field] for field in fields}
    for array in arrays.values():
        # The tables are cached and shared: a caller who writes into one would change it for everybody.
        array.setflags(write=False)
    return arrays
