"""The cells of an HGCAL endcap: hexagons of silicon on wafers, and scintillator tiles in eta and phi.

A layer is tiled with hexagonal wafers (167.44 mm between centres). Wafers centred inside `Layers.fine_radius` carry
432 cells of 120 um silicon each, the others 192 cells of 200 or 300 um. In the last 14 layers scintillator tiles,
1.25 degrees wide, begin at `Layers.mixed_radius`. Every point of the sensitive area lies in exactly one cell: that of
its kind of sensor whose centre is nearest for silicon, its ring and sector for scintillator.

Simplified against CMS: no gaps between wafers, no cut corners, no calibration cells, one z a layer, the same radii
where the thickness changes in all layers instead of a list of wafers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float64

from recon.cache import cache_directory
from recon.errors import ConfigError
from recon.hgcal_clustering.lattice import cell_centre, morton_code, wafer_of
from recon.hgcal_clustering.layers import GeometryName, Layers, endcap_layers, select_layers
from recon.hgcal_clustering.sensors import (
    COARSE,
    FINE,
    MEDIUM,
    SCINTILLATOR,
    SENSORS,
    TILE_ANGLE,
    WAFER_SIZE,
    cell_pitch,
)
from recon.io.npz import read_arrays, write_arrays
from recon.types import Calorimeter

__all__ = ["SENSORS", "EndcapGeometry", "build_calorimeter", "calorimeter_path", "load_calorimeter"]

_FORMAT = 1
_ORDER_STEP = 3.0
"""mm; cells are sorted along a Morton curve through a grid this fine, finer than the smallest cell."""


@dataclass(frozen=True, kw_only=True)
class EndcapGeometry:
    """Which endcap, or which part of one.

    Attributes:
        name: `v16` (47 layers; V17 has the same) or `v10` (50 layers).
        n_layers: only the first ones; all for `None`.
        phi_min: cells centred outside `phi_min` to `phi_max` are left out, rad.
        phi_max: the same.

    Raises:
        ConfigError: a setting out of range.

    Example:
        >>> from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
        >>> wedge = EndcapGeometry(n_layers=3, phi_min=0.0, phi_max=0.1)
        >>> build_calorimeter(wedge).layer_z.tolist()
        [3221.550048828125, 3231.489990234375, 3252.1201171875]
    """

    name: GeometryName = "v16"
    n_layers: int | None = None
    phi_min: float = -np.pi
    phi_max: float = np.pi

    def __post_init__(self) -> None:
        if self.name not in get_args(GeometryName):
            allowed = ", ".join(get_args(GeometryName))
            raise ConfigError(f"geometry of the HGCAL is {self.name!r}; allowed: {allowed}")
        total = len(endcap_layers(self.name).z)
        if self.n_layers is not None and not 1 <= self.n_layers <= total:
            raise ConfigError(f"n_layers of geometry {self.name} is {self.n_layers}; allowed: 1 to {total}")
        if not -np.pi <= self.phi_min < self.phi_max <= np.pi:
            raise ConfigError(
                f"phi of the geometry runs from {self.phi_min} to {self.phi_max}; allowed: rising, within -pi to pi"
            )

    def layers(self) -> Layers:
        """Return the table of the layers."""
        layers = endcap_layers(self.name)
        return select_layers(layers, len(layers.z) if self.n_layers is None else self.n_layers)


def build_calorimeter(geometry: EndcapGeometry) -> Calorimeter:
    """Make the table of cells.

    Args:
        geometry: which endcap.

    Returns:
        The cells at z > 0, sorted by layer and along a Morton curve within a layer; about three million for a
        whole endcap (two seconds).
    """
    layers = geometry.layers()
    parts = [_layer_cells(geometry, layers, layer) for layer in range(len(layers.z))]
    sensor = np.concatenate([part[2] for part in parts])
    layer = np.repeat(np.arange(len(parts)), [len(part[2]) for part in parts])
    x, y, area = (np.concatenate([part[column] for part in parts]) for column in (0, 1, 3))
    electromagnetic = layer < layers.n_electromagnetic
    correction = np.array([kind.correction for kind in SENSORS])[sensor, np.where(electromagnetic, 0, 1)]
    gev_per_mip = 1e-3 * layers.weight[layer] / correction
    noise = np.array([kind.noise_mip for kind in SENSORS])[sensor]
    return Calorimeter(
        position=np.stack([x, y, layers.z[layer]], axis=1).astype(np.float32),
        layer=layer.astype(np.int32),
        sensor=sensor.astype(np.int32),
        area=area.astype(np.float32),
        gev_per_mip=gev_per_mip.astype(np.float32),
        sigma_noise=(noise * gev_per_mip).astype(np.float32),
        layer_z=layers.z.astype(np.float32),
        layer_x0=layers.x0.astype(np.float32),
        layer_lambda=layers.interaction.astype(np.float32),
        layer_radius=layers.radius.astype(np.float32),
    )


@lru_cache(maxsize=4)
def load_calorimeter(geometry: EndcapGeometry) -> Calorimeter:
    """Return the table of cells from the cache, which is filled first where it lacks it; the arrays are read-only.

    Args:
        geometry: which endcap.

    Returns:
        The table of `build_calorimeter`.
    """
    calorimeter = read_arrays(calorimeter_path(geometry), Calorimeter)
    if calorimeter is None:
        calorimeter = build_calorimeter(geometry)
        write_arrays(calorimeter_path(geometry), calorimeter)
    for array in calorimeter:
        # Cached and shared: a caller who writes into one would change it for everybody.
        array.setflags(write=False)
    return calorimeter


def calorimeter_path(geometry: EndcapGeometry) -> Path:
    """Name of the file in the cache that holds the table of cells."""
    settings = asdict(geometry)
    n_layers = "all" if settings["n_layers"] is None else settings["n_layers"]
    wedge = f"{settings['phi_min']:.6f}-{settings['phi_max']:.6f}"
    return cache_directory() / "calorimeters" / f"{geometry.name}-{n_layers}-{wedge}-format{_FORMAT}.npz"


def wafer_sensor(
    layers: Layers, layer: np.ndarray | int, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]
) -> np.ndarray:
    """Return the kind of silicon at points of a layer: that of the wafer they lie on."""
    radius = np.hypot(*wafer_of(x, y, WAFER_SIZE))
    fine, medium = layers.fine_radius[layer], layers.medium_radius[layer]
    return np.select([radius < fine, radius < medium], [FINE, MEDIUM], COARSE)


def ring_radius(ring: np.ndarray | int, mixed_radius: np.ndarray | float) -> np.ndarray:
    """Inner radius of rings of tiles, mm; ring 0 begins where the scintillator does."""
    return mixed_radius * np.exp(np.asarray(ring) * TILE_ANGLE)


def _layer_cells(
    geometry: EndcapGeometry, layers: Layers, layer: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, sensor and area of the cells of one layer, in their final order."""
    fine = _silicon_cells(layers, layer, cell_pitch(FINE), (FINE,))
    coarse = _silicon_cells(layers, layer, cell_pitch(COARSE), (MEDIUM, COARSE))
    x, y, sensor, area = (
        np.concatenate(columns) for columns in zip(fine, coarse, _tiles(layers, layer), strict=True)
    )
    keep = _in_wedge(geometry, np.arctan2(y, x))
    order = np.flatnonzero(keep)[np.argsort(morton_code(x[keep], y[keep], _ORDER_STEP), kind="stable")]
    return x[order], y[order], sensor[order], area[order]


