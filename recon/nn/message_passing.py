"""Message passing of an interaction network, all layers, in blocks of edges that stay in a CPU's cache.

A layer goes over the edges a block at a time (`recon.nn.blocks` says why). For the gradient it keeps the activations in
its middle and nothing else of the edges: the states in front of a layer are those behind it less the layer's update,
which follows from the activations (as in reversible networks, arXiv:1707.04585). Every other value is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from recon.nn.blocks import block_rows, on_platform
from recon.nn.mlp import layer_norm

Weights = dict[str, Array]


class Topology(NamedTuple):
    """Which node sends to which, the same for every layer.

    Attributes:
        senders: row of the node where the edge begins.
        receivers: row of the node where it ends; sorted.
        edge_valid: false for padding.
    """

    senders: Int32[Array, " e"]
    receivers: Int32[Array, " e"]
    edge_valid: Bool[Array, " e"]


def project(weights: Weights, nodes: Float[Array, "n h"]) -> tuple[Float[Array, "n h"], Float[Array, "n h"]]:
    """What a node contributes to the edges that it sends and to those that it receives.

    Args:
        weights: of one layer.
        nodes: their states.
    """
    received = nodes @ weights["edge_from_receiver"] + weights["edge_bias"]
    return nodes @ weights["edge_from_sender"], received


def activate_edges(
    weights: Weights, edges: Float[Array, "e h"], gathered: Float[Array, "e h"]
) -> Float[Array, "e h"]:
    """Activations in the middle of the update of edges.

    Args:
        weights: of one layer.
        edges: their states.
        gathered: from `project`, the sender's and the receiver's part, added.
    """
    return jax.nn.relu(edges @ weights["edge_from_edge"] + gathered)


def edge_update(
    weights: Weights, active: Float[Array, "e h"], edge_valid: Bool[Array, " e"]
) -> Float[Array, "e h"]:
    """What is added to the states of edges; 0 for padding.

    Args:
        weights: of one layer.
        active: from `activate_edges`.
        edge_valid: false for padding.
    """
    return jnp.where(edge_valid[:, None], _second_layer(weights, "edge", active), 0.0)


def update_nodes(
    weights: Weights, nodes: Float[Array, "n h"], sums: tuple[Float[Array, "n h"], ...]
) -> Float[Array, "n h"]:
    """New states of nodes.

    Args:
        weights: of one layer.
        nodes: their states.
        sums: of the states of the edges into every node and, where the layer has weights for them, out of it.
    """
    hidden = nodes @ weights["node_from_node"] + weights["node_bias"]
    for name, total in zip(("node_from_incoming", "node_from_outgoing"), sums, strict=False):
        hidden = hidden + total @ weights[name]
    return nodes + _second_layer(weights, "node", jax.nn.relu(hidden))


def _second_layer(weights: Weights, kind: str, active: Float[Array, "r h"]) -> Float[Array, "r h"]:
    """From the activations in the middle of an update (`kind` is edge or node) to what is added to the states."""
    update = jax.nn.relu(active @ weights[f"{kind}_out"] + weights[f"{kind}_out_bias"])
    if f"{kind}_scale" in weights:
        update = layer_norm(update, weights[f"{kind}_scale"], weights[f"{kind}_shift"])
    return update


PROJECTION = ("edge_from_sender", "edge_from_receiver", "edge_bias")
UPDATE = ("edge_out", "edge_out_bias", "edge_scale", "edge_shift")


def _choose(weights: Weights, names: tuple[str, ...]) -> Weights:
    return {name: weights[name] for name in names if name in weights}


def _of_nodes(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name.startswith("node")}


def interaction_layer(
    weights: Weights, nodes: Float[Array, "n h"], edges: Float[Array, "e h"], topology: Topology
) -> tuple[Float[Array, "n h"], Float[Array, "e h"]]:
    """One layer, array by array: the definition of what `run_layers` computes.

    Args:
        weights: of one layer, from `recon.nn.interaction.initial_weights`.
        nodes: state of the nodes.
        edges: state of the edges; 0 for padding.
        topology: what joins what.
    """
    sent, received = project(weights, nodes)
    active = activate_edges(weights, edges, sent[topology.senders] + received[topology.receivers])
    edges = edges + edge_update(weights, active, topology.edge_valid)
    sums = [jax.ops.segment_sum(edges, topology.receivers, len(nodes), indices_are_sorted=True)]
    if "node_from_outgoing" in weights:
        sums.append(jax.ops.segment_sum(edges, topology.senders, len(nodes)))
    return update_nodes(weights, nodes, tuple(sums)), edges


class _Saved(NamedTuple):
    """What the gradient needs: of every layer the nodes before it, the sums and activations in it; the last edges."""

    weights: Weights
    topology: Topology
    nodes: Float[Array, "l n h"]
    sums: tuple[Float[Array, "l n h"], ...]
    active: Float[Array, "l e h"]
    edges: Float[Array, "e h"]


def run_layers(
    weights: Weights, nodes: Float[Array, "n h"], edges: Float[Array, "e h"], topology: Topology
) -> tuple[Float[Array, "n h"], Float[Array, "e h"]]:
    """All layers of an interaction network; differentiable by weights, nodes and edges.

    Args:
        weights: as for `interaction_layer`, with a leading axis, the layer.
        nodes: state of the nodes.
        edges: state of the edges; taken as 0 for padding.
        topology: what joins what.

    Returns:
        States of nodes and edges after the last layer; 0 for padded edges.
    """
    edges = jnp.where(topology.edge_valid[:, None], edges, 0.0)
    count, hidden = edges.shape
    # Whole blocks, so that no edge is updated twice; the rest, or one edge if there is none, is padding like any other.
    padding = -count % block_rows(count, hidden) or int(count == 0)
    edges = jnp.pad(edges, ((0, padding), (0, 0)))
    topology = Topology(
        senders=jnp.pad(topology.senders, (0, padding)),
        receivers=jnp.pad(topology.receivers, (0, padding), constant_values=len(nodes) - 1),
        edge_valid=jnp.pad(topology.edge_valid, (0, padding)),
    )
    nodes, edges = _run(weights, nodes, edges, topology)
    return nodes, edges[:count]


@jax.custom_vjp
def _run(weights: Weights, nodes: Array, edges: Array, topology: Topology) -> tuple[Array, Array]:
    forward = on_platform(partial(_forward, keep=False), *edges.shape)
    return forward(weights, nodes, edges, topology)[:2]


def _run_forward(
    weights: Weights, nodes: Array, edges: Array, topology: Topology
) -> tuple[tuple[Array, Array], _Saved]:
    forward = on_platform(partial(_forward, keep=True), *edges.shape)
    nodes, edges, active, (before, sums) = forward(weights, nodes, edges, topology)
    return (nodes, edges), _Saved(weights, topology, before, sums, active, edges)


def _run_backward(saved: _Saved, slopes: tuple[Array, Array]) -> tuple[Weights, Array, Array, None]:
    return *on_platform(_backward, *slopes[1].shape)(saved, *slopes), None


_run.defvjp(_run_forward, _run_backward)


def _slices(arrays: tuple[Array, ...], start: Array, rows: int) -> Iterator[Array]:
    return (jax.lax.dynamic_slice_in_dim(array, start, rows) for array in arrays)


def _forward(
    weights: Weights, nodes: Array, edges: Array, topology: Topology, *, rows: int, keep: bool
) -> tuple[Array, Array, Array, tuple[Array, tuple[Array, ...]] | None]:
    """(nodes, edges) after all layers and, to keep, the activations, (nodes before, sums) of every layer."""
    layers, (count, hidden) = len(weights["edge_out"]), edges.shape
    ends = (topology.receivers, topology.senders)[: 2 if "node_from_outgoing" in weights else 1]

    def layer(carry: tuple[Array, Array, Array], step: tuple[Weights, Array]) -> Any:
        nodes, edges, kept = carry
        weights, number = step
        sent, received = project(weights, nodes)
        # All at once: in blocks, XLA's gather takes four times as long.
        gathered = sent[topology.senders] + received[topology.receivers]

        def block(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            edges, kept = carry
            start = index * rows
            old, both, valid = _slices((edges, gathered, topology.edge_valid), start, rows)
            active = activate_edges(weights, old, both)
            new = old + edge_update(weights, active, valid)
            if keep:
                kept = jax.lax.dynamic_update_slice(kept, active[None], (number, start, 0))
            return jax.lax.dynamic_update_slice_in_dim(edges, new, start, 0), kept

        edges, kept = jax.lax.fori_loop(0, count // rows, block, (edges, kept))
        # Not in the loop: XLA copies all edges in every round of a loop that overwrites and sums them.
        sums = tuple(_sum_by(end, edges, len(nodes), is_sorted=end is topology.receivers) for end in ends)
        return (update_nodes(weights, nodes, sums), edges, kept), (nodes, sums) if keep else None

    kept = jnp.zeros((layers, count, hidden) if keep else (), edges.dtype)
    (nodes, edges, kept), inside = jax.lax.scan(layer, (nodes, edges, kept), (weights, jnp.arange(layers)))
    return nodes, edges, kept, inside


def _sum_by(end: Array, edges: Array, n_nodes: int, *, is_sorted: bool) -> Array:
    return jax.ops.segment_sum(edges, end, n_nodes, indices_are_sorted=is_sorted)


def _backward(
    saved: _Saved, node_slope: Array, edge_slope: Array, *, rows: int
) -> tuple[Weights, Array, Array]:
    """Slopes by weights, nodes and edges, from the last layer to the first."""
    topology, (count, hidden) = saved.topology, edge_slope.shape

    def layer(carry: tuple[Array, ...], step: Any) -> Any:
        node_slope, edges, edge_slope, inner_slope = carry
        weights, nodes, sums, number = step
        matrix = weights["edge_from_edge"]
        pull_nodes = jax.vjp(update_nodes, _of_nodes(weights), nodes, sums)[1]
        of_nodes, node_slope, (by_receiver, *by_sender) = pull_nodes(node_slope)
        if by_sender:
            edge_slope = edge_slope + by_sender[0][topology.senders]

        def block(index: Array, carry: Any) -> Any:
            edges, edge_slope, inner_slope, of_update = carry
            start = index * rows
            parts = (edges, edge_slope, topology.receivers, topology.edge_valid)
            after, slope, receivers, valid = _slices(parts, start, rows)
            slope = slope + by_receiver[receivers]
            active = jax.lax.dynamic_slice(saved.active, (number, start, 0), (1, rows, hidden))[0]
            update, pull = jax.vjp(partial(edge_update, edge_valid=valid), _choose(weights, UPDATE), active)
            more, of_active = pull(slope)
            of_hidden = jnp.where(active > 0, of_active, 0)
            replace = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
            return (
                replace(edges, after - update),
                replace(edge_slope, slope + of_hidden @ matrix.T),
                replace(inner_slope, of_hidden),
                jax.tree.map(jnp.add, of_update, more),
            )

        nothing = jax.tree.map(jnp.zeros_like, _choose(weights, UPDATE))
        edges, edge_slope, inner_slope, of_update = jax.lax.fori_loop(
            0, count // rows, block, (edges, edge_slope, inner_slope, nothing)
        )
        pull_projection = jax.vjp(project, _choose(weights, PROJECTION), nodes)[1]
        of_projection, more = pull_projection(
            (
                _sum_by(topology.senders, inner_slope, len(nodes), is_sorted=False),
                _sum_by(topology.receivers, inner_slope, len(nodes), is_sorted=True),
            )
        )
        of_edges = {"edge_from_edge": edges.T @ inner_slope}
        return (
            node_slope + more,
            edges,
            edge_slope,
            inner_slope,
        ), of_nodes | of_update | of_projection | of_edges

    steps = (saved.weights, saved.nodes, saved.sums, jnp.arange(len(saved.nodes)))
    start = (node_slope, saved.edges, edge_slope, jnp.zeros_like(edge_slope))
    (node_slope, _, edge_slope, _), of_weights = jax.lax.scan(layer, start, steps, reverse=True)
    return of_weights, node_slope, edge_slope
