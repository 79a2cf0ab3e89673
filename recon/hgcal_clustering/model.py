"""The network of the hybrid clustering: which shower candidate a layer cluster condenses onto, if any.

A graph network on layer clusters and candidates (`shower_graph`). Each round scores every edge and turns the scores of
a layer cluster into probabilities, with the pile-up as one more choice; the candidates then sum what they were given,
energy-weighted, and the next round sees it: a candidate whose core belongs to its neighbour is given up to it. Layer
clusters also hear what their nearest higher and those that follow them chose: the tree of CLUE is the graph between
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Float32

from recon.errors import ConfigError
from recon.hgcal_clustering.shower_graph import EDGE_FEATURES, NODE_FEATURES, ShowerGraph
from recon.nn.mlp import MLP
from recon.types import Array

_MESSAGES = 7
_FAR = -1e4
_LEAST_ENERGY = 0.01


@dataclass(frozen=True, kw_only=True)
class CondensationConfig:
    """Shape of the network.

    Attributes:
        hidden: features in the middle of a perceptron.
        rounds: how often edges are scored.
    """

    hidden: int = 40
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.rounds < 1:
            raise ConfigError(f"{self}: both must be at least 1")


class CondensationNetwork(nnx.Module):
    """Log-probabilities of the candidates of every layer cluster.

    Args:
        config: shape.
        rngs: where the initial weights come from.
    """

    def __init__(self, config: CondensationConfig, *, rngs: nnx.Rngs) -> None:
        first = EDGE_FEATURES + NODE_FEATURES
        inputs = [first] + [first + _MESSAGES] * (config.rounds - 1)
        self.mean = nnx.Variable(jnp.zeros(first))
        self.width = nnx.Variable(jnp.ones(first))
        self.scores = nnx.List(MLP([n, config.hidden, config.hidden, 1], rngs=rngs) for n in inputs)

    def __call__(self, graph: ShowerGraph) -> list[Float32[Array, "n k1"]]:
        """Log-probabilities after every round, the last column that of pile-up; empty slots have none.

        Args:
            graph: of one endcap, padded.
        """
        nodes = jnp.broadcast_to(graph.nodes[:, None], (*graph.edges.shape[:2], graph.nodes.shape[1]))
        features = (jnp.concatenate([graph.edges, nodes], -1) - self.mean[...]) / self.width[...]
        inputs, found = features, []
        for score in self.scores:
            logit = score(inputs.reshape(-1, inputs.shape[-1])).reshape(graph.candidate.shape)
            found.append(log_probabilities(logit, graph))
            told = [features, messages(found[-1], logit, graph), agreement(found[-1], graph)]
            inputs = jnp.concatenate(told, -1)
        return found


def log_probabilities(logit: Float[Array, "n k"], graph: ShowerGraph) -> Float[Array, "n k1"]:
    """Softmax over the candidates of a layer cluster and pile-up, whose logit is 0."""
    there = jnp.where(graph.candidate >= 0, logit, _FAR)
    return jax.nn.log_softmax(jnp.concatenate([there, jnp.zeros((len(there), 1))], 1), 1)


def messages(
    log_probability: Float[Array, "n k1"], logit: Float[Array, "n k"], graph: ShowerGraph
) -> Float[Array, "n k 5"]:
    """What a candidate tells its layer clusters: its energy, its doubt, its depth and width, and the score just given.

    Args:
        log_probability: of the round before.
        logit: of the round before.
        graph: with the candidates.
    """
    there = graph.candidate >= 0
    n = graph.seed.shape[0]
    place = jnp.where(there, graph.candidate, n)
    probability = jnp.where(there, jnp.exp(log_probability[:, :-1]), 0)
    given = probability * graph.energy[:, None]
    depth = jnp.broadcast_to(graph.nodes[:, 2:3], given.shape)
    distance = graph.edges[..., 1]
    columns = jnp.stack([given, given * (1 - probability), given * depth, given * distance], -1)
    sums = jax.ops.segment_sum(columns.reshape(-1, 4), place.reshape(-1), n + 1)
    energy = sums[:, 0] + _LEAST_ENERGY
    told = jnp.stack([jnp.log(energy), *(sums[:, 1:] / energy[:, None]).T], -1)[place]
    last = jnp.where(there, jnp.clip(logit, -20, 20), 0) / 5
    return jnp.concatenate([told, last[..., None]], -1)


def agreement(log_probability: Float[Array, "n k1"], graph: ShowerGraph) -> Float[Array, "n k 2"]:
    """Probability of a layer cluster's candidates at its nearest higher, and the energy-weighted mean at its followers.

    Args:
        log_probability: of the round before.
        graph: with the nearest higher layer clusters.
    """
    n = graph.energy.shape[0]
    there = graph.candidate >= 0
    probability = jnp.where(there, jnp.exp(log_probability[:, :-1]), 0)
    leads = graph.higher >= 0
    above = jnp.maximum(graph.higher, 0)
    # same[i, k, m]: the candidate in slot k of i is that in slot m of its nearest higher.
    same = (graph.candidate[:, :, None] == graph.candidate[above][:, None]) & there[:, :, None]
    same &= leads[:, None, None]
    at_higher = (same * probability[above][:, None]).sum(2)
    weight = jnp.where(leads, graph.energy, 0)
    place = jnp.where(leads, graph.higher, n)
    lifted = (same * probability[:, :, None]).sum(1) * weight[:, None]
    sums = jax.ops.segment_sum(jnp.concatenate([lifted, weight[:, None]], 1), place, n + 1)[:n]
    at_followers = sums[:, :-1] / (sums[:, -1:] + _LEAST_ENERGY)
    return jnp.stack([at_higher, at_followers], -1)