def _silicon_cells(
    layers: Layers, layer: int, pitch: float, kinds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cells of one lattice whose centre lies in the silicon of the layer, on a wafer of one of the kinds."""
    inner, outer = layers.radius[layer]
    outer = min(outer, layers.mixed_radius[layer])
    reach = int(outer / pitch * 2.0 / np.sqrt(3.0)) + 2
    i, j = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    x, y = cell_centre(i, j, pitch)
    radius = np.hypot(x, y)
    keep = (radius >= inner) & (radius <= outer)
    x, y = x[keep], y[keep]
    sensor = wafer_sensor(layers, layer, x, y)
    keep = np.isin(sensor, kinds)
    x, y, sensor = x[keep], y[keep], sensor[keep]
    return x, y, sensor, np.array([kind.area for kind in SENSORS])[sensor]


def _tiles(layers: Layers, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scintillator tiles of a layer; the outermost ring is cut at the edge of the layer."""
    begin, outer = layers.mixed_radius[layer], layers.radius[layer, 1]
    if not begin < outer:
        return (np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0))
    n_rings = int(np.ceil(np.log(outer / begin) / TILE_ANGLE))
    low = ring_radius(np.arange(n_rings), begin)
    high = np.minimum(ring_radius(np.arange(1, n_rings + 1), begin), outer)
    phi = (np.arange(round(2.0 * np.pi / TILE_ANGLE)) + 0.5) * TILE_ANGLE - np.pi
    centre, angle = (grid.ravel() for grid in np.meshgrid(np.sqrt(low * high), phi, indexing="ij"))
    area = np.repeat(0.5 * TILE_ANGLE * (high**2 - low**2), len(phi))
    sensor = np.full(len(centre), SCINTILLATOR)
    return centre * np.cos(angle), centre * np.sin(angle), sensor, area


def _in_wedge(geometry: EndcapGeometry, phi: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return (phi >= geometry.phi_min) & (phi <= geometry.phi_max)
