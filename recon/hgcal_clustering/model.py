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
from recon.hgcal_clustering.cluster_times import TIME_FEATURES, TIME_UNIT
from recon.hgcal_clustering.shower_graph import EDGE_FEATURES, NODE_FEATURES, ShowerGraph
from recon.nn.mlp import MLP
from recon.types import Array

_MESSAGES = 11
_ARRIVALS = 4
_FAR = -1e4
_LEAST_ENERGY = 0.01
_LEAST_KNOWN = 1.0
"""1 / ns^2: a time that is known to a nanosecond says nothing."""
_FARTHEST = 8.0
"""Standard deviations; more are no different."""
_NEAR = 0.15
"""Where the weight of a layer cluster has fallen to 1 / e before any probability is known, in the unit of distances."""
_GROUPS, _GROUP_LAYERS = 10, 5
"""Groups of layers that a candidate sums its members in; the last takes all that follow."""
_RING_EDGES = (0.15, 0.3, 0.6, 1.2)
"""Borders of the rings around a candidate's axis, in the unit of the distances among the features, 100 mm."""


@dataclass(frozen=True, kw_only=True)
class CondensationConfig:
    """Shape of the network.

    Attributes:
        hidden: features in the middle of a perceptron.
        rounds: how often edges are scored.
        timing: whether layer clusters have times.
    """

    hidden: int = 40
    rounds: int = 3
    timing: bool = False

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.rounds < 1:
            raise ConfigError(f"{self}: hidden and rounds must be at least 1")

    @property
    def node_features(self) -> int:
        """Features of a layer cluster."""
        return NODE_FEATURES + (TIME_FEATURES if self.timing else 0)


