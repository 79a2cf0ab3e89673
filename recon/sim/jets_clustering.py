"""Jets from candidates: anti-kt, soft drop and N-subjettiness with fastjet, all jets of many events at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64

from recon.geometry import delta_r
from recon.sim import import_extra

RADIUS = 0.8
SOFT_DROP_Z, SOFT_DROP_BETA = 0.1, 0.0
"""The modified mass drop tagger that CMS uses (A. Larkoski et al., arXiv:1402.2657, beta = 0)."""
N_SUBJETTINESS = (1, 2, 3, 4)

_ANY_RADIUS = 1000.0  # Cambridge/Aachen over a whole jet, however wide


class ClusteredJets(NamedTuple):
    """Jets of many events.

    Attributes:
        event: row of the event; ascending, by falling transverse momentum within an event.
        momentum: px, py, pz, E: the sum of the constituents, GeV.
        constituent: rows of the candidates, one jet after the other.
        offsets: jet `i` owns the constituents `offsets[i]` to `offsets[i + 1]`.
    """

    event: Int64[np.ndarray, " j"]
    momentum: Float64[np.ndarray, "j 4"]
    constituent: Int64[np.ndarray, " c"]
    offsets: Int64[np.ndarray, " j1"]


def cluster(
    momentum: Float64[np.ndarray, "n 4"], offsets: Int64[np.ndarray, " e1"], *, pt_min: float
) -> ClusteredJets:
    """Cluster candidates with the anti-kt algorithm, R = 0.8, E scheme.

    Args:
        momentum: px, py, pz, E of candidates sorted by event, GeV; pt above 0.
        offsets: event `i` owns the candidates `offsets[i]` to `offsets[i + 1]`.
        pt_min: softer jets are left out, GeV.

    Returns:
        The jets.
    """
    fastjet, awkward = _fastjet(), import_extra("awkward")
    sequence = _sequence(momentum, offsets, fastjet.antikt_algorithm, RADIUS)
    found = sequence.constituent_index(min_pt=pt_min)
    per_event, per_jet = awkward.num(found), awkward.num(awkward.flatten(found))
    event = np.repeat(np.arange(len(offsets) - 1), awkward.to_numpy(per_event))
    counts = awkward.to_numpy(per_jet)
    rows = awkward.to_numpy(awkward.flatten(found, axis=None)) + np.repeat(offsets[event], counts)
    jets = ClusteredJets(event, segment_sum(momentum[rows], counts), rows, _offsets(counts))
    pt = np.hypot(jets.momentum[:, 0], jets.momentum[:, 1])
    return take_jets(jets, np.lexsort((-pt, event)))


def take_jets(jets: ClusteredJets, rows: Int[np.ndarray, " k"]) -> ClusteredJets:
    """Return some of the jets with their constituents, in the given order."""
    counts = np.diff(jets.offsets)[rows]
    offsets = _offsets(counts)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    picked = jets.constituent[np.repeat(jets.offsets[:-1][rows], counts) + within]
    return ClusteredJets(jets.event[rows], jets.momentum[rows], picked, offsets)


def soft_drop(
    momentum: Float64[np.ndarray, "n 4"], counts: Int64[np.ndarray, " j"]
) -> Float64[np.ndarray, "j 2 4"]:
    """Groom jets: undo the last Cambridge/Aachen step and drop the softer prong until it is hard enough.

    fastjet's own groomer, called from Python, takes a time that grows with the cube of the constituents. Here the
    hardest prong is clustered anew after each step, all jets at once: the algorithm joins what is closest, so the
    history of a prong is the same alone as within its jet, and most jets need a few steps.

    Args:
        momentum: px, py, pz, E of the constituents, one jet after the other, GeV.
        counts: constituents of every jet, at least 1.

    Returns:
        The two prongs of every groomed jet, the harder first; zeros for the second where one constituent is left.
    """
    prongs = np.zeros((len(counts), 2, 4))
    jet, left, sizes = np.arange(len(counts)), momentum, counts
    while len(jet):
        single = sizes == 1
        prongs[jet[single], 0] = left[_offsets(sizes)[:-1][single]]
        left = left[np.repeat(~single, sizes)]
        jet, sizes = jet[~single], sizes[~single]
        if not len(jet):
            break
        side, pair = _last_step(left, sizes)
        pt = np.hypot(pair[..., 0], pair[..., 1])
        hard = np.take_along_axis(pair, np.argsort(-pt, axis=1)[..., None], axis=1)
        balance = pt.min(axis=1) / pt.sum(axis=1)
        passed = balance > SOFT_DROP_Z * (_distance(pair) / RADIUS) ** SOFT_DROP_BETA
        prongs[jet[passed]] = hard[passed]
        keep = ~np.repeat(passed, sizes) & (side == np.repeat(np.argmax(pt, axis=1), sizes))
        survivors = np.add.reduceat(keep, _offsets(sizes)[:-1])
        left, jet, sizes = left[keep], jet[~passed], survivors[~passed]
    return prongs


def n_subjettiness(
    momentum: Float64[np.ndarray, "n 4"], counts: Int64[np.ndarray, " j"]
) -> Float64[np.ndarray, "j 4"]:
    """N-subjettiness tau_1 to tau_4 with exclusive kt axes, beta = 1 (J. Thaler, K. Van Tilburg, arXiv:1011.2268).

    Args:
        momentum: px, py, pz, E of the constituents, one jet after the other, GeV.
        counts: constituents of every jet.

    Returns:
        tau_N; 0 where a jet has fewer constituents than axes.
    """
    fastjet, awkward = _fastjet(), import_extra("awkward")
    if not len(counts):
        return np.zeros((0, len(N_SUBJETTINESS)))
    sequence = _sequence(momentum, _offsets(counts), fastjet.cambridge_algorithm, _ANY_RADIUS)
    tau = sequence.njettiness(
        measure_definition="NormalizedMeasure",
        axes_definition="KT_Axes",
        njets=list(N_SUBJETTINESS),
        beta=1.0,
        R0=RADIUS,
    )
    values = awkward.to_numpy(tau).astype(float)
    enough = counts[:, None] >= np.array(N_SUBJETTINESS)
    return np.where(enough & np.isfinite(values), values, 0.0)


def segment_sum(
    values: Float64[np.ndarray, "n k"], counts: Int[np.ndarray, " j"]
) -> Float64[np.ndarray, "j k"]:
    """Sums over consecutive rows, `counts` of them at a time; 0 for an empty one."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = np.cumsum(counts)
    return total[ends] - total[ends - counts]


