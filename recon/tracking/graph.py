"""Hits to a graph of candidate segments, as one XLA program of static shapes.

The search runs from every hit inwards: for each pair of layers of the layer-pair map it opens a window on the
inner layer in azimuth and in z (barrel) or radius (disc), reads the hits of that window from a grid, and
keeps those that pass the exact cuts on azimuth, longitudinal impact, curvature and cluster size. Segments
that belong to no chain of three compatible ones are then pruned. No step loops over hits; each is a ragged
range cut into chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.errors import ConfigError
from recon.ranges import chunk_ranges, compact, compact_slots
from recon.tracking.windows import N_CLASSES, SIZE_EDGES, LayerPairs
from recon.types import Array, EdgeList, Hits

PHI_CELLS = 512
EXTENT_CELLS = 16
WIDTH = 8
TRIPLET_WIDTH = 4


@dataclass(frozen=True, kw_only=True)
class GraphCapacity:
    """Lengths of the arrays of the search; each is a shape of the compiled program.

    Attributes:
        queries: hits times the layer pairs that end on their layer.
        rows: windows cut at the cells of the grid along z or radius.
        chunks: groups of eight candidates in azimuth.
        doublets: segments within the windows in azimuth, z0 and curvature.
        shaped: segments that also agree with the cluster sizes.
        triplets: groups of four pairs of segments that share a hit.
        edges: segments that remain after pruning.
        nodes: hits that remain on any edge.
    """

    queries: int
    rows: int
    chunks: int
    doublets: int
    shaped: int
    triplets: int
    edges: int
    nodes: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 8:
                raise ConfigError(
                    f"GraphCapacity.{field.name} = {getattr(self, field.name)}: allowed is 8 and more"
                )


class GraphSizes(NamedTuple):
    """Sizes that the search needed, as in `GraphCapacity`; past the capacity, the result is incomplete."""

    queries: Int32[Array, ""]
    rows: Int32[Array, ""]
    chunks: Int32[Array, ""]
    doublets: Int32[Array, ""]
    shaped: Int32[Array, ""]
    triplets: Int32[Array, ""]
    edges: Int32[Array, ""]
    nodes: Int32[Array, ""]


class HitGraph(NamedTuple):
    """The graph of one event.

    Attributes:
        hit: for every node the row of its hit in `Hits`; the number of hits for padding.
        node_features: see `NODE_FEATURES`.
        edge_features: see `EDGE_FEATURES`.
        edges: segments between nodes (not hits), sorted by the outer node.
        node_valid: false for padding.
        sizes: sizes that the search needed.
    """

    hit: Int32[Array, " n"]
    node_features: Float32[Array, "n f"]
    edge_features: Float32[Array, "e g"]
    edges: EdgeList
    node_valid: Bool[Array, " n"]
    sizes: GraphSizes


NODE_FEATURES = (
    "r / 500 mm",
    "z / 1500 mm",
    "eta / 2",
    "log cluster size u",
    "log cluster size v",
    "pixel barrel",
    "pixel disc",
    "strip barrel",
    "strip disc",
)
EDGE_FEATURES = (
    "1000 mm x curvature through the beam line",
    "polar angle",
    "z0 / 100 mm",
    "20 x delta phi",
    "delta r / 200 mm",
    "delta z / 500 mm",
    "cluster size residual u at the inner hit / 2",
    "cluster size residual v at the inner hit / 2",
    "cluster size residual u at the outer hit / 2",
    "cluster size residual v at the outer hit / 2",
    "compatible segments inwards (log)",
    "compatible segments outwards (log)",
)


class _Sorted(NamedTuple):
    """Hits in the order of the grid cells."""

    row: Array
    x: Array
    y: Array
    z: Array
    r: Array
    phi: Array
    layer: Array
    valid: Array
    cell_start: Array


class _Shape(NamedTuple):
    """Variables of a segment; `windows.segment_shape` is the twin on the host."""

    delta_phi: Array
    delta_r: Array
    delta_z: Array
    z0: Array
    curvature: Array


def _sort_into_cells(hits: Hits, pairs: LayerPairs) -> _Sorted:
    """Order hits by (layer, cell along z or radius, cell in azimuth); padding last."""
    n_layers = pairs.first.shape[0]
    x, y, z = hits.position.T
    r, phi = jnp.hypot(x, y), jnp.arctan2(y, x)
    layer = jnp.clip(hits.layer, 0, n_layers - 1)
    along = jnp.where(pairs.is_barrel[layer], z, r)
    cell_s = jnp.clip(_extent_cell(along, pairs, layer).astype(jnp.int32), 0, EXTENT_CELLS - 1)
    cell_phi = jnp.clip(_phi_cell(phi), 0, PHI_CELLS - 1)
    n_cells = n_layers * EXTENT_CELLS * PHI_CELLS
    cell = jnp.where(hits.valid, (layer * EXTENT_CELLS + cell_s) * PHI_CELLS + cell_phi, n_cells)
    cell, row = jax.lax.sort((cell, jnp.arange(cell.shape[0], dtype=jnp.int32)), num_keys=1)
    # A cell starts where its first hit stands; an empty cell starts where the next one does.
    n = cell.shape[0]
    first = jnp.full(n_cells + 1, n, jnp.int32).at[cell].min(jnp.arange(n, dtype=jnp.int32))
    cell_start = jax.lax.cummin(first, reverse=True)
    return _Sorted(row, x[row], y[row], z[row], r[row], phi[row], layer[row], hits.valid[row], cell_start)


def _extent_cell(along: Array, pairs: LayerPairs, layer: Array) -> Array:
    """Cell (not clipped, not rounded) along z or radius of a layer."""
    low, high = pairs.extent[layer, 0], pairs.extent[layer, 1]
    return (along - low) * (EXTENT_CELLS / jnp.maximum(high - low, 1e-3))


def _phi_cell(phi: Array) -> Array:
    return jnp.floor((phi + np.pi) * (PHI_CELLS / (2.0 * np.pi))).astype(jnp.int32)


def _window_along(pairs: LayerPairs, pair: Array, r: Array, z: Array) -> tuple[Array, Array]:
    """Range of z (barrel) or radius (disc) of the inner layer on lines from the beam spot to (r, z)."""
    inner = pairs.inner[pair]
    reach, z0 = pairs.reach[inner], pairs.z0[pair]
    corners = []
    for at in (reach[:, 0], reach[:, 1]):
        for sign in (-1.0, 1.0):
            fraction = at / jnp.maximum(r, 1e-3)
            on_barrel = sign * z0 + (z - sign * z0) * fraction
            # A line that may run in the plane of the hit meets the disc at any radius.
            slope = (at - sign * z0) / (z - sign * z0)
            on_disc = jnp.where(jnp.abs(z) <= z0, sign * 1e6, r * slope)
            corners.append(jnp.where(pairs.is_barrel[inner], on_barrel, on_disc))
    corner = jnp.stack(corners)
    return corner.min(0), corner.max(0)


def _candidates(
    sorted_hits: _Sorted, pairs: LayerPairs, capacity: GraphCapacity
) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:
    """Hits within the grid windows, eight to a chunk: (inner, (outer, pair) of the chunks, present, sizes)."""
    s = sorted_hits
    query = chunk_ranges(jnp.where(s.valid, pairs.count[s.layer], 0), 1, capacity.queries)
    hit = query.row
    in_use = jnp.arange(capacity.queries) < query.needed
    pair = jnp.clip(pairs.first[s.layer[hit]] + query.offset, 0, pairs.inner.shape[0] - 1)
    low, high = _window_along(pairs, pair, s.r[hit], s.z[hit])
    inner_layer = pairs.inner[pair]
    cell_low = jnp.floor(_extent_cell(low, pairs, inner_layer))
    cell_high = jnp.floor(_extent_cell(high, pairs, inner_layer))
    touches = in_use & (cell_high >= 0) & (cell_low < EXTENT_CELLS)
    # Hits beyond the nominal extent sit in the first and last cell, so the clipped range covers them.
    cell_low = jnp.clip(cell_low, 0, EXTENT_CELLS - 1).astype(jnp.int32)
    cell_high = jnp.clip(cell_high, 0, EXTENT_CELLS - 1).astype(jnp.int32)
    row = chunk_ranges(jnp.where(touches, cell_high - cell_low + 1, 0), 1, capacity.rows)
    in_use = jnp.arange(capacity.rows) < row.needed
    band = (inner_layer * EXTENT_CELLS + cell_low)[row.row] + row.offset
    band = jnp.clip(band, 0, pairs.first.shape[0] * EXTENT_CELLS - 1) * PHI_CELLS
    start, count, begin, length = _phi_range(s, pairs.delta_phi[pair][row.row], s.phi[hit][row.row], band)
    chunk = chunk_ranges(jnp.where(in_use, count, 0), WIDTH, capacity.chunks)
    slot = chunk.offset[:, None] + jnp.arange(WIDTH, dtype=jnp.int32)
    present = (slot < count[chunk.row][:, None]) & (jnp.arange(capacity.chunks) < chunk.needed)[:, None]
    # Azimuth is periodic: a range that runs over the end of its band goes on at the band's beginning.
    place = start[chunk.row][:, None] + slot
    end = (begin + length)[chunk.row][:, None]
    inner = jnp.clip(jnp.where(place >= end, place - length[chunk.row][:, None], place), 0, s.x.shape[0] - 1)
    source = row.row[chunk.row]
    return inner, jnp.stack([hit[source], pair[source]]), present, (query.needed, row.needed, chunk.needed)


def _phi_range(s: _Sorted, half: Array, phi: Array, band: Array) -> tuple[Array, Array, Array, Array]:
    """(first hit, number of hits) of an azimuth window in a band of cells, then those of the whole band."""
    low = _phi_cell(phi - half)
    span = jnp.minimum(_phi_cell(phi + half) - low, PHI_CELLS - 1)
    low = jnp.mod(low, PHI_CELLS)
    high = low + span + 1
    begin = s.cell_start[band]
    length = s.cell_start[band + PHI_CELLS] - begin
    start = s.cell_start[band + low]
    wrapped = high > PHI_CELLS
    stop = s.cell_start[band + jnp.where(wrapped, high - PHI_CELLS, high)]
    return start, stop - start + jnp.where(wrapped, length, 0), begin, length


def doublet_shape(s: _Sorted, inner: Array, outer: Array) -> _Shape:
    """Window variables of the segments between two sets of hits."""
    x_in, y_in, x_out, y_out = s.x[inner], s.y[inner], s.x[outer], s.y[outer]
    dr, dz = s.r[outer] - s.r[inner], s.z[outer] - s.z[inner]
    dx, dy = x_out - x_in, y_out - y_in
    cross = x_in * y_out - y_in * x_out
    sine = cross / jnp.maximum(s.r[inner] * s.r[outer], 1e-6)
    chord = jnp.sqrt(dx * dx + dy * dy)
    # The windows are narrower than a quarter turn, where the sine grows with the angle.
    delta_phi = jnp.where(x_in * x_out + y_in * y_out > 0, jnp.arcsin(jnp.clip(sine, -1.0, 1.0)), np.pi)
    z0 = s.z[inner] - s.r[inner] * dz / jnp.where(jnp.abs(dr) < 1e-3, 1e-3, dr)
    return _Shape(delta_phi, dr, dz, z0, 2.0 * sine / jnp.maximum(chord, 1e-3))


def _doublets(
    s: _Sorted, pairs: LayerPairs, capacity: GraphCapacity
) -> tuple[Array, Array, Array, tuple[Array, Array, Array, Array]]:
    """Segments within the windows in azimuth, z0 and curvature: (inner, outer, valid, sizes)."""
    inner, outer_pair, present, needed = _candidates(s, pairs, capacity)
    outer, pair = outer_pair[0][:, None], outer_pair[1][:, None]
    x_in, y_in, r_in = s.x[inner], s.y[inner], s.r[inner]
    sine = (x_in * s.y[outer] - y_in * s.x[outer]) / jnp.maximum(r_in * s.r[outer], 1e-6)
    dr = s.r[outer] - r_in
    z0 = s.z[inner] - r_in * (s.z[outer] - s.z[inner]) / jnp.where(jnp.abs(dr) < 1e-3, 1e-3, dr)
    chord = jnp.hypot(s.x[outer] - x_in, s.y[outer] - y_in)
    keep = present & (jnp.abs(sine) < jnp.sin(pairs.delta_phi)[pair]) & (jnp.abs(z0) < pairs.z0[pair])
    keep &= jnp.abs(2.0 * sine) < pairs.curvature[pair] * jnp.maximum(chord, 1e-3)
    chunk, slot, n_doublets = compact_slots(keep, capacity.doublets)
    valid = jnp.arange(capacity.doublets) < n_doublets
    return inner[chunk, slot], outer[chunk, 0], valid, (*needed, n_doublets)


def _size_residuals(
    s: _Sorted, end: Array, other: Array, axes: Sequence[Array], sizes: Array, pairs: LayerPairs
) -> tuple[list[Array], Array]:
    """Seen minus expected cluster size along u and v at one end of segments, and whether both are allowed."""
    dx, dy, dz = s.x[other] - s.x[end], s.y[other] - s.y[end], s.z[other] - s.z[end]
    # One gather a component: XLA fuses them into the arithmetic, a gather of whole rows it would not.
    along = [axes[i][end] * dx + axes[i + 1][end] * dy + axes[i + 2][end] * dz for i in (0, 3, 6)]
    normal = jnp.maximum(jnp.abs(along[2]), 1e-6)
    layer = s.layer[end]
    residuals, allowed = [], jnp.ones(end.shape, bool)
    for axis in (0, 1):
        expected = pairs.slope[layer, axis] * jnp.abs(along[axis]) / normal
        size_bin = sum((expected >= edge).astype(jnp.int32) for edge in SIZE_EDGES)
        seen = sizes[axis][end]
        # A size of 0 says that the cluster's shape is unknown: no window can then be asked for.
        residual = jnp.where(seen > 0, seen - expected, 1.0)
        inside = residual >= pairs.size_low[layer, axis, size_bin]
        inside &= residual <= pairs.size_high[layer, axis, size_bin]
        allowed &= inside | (seen <= 0)
        residuals.append(residual)
    return residuals, allowed


def _shaped(
    s: _Sorted,
    inner: Array,
    outer: Array,
    valid: Array,
    axes: Sequence[Array],
    sizes: Array,
    pairs: LayerPairs,
    capacity: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Segments whose direction agrees with the cluster sizes at both ends, with the four residuals."""
    residual, keep = [], valid
    for end, other in ((inner, outer), (outer, inner)):
        values, allowed = _size_residuals(s, end, other, axes, sizes, pairs)
        residual += values
        keep &= allowed
    index, needed = compact(keep, capacity)
    place = jnp.minimum(index, inner.shape[0] - 1)
    return inner[place], outer[place], index < inner.shape[0], jnp.stack(residual, -1)[place], needed


