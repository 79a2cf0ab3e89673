"""CMS's PFNano: NanoAOD with the particle-flow candidates and secondary vertices of its AK8 jets.

Jets are handed out as from any other file (`recon.io.jets_layout`): lengths in mm instead of cm, the transverse impact
parameter with the sign of JetClass, momenta after the weights of PUPPI. The scores that CMS stored stay as they are
called there (`FatJet_deepTag_TvsQCD` and so on).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from recon.errors import DataError
from recon.geometry import delta_phi, delta_r, wrap_phi
from recon.io import root_file, root_table
from recon.io.jets_layout import require
from recon.io.root_jets import read_range

TREE = "Events"
PUPPI_WEIGHT_MIN = 0.01
"""Candidates with less are not given to CMS's networks."""
MM_PER_CM = 10.0
GROUP_EVENTS = 500

_SCORES = ("FatJet_deepTag", "FatJet_particleNet", "FatJet_btag", "FatJet_hadronFlavour")
_JET = ("pt", "eta", "phi", "mass", "msoftdrop", "rawFactor", "subJetIdx1", "subJetIdx2")
_TAUS = tuple(f"FatJet_tau{n}" for n in range(1, 5))
_CANDIDATE = (
    *("pt", "eta", "phi", "mass", "charge", "pdgId", "puppiWeight", "d0", "d0Err", "dz", "dzErr"),
    *("trkChi2", "trkQuality", "pvAssocQuality", "lostInnerHits"),
)
_TRACK = ("btagEtaRel", "btagPtRatio", "btagPParRatio", "btagSip3dVal", "btagSip3dSig", "btagJetDistVal")
_VERTEX = (
    *("pt", "mass", "ntracks", "normchi2", "dxy", "dxysig", "d3d", "d3dsig", "costhetasvpv"),
    *("phirel", "deltaR", "enration"),
)
_DELTA_R_OFFSET = 0.5
"""What `FatJetSVs_deltaR` is short of."""
_KINDS = {"isMuon": 13, "isElectron": 11, "isChargedHadron": 211, "isPhoton": 22, "isNeutralHadron": 130}

_INDICES = (
    ("FatJetPFCands_jetIdx", "FatJet_pt", 0),
    ("FatJetPFCands_pFCandsIdx", "PFCands_pt", 0),
    ("FatJetSVs_jetIdx", "FatJet_pt", 0),
    ("FatJetSVs_sVIdx", "SV_eta", -1),
    *((f"FatJet_subJetIdx{n}", "SubJet_pt", -1) for n in (1, 2)),
)
"""Branches that are rows of others within the event, one of these, and the lowest index: -1 is none."""

REQUIRED = (
    *("run", "luminosityBlock", "event"),
    *(f"FatJet_{name}" for name in _JET),
    *(f"PFCands_{name}" for name in _CANDIDATE),
    *("FatJetPFCands_jetIdx", "FatJetPFCands_pFCandsIdx"),
    *(f"FatJetPFCands_{name}" for name in _TRACK),
    *(f"FatJetSVs_{name}" for name in ("jetIdx", "sVIdx", *_VERTEX)),
    *("SV_eta", "SV_phi", "SubJet_pt", "SubJet_eta", "SubJet_phi", "SubJet_mass"),
)
"""Branches without which a file is no PFNano."""


def is_pfnano(path: str | Path) -> bool:
    """Whether a ROOT file has PFNano's candidates of AK8 jets.

    Raises:
        DataError: a file that is missing, truncated or damaged.
    """
    with root_file.opened(Path(path)) as file:
        held = root_file.guarded(
            lambda: file.classnames(recursive=True, cycle=False), Path(path), "directory"
        )
        return held.get(TREE) == "TTree" and "FatJetPFCands_pFCandsIdx" in set(file[TREE].keys())


def count_pfnano_events(path: str | Path) -> int:
    """Number of events of a file, without reading them.

    Raises:
        DataError: a file that is missing, truncated or damaged.
    """
    with root_file.opened(Path(path)) as file:
        return int(root_table.table(file, Path(path), TREE).num_entries)