def _last_step(
    momentum: Float64[np.ndarray, "n 4"], counts: Int64[np.ndarray, " j"]
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, "j 2 4"]]:
    """Prong (0 or 1) of every constituent, and the momenta of the prongs, before the last step of Cambridge/Aachen."""
    fastjet, awkward = _fastjet(), import_extra("awkward")
    offsets = _offsets(counts)
    sequence = _sequence(momentum, offsets, fastjet.cambridge_algorithm, _ANY_RADIUS)
    index = sequence.exclusive_jets_constituent_index(2)
    in_prong = awkward.to_numpy(awkward.num(awkward.flatten(index)))
    rows = awkward.to_numpy(awkward.flatten(index, axis=None)) + np.repeat(offsets[:-1], counts)
    side = np.empty(len(momentum), np.int64)
    side[rows] = np.repeat(np.tile([0, 1], len(counts)), in_prong)
    return side, segment_sum(momentum[rows], in_prong).reshape(-1, 2, 4)


def _distance(pair: Float64[np.ndarray, "j 2 4"]) -> Float64[np.ndarray, " j"]:
    """Distance of two prongs in rapidity and azimuth."""
    rapidity = np.arctanh(np.clip(pair[..., 2] / pair[..., 3], -1 + 1e-12, 1 - 1e-12))
    phi = np.arctan2(pair[..., 1], pair[..., 0])
    distance: np.ndarray = delta_r(rapidity[:, 0], phi[:, 0], rapidity[:, 1], phi[:, 1])
    return distance


def _offsets(counts: Int[np.ndarray, " j"]) -> Int64[np.ndarray, " j1"]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@lru_cache(maxsize=1)
def _fastjet() -> Any:
    fastjet = import_extra("fastjet")
    # Or it prints a banner on standard output at the first call, into what a program may want to parse.
    import_extra("fastjet._swig").ClusterSequence.set_fastjet_banner_stream(None)
    return fastjet


def _sequence(
    momentum: Float64[np.ndarray, "n 4"], offsets: Int64[np.ndarray, " e1"], algorithm: int, radius: float
) -> Any:
    fastjet, awkward = _fastjet(), import_extra("awkward")
    contents = [awkward.contents.NumpyArray(np.ascontiguousarray(column)) for column in momentum.T]
    record = awkward.contents.RecordArray(
        contents, ["px", "py", "pz", "E"], parameters={"__record__": "Momentum4D"}
    )
    jagged = awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), record))
    return fastjet.ClusterSequence(jagged, fastjet.JetDefinition(algorithm, radius))
