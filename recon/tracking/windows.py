"""The layer-pair map: which layers a track visits one after the other, and how far apart its hits may lie.

Everything is learned from simulated events: the pairs of layers that true segments connect, and for each pair
windows in azimuth, longitudinal impact and curvature; for each layer the cluster size that a direction of
flight leaves behind; for each class of sensors how well two consecutive segments agree. The layer-pair map is
the "module map" of GNN4ITk (ATL-PHYS-PUB-2024-018) at the granularity of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from recon.errors import ConfigError, DataError
from recon.tracking.truth import TargetHits, true_segments
from recon.types import Array, Detector, Event

SIZE_EDGES = (1.0, 4.0, 10.0, 20.0)
"""Bins of the expected cluster size (cells): a sensor's edge truncates clusters, so windows grow with it."""

N_CLASSES = 4
"""Classes of triplets: the number of strip hits among the three."""


class LayerPairs(NamedTuple):
    """Windows for candidate segments, pairs of layers sorted by the outer one.

    Attributes:
        inner: layer of the inner hit.
        outer: layer of the outer hit.
        delta_phi: largest difference of azimuth, rad.
        z0: largest longitudinal impact parameter of the straight line through both hits, mm.
        curvature: largest curvature of the circle through both hits and the beam line, 1/mm.
        first: for every layer its first pair as the outer layer.
        count: for every layer the number of its pairs as the outer layer.
        is_barrel: layers at constant radius; the others are discs at constant z.
        reach: lowest and highest radius (barrel) or z (disc) of a layer, mm.
        extent: lowest and highest z (barrel) or radius (disc) of a layer, mm.
        slope: growth of the cluster size (cells) with the tangent of the incidence angle, along u and v.
        size_low: smallest allowed difference between the cluster size seen and the one expected, along u and
            v, in bins of the expected size.
        size_high: largest allowed difference.
        triplet: largest change of (curvature, polar angle, z0) between segments that share a hit, by class.
        is_pixel: pixel layers.
    """

    inner: Int[Array, " p"]
    outer: Int[Array, " p"]
    delta_phi: Float[Array, " p"]
    z0: Float[Array, " p"]
    curvature: Float[Array, " p"]
    first: Int[Array, " l"]
    count: Int[Array, " l"]
    is_barrel: Bool[Array, " l"]
    reach: Float[Array, "l 2"]
    extent: Float[Array, "l 2"]
    slope: Float[Array, "l 2"]
    size_low: Float[Array, "l 2 5"]
    size_high: Float[Array, "l 2 5"]
    triplet: Float[Array, "4 3"]
    is_pixel: Bool[Array, " l"]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How the layer-pair map is learned.

    Attributes:
        pt_min: particles above this transverse momentum shape the windows, GeV.
        quantile: fraction of the true segments that each window keeps.
        size_quantile: fraction that each of the four cluster-size windows keeps.
        margin: factor on every window, since the tails of a small sample are too short.
        min_fraction: pairs of layers with a smaller share of the true segments are left out; they cost more
            candidates than all others together.
        min_hits: particles with fewer hits are left out.
        radius_max: largest production radius, mm.
        eta_max: largest pseudorapidity.
        pixel_only: use the pixel layers only.
    """

    pt_min: float = 0.9
    quantile: float = 0.9995
    size_quantile: float = 0.998
    margin: float = 1.05
    min_fraction: float = 1e-4
    min_hits: int = 6
    radius_max: float = 24.0
    eta_max: float = 4.0
    pixel_only: bool = False

    def __post_init__(self) -> None:
        for name in ("quantile", "size_quantile"):
            value = getattr(self, name)
            if not 0.5 < value < 1.0:
                raise ConfigError(f"WindowConfig.{name} = {value}: allowed are values between 0.5 and 1")
        if not 0.0 <= self.min_fraction < 1.0:
            raise ConfigError(
                f"WindowConfig.min_fraction = {self.min_fraction}: allowed are values from 0 to below 1"
            )
        if self.margin <= 0.0:
            raise ConfigError(f"WindowConfig.margin = {self.margin}: allowed are values above 0")
        if self.pt_min < 0.1:
            raise ConfigError(f"WindowConfig.pt_min = {self.pt_min} GeV: allowed is 0.1 GeV and more")


class SegmentShape(NamedTuple):
    """Geometry of segments, the variables of the windows, as arrays of one length."""

    delta_phi: Array
    delta_r: Array
    delta_z: Array
    z0: Array
    curvature: Array
    theta: Array


def segment_shape(inner: Float[np.ndarray, "e 3"], outer: Float[np.ndarray, "e 3"]) -> SegmentShape:
    """Window variables of the segments between two sets of points, on the host.

    `recon.tracking.graph.doublet_shape` is the twin in XLA.
    """
    r_in, r_out = np.hypot(*inner.T[:2]), np.hypot(*outer.T[:2])
    dr, dz = r_out - r_in, outer[:, 2] - inner[:, 2]
    cross = inner[:, 0] * outer[:, 1] - inner[:, 1] * outer[:, 0]
    dphi = np.arctan2(cross, (inner[:, :2] * outer[:, :2]).sum(1))
    chord = np.hypot(*(outer - inner).T[:2])
    safe = np.where(np.abs(dr) < 1e-3, 1e-3, dr)
    curvature = 2.0 * np.sin(dphi) / np.maximum(chord, 1e-3)
    return SegmentShape(dphi, dr, dz, inner[:, 2] - r_in * dz / safe, curvature, np.arctan2(dr, dz))


def incidence(
    rotation: Float[np.ndarray, "e 3 3"], direction: Float[np.ndarray, "e 3"]
) -> Float[np.ndarray, "e 2"]:
    """Absolute tangents of the incidence angle along the sensor's u and v axes."""
    along = np.einsum("eij,ej->ei", rotation, direction)
    normal = np.maximum(np.abs(along[:, 2]), 1e-6)
    return np.abs(along[:, :2]) / normal[:, None]


