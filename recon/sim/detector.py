"""The GenericDetector of ACTS as a sensor table, and its tracking geometry for the simulation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.errors import DataError
from recon.sim import import_extra
from recon.tracking.detector import DETECTORS, PassiveMaterial, write_detector
from recon.types import Detector

PIXEL_VOLUMES = (7, 8, 9)
SHORT_STRIP_VOLUMES = (12, 13, 14)
LONG_STRIP_VOLUMES = (16, 17, 18)

_MATERIAL = re.compile(r"x0=([0-9.eE+-]+).*\|t=([0-9.eE+-]+)")


class GenericGeometry(NamedTuple):
    """What every ACTS algorithm chain needs; keep all three alive as long as the chain runs.

    Attributes:
        detector: `acts.examples.GenericDetector`, the owner of the detector elements.
        tracking_geometry: `acts.TrackingGeometry`.
        decorators: context decorators to add to the sequencer.
    """

    detector: Any
    tracking_geometry: Any
    decorators: list[Any]


def generic_tracking_geometry() -> GenericGeometry:
    """Build the GenericDetector (about one second) without a word on standard output.

    Returns:
        Detector, tracking geometry and context decorators.

    Raises:
        ConfigError: the `sim` extra is missing.
    """
    acts = import_extra("acts")
    examples = import_extra("acts.examples")
    config = examples.GenericDetector.Config()
    for level in ("logLevel", "surfaceLogLevel", "layerLogLevel", "volumeLogLevel"):
        setattr(config, level, acts.logging.FATAL)
    detector = examples.GenericDetector(config)
    return GenericGeometry(detector, detector.trackingGeometry(), list(detector.contextDecorators()))


def build_generic_detector(geometry: GenericGeometry | None = None) -> Detector:
    """Tabulate the sensors of the GenericDetector: 18,728 on 48 layers.

    `thickness` holds the silicon of the sensor (0.15, 0.25 or 0.35 mm) plus the support of its layer (1.5 to
    3.5 mm of silicon), which every particle through the layer crosses once: a disc at the centre of an endcap
    layer, a cylinder 2.5 mm outside the sensors of the pixel barrel or 6 mm inside those of the strip barrel.
    Not included: beam pipe and support tube, see `build_passive_material`.

    Args:
        geometry: result of `generic_tracking_geometry`; built when not given.

    Returns:
        The table, sorted by geometry identifier.

    Raises:
        ConfigError: the `sim` extra is missing.
        DataError: a sensor is neither a rectangle nor a trapezoid.
    """
    geometry = geometry or generic_tracking_geometry()
    surfaces = geometry.tracking_geometry.geoIdSurfaceMap()
    sensors = sorted(((g, s) for g, s in surfaces.items() if g.sensitive), key=lambda pair: pair[0].value)
    supports = _layer_supports(surfaces)
    frames = [_local_frame(surface) for _, surface in sensors]
    layer_keys = np.array([(g.volume, g.layer) for g, _ in sensors], np.int32)
    _, layer = np.unique(layer_keys, axis=0, return_inverse=True)
    own = np.array([_radiation_lengths(surface) for _, surface in sensors])
    support = np.array([supports.get((int(v), int(la)), 0.0) for v, la in layer_keys])
    return Detector(
        center=np.stack([center for center, _ in frames]).astype(np.float32),
        rotation=np.stack([rotation for _, rotation in frames]).astype(np.float32),
        half_size=np.array([_half_size(surface) for _, surface in sensors], np.float32),
        thickness=(own + support).astype(np.float32),
        layer=layer.ravel().astype(np.int32),
        pixel=np.isin(layer_keys[:, 0], PIXEL_VOLUMES),
        geometry_id=np.array([g.value for g, _ in sensors], np.uint64),
        volume_id=layer_keys[:, 0].copy(),
        layer_id=layer_keys[:, 1].copy(),
        module_id=np.array([g.sensitive for g, _ in sensors], np.int32),
    )


def build_passive_material(geometry: GenericGeometry | None = None) -> PassiveMaterial:
    """Tabulate the material that belongs to no layer with sensors: beam pipe and support tube.

    The geometry also lists discs with material halfway between the endcap layers. They are left out: they
    only guide the navigation of ACTS, and simulated particles do not meet them.

    Args:
        geometry: result of `generic_tracking_geometry`; built when not given.

    Returns:
        Cylinders by radius, the beam pipe first.

    Raises:
        ConfigError: the `sim` extra is missing.
    """
    geometry = geometry or generic_tracking_geometry()
    surfaces = geometry.tracking_geometry.geoIdSurfaceMap()
    sensitive_layers = {(g.volume, g.layer) for g in surfaces if g.sensitive}
    rows = [
        (*surface.bounds.values()[:2], _radiation_lengths(surface))
        for g, surface in surfaces.items()
        if surface.surfaceMaterial is not None
        and (g.volume, g.layer) not in sensitive_layers
        and type(surface.bounds).__name__ == "CylinderBounds"
    ]
    radius, half_length, thickness = np.array(sorted(rows), np.float32).reshape(-1, 3).T
    return PassiveMaterial(radius.copy(), half_length.copy(), thickness.copy())


def _layer_supports(surfaces: dict[Any, Any]) -> dict[tuple[int, int], float]:
    """Sum the material that each layer carries outside its sensors, in radiation lengths."""
    supports: dict[tuple[int, int], float] = {}
    for identifier, surface in surfaces.items():
        if not identifier.sensitive and surface.surfaceMaterial is not None:
            key = (identifier.volume, identifier.layer)
            supports[key] = supports.get(key, 0.0) + _radiation_lengths(surface)
    return supports


def _radiation_lengths(surface: Any) -> float:
    """Thickness in radiation lengths: the bindings show the material only as text."""
    if surface.surfaceMaterial is None:
        return 0.0
    text = surface.surfaceMaterial.toString()
    found = _MATERIAL.search(text)
    if found is None:
        raise DataError(f"cannot read the surface material {text!r}: expected the form 'x0=... t=...'")
    return float(found[2]) / float(found[1])


def _vector(vector: Any) -> Float64[np.ndarray, " xyz"]:
    return np.array([vector[0], vector[1], vector[2]], np.float64)


def _local_frame(surface: Any) -> tuple[Float64[np.ndarray, " xyz"], Float64[np.ndarray, "uvw xyz"]]:
    """Return the centre and the axes u, v, w (as rows) of a plane surface."""
    acts = import_extra("acts")
    context = acts.GeometryContext.dangerouslyDefaultConstruct()
    direction = acts.Vector3(0.0, 0.0, 1.0)  # not used by planes, but asked for
    center = _vector(surface.center(context))
    u = _vector(surface.localToGlobal(context, acts.Vector2(1.0, 0.0), direction)) - center
    v = _vector(surface.localToGlobal(context, acts.Vector2(0.0, 1.0), direction)) - center
    return center, np.stack([u, v, np.cross(u, v)])


def _half_size(surface: Any) -> tuple[float, float, float]:
    """Return half length along u at low v, at high v, and half length along v, mm."""
    kind, values = type(surface.bounds).__name__, list(surface.bounds.values())
    if kind == "TrapezoidBounds":
        return values[0], values[1], values[2]
    if kind == "RectangleBounds":
        return values[2], values[2], values[3]
    raise DataError(f"sensor bounds of kind {kind} cannot be tabulated; allowed: rectangle, trapezoid")


def write_generic_detector(
    path: Path = DETECTORS / "generic.npz", geometry: GenericGeometry | None = None
) -> None:
    """Write the table that ships with the package: `python -m recon.sim.detector`.

    Args:
        path: file to write.
        geometry: result of `generic_tracking_geometry`; built when not given.
    """
    geometry = geometry or generic_tracking_geometry()
    write_detector(path, build_generic_detector(geometry), build_passive_material(geometry))


if __name__ == "__main__":
    write_generic_detector()
