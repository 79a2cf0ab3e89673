"""Edge scores to track candidates: a walk through the graph that gives every hit to one track at most.

Segments run outwards, so the graph has no cycles and the best path that ends in a hit follows from the best
paths of its predecessors, one layer at a time (the walk-through of arXiv:2103.06995, as a dynamic programme).
Hits then prefer one predecessor each, which turns the graph into a forest; going back inwards every hit keeps the
child with the best rest of the path. What hangs together after both choices is a chain. A second hit on a layer,
where sensors overlap, is on no chain and is attached afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from recon.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BuildingConfig:
    """Cuts of the track building.

    Attributes:
        edge_score: segments below this score are not walked.
        attach_score: segments below this score attach no loose hit to a track.
        attach_rounds: how many loose hits in a row may follow one another.
        attach_to: shortest chain that takes loose hits, in hits: a short track whose every layer overlaps has
            twice as many hits as its chain.
        min_hits: shortest candidate, in hits.
        max_hits: candidates that would be longer take no loose hits.
        max_steps: most layers that a path may cross.
    """

    edge_score: float = 0.2
    attach_score: float = 0.6
    attach_to: int = 4
    attach_rounds: int = 2
    min_hits: int = 6
    max_hits: int = 20
    max_steps: int = 24

    def __post_init__(self) -> None:
        for name in ("edge_score", "attach_score"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"BuildingConfig.{name} = {getattr(self, name)}: allowed is 0 to 1")
        if self.min_hits < 3 or self.max_hits < self.min_hits or self.max_steps < 1:
            raise ConfigError(
                f"BuildingConfig: min_hits = {self.min_hits} (3 or more), max_hits = {self.max_hits} "
                f"(min_hits or more), max_steps = {self.max_steps} (1 or more)"
            )


class Chains(NamedTuple):
    """Chains of hits.

    Attributes:
        head: for every node the first node of its chain; the node itself if it stands alone.
        length: for every node the number of nodes on its chain.
    """

    head: Int32[Array, " n"]
    length: Int32[Array, " n"]


def _best_neighbour(
    value: Float32[Array, " e"],
    group: Int32[Array, " e"],
    neighbour: Int32[Array, " e"],
    n: int,
    *,
    is_sorted: bool,
) -> tuple[Float32[Array, " n"], Int32[Array, " n"]]:
    """(largest value, its neighbour) in every group; the lowest neighbour among equals, `n` if the group is empty."""
    best = jax.ops.segment_max(value, group, n, indices_are_sorted=is_sorted)
    is_best = (value == best[group]) & jnp.isfinite(value)
    chosen = jax.ops.segment_min(jnp.where(is_best, neighbour, n), group, n, indices_are_sorted=is_sorted)
    return best, jnp.minimum(chosen, n).astype(jnp.int32)


def _longest_paths(
    weight: Float32[Array, " e"],
    tail: Int32[Array, " e"],
    tip: Int32[Array, " e"],
    n: int,
    steps: int,
    *,
    is_sorted: bool,
) -> Float32[Array, " n"]:
    """Weight of the best path that ends in every node; edges of weight -inf do not exist.

    The number of rounds is the length of the longest path, `steps` at most.
    """

    def improve(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        value, _, step = state
        reached = jax.ops.segment_max(value[tail] + weight, tip, n, indices_are_sorted=is_sorted)
        new = jnp.maximum(reached, 0.0)
        return new, jnp.any(new != value), step + 1

    start = (jnp.zeros(n, jnp.float32), jnp.asarray(True), jnp.asarray(0))
    value, _, _ = jax.lax.while_loop(lambda s: s[1] & (s[2] < steps), improve, start)
    return value


def walk(
    score: Float32[Array, " e"],
    senders: Int32[Array, " e"],
    receivers: Int32[Array, " e"],
    edge_valid: Bool[Array, " e"],
    n_nodes: int,
    config: BuildingConfig,
) -> Chains:
    """Cut the graph into chains.

    Args:
        score: of the segments, 0 to 1.
        senders: inner node of each segment.
        receivers: outer node of each segment, sorted.
        edge_valid: false for padding.
        n_nodes: number of nodes.
        config: cuts.
    """
    alive = edge_valid & (score > config.edge_score)
    weight = jnp.where(alive, score, -jnp.inf)
    inward = _longest_paths(weight, senders, receivers, n_nodes, config.max_steps, is_sorted=True)
    _, previous = _best_neighbour(inward[senders] + weight, receivers, senders, n_nodes, is_sorted=True)
    in_forest = alive & (previous[receivers] == senders)
    branch = jnp.where(in_forest, score, -jnp.inf)
    outward = _longest_paths(branch, receivers, senders, n_nodes, config.max_steps, is_sorted=False)
    _, following = _best_neighbour(outward[receivers] + branch, senders, receivers, n_nodes, is_sorted=False)
    node = jnp.arange(n_nodes, dtype=jnp.int32)
    # A link holds where both ends chose each other.
    linked = (previous < n_nodes) & (following[jnp.minimum(previous, n_nodes - 1)] == node)
    head = _jump_to_head(jnp.where(linked, previous, node), config.max_steps)
    length = jnp.zeros(n_nodes, jnp.int32).at[head].add(1)
    return Chains(head, length[head])


def _jump_to_head(parent: Int32[Array, " n"], steps: int) -> Int32[Array, " n"]:
    """First node of every chain by pointer doubling."""
    for _ in range(max(1, (steps - 1).bit_length())):
        parent = parent[parent]
    return parent


def attach_loose(
    chains: Chains,
    score: Float32[Array, " e"],
    senders: Int32[Array, " e"],
    receivers: Int32[Array, " e"],
    edge_valid: Bool[Array, " e"],
    config: BuildingConfig,
) -> Int32[Array, " n"]:
    """Give hits on no long chain to the track they point at; returns the head node of every node's track.

    Where sensors overlap a particle leaves two hits on a layer: both are connected to its hits before and after,
    but the walk takes one. Others were cut off because one segment of theirs is missing. Both kinds join through
    their best segment, those next to a chain first, those behind them after. What joins wrongly is an outlier to
    the fit. Longer than `max_hits` are mixtures of particles as a rule, and one of them would make the arrays
    of all candidates longer.
    """
    n = chains.head.shape[0]
    alive = edge_valid & (score > config.attach_score)
    head, taken = chains.head, chains.length >= config.attach_to
    for _ in range(config.attach_rounds):
        best, target = jnp.zeros(n), jnp.full(n, n, jnp.int32)
        for loose, other, is_sorted in ((receivers, senders, True), (senders, receivers, False)):
            joins = alive & ~taken[loose] & taken[other]
            value, neighbour = _best_neighbour(
                jnp.where(joins, score, -jnp.inf), loose, other, n, is_sorted=is_sorted
            )
            better = value > best
            best, target = jnp.where(better, value, best), jnp.where(better, neighbour, target)
        joined = target < n
        head = jnp.where(joined, head[jnp.minimum(target, n - 1)], head)
        taken |= joined
    length = jnp.zeros(n, jnp.int32).at[head].add(1)
    return jnp.where(length[head] > config.max_hits, chains.head, head)


class Candidates(NamedTuple):
    """Track candidates as hit lists.

    Attributes:
        nodes: nodes of each candidate from the beam line outwards; -1 for padding.
        n_hits: number of nodes on each candidate.
        n_needed: number of candidates found; more than the length of the arrays means overflow.
        longest: hits on the longest candidate; more than the width of `nodes` means overflow.
    """

    nodes: Int32[Array, "t k"]
    n_hits: Int32[Array, " t"]
    n_needed: Int32[Array, ""]
    longest: Int32[Array, ""]


def list_candidates(
    head: Int32[Array, " n"],
    distance: Float32[Array, " n"],
    node_valid: Bool[Array, " n"],
    config: BuildingConfig,
    *,
    capacity: int,
    width: int,
) -> Candidates:
    """Collect the nodes of every track.

    Args:
        head: first node of every node's track.
        distance: from the interaction point, mm; orders the nodes of a track along its path.
        node_valid: false for padding.
        config: shortest candidate.
        capacity: most candidates.
        width: most hits on a candidate.
    """
    n = head.shape[0]
    count = jnp.zeros(n, jnp.int32).at[jnp.where(node_valid, head, n)].add(1, mode="drop")
    chosen = count >= config.min_hits
    rank = jnp.cumsum(chosen.astype(jnp.int32))
    # No row of the table: out of its range even if it has room for more candidates than there are nodes.
    nowhere = max(n, capacity)
    track = jnp.where(node_valid & chosen[head], rank[head] - 1, nowhere)
    order_track, _, node = jax.lax.sort((track, distance, jnp.arange(n, dtype=jnp.int32)), num_keys=2)
    place = jnp.arange(n, dtype=jnp.int32)
    first = jnp.full(capacity, n, jnp.int32).at[order_track].min(place, mode="drop")
    slot = place - first[jnp.minimum(order_track, capacity - 1)]
    row = jnp.where(order_track < capacity, order_track, capacity)
    nodes = jnp.full((capacity, width), -1, jnp.int32).at[row, slot].set(node, mode="drop")
    n_hits = jnp.zeros(capacity, jnp.int32).at[row].add(1, mode="drop")
    return Candidates(nodes, n_hits, rank[-1], count.max())
