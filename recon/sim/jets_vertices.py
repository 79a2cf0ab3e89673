"""Secondary vertices of jets: reconstructed tracks that were made at one point away from the collision.

Which tracks share a vertex is taken from the truth, its position is smeared. Along the flight a vertex is as much
less precise as its tracks are narrow: the resolution across times momentum over mass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim.jets_clustering import ClusteredJets, segment_sum
from recon.sim.jets_detector import Candidates, directions, four_momenta

FLIGHT_MIN, FLIGHT_MAX = 0.1, 200.0
"""mm in the transverse plane: nearer vertices cannot be told from the collision, farther ones have no pixel hits."""
SIGNIFICANCE_MIN = 3.0
"""Of the distance in space, as NanoAOD demands."""
TRACKS_MIN = 2
RESOLUTION = 0.030
"""mm across the flight, for one track; it falls with the square root of their number."""

_GRAIN = 1e-3  # mm; particles made closer together than this come from one vertex


class Vertices(NamedTuple):
    """Secondary vertices, sorted by jet, the most significant first.

    Attributes:
        jet: row of the jet.
        momentum: px, py, pz, E of the tracks, taken for pions, GeV.
        n_tracks: number of tracks.
        normalised_chi2: of the fit, over its degrees of freedom.
        dxy: distance from the primary vertex in the transverse plane, mm.
        dxy_error: mm.
        d3d: distance in space, mm.
        d3d_error: mm.
        cosine: of the angle between flight and momentum.
    """

    jet: Int64[np.ndarray, " v"]
    momentum: Float64[np.ndarray, "v 4"]
    n_tracks: Int64[np.ndarray, " v"]
    normalised_chi2: Float64[np.ndarray, " v"]
    dxy: Float64[np.ndarray, " v"]
    dxy_error: Float64[np.ndarray, " v"]
    d3d: Float64[np.ndarray, " v"]
    d3d_error: Float64[np.ndarray, " v"]
    cosine: Float64[np.ndarray, " v"]


def find_vertices(candidates: Candidates, jets: ClusteredJets, rng: np.random.Generator) -> Vertices:
    """Find the secondary vertices among the tracks of every jet.

    Args:
        candidates: of all events.
        jets: of the same events.
        rng: random numbers.

    Returns:
        The vertices, with the jets' rows.
    """
    jet = np.repeat(np.arange(len(jets.event)), np.diff(jets.offsets))
    vertex = candidates.vertex[jets.constituent]
    flight = np.hypot(vertex[:, 0], vertex[:, 1])
    tracked = (candidates.d0_error[jets.constituent] > 0) & (flight > FLIGHT_MIN) & (flight < FLIGHT_MAX)
    track, jet, vertex = jets.constituent[tracked], jet[tracked], vertex[tracked]
    order, counts = _grouped(jet, vertex)
    first = order[np.cumsum(counts) - counts]
    momentum = segment_sum(four_momenta(candidates)[track[order]], counts)
    enough = counts >= TRACKS_MIN
    found = _measure(vertex[first][enough], momentum[enough], counts[enough], jet[first][enough], rng)
    found = Vertices(*(column[found.d3d > SIGNIFICANCE_MIN * found.d3d_error] for column in found))
    ranked = np.lexsort((-found.dxy / found.dxy_error, found.jet))
    return Vertices(*(column[ranked] for column in found))


def _grouped(
    jet: Int64[np.ndarray, " t"], vertex: Float64[np.ndarray, "t 3"]
) -> tuple[Int64[np.ndarray, " t"], Int64[np.ndarray, " g"]]:
    """An order in which tracks of one jet and vertex stand together, and how many of them do."""
    keys = np.column_stack([jet, np.round(vertex / _GRAIN).astype(np.int64)])
    order = np.lexsort(keys.T[::-1])
    new = np.ones(len(order), bool)
    new[1:] = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(new), len(order))
    return order, np.diff(starts)


def _measure(
    vertex: Float64[np.ndarray, "v 3"],
    momentum: Float64[np.ndarray, "v 4"],
    counts: Int64[np.ndarray, " v"],
    jet: Int64[np.ndarray, " v"],
    rng: np.random.Generator,
) -> Vertices:
    n = len(counts)
    size = np.linalg.norm(momentum[:, :3], axis=1)
    mass = np.sqrt(np.maximum(momentum[:, 3] ** 2 - size**2, 0.05**2))
    across = RESOLUTION / np.sqrt(counts)
    along = across * np.maximum(size / mass, 1.0)
    axis = momentum[:, :3] / size[:, None]
    noise = across[:, None] * rng.normal(size=(n, 3))
    # Across the axis only, then along it.
    noise += ((along * rng.normal(size=n)) - (noise * axis).sum(axis=1))[:, None] * axis
    measured = vertex + noise
    d3d = np.linalg.norm(measured, axis=1)
    dxy = np.hypot(measured[:, 0], measured[:, 1])
    freedom = 2 * counts - 3
    pt = directions(momentum)[0]
    return Vertices(
        jet=jet,
        momentum=momentum,
        n_tracks=counts,
        normalised_chi2=rng.chisquare(np.maximum(freedom, 1), n) / np.maximum(freedom, 1),
        dxy=dxy,
        dxy_error=np.hypot(across, along * pt / size),
        d3d=d3d,
        d3d_error=np.hypot(across, along),
        cosine=(measured * axis).sum(axis=1) / d3d,
    )
