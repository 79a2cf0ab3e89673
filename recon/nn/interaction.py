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

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from recon.errors import ConfigError
from recon.nn.message_passing import Topology, Weights, run_layers


@dataclass(frozen=True, kw_only=True)
class InteractionConfig:
    """Shape of a stack of interaction layers.

    Attributes:
        hidden: features of a node and of an edge.
        layers: number of message-passing steps.
        normalise: layer normalisation of every update before it is added.
        outgoing: whether a node also sums over the edges that leave it.
    """

    hidden: int = 32
    layers: int = 4
    normalise: bool = True
    outgoing: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise ConfigError(
                f"InteractionConfig(hidden={self.hidden}, layers={self.layers}): both must be at least 1"
            )


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
        return run_layers(weights, nodes, edges, topology)


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
