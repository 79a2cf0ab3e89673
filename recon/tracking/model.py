"""Edge classifier: a graph network that scores every candidate segment between two hits.

Encode, process, decode (Battaglia et al., arXiv:1806.01261) with the interaction layers of `recon.nn.interaction`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32

from recon.errors import ConfigError
from recon.nn.interaction import InteractionConfig, InteractionStack
from recon.nn.message_passing import Topology
from recon.nn.mlp import MLP

PADDED_LOGIT = -1e4
"""Logit of a padded edge: a score of exactly 0, and finite so that no gradient becomes NaN."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the edge classifier.

    Attributes:
        node_features: inputs a hit.
        edge_features: inputs a candidate edge.
        hidden: features of a node and of an edge inside the network.
        layers: message-passing steps.
        normalise: layer normalisation of every update.
        outgoing: whether a hit also sums over its outward edges.
        condensation_dim: coordinates a hit of the object condensation head; 0 leaves the head out.
    """

    node_features: int
    edge_features: int
    hidden: int = 32
    layers: int = 4
    normalise: bool = True
    outgoing: bool = True
    condensation_dim: int = 0

    def __post_init__(self) -> None:
        for name in ("node_features", "edge_features", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"NetworkConfig({name}={getattr(self, name)}): at least 1 is needed")
        if self.condensation_dim < 0:
            raise ConfigError(f"NetworkConfig(condensation_dim={self.condensation_dim}): 0 or more is needed")


class EdgeOutput(NamedTuple):
    """What the network says about one event.

    Attributes:
        logits: of the edge joining two hits in a row of one particle; `PADDED_LOGIT` for padding.
        beta: confidence of a hit to be its object's condensation point, in [0, 1); `None` without that head.
        coordinates: of the hit in the clustering space; `None` without that head.
    """

    logits: Float32[Array, " e"]
    beta: Float32[Array, " n"] | None
    coordinates: Float32[Array, "n c"] | None


class EdgeClassifier(nnx.Module):
    """Scores edges; works on one padded event (use `jax.vmap` for a stack of them)."""

    def __init__(self, config: NetworkConfig, *, rngs: nnx.Rngs) -> None:
        hidden = config.hidden
        self.config = config
        self.node_encoder = MLP([config.node_features, hidden, hidden], activate_last=True, rngs=rngs)
        self.edge_encoder = MLP([config.edge_features, hidden, hidden], activate_last=True, rngs=rngs)
        shape = InteractionConfig(
            hidden=hidden,
            layers=config.layers,
            normalise=config.normalise,
            outgoing=config.outgoing,
        )
        self.interaction = InteractionStack(shape, rngs=rngs)
        self.edge_head = MLP([hidden, hidden, 1], rngs=rngs)
        self.node_head = (
            MLP([hidden, hidden, 1 + config.condensation_dim], rngs=rngs) if config.condensation_dim else None
        )

    def __call__(
        self,
        nodes: Float32[Array, "n f"],
        edges: Float32[Array, "e g"],
        senders: Int32[Array, " e"],
        receivers: Int32[Array, " e"],
        node_valid: Bool[Array, " n"],
        edge_valid: Bool[Array, " e"],
    ) -> EdgeOutput:
        """Scores the edges of one event.

        Args:
            nodes: features of the hits.
            edges: features of the candidate edges.
            senders: row of the inner hit; any row in range for padding.
            receivers: row of the outer hit, sorted; padding comes last and points at any row in range.
            node_valid: false for padded hits.
            edge_valid: false for padded edges.
        """
        topology = Topology(senders, receivers, edge_valid)
        hits, segments = self.interaction(self.node_encoder(nodes), self.edge_encoder(edges), topology)
        logits = jnp.where(edge_valid, self.edge_head(segments)[:, 0], PADDED_LOGIT)
        if self.node_head is None:
            return EdgeOutput(logits, None, None)
        outputs = jnp.where(node_valid[:, None], self.node_head(hits), 0.0)
        beta = jnp.where(node_valid, jax.nn.sigmoid(outputs[:, 0]), 0.0)
        return EdgeOutput(logits, beta, outputs[:, 1:])
