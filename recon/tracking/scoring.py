"""The edge classifier as a pure function of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float32

from recon.io.weights import model_arrays, set_model_arrays
from recon.tracking.model import EdgeClassifier, NetworkConfig
from recon.types import EdgeList


def network_with(config: NetworkConfig, weights: Mapping[str, Any]) -> EdgeClassifier:
    """A network with the given weights, as `network_weights` returns them."""
    return set_model_arrays(EdgeClassifier(config, rngs=nnx.Rngs(0)), weights)


def network_weights(network: EdgeClassifier) -> dict[str, np.ndarray]:
    """The weights of a network as a flat dict."""
    return model_arrays(network)


@lru_cache(maxsize=8)
def _definition(config: NetworkConfig) -> Any:
    """The static half of a network; no weights are made."""
    return nnx.split(nnx.eval_shape(lambda: EdgeClassifier(config, rngs=nnx.Rngs(0))))[0]


def network_state(network: EdgeClassifier) -> Any:
    """The weights as the tree of arrays that `score_edges` takes."""
    return nnx.as_pure(nnx.state(network))


def score_edges(
    state: Any,
    config: NetworkConfig,
    nodes: Float32[Array, "n f"],
    features: Float32[Array, "e g"],
    edges: EdgeList,
    node_valid: Bool[Array, " n"],
) -> Float32[Array, " e"]:
    """Probability of every edge to join two hits in a row of one particle; 0 for padding.

    Args:
        state: from `network_state`.
        config: of the network.
        nodes: node features.
        features: edge features.
        edges: sorted by receiver.
        node_valid: false for padding.
    """
    network = nnx.merge(_definition(config), state)
    output = network(nodes, features, edges.senders, edges.receivers, node_valid, edges.valid)
    return jax.nn.sigmoid(output.logits)
