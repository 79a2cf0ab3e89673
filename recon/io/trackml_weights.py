"""The weight of every hit in the score of the TrackML challenge."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from recon.errors import DataError
from recon.types import NOISE, Event

ORDER_WEIGHTS = (10.0, 8.0, 6.0, 5.0, 3.0, 3.0, 3.0, 5.0, 6.0)
"""Relative weight from the first to the last hit of a particle, stretched over its number of hits."""

MIN_HITS, MAX_HITS = 4, 20
"""Hits of particles with fewer hits weigh nothing, nor do those past the first `MAX_HITS` of a particle."""

PT_POINTS = (0.05, 0.5, 3.0)
"""GeV; between these points the weight by transverse momentum is linear, 0 below the first."""

PT_WEIGHTS = (0.2, 0.2, 1.0)


def trackml_weights(event: Event) -> Float64[np.ndarray, " n"]:
    """Weigh the hits of an event as the TrackML challenge does; the weights of an event sum to 1.

    A weight is the product of one by the hit's place along the particle, ordered by |z - vertex z|, and one
    by the particle's transverse momentum at production. Noise, hits of particles with fewer than four hits
    and of particles made in the detector weigh 0; an event in which nothing weighs anything has zeros only.

    Args:
        event: with particles; the true crossings are used where there are any, else the measured positions.

    Returns:
        Weight of every hit.

    Raises:
        DataError: an event without particles.

    Source:
        Amrouche et al., arXiv:1904.06778; constants of the challenge's public `trackml-library`.
    """
    if event.particles is None:
        raise DataError(f"event {event.number} has no particles; weights need the truth")
    owner = np.asarray(event.particles.hit_particle)
    weights = np.zeros(len(owner))
    hits = np.flatnonzero(owner != NOISE)
    if hits.size == 0:
        return weights
    z = np.asarray(event.hits.position if event.truth is None else event.truth.position)[hits, 2]
    vertex_z = np.asarray(event.particles.vertex)[owner[hits], 2]
    distance = np.abs(z.astype(np.float64) - vertex_z.astype(np.float64))
    primary = np.asarray(event.particles.primary)[owner[hits]]
    by_order = _order_weights(owner[hits], distance)
    transverse = np.hypot(*np.asarray(event.particles.momentum, np.float64)[:, :2].T)[owner[hits]]
    weights[hits] = by_order * np.interp(transverse, PT_POINTS, PT_WEIGHTS, left=0.0) * primary
    total = weights.sum()
    return weights / total if total > 0 else weights


def _order_weights(owner: np.ndarray, distance: np.ndarray) -> np.ndarray:
    order = np.lexsort((distance, owner))
    _, first, counts = np.unique(owner[order], return_index=True, return_counts=True)
    weights = np.zeros(len(owner))
    for n_hits in np.unique(counts):
        if n_hits < MIN_HITS:
            continue
        profile = _profile(min(int(n_hits), MAX_HITS))
        rows = order[first[counts == n_hits][:, None] + np.arange(len(profile))]
        weights[rows] = profile
    return weights


def _profile(n_hits: int) -> np.ndarray:
    """Stretch `ORDER_WEIGHTS` over `n_hits` hits, sum 1."""
    support = np.linspace(0.0, n_hits - 1.0, len(ORDER_WEIGHTS))
    profile = np.interp(np.arange(n_hits), support, ORDER_WEIGHTS)
    return profile / profile.sum()