class CondensationNetwork(nnx.Module):
    """Log-probabilities of the candidates of every layer cluster.

    Args:
        config: shape.
        rngs: where the initial weights come from.
    """

    def __init__(self, config: CondensationConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        first = EDGE_FEATURES + config.node_features
        told = first + (_ARRIVALS if config.timing else 0)
        inputs = [told] + [told + _MESSAGES] * (config.rounds - 1)
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
        if self.config.timing:
            inputs = jnp.concatenate([features, arrivals(closeness(graph), graph)], -1)
        for score in self.scores:
            logit = score(inputs.reshape(-1, inputs.shape[-1])).reshape(graph.candidate.shape)
            found.append(log_probabilities(logit, graph))
            told = [
                features,
                messages(found[-1], logit, graph),
                surroundings(found[-1], graph),
                agreement(found[-1], graph),
            ]
            if self.config.timing:
                told.append(arrivals(jnp.exp(2 * found[-1][:, :-1]), graph))
            inputs = jnp.concatenate(told, -1)
        return found


def log_probabilities(logit: Float[Array, "n k"], graph: ShowerGraph) -> Float[Array, "n k1"]:
    """Softmax over the candidates of a layer cluster and pile-up, whose logit is 0."""
    there = jnp.where(graph.candidate >= 0, logit, _FAR)
    return jax.nn.log_softmax(jnp.concatenate([there, jnp.zeros((len(there), 1))], 1), 1)


def messages(
    log_probability: Float[Array, "n k1"], logit: Float[Array, "n k"], graph: ShowerGraph
) -> Float[Array, "n k 6"]:
    """What a candidate tells its layer clusters: its energy, doubt, depth and width, the score and probability given.

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
    # The probability knows the other candidates of the layer cluster, the score does not.
    rated = jnp.where(there, jnp.maximum(log_probability[:, :-1], -10), 0) / 3
    return jnp.concatenate([told, last[..., None], rated[..., None]], -1)


def surroundings(log_probability: Float[Array, "n k1"], graph: ShowerGraph) -> Float[Array, "n k 3"]:
    """What a candidate got where a layer cluster is, without that layer cluster.

    The shower so far predicts what is to come: in a few layers around, and there at about the same distance from the
    axis, the energy given to the candidate, and its part of all energy there.

    Args:
        log_probability: of the round before.
        graph: with the candidates.

    Returns:
        Logarithms of the energy in the group of layers and in its ring (GeV), and the part of the ring.
    """
    there = graph.candidate >= 0
    n, rings = graph.seed.shape[0], len(_RING_EDGES) + 1
    group = jnp.clip(jnp.round(graph.nodes[:, 1] * 20).astype(jnp.int32) // _GROUP_LAYERS, 0, _GROUPS - 1)
    ring = sum((graph.edges[..., 1] > edge).astype(jnp.int32) for edge in _RING_EDGES)
    place = jnp.where(there, (graph.candidate * _GROUPS + group[:, None]) * rings + ring, n * _GROUPS * rings)
    all_energy = jnp.where(there, graph.energy[:, None], 0)
    given = jnp.exp(log_probability[:, :-1]) * all_energy
    columns = jnp.stack([given, all_energy], -1).reshape(-1, 2)
    sums = jax.ops.segment_sum(columns, place.reshape(-1), n * _GROUPS * rings + 1)
    in_group = jnp.append(sums[:-1, 0].reshape(-1, rings).sum(1), 0)[place // rings]
    in_ring, whole = jnp.moveaxis(sums[place], -1, 0)
    # Rounding may leave less than nothing.
    others, ring_others, rest = (
        jnp.maximum(total - own, 0) + _LEAST_ENERGY
        for total, own in ((in_group, given), (in_ring, given), (whole, all_energy))
    )
    return jnp.stack([jnp.log(others), jnp.log(ring_others), jnp.minimum(ring_others / rest, 1)], -1)


def closeness(graph: ShowerGraph) -> Float[Array, "n k"]:
    """How near layer clusters are to the axes of their candidates, from 0 to 1: before any probability is known."""
    return jnp.exp(-((graph.edges[..., 1] / _NEAR) ** 2))


def arrivals(weight: Float[Array, "n k"], graph: ShowerGraph) -> Float[Array, "n k 4"]:
    """How well the time of a layer cluster goes with that of the rest of its candidate.

    A candidate's time is the mean of its layer clusters' times, weighted by `weight` and by how well each is known;
    those far from it then count less (the weight falls as `exp(-z^2 / 4)`), twice, so that pile-up does not move it.

    Args:
        weight: of the layer clusters in the candidates, 0 or more.
        graph: whose layer clusters have times, the last three of their features.

    Returns:
        Deviation in standard deviations, with and without its sign, how well the candidate's time is known, and
        whether both have one; all 0 where one has none.
    """
    has, log_error, time = jnp.moveaxis(graph.nodes[:, -TIME_FEATURES:], 1, 0)
    n = graph.seed.shape[0]
    there = (graph.candidate >= 0) & (has > 0)[:, None]
    place = jnp.where(there, graph.candidate, n)
    error, time = jnp.exp(log_error)[:, None], TIME_UNIT * time[:, None]
    # Nothing is learned through the times: what a layer cluster does to the others' deviations is small.
    known = jax.lax.stop_gradient(jnp.where(there, weight, 0) / error**2)

    def deviation(own: Float[Array, "n k"]) -> tuple[Array, Array]:
        columns = jnp.stack([own, own * time], -1).reshape(-1, 2)
        sums = jax.ops.segment_sum(columns, place.reshape(-1), n + 1)[place]
        total = jnp.maximum(sums[..., 0] - own, _LEAST_KNOWN)
        mean = (sums[..., 1] - own * time) / total
        return (time - mean) / jnp.sqrt(error**2 + 1 / total), total

    own = known
    for _ in range(2):
        z, _ = deviation(own)
        own = known * jnp.exp(-jnp.minimum(z**2, _FARTHEST**2) / 4)
    z, total = deviation(own)
    both = there & (total > 2 * _LEAST_KNOWN)
    z = jnp.clip(z, -_FARTHEST, _FARTHEST) / 3
    told = jnp.stack([z, jnp.abs(z), jnp.log(total) / 5, jnp.ones_like(z)], -1)
    return jnp.where(both[..., None], told, 0)


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