def layer_geometry(detector: Detector) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(is_barrel, reach, extent, is_pixel) of every layer, from the corners of its sensors."""
    corners = np.concatenate(
        [
            detector.center
            + su * detector.half_size[:, [i]] * detector.rotation[:, 0]
            + sv * detector.half_size[:, [2]] * detector.rotation[:, 1]
            for su in (-1, 0, 1)
            for i, sv in ((0, -1), (1, 1), (0, 0))
        ]
    )
    layer = np.tile(detector.layer, 9)
    radius, z = np.hypot(corners[:, 0], corners[:, 1]), corners[:, 2]
    n = int(detector.layer.max()) + 1
    low = np.full((n, 2), np.inf)
    high = np.full((n, 2), -np.inf)
    for axis, value in enumerate((radius, z)):
        np.minimum.at(low[:, axis], layer, value)
        np.maximum.at(high[:, axis], layer, value)
    is_barrel = (high - low)[:, 0] < (high - low)[:, 1]
    pick = np.where(is_barrel, 0, 1)
    rows = np.arange(n)
    reach = np.stack([low[rows, pick], high[rows, pick]], 1)
    extent = np.stack([low[rows, 1 - pick], high[rows, 1 - pick]], 1)
    is_pixel = np.zeros(n, bool)
    is_pixel[detector.layer] = detector.pixel
    return is_barrel, reach.astype(np.float32), extent.astype(np.float32), is_pixel


class _Segments(NamedTuple):
    """True segments of several events, with everything the windows are learned from."""

    pair: np.ndarray
    shape: SegmentShape
    layers: np.ndarray
    tangents: np.ndarray
    sizes: np.ndarray
    triplets: np.ndarray
    triplet_class: np.ndarray


def _collect(
    events: Iterable[Event], detector: Detector, config: WindowConfig, is_pixel: np.ndarray
) -> _Segments:
    parts: list[_Segments] = []
    n_layers = len(is_pixel)
    selection = TargetHits(
        pt_min=config.pt_min, min_hits=config.min_hits, radius_max=config.radius_max, eta_max=config.eta_max
    )
    for event in events:
        hits = event.hits
        if event.particles is None:
            raise DataError(f"event {event.number} has no truth: windows are learned from simulated events")
        usable = is_pixel[hits.layer] if config.pixel_only else np.ones(len(hits.layer), bool)
        inner, outer = true_segments(event, selection, usable)
        shape = segment_shape(hits.position[inner], hits.position[outer])
        direction = hits.position[outer] - hits.position[inner]
        ends = np.stack([inner, outer], 1)
        tangents = np.stack([incidence(detector.rotation[hits.module[end]], direction) for end in ends.T], 1)
        first, second = matching_pairs(outer, inner)
        change = np.stack(
            [
                np.abs(getattr(shape, name)[first] - getattr(shape, name)[second])
                for name in ("curvature", "theta", "z0")
            ],
            1,
        )
        strips = ~is_pixel[hits.layer]
        classes = strips[inner[first]].astype(int) + strips[outer[first]] + strips[outer[second]]
        pair = hits.layer[outer].astype(np.int64) * n_layers + hits.layer[inner]
        parts.append(
            _Segments(pair, shape, hits.layer[ends], tangents, hits.features[ends, :2], change, classes)
        )
    if not parts:
        raise DataError("no events were given to learn the layer-pair windows from")
    columns = list(zip(*parts, strict=True))
    shapes = SegmentShape(*(np.concatenate(column) for column in zip(*columns[1], strict=True)))
    joined = [np.concatenate(column) for index, column in enumerate(columns) if index != 1]
    return _Segments(joined[0], shapes, *joined[1:])


def matching_pairs(
    left: Int[np.ndarray, " n"], right: Int[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """All (i, j) with `left[i] == right[j]`, by a sorted join."""
    order = np.argsort(right, kind="stable")
    low = np.searchsorted(right[order], left, "left")
    count = np.searchsorted(right[order], left, "right") - low
    i = np.repeat(np.arange(len(left)), count)
    j = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    return i, order[j]


def _upper(values: np.ndarray, quantile: float, margin: float) -> float:
    return float(np.quantile(np.abs(values), quantile) * margin)


def _cluster_sizes(
    segments: _Segments, config: WindowConfig, n_layers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope and allowed residual of the cluster size, by layer.

    A particle that crosses a sensor of thickness t at tangent T covers t T / pitch of a cell on average more
    than one cell, so the slope is a regression of (size - 1) on T through the origin.
    """
    slope = np.zeros((n_layers, 2), np.float32)
    low = np.full((n_layers, 2, len(SIZE_EDGES) + 1), -np.inf, np.float32)
    high = np.full_like(low, np.inf)
    layer = segments.layers.reshape(-1)
    tangent = segments.tangents.reshape(-1, 2)
    size = segments.sizes.reshape(-1, 2)
    for index in np.unique(layer):
        for axis in (0, 1):
            # A size of 0 says that there are no cluster shapes: nothing is learned, and the window stays open.
            rows = (layer == index) & (size[:, axis] > 0)
            if not rows.any():
                continue
            t, s = tangent[rows, axis], size[rows, axis]
            # Steep clusters are cut off at the sensor's edge: the regression takes the bulk only.
            bulk = t <= np.quantile(t, 0.9)
            slope[index, axis] = (t[bulk] * (s[bulk] - 1)).sum() / max((t[bulk] ** 2).sum(), 1e-9)
            low[index, axis], high[index, axis] = _residual_windows(
                s, slope[index, axis] * t, config.size_quantile
            )
    return slope, low, high


