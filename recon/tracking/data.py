"""Labelled graphs for training: events in, graphs with the truth of every edge out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32

from recon.errors import DataError
from recon.padding import bucket_size
from recon.tracking.capacity import (
    MAX_TRIES,
    TrackingCapacity,
    TrackingSizes,
    capacity_in_use,
    check_sizes,
    grow,
    overflows,
)
from recon.tracking.checks import check_hits, pad_hits
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES, HitGraph, build_graph
from recon.tracking.truth import TargetHits, true_segments
from recon.tracking.windows import LayerPairs
from recon.types import Array, Detector, Event, Hits


class LabelledGraph(NamedTuple):
    """One event for the loss; batches have one more leading axis.

    Attributes:
        nodes: node features.
        edges: edge features.
        senders: inner node of each edge.
        receivers: outer node of each edge, sorted.
        node_valid: false for padding.
        edge_valid: false for padding.
        label: whether the edge joins two hits in a row of one particle.
        weight: of the edge in the loss; 0 for padding.
    """

    nodes: Float32[Array, "*b n f"]
    edges: Float32[Array, "*b e g"]
    senders: Int32[Array, "*b e"]
    receivers: Int32[Array, "*b e"]
    node_valid: Bool[Array, "*b n"]
    edge_valid: Bool[Array, "*b e"]
    label: Bool[Array, "*b e"]
    weight: Float32[Array, "*b e"]


@partial(jax.jit, static_argnames="capacity")
def _graph(hits: Hits, rotation: Array, pairs: LayerPairs, capacity: TrackingCapacity) -> HitGraph:
    return build_graph(hits, rotation, pairs, capacity.graph)


def event_graph(
    event: Event, detector: Detector, pairs: LayerPairs, known: dict[int, TrackingCapacity]
) -> HitGraph:
    """The candidate graph of an event, in host arrays, with as much room as it needs.

    Args:
        event: of `detector`.
        detector: sensor table.
        pairs: the layer-pair map, in host arrays.
        known: capacities that events have had so far, by padded number of hits; updated.

    Raises:
        DataError: hits that `check_hits` refuses.
    """
    check_hits(event.hits, detector)
    hits = pad_hits(event.hits)
    length = len(hits.layer)
    capacity = capacity_in_use(known, length, pairs)
    graph, sizes = _sized_graph(hits, detector, pairs, capacity)
    for _ in range(MAX_TRIES):
        if not overflows(sizes, capacity):
            break
        capacity = known[length] = grow(sizes, capacity)
        graph, sizes = _sized_graph(hits, detector, pairs, capacity)
    check_sizes(sizes, capacity)
    return graph


def _sized_graph(
    hits: Hits, detector: Detector, pairs: LayerPairs, capacity: TrackingCapacity
) -> tuple[HitGraph, TrackingSizes]:
    graph: HitGraph = jax.device_get(_graph(hits, detector.rotation, pairs, capacity))
    return graph, TrackingSizes(*graph.sizes, *np.zeros(2, np.int32))


def label_graph(event: Event, graph: HitGraph, *, low_pt: float, low_pt_weight: float) -> LabelledGraph:
    """Trim a graph to its edges and mark the true ones.

    Every segment of a charged particle counts as true, however soft: a network asked to reject the soft ones
    would have to measure momenta first.

    Args:
        event: with truth.
        graph: of this event.
        low_pt: segments of particles below this transverse momentum count less in the loss, GeV.
        low_pt_weight: their weight.

    Raises:
        DataError: the event has no truth.
    """
    if event.particles is None:
        raise DataError(f"event {event.number} has no truth to train on")
    n_edges, n_nodes = int(graph.sizes.edges), int(graph.sizes.nodes)
    senders, receivers = graph.edges.senders[:n_edges], graph.edges.receivers[:n_edges]
    inner, outer = graph.hit[senders].astype(np.int64), graph.hit[receivers].astype(np.int64)
    n_hits = len(event.hits.layer)
    true_inner, true_outer = true_segments(event, TargetHits())
    label = np.isin(inner * n_hits + outer, true_inner * n_hits + true_outer)
    pt = np.hypot(*np.asarray(event.particles.momentum)[:, :2].T)
    soft = label.copy()
    soft[label] = pt[event.particles.hit_particle[inner[label]]] < low_pt
    weight = np.where(soft, low_pt_weight, 1.0).astype(np.float32)
    return LabelledGraph(
        nodes=graph.node_features[:n_nodes],
        edges=graph.edge_features[:n_edges],
        senders=senders,
        receivers=receivers,
        node_valid=np.ones(n_nodes, bool),
        edge_valid=np.ones(n_edges, bool),
        label=label,
        weight=weight,
    )


def pad_graph(graph: LabelledGraph, n_nodes: int, n_edges: int) -> LabelledGraph:
    """Pad a graph; padded edges join the last node to itself, which keeps the order by receiver."""
    nodes, edges = n_nodes - len(graph.nodes), n_edges - len(graph.edges)
    if nodes < 0 or edges < 0:
        raise DataError(f"a graph of {len(graph.nodes)} nodes and {len(graph.edges)} edges does not fit")

    def pad(column: Array, count: int, value: int = 0) -> np.ndarray:
        return np.concatenate([np.asarray(column), np.full((count, *column.shape[1:]), value, column.dtype)])

    return LabelledGraph(
        nodes=pad(graph.nodes, nodes),
        edges=pad(graph.edges, edges),
        senders=pad(graph.senders, edges, n_nodes - 1),
        receivers=pad(graph.receivers, edges, n_nodes - 1),
        node_valid=pad(graph.node_valid, nodes),
        edge_valid=pad(graph.edge_valid, edges),
        label=pad(graph.label, edges),
        weight=pad(graph.weight, edges),
    )


def pad_alike(graphs: Sequence[LabelledGraph]) -> list[LabelledGraph]:
    """Pad graphs of events of one kind to one shape, so that one program serves them all."""
    n_nodes = bucket_size(max(len(graph.nodes) for graph in graphs) + 1)
    n_edges = bucket_size(max(len(graph.edges) for graph in graphs) + 1)
    return [pad_graph(graph, n_nodes, n_edges) for graph in graphs]


def mirror(graph: LabelledGraph, *, charge: bool, forward: bool) -> LabelledGraph:
    """Reflect an event: in azimuth (every particle becomes its antiparticle) or in z.

    The detector looks the same in both mirrors, so this is four times the data.
    """
    nodes, edges = graph.nodes.copy(), graph.edges.copy()
    if charge:
        for name in ("1000 mm x curvature through the beam line", "20 x delta phi"):
            edges[:, EDGE_FEATURES.index(name)] *= -1
    if forward:
        for name in ("z / 1500 mm", "eta / 2"):
            nodes[:, NODE_FEATURES.index(name)] *= -1
        for name in ("z0 / 100 mm", "delta z / 500 mm"):
            edges[:, EDGE_FEATURES.index(name)] *= -1
        polar = EDGE_FEATURES.index("polar angle")
        edges[:, polar] = np.where(graph.edge_valid, np.float32(np.pi) - edges[:, polar], 0)
    return graph._replace(nodes=nodes, edges=edges)


def stack(graphs: Iterable[LabelledGraph]) -> LabelledGraph:
    """A batch of graphs of one shape."""
    return LabelledGraph(*(np.stack(column) for column in zip(*graphs, strict=True)))
