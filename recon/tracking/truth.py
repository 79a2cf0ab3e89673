"""What the simulation knows: the true segments between the hits of a particle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from recon.errors import DataError
from recon.types import Event, Particles


@dataclass(frozen=True, kw_only=True)
class TargetHits:
    """Particles whose segments count as true; the defaults take every charged particle with three hits.

    Attributes:
        pt_min: smallest transverse momentum, GeV.
        min_hits: smallest number of hits.
        radius_max: largest production radius, mm.
        eta_max: largest pseudorapidity.
    """

    pt_min: float = 0.0
    min_hits: int = 3
    radius_max: float = np.inf
    eta_max: float = np.inf


def particle_selection(particles: Particles, selection: TargetHits) -> Bool[np.ndarray, " p"]:
    """Particles that pass a selection."""
    px, py, pz = np.asarray(particles.momentum, np.float64).T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-12))
    radius = np.hypot(particles.vertex[:, 0], particles.vertex[:, 1])
    made = particles.hit_particle
    n_hits = np.bincount(made[made >= 0], minlength=len(pt))
    return (
        np.asarray(particles.valid)
        & (particles.charge != 0)
        & (pt >= selection.pt_min)
        & (n_hits >= selection.min_hits)
        & (radius <= selection.radius_max)
        & (np.abs(eta) <= selection.eta_max)
    )


def hit_order(event: Event) -> Int[np.ndarray, " n"]:
    """Place of every hit along its particle's path.

    Taken from the simulation where it is recorded; otherwise hits are ordered by their distance from the
    production vertex, the convention of TrackML, which is right for everything that does not curl back.
    """
    if event.particles is None:
        raise DataError(f"event {event.number} has no truth")
    if event.truth is not None and np.all(event.truth.order[event.particles.hit_particle >= 0] >= 0):
        return np.asarray(event.truth.order, np.int64)
    made = event.particles.hit_particle
    has = made >= 0
    distance = np.zeros(len(made))
    distance[has] = np.linalg.norm(event.hits.position[has] - event.particles.vertex[made[has]], axis=1)
    return np.argsort(np.argsort(distance, kind="stable"), kind="stable")


def true_segments(
    event: Event, selection: TargetHits, usable: Bool[np.ndarray, " n"] | None = None
) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]:
    """Segments between consecutive hits of a particle on different layers, inner hit first.

    Sensors overlap, so a particle often leaves two hits on one layer. All hits of such a group are connected
    to all hits of the next: otherwise a perfect edge classifier would still lose hits.

    Args:
        event: with truth.
        selection: which particles count.
        usable: hits that may take part; all of them if not given.

    Returns:
        Rows of the inner and of the outer hit.

    Raises:
        DataError: the event has no truth.
    """
    if event.particles is None:
        raise DataError(f"event {event.number} has no truth")
    made = event.particles.hit_particle
    chosen = np.zeros(len(made), bool)
    has = made >= 0
    chosen[has] = particle_selection(event.particles, selection)[made[has]]
    if usable is not None:
        chosen &= usable
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((hit_order(event)[rows], made[rows]))]
    if len(rows) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    particle, layer = made[rows], event.hits.layer[rows]
    opens = np.ones(len(rows), bool)
    opens[1:] = (particle[1:] != particle[:-1]) | (layer[1:] != layer[:-1])
    start = np.flatnonzero(opens)
    size = np.diff(np.append(start, len(rows)))
    linked = np.flatnonzero(particle[start[1:]] == particle[start[:-1]])
    return _connect_groups(rows, start, size, linked)


def _connect_groups(
    rows: np.ndarray, start: np.ndarray, size: np.ndarray, linked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every hit of group g with every hit of group g + 1, for the groups g in `linked`."""
    n_in, n_out = size[linked], size[linked + 1]
    total = n_in * n_out
    group = np.repeat(np.arange(len(linked)), total)
    within = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
    inner = start[linked][group] + within // n_out[group]
    outer = start[linked + 1][group] + within % n_out[group]
    return rows[inner], rows[outer]
