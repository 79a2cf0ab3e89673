"""Interaction network: messages along edges, sums at nodes, as XLA runs them fastest.

One layer (Battaglia et al., arXiv:1612.00222, in the residual form of arXiv:2103.06995):

    edges' = edges + norm(mlp(edges, nodes[senders], nodes[receivers]))
    nodes' = nodes + norm(mlp(nodes, sum of edges' into the node, sum of edges' out of the node))

The first matrix of the edge MLP is three matrices, one an input: the two of the nodes are applied to the nodes
before the gather, that is N times and not E times. The layers run in one `lax.scan`, so that XLA compiles one of
them and reuses its buffers. Edges sorted by receiver make gather and sum walk through memory in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int32

from recon.errors import ConfigError
from recon.nn.mlp import activated_product, layer_norm, product

Weights = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class InteractionConfig:
    """Shape of a stack of interaction layers.

    Attributes:
        hidden: features of a node and of an edge.
        layers: number of message-passing steps.
        normalise: layer normalisation of every update before it is added.
        outgoing: whether a node also sums over the edges that leave it.
        remat: recompute each layer in the backward pass instead of keeping its activations.
    """

    hidden: int = 32
    layers: int = 4
    normalise: bool = True
    outgoing: bool = True
    remat: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise ConfigError(
                f"InteractionConfig(hidden={self.hidden}, layers={self.layers}): both must be at least 1"
            )


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


class InteractionStack(nnx.Module):
    """`config.layers` interaction layers, each with its own weights (leading axis: the layer)."""

    def __init__(self, config: InteractionConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.weights = nnx.Dict(
            {name: nnx.Param(value) for name, value in initial_weights(config, rngs).items()}
        )

    def __call__(
        self, nodes: Float[Array, "n h"], edges: Float[Array, "e h"], topology: Topology
    ) -> tuple[Float[Array, "n h"], Float[Array, "e h"]]:
        """Runs all layers; padded edges are 0 throughout and so send nothing."""
        weights = {name: parameter[...] for name, parameter in self.weights.items()}
        edges = jnp.where(topology.edge_valid[:, None], edges, 0.0)

        def layer(carry: tuple[Array, Array], weight: Weights) -> tuple[tuple[Array, Array], None]:
            return interaction_layer(weight, *carry, topology), None

        if self.config.remat:
            layer = jax.checkpoint(layer, prevent_cse=False)
        (nodes, edges), _ = jax.lax.scan(layer, (nodes, edges), weights)
        return nodes, edges


def initial_weights(config: InteractionConfig, rngs: nnx.Rngs) -> Weights:
    """He-normal matrices (fan-in: the whole concatenated input), zero shifts; leading axis: the layer."""
    layers, hidden = config.layers, config.hidden
    node_inputs = ["node_from_node", "node_from_incoming"] + ["node_from_outgoing"] * config.outgoing
    fan_in = {
        "edge_from_edge": 3,
        "edge_from_sender": 3,
        "edge_from_receiver": 3,
        "edge_out": 1,
        "node_out": 1,
    }
    fan_in |= dict.fromkeys(node_inputs, len(node_inputs))
    weights = {}
    for name, inputs in fan_in.items():
        scale = (2.0 / (inputs * hidden)) ** 0.5
        weights[name] = scale * jax.random.normal(rngs.params(), (layers, hidden, hidden), jnp.float32)
    zeros = ["edge_bias", "edge_out_bias", "node_bias", "node_out_bias"]
    if config.normalise:
        zeros += ["edge_shift", "node_shift"]
        weights |= {name: jnp.ones((layers, hidden)) for name in ("edge_scale", "node_scale")}
    return weights | {name: jnp.zeros((layers, hidden)) for name in zeros}


def interaction_layer(
    weights: Weights,
    nodes: Float[Array, "n h"],
    edges: Float[Array, "e h"],
    topology: Topology,
) -> tuple[Float[Array, "n h"], Float[Array, "e h"]]:
    """One layer.

    Args:
        weights: from `initial_weights`, without the layer axis.
        nodes: state of the nodes.
        edges: state of the edges; 0 for padding.
        topology: what joins what.
    """
    edges = edges + _edge_update(weights, nodes, edges, topology)
    count = nodes.shape[0]
    hidden = product(nodes, weights["node_from_node"]) + weights["node_bias"]
    incoming = jax.ops.segment_sum(edges, topology.receivers, count, indices_are_sorted=True)
    hidden = hidden + product(incoming, weights["node_from_incoming"])
    if "node_from_outgoing" in weights:
        # Rows added where they belong: sorting them by sender first costs ten times the sum.
        outgoing = jax.ops.segment_sum(edges, topology.senders, count)
        hidden = hidden + product(outgoing, weights["node_from_outgoing"])
    update = activated_product(hidden, weights["node_out"], weights["node_out_bias"])
    if "node_scale" in weights:
        update = layer_norm(update, weights["node_scale"], weights["node_shift"])
    return nodes + update, edges


def _edge_update(
    weights: Weights,
    nodes: Float[Array, "n h"],
    edges: Float[Array, "e h"],
    topology: Topology,
) -> Float[Array, "e h"]:
    sent = product(nodes, weights["edge_from_sender"])[topology.senders]
    received = (product(nodes, weights["edge_from_receiver"]) + weights["edge_bias"])[topology.receivers]
    hidden = product(edges, weights["edge_from_edge"]) + sent + received
    update = activated_product(hidden, weights["edge_out"], weights["edge_out_bias"])
    if "edge_scale" in weights:
        update = layer_norm(update, weights["edge_scale"], weights["edge_shift"])
    return jnp.where(topology.edge_valid[:, None], update, 0.0)