def read_pfnano(
    path: str | Path, *, entry_start: int | None = None, entry_stop: int | None = None
) -> Iterator[Any]:
    """Read the AK8 jets of PFNano, some hundred events at a time.

    Args:
        path: the file.
        entry_start: first event, from 0.
        entry_stop: one past the last event.

    Yields:
        Awkward arrays with one record a jet: `jet_*`, `subjet*_*`, `part_*`, `sv_*` as in our own files, more columns
        of tracks (`part_normchi2`, `part_track_quality`, `part_pv_association`, `part_lost_inner_hits`,
        `part_btag*`), the run, section and number of the event, and the stored scores.

    Raises:
        DataError: a file that is missing, truncated or damaged; a missing branch: named, with those that are spelled
            nearly the same; an index of something that is not in the event.
    """
    path = Path(path)
    with root_file.opened(path) as file:
        tree = root_table.table(file, path, TREE)
        held = [str(name) for name in root_file.guarded(tree.keys, path, "branch names")]
        require(REQUIRED, held, f"{path}, '{TREE}'")
        scores = [name for name in held if name.startswith(_SCORES) or name in _TAUS]
        start, stop, _ = slice(entry_start, entry_stop).indices(tree.num_entries)
        for low in range(start, stop, GROUP_EVENTS):
            events = read_range(tree, path, [*REQUIRED, *scores], low, min(low + GROUP_EVENTS, stop))
            check_indices(events, str(path))
            yield jets_of_events(events, scores)


def check_indices(events: Any, where: str) -> None:
    """Refuse indices of what is not in their event: they would name an object of another one.

    Args:
        events: records with the branches `REQUIRED`.
        where: the file, opens the message.

    Raises:
        DataError: names the branch, the event and the index.
    """
    for branch, counted, lowest in _INDICES:
        values, size = events[branch], ak.num(events[counted])
        wrong = ak.to_numpy(ak.any((values < lowest) | (values >= size), axis=1))
        if wrong.any():
            row = int(np.argmax(wrong))
            given = next(int(value) for value in values[row] if not lowest <= value < size[row])
            raise DataError(
                f"{where}, event {int(events['event'][row])}: {branch} is {given}; allowed are {lowest} to "
                f"{int(size[row]) - 1}, the rows of {counted.split('_')[0]} ({int(wrong.sum())} such events)"
            )


def jets_of_events(events: Any, scores: list[str]) -> Any:
    """Turn events of PFNano into jets.

    Args:
        events: records with the branches `REQUIRED`.
        scores: more branches with one value a jet, to be kept.
    """
    jets = _jet_columns(events)
    columns: dict[str, Any] = jets | {name: ak.to_numpy(ak.flatten(events[name])) for name in scores}
    for tau in _TAUS:
        if tau in columns:
            columns[tau.replace("FatJet", "jet")] = columns.pop(tau)
    columns |= _candidate_columns(events, jets) | _vertex_columns(events, jets)
    columns["jet_nparticles"] = ak.to_numpy(ak.num(columns["part_px"])).astype(np.int32)
    return ak.Array(columns)


def _flat(events: Any, name: str) -> np.ndarray:
    return ak.to_numpy(ak.flatten(events[name])).astype(np.float64)


def _rows(events: Any, index: str, counted: str) -> np.ndarray:
    """Rows in the flat columns of `counted` that a branch of indices within the event means."""
    size = ak.to_numpy(ak.num(events[counted]))
    first = np.cumsum(size) - size
    values = events[index]
    return ak.to_numpy(ak.flatten(values)).astype(np.int64) + np.repeat(first, ak.to_numpy(ak.num(values)))


def _energy(pt: np.ndarray, eta: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)


