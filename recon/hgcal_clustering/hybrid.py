"""The hybrid clustering: seeds by density, showers by a network that says what condenses onto which seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from recon.errors import ConfigError
from recon.hgcal_clustering.cluster_times import ClusterTimes
from recon.hgcal_clustering.condensation import as_density, showers_from
from recon.hgcal_clustering.model import CondensationConfig, CondensationNetwork
from recon.hgcal_clustering.rows import to_rows
from recon.hgcal_clustering.shower_graph import GraphConfig, ShowerGraph, pad_graph, shower_graph
from recon.types import Array, Clusters, DensityClusters


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Settings of the hybrid clustering.

    Attributes:
        weights: name of a shipped model or directory of one, whose network is used.
        graph: how the graph is made.
        network: shape of the network.
        member_share: a shower takes its most probable members until it has this part of the energy expected of it.
        least_probability: what is less probable joins no shower.
    """

    weights: str = "hybrid"
    graph: GraphConfig = field(default_factory=GraphConfig)
    network: CondensationConfig = field(default_factory=CondensationConfig)
    member_share: float = 0.8
    least_probability: float = 0.1

    def __post_init__(self) -> None:
        for name in ("member_share", "least_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"HybridConfig.{name} = {getattr(self, name)}; allowed are 0 to 1")


@nnx.jit
def probabilities(network: CondensationNetwork, graph: ShowerGraph) -> Array:
    """Probabilities of the last round, the last column that of pile-up."""
    return jax.numpy.exp(network(graph)[-1])


STEPS = (probabilities,)


def condense(
    clusters: Clusters,
    network: CondensationNetwork,
    config: HybridConfig,
    times: ClusterTimes | None = None,
) -> DensityClusters:
    """Showers of one endcap.

    Args:
        clusters: layer clusters on the host.
        network: that says which candidate a layer cluster belongs to.
        config: settings.
        times: of the layer clusters; what a network with `timing` needs.

    Returns:
        Host arrays, one row a layer cluster; `rho` is the energy times the condensation score, the probability to
        belong to any shower.

    Raises:
        DataError: layer clusters that cannot be used; see `shower_graph`.
    """
    graph, _ = shower_graph(clusters, config.graph, times)
    return showers_of(graph, ask(network, graph), config, len(clusters.valid))


def ask(network: CondensationNetwork, graph: ShowerGraph) -> Float[np.ndarray, "n k1"]:
    """What a network says of a graph that is not padded: probabilities as `showers_of` takes them.

    Nobody is asked about a graph without layer clusters.
    """
    n, slots = graph.candidate.shape
    if n == 0:
        return np.zeros((0, slots + 1))
    found: Any = jax.device_get(probabilities(network, jax.tree.map(jax.numpy.asarray, pad_graph(graph))))
    return np.asarray(found[:n], np.float64)


def showers_of(
    graph: ShowerGraph, probability: Float[np.ndarray, "n k1"], config: HybridConfig, n_clusters: int
) -> DensityClusters:
    """The showers that the probabilities of a network make; as `condense`.

    Args:
        graph: of one endcap, not padded.
        probability: of every slot, the last column that of pile-up.
        config: settings.
        n_clusters: number of layer clusters that the rows of the graph belong to.
    """
    label = showers_from(
        graph,
        probability,
        member_share=config.member_share,
        least_probability=config.least_probability,
    )
    score = graph.energy * (1 - probability[:, -1])
    return to_rows(as_density(label, graph, score), graph.row.astype(np.int64), n_clusters)
