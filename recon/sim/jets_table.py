"""Jets as a table, one entry a jet, with the branch names of the JetClass data set and a few of our own.

Momenta are GeV, lengths mm (as in JetClass), `part_d0val` is x sin(phi) - y cos(phi). `jet_*`, `subjet*_*`, `aux_*`,
`label_*` and the event's columns have one value a jet; `part_*` one a candidate, by falling transverse momentum;
`sv_*` one a secondary vertex, the most significant first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.geometry import delta_phi
from recon.sim import import_extra
from recon.sim.jets_clustering import ClusteredJets, n_subjettiness, soft_drop
from recon.sim.jets_detector import (
    CHARGED_HADRON,
    ELECTRON,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    Candidates,
    directions,
    four_momenta,
)
from recon.sim.jets_truth import JetTruth
from recon.sim.jets_vertices import Vertices
from recon.tagging.labels import JETCLASS_MEMBERS, LABELS


class JetEvents(NamedTuple):
    """What jets know of their event.

    Attributes:
        number: of every event.
        weight: of every event.
        n_pileup: collisions under every event.
    """

    number: Int64[np.ndarray, " e"]
    weight: Float64[np.ndarray, " e"]
    n_pileup: Int64[np.ndarray, " e"]


def jet_table(
    jets: ClusteredJets, candidates: Candidates, vertices: Vertices, truth: JetTruth, events: JetEvents
) -> Any:
    """Lay jets out as an awkward array of records.

    Args:
        jets: the jets.
        candidates: of all events.
        vertices: of these jets.
        truth: of these jets.
        events: all events.

    Returns:
        The table: float32, int32, bool, and uint64 for the number of the event.
    """
    awkward = import_extra("awkward")
    counts = np.diff(jets.offsets)
    columns = _event_columns(jets, events) | _jet_columns(jets, candidates, counts) | _truth_columns(truth)
    jagged = {
        **_lists(_candidate_columns(jets, candidates, counts), counts),
        **_lists(
            _vertex_columns(jets, vertices), np.bincount(vertices.jet, minlength=len(counts)).astype(np.int64)
        ),
    }
    return awkward.Array(
        awkward.contents.RecordArray(
            [awkward.contents.NumpyArray(column) for column in columns.values()] + list(jagged.values()),
            [*columns, *jagged],
        )
    )


def _lists(columns: dict[str, np.ndarray], counts: Int64[np.ndarray, " j"]) -> dict[str, Any]:
    awkward = import_extra("awkward")
    offsets = awkward.index.Index64(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    return {
        name: awkward.contents.ListOffsetArray(offsets, awkward.contents.NumpyArray(column))
        for name, column in columns.items()
    }


def _f32(values: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(column, np.float32) for name, column in values.items()}


def _mass(momentum: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    return np.sqrt(np.maximum(momentum[:, 3] ** 2 - (momentum[:, :3] ** 2).sum(axis=1), 0.0))


def _event_columns(jets: ClusteredJets, events: JetEvents) -> dict[str, np.ndarray]:
    return {
        "event_number": events.number[jets.event].astype(np.uint64),
        "event_weight": events.weight[jets.event].astype(np.float32),
        "n_pileup": events.n_pileup[jets.event].astype(np.int32),
    }


def _jet_columns(
    jets: ClusteredJets, candidates: Candidates, counts: Int64[np.ndarray, " j"]
) -> dict[str, np.ndarray]:
    pt, eta, phi = directions(jets.momentum)
    inside = four_momenta(candidates)[jets.constituent]
    prongs = soft_drop(inside, counts)
    tau = n_subjettiness(inside, counts)
    columns = {
        "jet_pt": pt,
        "jet_eta": eta,
        "jet_phi": phi,
        "jet_energy": jets.momentum[:, 3],
        "jet_mass": _mass(jets.momentum),
        "jet_sdmass": _mass(prongs.sum(axis=1)),
    }
    columns |= {f"jet_tau{n + 1}": tau[:, n] for n in range(tau.shape[1])}
    for n in range(2):
        prong = prongs[:, n]
        values = (*directions(prong), _mass(prong))
        columns |= {
            f"subjet{n + 1}_{name}": value
            for name, value in zip(("pt", "eta", "phi", "mass"), values, strict=True)
        }
    return _f32(columns) | {"jet_nparticles": counts.astype(np.int32)}


def _truth_columns(truth: JetTruth) -> dict[str, np.ndarray]:
    pt, eta, phi = directions(truth.parent)
    columns = {
        "jet_label": truth.label,
        "jet_n_b_hadrons": truth.n_b_hadrons,
        "jet_n_c_hadrons": truth.n_c_hadrons,
        "aux_genpart_pid": truth.parent_pdg,
        **_f32({"aux_genpart_pt": pt, "aux_genpart_eta": eta, "aux_genpart_phi": phi}),
    }
    for name, members in JETCLASS_MEMBERS.items():
        rows = [LABELS.index(member) for member in members]
        columns[f"label_{name}"] = np.isin(truth.label, rows)
    return columns


def _candidate_columns(
    jets: ClusteredJets, candidates: Candidates, counts: Int64[np.ndarray, " j"]
) -> dict[str, np.ndarray]:
    jet = np.repeat(np.arange(len(counts)), counts)
    weighted = candidates.pt * candidates.weight
    row = jets.constituent[np.lexsort((-weighted[jets.constituent], jet))]
    _, jet_eta, jet_phi = directions(jets.momentum)
    momentum = four_momenta(candidates)[row]
    kind = candidates.kind[row]
    columns = _f32(
        {
            "part_px": momentum[:, 0],
            "part_py": momentum[:, 1],
            "part_pz": momentum[:, 2],
            "part_energy": momentum[:, 3],
            "part_deta": candidates.eta[row] - jet_eta[jet],
            "part_dphi": delta_phi(candidates.phi[row], jet_phi[jet]),
            "part_d0val": candidates.d0[row],
            "part_d0err": candidates.d0_error[row],
            "part_dzval": candidates.dz[row],
            "part_dzerr": candidates.dz_error[row],
            "part_charge": candidates.charge[row],
            "part_puppi_weight": candidates.weight[row],
        }
    )
    kinds = {
        "isChargedHadron": CHARGED_HADRON,
        "isNeutralHadron": NEUTRAL_HADRON,
        "isPhoton": PHOTON,
        "isElectron": ELECTRON,
        "isMuon": MUON,
    }
    return columns | {f"part_{name}": kind == code for name, code in kinds.items()}


def _vertex_columns(jets: ClusteredJets, vertices: Vertices) -> dict[str, np.ndarray]:
    _, eta, phi = directions(vertices.momentum)
    _, jet_eta, jet_phi = directions(jets.momentum[vertices.jet])
    return _f32(
        {
            "sv_px": vertices.momentum[:, 0],
            "sv_py": vertices.momentum[:, 1],
            "sv_pz": vertices.momentum[:, 2],
            "sv_energy": vertices.momentum[:, 3],
            "sv_deta": eta - jet_eta,
            "sv_dphi": delta_phi(phi, jet_phi),
            "sv_mass": _mass(vertices.momentum),
            "sv_normchi2": vertices.normalised_chi2,
            "sv_dxy": vertices.dxy,
            "sv_dxyerr": vertices.dxy_error,
            "sv_d3d": vertices.d3d,
            "sv_d3derr": vertices.d3d_error,
            "sv_costhetasvpv": vertices.cosine,
        }
    ) | {"sv_ntracks": vertices.n_tracks.astype(np.int32)}