def _jet_columns(events: Any) -> dict[str, np.ndarray]:
    raw = 1.0 - _flat(events, "FatJet_rawFactor")
    pt, mass = (raw * _flat(events, f"FatJet_{name}") for name in ("pt", "mass"))
    eta, phi = (_flat(events, f"FatJet_{name}") for name in ("eta", "phi"))
    per_event = ak.to_numpy(ak.num(events["FatJet_pt"]))
    columns = {
        "jet_pt": pt,
        "jet_eta": eta,
        "jet_phi": phi,
        "jet_energy": _energy(pt, eta, mass),
        "jet_mass": mass,
        "jet_sdmass": _flat(events, "FatJet_msoftdrop"),
        "FatJet_pt": _flat(events, "FatJet_pt"),
        **_subjet_columns(events),
    }
    numbers = {"run": "run", "luminosity_block": "luminosityBlock", "event_number": "event"}
    return {name: column.astype(np.float32) for name, column in columns.items()} | {
        name: np.repeat(ak.to_numpy(events[branch]).astype(np.uint64), per_event)
        for name, branch in numbers.items()
    }


def _subjet_columns(events: Any) -> dict[str, np.ndarray]:
    """The two subjets, the harder first; zeros where there is none."""
    given = np.stack([_flat(events, f"FatJet_subJetIdx{n}") for n in (1, 2)], axis=1) >= 0
    rows = np.stack([_rows(events, f"FatJet_subJetIdx{n}", "SubJet_pt") for n in (1, 2)], axis=1)
    rows = np.where(given, rows, 0)
    values = {name: _flat(events, f"SubJet_{name}") for name in ("pt", "eta", "phi", "mass")}
    if not len(values["pt"]):
        values = {name: np.zeros(1) for name in values}
    pairs = {name: np.where(given, column[rows], 0.0) for name, column in values.items()}
    order = np.argsort(-pairs["pt"], axis=1, kind="stable")
    pairs = {name: np.take_along_axis(column, order, axis=1) for name, column in pairs.items()}
    return {f"subjet{n + 1}_{name}": pairs[name][:, n] for n in (0, 1) for name in pairs}


