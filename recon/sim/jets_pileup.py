"""Pile-up under the hard scatter, and its removal: charged hadron subtraction (CHS) and PUPPI.

Collisions come from the pool of `recon.sim.collisions`: charged particles and photons; neutral hadrons are not drawn,
a tenth of the energy. They are collisions at 14 TeV, a few per cent busier than at the 13 TeV of the hard scatter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.spatial import cKDTree
from scipy.stats import chi2

from recon.sim.jets_detector import PARTICLE_ETA_MAX, PARTICLE_PT_MIN, Candidates, Particles, directions
from recon.sim.mixing import BEAM_SPOT, turn_about_beam
from recon.sim.pool import Pool, pool_size, select

Removal = Literal["none", "chs", "puppi"]

RESOLVED = 0.3
"""mm along the beam; the tracks of a nearer collision are taken for those of the hard scatter."""

PUPPI_RADIUS, PUPPI_RADIUS_MIN = 0.4, 0.02
PUPPI_WEIGHT_MIN = 0.01
PUPPI_NEUTRAL_PT, PUPPI_NEUTRAL_PT_SLOPE = 0.2, 0.015
"""GeV, and GeV a collision: neutral candidates with less after weighting are dropped."""

_EVENTS_AT_ONCE = 16
_FAR = 100.0  # between events, in units of the PUPPI radius's plane
_FEWEST_TRACKS = 5  # of pile-up in an event, to take their median


def mix_pileup(
    hard: Particles, minbias: Pool, n_pileup: Int64[np.ndarray, " e"], rng: np.random.Generator
) -> Particles:
    """Lay pile-up under events.

    Every collision is turned about the beam by a random angle, reflected in z with probability one half and placed
    along the beam; the hard scatter stays at the origin.

    Args:
        hard: particles of the hard scatters.
        minbias: the pool to draw from, with replacement.
        n_pileup: number of collisions under every event.
        rng: random numbers.

    Returns:
        All particles, sorted by event.
    """
    total = int(n_pileup.sum())
    if not total:
        return hard
    picked = select(minbias, rng.integers(0, pool_size(minbias), total))
    collision = np.repeat(np.arange(total), np.diff(picked.offsets))
    angle, sign = rng.uniform(0, 2 * np.pi, total)[collision], rng.choice([-1.0, 1.0], total)[collision]
    # Both collisions lie in the beam spot; what counts is their distance.
    offset = rng.normal(0, np.sqrt(2) * BEAM_SPOT[2], total)[collision]
    momentum = turn_about_beam(picked.momentum.astype(float), angle, sign)
    vertex = turn_about_beam(picked.vertex.astype(float), angle, sign) + np.stack(
        [0 * offset, 0 * offset, offset], axis=1
    )
    pt, eta, _ = directions(momentum)
    seen = (picked.charge != 0) | (picked.pdg == 22)
    keep = seen & (pt > PARTICLE_PT_MIN) & (np.abs(eta) < PARTICLE_ETA_MAX)
    energy = np.sqrt((momentum**2).sum(axis=1) + picked.mass.astype(float) ** 2)
    extra = Particles(
        event=np.repeat(np.arange(len(n_pileup)), n_pileup)[collision][keep],
        pdg=picked.pdg[keep],
        charge=picked.charge[keep],
        momentum=np.column_stack([momentum, energy])[keep],
        vertex=vertex[keep],
        pileup=offset[keep],
    )
    joined = Particles(*(np.concatenate(pair) for pair in zip(hard, extra, strict=True)))
    order = np.argsort(joined.event, kind="stable")
    return Particles(*(column[order] for column in joined))


def from_primary_vertex(candidates: Candidates) -> Bool[np.ndarray, " n"]:
    """Tracks of the hard scatter, and of pile-up that cannot be told from it; false without a track."""
    near = np.isnan(candidates.pileup) | (np.abs(candidates.pileup) < RESOLVED)
    return (candidates.charge != 0) & near


def remove_pileup(candidates: Candidates, removal: Removal, n_pileup: Int64[np.ndarray, " e"]) -> Candidates:
    """Give every candidate its weight and drop those with none.

    Args:
        candidates: of all events.
        removal: "chs" drops tracks of other collisions, "puppi" weights neutral candidates too, "none" does nothing.
        n_pileup: number of collisions under every event.

    Returns:
        The candidates that are left.
    """
    if removal == "none" or not n_pileup.any():
        return candidates
    primary = from_primary_vertex(candidates)
    charged = candidates.charge != 0
    weight = np.where(charged & ~primary, 0.0, 1.0)
    if removal == "puppi":
        weight = np.where(charged, weight, _puppi_weights(candidates, primary, len(n_pileup)))
        needed = PUPPI_NEUTRAL_PT + PUPPI_NEUTRAL_PT_SLOPE * n_pileup[candidates.event]
        weight = np.where(~charged & (weight * candidates.pt < needed), 0.0, weight)
    weighted = candidates._replace(weight=weight)
    return Candidates(*(column[weight > 0] for column in weighted))


def _puppi_weights(
    candidates: Candidates, primary: Bool[np.ndarray, " n"], n_events: int
) -> Float64[np.ndarray, " n"]:
    """Weights by the tracks around (D. Bertolini et al., arXiv:1407.6013).

    Alpha is the logarithm of the sum of (pt / distance)^2 over the tracks of the primary vertex around a candidate;
    its distribution for pile-up is that of the tracks of pile-up in the same event.
    """
    alpha = _alpha(candidates, primary, n_events)
    other = (candidates.charge != 0) & ~primary & np.isfinite(alpha)
    median, width = _pileup_shape(alpha[other], candidates.event[other], n_events)
    pull = (alpha - median[candidates.event]) / width[candidates.event]
    # No track around at all is alpha of minus infinity.
    weight = np.where(np.isfinite(pull) & (pull > 0), chi2.cdf(np.where(pull > 0, pull, 0.0) ** 2, 1), 0.0)
    return np.where(weight < PUPPI_WEIGHT_MIN, 0.0, weight)


def _alpha(
    candidates: Candidates, primary: Bool[np.ndarray, " n"], n_events: int
) -> Float64[np.ndarray, " n"]:
    total = np.zeros(len(candidates.pt))
    bounds = np.searchsorted(candidates.event, np.arange(n_events + _EVENTS_AT_ONCE))
    for first in range(0, n_events, _EVENTS_AT_ONCE):
        low, high = bounds[first], bounds[first + _EVENTS_AT_ONCE]
        rows = np.arange(low, high)
        tracks = rows[primary[low:high]]
        if not len(tracks):
            continue
        near = _tree(candidates, tracks, first).sparse_distance_matrix(
            _tree(candidates, rows, first), PUPPI_RADIUS, output_type="ndarray"
        )
        near = near[near["v"] > PUPPI_RADIUS_MIN]
        shares = (candidates.pt[tracks[near["i"]]] / near["v"]) ** 2
        total[low:high] = np.bincount(near["j"], weights=shares, minlength=len(rows))
    with np.errstate(divide="ignore"):
        return np.log(total)


def _tree(candidates: Candidates, rows: Int64[np.ndarray, " k"], first: int) -> cKDTree:
    """Places in eta and phi, events far apart from each other; phi closes to a ring."""
    eta = candidates.eta[rows] + _FAR * (1 + candidates.event[rows] - first)
    phi = candidates.phi[rows] % (2 * np.pi)
    # Rounding may give 2 pi itself, which the tree refuses.
    phi = np.where(phi >= 2 * np.pi, 0.0, phi)
    return cKDTree(np.stack([eta, phi], axis=1), boxsize=[0, 2 * np.pi])


def _pileup_shape(
    alpha: Float64[np.ndarray, " k"], event: Int64[np.ndarray, " k"], n_events: int
) -> tuple[Float64[np.ndarray, " e"], Float64[np.ndarray, " e"]]:
    """Median and width (root mean square below the median) of alpha for the pile-up tracks of every event.

    Events with hardly any such track get the numbers of all events together.
    """
    overall = float(np.median(alpha)) if len(alpha) else 0.0
    order = np.lexsort((alpha, event))
    count = np.bincount(event, minlength=n_events)
    start = np.cumsum(count) - count
    enough = count >= _FEWEST_TRACKS
    median = np.full(n_events, overall)
    low, high = start + (count - 1) // 2, start + count // 2
    ranked = alpha[order]
    median[enough] = 0.5 * (ranked[low[enough]] + ranked[high[enough]])
    below = np.minimum(alpha - median[event], 0.0)
    square = np.bincount(event, weights=below**2, minlength=n_events)
    n_below = np.bincount(event, weights=below < 0, minlength=n_events)
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.sqrt(square / n_below)
    everything = np.sqrt(square.sum() / max(n_below.sum(), 1.0))
    return median, np.where(enough & (width > 0), width, max(everything, 1e-3))