def _residual_windows(
    size: np.ndarray, expected: np.ndarray, quantile: float
) -> tuple[list[float], list[float]]:
    """Lowest and highest allowed residual by bin of the expected size; open where a bin is nearly empty."""
    tail = (1.0 - quantile) / 2.0
    edge = np.digitize(expected, SIZE_EDGES)
    low, high = [], []
    for index in range(len(SIZE_EDGES) + 1):
        residual = (size - expected)[edge == index]
        enough = len(residual) >= 10
        # Half a cell more: the sample's own extremes are not the population's.
        low.append(float(np.quantile(residual, tail)) - 0.25 if enough else -np.inf)
        high.append(float(np.quantile(residual, 1.0 - tail)) + 0.25 if enough else np.inf)
    return low, high


def learn_windows(events: Sequence[Event], detector: Detector, config: WindowConfig) -> LayerPairs:
    """Learn the layer-pair map from simulated events.

    Args:
        events: with truth; ten events at 200 pile-up collisions give stable windows.
        detector: the sensor table of these events.
        config: which particles count and how much of their segments each window keeps.

    Raises:
        DataError: an event has no truth, no particle passes the selection, or no pair of layers is common enough.
    """
    is_barrel, reach, extent, is_pixel = layer_geometry(detector)
    n_layers = len(is_barrel)
    segments = _collect(events, detector, config, is_pixel)
    if not len(segments.pair):
        raise DataError(f"no particle in {len(events)} events passes {config}: no window can be learned")
    rows = []
    for pair in np.unique(segments.pair):
        chosen = segments.pair == pair
        if chosen.mean() < config.min_fraction:
            continue
        outer_layer, inner_layer = divmod(int(pair), n_layers)
        shape = SegmentShape(*(column[chosen] for column in segments.shape))
        rows.append(
            (
                inner_layer,
                outer_layer,
                # The search compares sines, which grow with the angle up to a quarter turn only.
                min(_upper(shape.delta_phi, config.quantile, config.margin) + 1e-3, np.pi / 2),
                _upper(shape.z0, config.quantile, config.margin) + 2.0,
                # Few segments say little about the tail: the circle of the softest particle bounds it.
                max(_upper(shape.curvature, config.quantile, config.margin), _curvature_of(config.pt_min)),
            )
        )
    if not rows:
        raise DataError(
            f"no pair of layers holds {config.min_fraction} of the true segments (WindowConfig.min_fraction)"
        )
    table = np.array(rows)
    inner, outer = table[:, 0].astype(np.int32), table[:, 1].astype(np.int32)
    count = np.bincount(outer, minlength=n_layers).astype(np.int32)
    slope, low, high = _cluster_sizes(segments, config, n_layers)
    delta_phi, z0, curvature = table[:, 2:].T.astype(np.float32)
    return LayerPairs(
        inner=inner,
        outer=outer,
        delta_phi=delta_phi,
        z0=z0,
        curvature=curvature,
        first=(np.cumsum(count) - count).astype(np.int32),
        count=count,
        is_barrel=is_barrel,
        reach=reach,
        extent=extent,
        slope=slope,
        size_low=low,
        size_high=high,
        triplet=_triplet_windows(segments, config),
        is_pixel=is_pixel,
    )


def _curvature_of(pt: float, field: float = 2.0) -> float:
    """Curvature of a track in 1/mm, from its transverse momentum in GeV and the field in T."""
    return 0.299792458e-3 * field / pt


def _triplet_windows(segments: _Segments, config: WindowConfig) -> np.ndarray:
    windows = np.full((N_CLASSES, 3), np.inf, np.float32)
    for index in range(N_CLASSES):
        change = segments.triplets[segments.triplet_class == index]
        if len(change) > 50:
            windows[index] = np.quantile(change, config.quantile, axis=0) * config.margin
    return windows