def _candidate_columns(events: Any, jets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    jet = _rows(events, "FatJetPFCands_jetIdx", "FatJet_pt")
    row = _rows(events, "FatJetPFCands_pFCandsIdx", "PFCands_pt")
    cand = {name: _flat(events, f"PFCands_{name}")[row] for name in _CANDIDATE}
    stored = {f"part_{name}": _flat(events, f"FatJetPFCands_{name}") for name in _TRACK}
    keep = cand["puppiWeight"] >= PUPPI_WEIGHT_MIN
    pt = cand["pt"] * cand["puppiWeight"]
    order = np.flatnonzero(keep)
    order = order[np.lexsort((-pt[order], jet[order]))]
    cand, pt, jet = {name: column[order] for name, column in cand.items()}, pt[order], jet[order]
    tracked = (cand["charge"] != 0) & (cand["trkChi2"] >= 0) & (cand["d0Err"] > 0)

    def of_track(name: str, factor: float) -> np.ndarray:
        return np.where(tracked, factor * cand[name], 0.0)

    columns = {
        "part_px": pt * np.cos(cand["phi"]),
        "part_py": pt * np.sin(cand["phi"]),
        "part_pz": pt * np.sinh(cand["eta"]),
        "part_energy": _energy(pt, cand["eta"], cand["mass"] * cand["puppiWeight"]),
        "part_deta": cand["eta"] - jets["jet_eta"][jet],
        "part_dphi": delta_phi(cand["phi"], jets["jet_phi"][jet]),
        "part_d0val": of_track("d0", -MM_PER_CM),
        "part_d0err": of_track("d0Err", MM_PER_CM),
        "part_dzval": of_track("dz", MM_PER_CM),
        "part_dzerr": of_track("dzErr", MM_PER_CM),
        "part_charge": cand["charge"],
        "part_puppi_weight": cand["puppiWeight"],
        "part_pv_association": cand["pvAssocQuality"],
        "part_lost_inner_hits": cand["lostInnerHits"],
        "part_normchi2": np.floor(cand["trkChi2"]),
        "part_track_quality": cand["trkQuality"],
        "part_drminsv": _nearest_vertex(events, cand, jet),
        **{name: column[order] for name, column in stored.items()},
    }
    kinds = {f"part_{name}": np.abs(cand["pdgId"]) == code for name, code in _KINDS.items()}
    return _jagged(columns, kinds, np.bincount(jet, minlength=len(jets["jet_pt"])))


def _nearest_vertex(events: Any, cand: Mapping[str, np.ndarray], jet: np.ndarray) -> np.ndarray:
    """Distance from the nearest of all secondary vertices of the event; infinite without one."""
    event = np.repeat(np.arange(len(events)), ak.to_numpy(ak.num(events["FatJet_pt"])))[jet]
    size = ak.to_numpy(ak.num(events["SV_eta"]))
    first = np.cumsum(size) - size
    eta, phi = _flat(events, "SV_eta"), _flat(events, "SV_phi")
    nearest = np.full(len(event), np.inf)
    for place in range(int(size.max(initial=0))):
        there = np.flatnonzero(size[event] > place)
        vertex = first[event[there]] + place
        distance = delta_r(cand["eta"][there], cand["phi"][there], eta[vertex], phi[vertex])
        nearest[there] = np.minimum(nearest[there], distance)
    return nearest


def _vertex_columns(events: Any, jets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    jet = _rows(events, "FatJetSVs_jetIdx", "FatJet_pt")
    vertex = {name: _flat(events, f"FatJetSVs_{name}") for name in _VERTEX}
    pt, eta = vertex["pt"], _vertex_eta(events, vertex, jets, jet)
    phi = jets["jet_phi"][jet] + vertex["phirel"]
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = {name: MM_PER_CM * np.abs(vertex[name] / vertex[f"{name}sig"]) for name in ("dxy", "d3d")}
    columns = {
        "sv_px": pt * np.cos(phi),
        "sv_py": pt * np.sin(phi),
        "sv_pz": pt * np.sinh(eta),
        "sv_energy": _energy(pt, eta, vertex["mass"]),
        "sv_deta": eta - jets["jet_eta"][jet],
        "sv_dphi": wrap_phi(vertex["phirel"]),
        "sv_mass": vertex["mass"],
        "sv_normchi2": vertex["normchi2"],
        "sv_dxy": MM_PER_CM * vertex["dxy"],
        "sv_dxyerr": errors["dxy"],
        "sv_d3d": MM_PER_CM * vertex["d3d"],
        "sv_d3derr": errors["d3d"],
        "sv_costhetasvpv": vertex["costhetasvpv"],
        "sv_ntracks": vertex["ntracks"],
    }
    order = np.lexsort((-vertex["dxysig"], jet))
    columns = {name: column[order] for name, column in columns.items()}
    return _jagged(columns, {}, np.bincount(jet, minlength=len(jets["jet_pt"])))


def _vertex_eta(
    events: Any, vertex: Mapping[str, np.ndarray], jets: Mapping[str, np.ndarray], jet: np.ndarray
) -> np.ndarray:
    """Pseudorapidity of the vertices: of those that are no vertex of the event's own list, from what is stored.

    The distance from the axis and its part in azimuth leave two places, of which the share of the jet's energy tells
    the right one.
    """
    listed = _flat(events, "FatJetSVs_sVIdx") >= 0
    row = np.where(listed, _rows(events, "FatJetSVs_sVIdx", "SV_eta"), 0)
    known = np.append(_flat(events, "SV_eta"), 0.0)[row]
    away = np.sqrt(np.maximum((vertex["deltaR"] + _DELTA_R_OFFSET) ** 2 - vertex["phirel"] ** 2, 0.0))
    places = jets["jet_eta"][jet] + np.stack([away, -away])
    # Stored over the corrected energy.
    energy = vertex["enration"] * (jets["jet_energy"] * jets["FatJet_pt"] / jets["jet_pt"])[jet]
    wrong = np.abs(_energy(vertex["pt"], places, vertex["mass"]) - energy)
    return np.where(listed, known, np.where(wrong[0] < wrong[1], places[0], places[1]))


def _jagged(
    numbers: Mapping[str, np.ndarray], flags: Mapping[str, np.ndarray], counts: np.ndarray
) -> dict[str, Any]:
    columns = {name: column.astype(np.float32) for name, column in numbers.items()} | dict(flags)
    return {name: ak.unflatten(column, counts) for name, column in columns.items()}
