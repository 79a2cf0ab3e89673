"""Hits of one layer to a layer cluster: energy, size, and a position between the cells.

The position is the mean of the cells weighted by the logarithm of their share of the energy, which corrects the pull of
the hottest cell towards its centre (T. Awes et al., NIM A 311 (1992) 130). Parameters and the window around the hottest
cell are those of CMSSW's `HGCalCLUEAlgo`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Int32

from recon.errors import ConfigError
from recon.segments import segment_max, segment_sum
from recon.types import NOISE, Array, Clusters, DensityClusters, RecHits


@dataclass(frozen=True, kw_only=True)
class LayerClusterConfig:
    """How a layer cluster gets its position.

    Attributes:
        log_offset: W0: cells with less than exp(-W0) of the cluster's energy do not count.
        window: cells further than this from the hottest one do not count, mm.
        min_size: clusters of fewer hits are not handed on to the three-dimensional step.
    """

    log_offset: float = 2.9
    window: float = 13.0
    min_size: int = 2

    def __post_init__(self) -> None:
        if not (self.log_offset > 0 and self.window > 0 and self.min_size >= 1):
            raise ConfigError(
                f"LayerClusterConfig: log_offset = {self.log_offset} and window = {self.window} must be above 0, "
                f"min_size = {self.min_size} must be 1 or more"
            )


def layer_clusters(
    hits: RecHits,
    density: DensityClusters,
    config: LayerClusterConfig,
    *,
    capacity: int,
    scintillator: Bool[Array, " n"] | None = None,
) -> tuple[Clusters, Bool[Array, ""]]:
    """Make the layer clusters of one event; pure, to be compiled with static `config` and `capacity`.

    Silicon: `x = sum w_i x_i / sum w_i` with `w_i = max(0, W0 + ln(E_i / E))` over the cells within `config.window` of
    the hottest one. Where the hottest cell is a scintillator tile, whose size grows with the radius, all cells count
    with their energy. So they do where every logarithmic weight is 0: many equal cells.

    Args:
        hits: of one event, padded.
        density: what clusters them layer by layer.
        config: parameters of the position.
        capacity: length of the list of clusters.
        scintillator: true for hits in scintillator tiles; none if not given.

    Returns:
        The clusters in the order of their seeds, and whether they are incomplete: more than `capacity`, or `density`
        overflowed itself.
    """
    n = hits.energy.shape[0]
    member = hits.valid & (density.ids >= 0) & (density.ids < capacity)
    cluster = jnp.where(member, density.ids, 0)
    weight = jnp.where(member, jnp.maximum(hits.energy, 0), 0)
    energy = segment_sum(weight, cluster, capacity, valid=member)
    row = jnp.arange(n, dtype=jnp.int32)
    hottest = _hottest_hit(weight, cluster, member, capacity)
    hot_row = jnp.minimum(hottest, max(n - 1, 0))
    centre = hits.position[hot_row] if n else jnp.zeros((capacity, 3), jnp.float32)
    offset = hits.position[:, :2] - centre[cluster, :2]
    is_tile = jnp.zeros(n, bool) if scintillator is None else scintillator[hot_row][cluster]
    shared = weight / jnp.where(energy > 0, energy, 1)[cluster]
    near = (offset**2).sum(1) <= config.window**2
    logarithmic = jnp.where(
        near & (shared > 0), config.log_offset + jnp.log(jnp.where(shared > 0, shared, 1)), 0
    )
    chosen = jnp.where(is_tile, weight, jnp.maximum(logarithmic, 0))
    moved = _weighted_offset(offset, chosen, weight, cluster, member, capacity)
    is_seed = member & density.is_seed
    seed = jnp.full(capacity, -1, jnp.int32).at[jnp.where(is_seed, cluster, capacity)].set(row, mode="drop")
    valid = jnp.arange(capacity) < density.n_clusters
    position = jnp.where(valid[:, None], centre.at[:, :2].add(moved), 0)
    size = jax.ops.segment_sum(member.astype(jnp.int32), cluster, capacity)
    layer = jnp.where(valid, hits.layer[hot_row] if n else -1, -1)
    made = Clusters(jnp.where(member, cluster, NOISE), position, energy, size, layer, seed, valid)
    return made, density.overflow | (density.n_clusters > capacity)


def _hottest_hit(
    energy: Float32[Array, " n"], cluster: Int32[Array, " n"], member: Bool[Array, " n"], capacity: int
) -> Int32[Array, " c"]:
    """Row of the hit with most energy in every cluster, the first of equals; `n` or more for none."""
    most = segment_max(energy, cluster, capacity, valid=member)
    row = jnp.arange(energy.shape[0], dtype=jnp.int32)
    candidate = jnp.where(member & (energy == most[cluster]), row, energy.shape[0])
    return jax.ops.segment_min(candidate, cluster, capacity)


def _weighted_offset(
    offset: Float32[Array, "n 2"],
    chosen: Float32[Array, " n"],
    energy: Float32[Array, " n"],
    cluster: Int32[Array, " n"],
    member: Bool[Array, " n"],
    capacity: int,
) -> Float32[Array, "c 2"]:
    """Weighted mean of the hits of every cluster, seen from its hottest hit; by energy where no weight is left."""
    columns = jnp.column_stack([chosen, chosen[:, None] * offset, energy, energy[:, None] * offset])
    sums = segment_sum(columns, cluster, capacity, valid=member)
    total = jnp.where((sums[:, 0] > 0)[:, None], sums[:, :3], sums[:, 3:])
    return total[:, 1:] / jnp.where(total[:, :1] > 0, total[:, :1], 1)
