"""Turn an event and its tracksters into what the displays of showers draw."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32

from recon.display.shower_scene import HitGroups, ShowerScene
from recon.errors import DataError
from recon.geometry import eta
from recon.types import NOISE, Array, CalorimeterEvent, ShowerTruth, Tracksters


def shower_scene(
    event: CalorimeterEvent,
    hit_trackster: Int32[Array, " n"],
    tracksters: Tracksters,
    *,
    title: str | None = None,
) -> ShowerScene:
    """Collect what a display shows: the tracksters, and the true particles where the event has them.

    Args:
        event: the event.
        hit_trackster: row of the trackster of every hit; `NOISE` for none.
        tracksters: that were found.
        title: for the picture; the event number if not given.

    Raises:
        DataError: hits and their tracksters do not fit each other.
    """
    hits, member = event.hits, np.asarray(hit_trackster, np.int32)
    n_tracksters = len(tracksters.valid)
    if len(member) != len(hits.energy) or (len(member) and member.max() >= n_tracksters):
        raise DataError(
            f"event {event.number} has {len(hits.energy)} hits; it was given the tracksters of {len(member)} hits, "
            f"the last of them {member.max(initial=NOISE)} of {n_tracksters}"
        )
    valid = np.asarray(hits.valid)
    groups = [_found(member[valid], tracksters)]
    if event.truth is not None:
        groups.append(_true(event.truth, np.asarray(hits.energy), valid))
    return ShowerScene(
        title=f"event {event.number}" if title is None else title,
        position=np.asarray(hits.position, np.float32)[valid],
        energy=np.asarray(hits.energy, np.float32)[valid],
        layer=np.asarray(hits.layer, np.int32)[valid],
        groups=tuple(groups),
    )


def dominant_particle(truth: ShowerTruth, n_hits: int) -> Int32[np.ndarray, " n"]:
    """The particle that gave most to every hit; of equals the first, `NOISE` where none gave anything.

    Args:
        truth: of the event.
        n_hits: number of its hits.
    """
    # The last entry of a hit stays: the largest fraction, and among equal ones the smallest row.
    order = np.lexsort((-truth.particle, truth.fraction, truth.hit))
    dominant = np.full(n_hits, NOISE, np.int32)
    dominant[truth.hit[order]] = truth.particle[order]
    return dominant


def _found(member: np.ndarray, tracksters: Tracksters) -> HitGroups:
    energy = np.asarray(tracksters.energy, np.float32)
    pseudorapidity = eta(np.asarray(tracksters.position, np.float64))
    labels = [f"{e:.1f} GeV, eta {h:.2f}" for e, h in zip(energy, pseudorapidity, strict=True)]
    return HitGroups("tracksters", member, tuple(labels), energy)


def _true(truth: ShowerTruth, energy: np.ndarray, valid: np.ndarray) -> HitGroups:
    """Particles by the energy that they left; those of the hard scatter are marked."""
    left = np.bincount(truth.particle, energy[truth.hit] * truth.fraction, minlength=len(truth.pdg))
    labels = [
        f"{_name(code)} {e:.1f} GeV{', hard scatter' if hard else ''}"
        for code, e, hard in zip(
            truth.pdg.tolist(),
            np.linalg.norm(truth.momentum, axis=1),
            truth.hard_scatter.tolist(),
            strict=True,
        )
    ]
    member = dominant_particle(truth, len(energy))[valid]
    return HitGroups("particles", member, tuple(labels), left.astype(np.float32))


_NAMES = {
    22: "photon",
    11: "electron",
    13: "muon",
    130: "K0L",
    211: "pion",
    321: "kaon",
    2112: "neutron",
    2212: "proton",
}


def _name(code: int) -> str:
    return _NAMES.get(abs(code), f"pdg {code}")