def _prune(
    s: _Sorted, inner: Array, outer: Array, valid: Array, shape: _Shape, pairs: LayerPairs, capacity: int
) -> tuple[Array, Array, Array, Array]:
    """Segments in a chain of at least three compatible ones: (keep, compatible inwards and outwards, size).

    Segments are sorted by outer hit: the predecessors of one, those that end where it begins, are a range.
    """
    n, n_edges = s.x.shape[0], inner.shape[0]
    first = (
        jnp.full(n + 1, n_edges, jnp.int32)
        .at[jnp.where(valid, outer, n)]
        .min(jnp.arange(n_edges, dtype=jnp.int32))
    )
    degree = jnp.zeros(n + 1, jnp.int32).at[jnp.where(valid, outer, n)].add(1)
    chunk = chunk_ranges(jnp.where(valid, degree[inner], 0), TRIPLET_WIDTH, capacity)
    after = chunk.row
    slot = chunk.offset[:, None] + jnp.arange(TRIPLET_WIDTH, dtype=jnp.int32)
    before = jnp.clip(first[inner[after]][:, None] + slot, 0, n_edges - 1)
    present = (slot < degree[inner[after]][:, None]) & (jnp.arange(capacity) < chunk.needed)[:, None]
    strip = (~pairs.is_pixel)[s.layer].astype(jnp.int32)
    kind = strip[inner[before]] + (strip[inner] + strip[outer])[after][:, None]
    window = pairs.triplet[jnp.clip(kind, 0, N_CLASSES - 1)]
    theta = jnp.arctan2(shape.delta_r, shape.delta_z)
    fits = present
    for axis, value in enumerate((shape.curvature, theta, shape.z0)):
        fits &= jnp.abs(value[before] - value[after][:, None]) < window[..., axis]

    def reached(flag: Array) -> tuple[Array, Array]:
        """Segments with a flagged compatible predecessor, and those with a flagged compatible successor."""
        seen_before = (fits & flag[before]).any(1)
        from_before = jnp.zeros(n_edges, bool).at[after].max(seen_before)
        target = jnp.where(fits & flag[after][:, None], before, n_edges)
        from_after = jnp.zeros(n_edges, bool).at[target].max(True, mode="drop")
        return from_before, from_after

    has_before, has_after = reached(valid)
    two_before, _ = reached(has_before)
    _, two_after = reached(has_after)
    keep = valid & (two_before | two_after | (has_before & has_after))
    n_before = jnp.zeros(n_edges, jnp.int32).at[after].add(fits.sum(1))
    n_after = jnp.zeros(n_edges, jnp.int32).at[jnp.where(fits, before, n_edges)].add(1, mode="drop")
    return keep, n_before, n_after, chunk.needed


