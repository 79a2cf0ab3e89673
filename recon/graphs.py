"""Graphs of one event or many as jraph holds them: the only importer of jraph.

`jraph.GraphsTuple` lays the graphs of a batch one after the other; padding is one more graph at the end, whose
nodes and edges touch no other. Everything here runs on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import jraph
import numpy as np
from jaxtyping import Bool, Float32
from jraph import GraphsTuple

from recon.errors import CapacityError, DataError
from recon.padding import bucket_size
from recon.types import EdgeList


def to_graph(
    nodes: Float32[np.ndarray, "n f"], edges: Float32[np.ndarray, "e g"], edge_list: EdgeList
) -> GraphsTuple:
    """The candidate graph of one event, padding left out.

    Args:
        nodes: features of the hits.
        edges: features of the candidate edges.
        edge_list: which hits they join.

    Raises:
        CapacityError: the edge list overflowed and is incomplete.
        DataError: a valid edge that names a hit out of range.
    """
    valid = np.asarray(edge_list.valid)
    if edge_list.overflow:
        raise CapacityError("edges", len(valid), len(valid) + 1, "the capacity of the edge list")
    senders, receivers = np.asarray(edge_list.senders)[valid], np.asarray(edge_list.receivers)[valid]
    for name, ends in (("senders", senders), ("receivers", receivers)):
        outside = np.flatnonzero((ends < 0) | (ends >= len(nodes)))
        if outside.size:
            raise DataError(
                f"{name}[{outside[0]}] = {ends[outside[0]]} is no hit; allowed are 0 to {len(nodes) - 1}"
            )
    return GraphsTuple(
        nodes=np.asarray(nodes),
        edges=np.asarray(edges)[valid],
        senders=senders,
        receivers=receivers,
        globals=None,
        n_node=np.array([len(nodes)], np.int32),
        n_edge=np.array([len(senders)], np.int32),
    )


def batch_graphs(graphs: Sequence[GraphsTuple]) -> GraphsTuple:
    """One `GraphsTuple` of many: node numbers shifted so that no graph touches another.

    Raises:
        DataError: no graph.
    """
    if not graphs:
        raise DataError("batch_graphs was given no graph; at least one is needed")
    return jraph.batch_np(list(graphs))


def unbatch_graphs(graph: GraphsTuple) -> list[GraphsTuple]:
    """The graphs of a batch, one by one; the inverse of `batch_graphs`.

    `jraph.unbatch_np` subtracts the shifts in place: it gets arrays of its own.
    """
    return jraph.unbatch_np(graph._replace(senders=graph.senders.copy(), receivers=graph.receivers.copy()))


def pad_graph(graph: GraphsTuple, nodes: int | None = None, edges: int | None = None) -> GraphsTuple:
    """Pads to fixed lengths with one graph more, at the end.

    Args:
        graph: one or many graphs, not padded yet.
        nodes: new number of nodes, at least one more than there are: padded edges need a node to end on.
        edges: new number of edges. Both default to the next size of the ladder (`recon.padding.bucket_size`).

    Raises:
        CapacityError: more nodes or edges than that.
    """
    needed = {"nodes": int(graph.n_node.sum()) + 1, "edges": int(graph.n_edge.sum())}
    capacity = {
        "nodes": bucket_size(needed["nodes"]) if nodes is None else nodes,
        "edges": bucket_size(needed["edges"]) if edges is None else edges,
    }
    for name, least in needed.items():
        if capacity[name] < least:
            raise CapacityError(name, capacity[name], least, f"pad_graph({name}=...)")
    return jraph.pad_with_graphs(graph, capacity["nodes"], capacity["edges"], len(graph.n_node) + 1)


def unpad_graph(graph: GraphsTuple) -> GraphsTuple:
    """Takes the padding graph away; the inverse of `pad_graph`."""
    nodes, edges = int(graph.n_node[:-1].sum()), int(graph.n_edge[:-1].sum())
    return graph._replace(
        nodes=graph.nodes[:nodes],
        edges=graph.edges[:edges],
        senders=graph.senders[:edges],
        receivers=graph.receivers[:edges],
        n_node=graph.n_node[:-1],
        n_edge=graph.n_edge[:-1],
    )


def node_mask(graph: GraphsTuple) -> Bool[np.ndarray, " n"]:
    """True for the nodes of a padded graph that are not padding."""
    return np.arange(len(graph.nodes)) < int(graph.n_node[:-1].sum())


def edge_mask(graph: GraphsTuple) -> Bool[np.ndarray, " e"]:
    """True for the edges of a padded graph that are not padding."""
    return np.arange(len(graph.senders)) < int(graph.n_edge[:-1].sum())
