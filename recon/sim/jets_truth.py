"""Which class a jet belongs to: DeepAK8's labels, by matching the quarks of decays and the hadrons inside.

A jet carries the label of a decay when its quarks lie within the radius of the jet; a QCD jet that of the bottom and
charm hadrons in it (CMS, JINST 15 (2020) P06005, section 3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64

from recon.geometry import delta_r
from recon.sim.jets_clustering import RADIUS, ClusteredJets
from recon.sim.jets_detector import directions
from recon.sim.jets_generation import Collisions, Process
from recon.tagging.labels import LABELS
from recon.types import NOISE

HADRON_PT_MIN = 5.0
"""GeV; softer bottom and charm hadrons do not count."""
PARTON_RADIUS = 0.4
"""How near to the axis of a QCD jet the parton of the hard process must be."""

_MOST_COPIES = 30  # of a resonance in Pythia's record: recoil after recoil


class JetTruth(NamedTuple):
    """The truth of every jet.

    Attributes:
        label: row of `LABELS`; `NOISE` where the jet belongs to no class.
        n_b_hadrons: bottom hadrons within the radius.
        n_c_hadrons: charm hadrons within the radius.
        parent_pdg: code of the resonance, or of the hard parton of a QCD jet; 0 for none.
        parent: its px, py, pz, E, GeV; 0 for none.
    """

    label: Int32[np.ndarray, " j"]
    n_b_hadrons: Int32[np.ndarray, " j"]
    n_c_hadrons: Int32[np.ndarray, " j"]
    parent_pdg: Int32[np.ndarray, " j"]
    parent: Float64[np.ndarray, "j 4"]


def label_jets(process: Process, collisions: Collisions, jets: ClusteredJets) -> JetTruth:
    """Match jets with the generator.

    Args:
        process: which resonances to look for.
        collisions: where the jets come from.
        jets: sorted by event.

    Returns:
        The truth.
    """
    n_b = _count_hadrons(collisions, jets, 5)
    n_c = _count_hadrons(collisions, jets, 4)
    if process == "qcd":
        label = _rows(_QCD)[_qcd_class(n_b, n_c)]
        parent = _nearest_parton(collisions, jets)
    elif process == "top":
        label, parent = _match_tops(collisions, jets)
    else:
        label, parent = _match_bosons(collisions, jets)
    found = parent >= 0
    return JetTruth(
        label=label,
        n_b_hadrons=n_b,
        n_c_hadrons=n_c,
        parent_pdg=np.where(found, collisions.pdg[parent], 0).astype(np.int32),
        parent=np.where(found[:, None], collisions.momentum[parent], 0.0),
    )


_QCD = ("QCDbb", "QCDb", "QCDcc", "QCDc", "QCDothers")
_TOP = ("Tbqq", "Tbcq", "Tbq", "Tbc", "Wqq", "Wcq")


def _rows(names: tuple[str, ...]) -> Int32[np.ndarray, " k"]:
    return np.array([LABELS.index(name) for name in names], np.int32)


def _qcd_class(n_b: Int[np.ndarray, " j"], n_c: Int[np.ndarray, " j"]) -> Int64[np.ndarray, " j"]:
    """Place in `_QCD`: bottom before charm, two before one."""
    return np.select([n_b > 1, n_b == 1, n_c > 1, n_c == 1], [0, 1, 2, 3], 4)


def contains_quark(pdg: Int[np.ndarray, " n"], flavour: int) -> Bool[np.ndarray, " n"]:
    """Whether hadrons of these codes contain a quark (4 or 5) as their heaviest."""
    code = np.abs(pdg) % 10_000
    heaviest = np.where(code >= 1000, code // 1000, code // 100)
    # Below 100 are partons and leptons, a zero before the last digit is a diquark's, from a million on are nuclei.
    return (heaviest == flavour) & (code > 100) & (code // 10 % 10 > 0) & (np.abs(pdg) < 1_000_000)


def _pairs(
    event: Int64[np.ndarray, " n"], jets: ClusteredJets, n_events: int
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Every given row with every jet of its event: places in `event`, and rows of jets."""
    bounds = np.searchsorted(jets.event, np.arange(n_events + 1))
    first, count = bounds[event], np.diff(bounds)[event]
    row = np.repeat(np.arange(len(event)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, first[row] + within


def _distance(
    momentum: Float64[np.ndarray, "p 4"], jet_momentum: Float64[np.ndarray, "p 4"]
) -> Float64[np.ndarray, " p"]:
    _, eta, phi = directions(momentum)
    _, jet_eta, jet_phi = directions(jet_momentum)
    distance: np.ndarray = delta_r(eta, phi, jet_eta, jet_phi)
    return distance


def _count_hadrons(collisions: Collisions, jets: ClusteredJets, flavour: int) -> Int32[np.ndarray, " j"]:
    pt = np.hypot(collisions.momentum[:, 0], collisions.momentum[:, 1])
    heavy = contains_quark(collisions.pdg, flavour) & (collisions.status < 0) & (pt > HADRON_PT_MIN)
    rows = np.flatnonzero(heavy & (collisions.daughter1 >= 0))
    first, last = collisions.daughter1[rows], collisions.daughter2[rows]
    # The last of its kind: an excited hadron and what it turns into count once.
    again = contains_quark(collisions.pdg[first], flavour) | contains_quark(collisions.pdg[last], flavour)
    rows = rows[~again]
    row, jet = _pairs(collisions.event[rows], jets, len(collisions.weight))
    near = _distance(collisions.momentum[rows[row]], jets.momentum[jet]) < RADIUS
    return np.bincount(jet[near], minlength=len(jets.event)).astype(np.int32)


def _last_copies(collisions: Collisions, codes: tuple[int, ...]) -> Int64[np.ndarray, " r"]:
    """Rows of resonances just before their decay."""
    rows = np.flatnonzero(np.isin(np.abs(collisions.pdg), codes) & (collisions.daughter1 >= 0))
    return rows[collisions.pdg[collisions.daughter1[rows]] != collisions.pdg[rows]]


def _follow(collisions: Collisions, rows: Int64[np.ndarray, " r"]) -> Int64[np.ndarray, " r"]:
    """The last copies of particles that are repeated in the record."""
    for _ in range(_MOST_COPIES):
        daughter = collisions.daughter1[rows]
        same = (daughter >= 0) & (collisions.pdg[daughter] == collisions.pdg[rows])
        if not same.any():
            break
        rows = np.where(same, daughter, rows)
    return rows


def _in_radius(
    collisions: Collisions, jets: ClusteredJets, rows: Int64[np.ndarray, " p"], jet: Int64[np.ndarray, " p"]
) -> Bool[np.ndarray, " p"]:
    return _distance(collisions.momentum[rows], jets.momentum[jet]) < RADIUS


def _match_tops(
    collisions: Collisions, jets: ClusteredJets
) -> tuple[Int32[np.ndarray, " j"], Int64[np.ndarray, " j"]]:
    top = _last_copies(collisions, (6,))
    one, other = collisions.daughter1[top], collisions.daughter2[top]
    one_is_w = np.abs(collisions.pdg[one]) == 24
    w = _follow(collisions, np.where(one_is_w, one, other))
    quarks = np.stack(
        [np.where(one_is_w, other, one), collisions.daughter1[w], collisions.daughter2[w]], axis=1
    )
    row, jet = _pairs(collisions.event[top], jets, len(collisions.weight))
    inside = np.stack([_in_radius(collisions, jets, quarks[row, k], jet) for k in range(3)], axis=1)
    charm = inside[:, 1:] & (np.abs(collisions.pdg[quarks[row, 1:]]) == 4)
    b, from_w = inside[:, 0], inside[:, 1:].sum(axis=1)
    place = np.select([b & (from_w == 2), b & (from_w == 1), ~b & (from_w == 2)], [0, 2, 4], -1)
    label = np.where(place >= 0, _rows(_TOP)[np.maximum(place + charm.any(axis=1), 0)], NOISE)
    return _best_match(label, np.where(label >= 0, b + from_w, 0), jet, top[row], len(jets.event))


def _match_bosons(
    collisions: Collisions, jets: ClusteredJets
) -> tuple[Int32[np.ndarray, " j"], Int64[np.ndarray, " j"]]:
    boson = _last_copies(collisions, (23, 24, 25))
    quarks = np.stack([collisions.daughter1[boson], collisions.daughter2[boson]], axis=1)
    flavour = np.abs(collisions.pdg[quarks])
    kind = np.abs(collisions.pdg[boson])
    bottom, charm = (flavour == 5).all(axis=1), (flavour == 4).any(axis=1)
    names = ("Wcq", "Wqq", "Hbb", "Hcc", "Zbb", "Zcc", "Zqq")
    conditions = [
        (kind == 24) & charm,
        kind == 24,
        (kind == 25) & bottom,
        (kind == 25) & charm,
        (kind == 23) & bottom,
        (kind == 23) & charm,
    ]
    decay = _rows(names)[np.select(conditions, range(6), 6)]
    row, jet = _pairs(collisions.event[boson], jets, len(collisions.weight))
    inside = [_in_radius(collisions, jets, quarks[row, k], jet) for k in range(2)]
    both = inside[0] & inside[1]
    return _best_match(np.where(both, decay[row], NOISE), 2 * both, jet, boson[row], len(jets.event))


def _best_match(
    label: Int[np.ndarray, " p"],
    n_quarks: Int[np.ndarray, " p"],
    jet: Int64[np.ndarray, " p"],
    parent: Int64[np.ndarray, " p"],
    n_jets: int,
) -> tuple[Int32[np.ndarray, " j"], Int64[np.ndarray, " j"]]:
    """Of several resonances in one jet the one with most quarks inside gives the label."""
    labels, parents = np.full(n_jets, NOISE, np.int32), np.full(n_jets, -1, np.int64)
    order = np.argsort(n_quarks, kind="stable")
    order = order[n_quarks[order] > 0]
    labels[jet[order]], parents[jet[order]] = label[order], parent[order]
    return labels, parents


def _nearest_parton(collisions: Collisions, jets: ClusteredJets) -> Int64[np.ndarray, " j"]:
    """Row of the outgoing parton of the hard process next to the axis; -1 where there is none."""
    parton = np.flatnonzero(np.abs(collisions.status) == 23)
    row, jet = _pairs(collisions.event[parton], jets, len(collisions.weight))
    distance = _distance(collisions.momentum[parton[row]], jets.momentum[jet])
    nearest = np.full(len(jets.event), -1, np.int64)
    order = np.argsort(-distance, kind="stable")
    order = order[distance[order] < PARTON_RADIUS]
    nearest[jet[order]] = parton[row[order]]
    return nearest