def _relabel(
    inner: Array, outer: Array, valid: Array, n: int, capacity: int
) -> tuple[Array, Array, Array, Array]:
    """Number the hits on edges: (hit of each node, inner and outer node of each edge, number of nodes)."""
    used = jnp.zeros(n, bool)
    for end in (inner, outer):
        used = used.at[jnp.where(valid, end, n)].set(True, mode="drop")
    hit, needed = compact(used, capacity)
    node = jnp.zeros(n + 1, jnp.int32).at[hit].set(jnp.arange(capacity, dtype=jnp.int32), mode="drop")
    # Padding edges point to the last node, which keeps the receivers sorted.
    last = capacity - 1
    return hit, jnp.where(valid, node[inner], last), jnp.where(valid, node[outer], last), needed


def _sensor_axes(module: Array, rotation: Array) -> list[Array]:
    """Components of the sensor's u, v and w axes of every hit; for an unknown sensor any."""
    return list(rotation.reshape(-1, 9)[jnp.maximum(module, 0)].T)


def build_graph(
    hits: Hits, rotation: Float32[Array, "m 3 3"], pairs: LayerPairs, capacity: GraphCapacity
) -> HitGraph:
    """Build the graph of one event; pure and jittable with static `capacity`.

    Args:
        hits: padded hits.
        rotation: `Detector.rotation`.
        pairs: the layer-pair map.
        capacity: lengths of the arrays; too small a value sets `edges.overflow`.
    """
    s = _sort_into_cells(hits, pairs)
    module, features = hits.module[s.row], hits.features[s.row]
    axes = _sensor_axes(module, rotation)
    # Without its sensor a cluster's size says nothing about the direction.
    cluster_sizes = jnp.where(module[:, None] >= 0, features[:, :2], 0.0).T
    inner, outer, valid, needed = _doublets(s, pairs, capacity)
    inner, outer, valid, residual, n_shaped = _shaped(
        s, inner, outer, valid, axes, cluster_sizes, pairs, capacity.shaped
    )
    shape = doublet_shape(s, inner, outer)
    keep, n_before, n_after, n_triplets = _prune(s, inner, outer, valid, shape, pairs, capacity.triplets)
    index, n_edges = compact(keep, capacity.edges)
    place, edge_valid = jnp.minimum(index, inner.shape[0] - 1), index < inner.shape[0]
    hit, senders, receivers, n_nodes = _relabel(
        inner[place], outer[place], edge_valid, s.x.shape[0], capacity.nodes
    )
    sizes = GraphSizes(*needed, n_shaped, n_triplets, n_edges, n_nodes)
    overflow = jnp.stack([size > limit for size, limit in zip(sizes, _limits(capacity), strict=True)]).any()
    node_valid = hit < s.x.shape[0]
    at = jnp.minimum(hit, s.x.shape[0] - 1)
    edge_features = _edge_features(shape, residual, n_before, n_after, place)
    return HitGraph(
        hit=jnp.where(node_valid, s.row[at], s.x.shape[0]),
        node_features=jnp.where(node_valid[:, None], _node_features(s, features, pairs, at), 0.0),
        edge_features=jnp.where(edge_valid[:, None], edge_features, 0.0),
        edges=EdgeList(senders, receivers, edge_valid, overflow),
        node_valid=node_valid,
        sizes=sizes,
    )


def _limits(capacity: GraphCapacity) -> tuple[int, ...]:
    return tuple(getattr(capacity, field.name) for field in fields(capacity))


def _node_features(s: _Sorted, features: Array, pairs: LayerPairs, at: Array) -> Array:
    r, z = s.r[at], s.z[at]
    pixel, barrel = pairs.is_pixel[s.layer[at]], pairs.is_barrel[s.layer[at]]
    kinds = [pixel & barrel, pixel & ~barrel, ~pixel & barrel, ~pixel & ~barrel]
    sizes = jnp.log1p(jnp.maximum(features[at, :2], 0.0))
    columns = [r / 500.0, z / 1500.0, jnp.arcsinh(z / jnp.maximum(r, 1.0)) / 2.0, sizes[:, 0], sizes[:, 1]]
    return jnp.stack([*columns, *(kind.astype(jnp.float32) for kind in kinds)], 1)


def _edge_features(shape: _Shape, residual: Array, n_before: Array, n_after: Array, place: Array) -> Array:
    shape = _Shape(*(column[place] for column in shape))
    theta = jnp.arctan2(shape.delta_r, shape.delta_z)
    columns = [
        shape.curvature * 1000.0,
        theta,
        shape.z0 / 100.0,
        shape.delta_phi * 20.0,
        shape.delta_r / 200.0,
        shape.delta_z / 500.0,
        *(residual[place] / 2.0).T,
        jnp.log1p(n_before[place].astype(jnp.float32)),
        jnp.log1p(n_after[place].astype(jnp.float32)),
    ]
    return jnp.stack(columns, 1)
