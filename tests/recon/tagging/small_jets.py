"""Tables of random jets in the layout of the simulation, some of them empty, without any generator."""

from __future__ import annotations

import awkward as ak
import numpy as np

N_LABELS = 17


def make_table(n_jets=6, seed=0, *, candidates=(0, 12), vertices=(0, 4)):
    """Random jets; the first has neither candidates nor vertices, candidates fall in transverse momentum."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(*candidates, n_jets, endpoint=True)
    n_vertices = rng.integers(*vertices, n_jets, endpoint=True)
    if n_jets:
        counts[0] = n_vertices[0] = 0
    columns = _jets(rng, n_jets)
    columns |= {
        name: ak.unflatten(values, counts) for name, values in _candidates(rng, counts, columns).items()
    }
    columns |= {
        name: ak.unflatten(values, n_vertices) for name, values in _vertices(rng, n_vertices, columns).items()
    }
    columns["jet_nparticles"] = counts.astype(np.int32)
    return ak.Array(columns)


def _f32(columns):
    return {name: np.asarray(values, np.float32) for name, values in columns.items()}


def _jets(rng, n):
    pt, eta = rng.uniform(400, 1000, n), rng.uniform(-2, 2, n)
    columns = {
        "jet_pt": pt,
        "jet_eta": eta,
        "jet_phi": rng.uniform(-np.pi, np.pi, n),
        "jet_energy": pt * np.cosh(eta),
        "jet_sdmass": rng.uniform(0, 200, n),
    }
    for k in (1, 2):
        columns |= {
            f"subjet{k}_pt": np.where(rng.random(n) < 0.8, pt / 2, 0),
            f"subjet{k}_eta": eta + rng.normal(0, 0.2, n),
            f"subjet{k}_phi": columns["jet_phi"] + rng.normal(0, 0.2, n),
        }
    label = rng.integers(0, N_LABELS, n).astype(np.int32)
    return _f32(columns) | {"jet_label": label, "event_number": np.arange(n, dtype=np.uint64) + 2**40}


def _candidates(rng, counts, jets):
    n = int(counts.sum())
    jet = np.repeat(np.arange(len(counts)), counts)
    pt = rng.exponential(20, n) + 0.5
    pt = pt[np.lexsort((-pt, jet))]
    deta, dphi = rng.normal(0, 0.3, (2, n))
    eta, phi = jets["jet_eta"][jet] + deta, jets["jet_phi"][jet] + dphi
    charged = rng.random(n) < 0.6
    kind = np.where(charged, rng.choice([0, 3, 4], n, p=[0.8, 0.1, 0.1]), rng.choice([1, 2], n))
    names = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
    columns = {
        "part_px": pt * np.cos(phi),
        "part_py": pt * np.sin(phi),
        "part_pz": pt * np.sinh(eta),
        "part_energy": pt * np.cosh(eta),
        "part_deta": deta,
        "part_dphi": dphi,
        "part_d0val": np.where(charged, rng.normal(0, 0.1, n), 0),
        "part_d0err": np.where(charged, rng.uniform(0.01, 0.1, n), 0),
        "part_dzval": np.where(charged, rng.normal(0, 0.1, n), 0),
        "part_dzerr": np.where(charged, rng.uniform(0.01, 0.1, n), 0),
        "part_charge": np.where(charged, rng.choice([-1, 1], n), 0),
        "part_puppi_weight": rng.uniform(0.1, 1, n),
    }
    return _f32(columns) | {f"part_{name}": kind == code for code, name in enumerate(names)}


def _vertices(rng, counts, jets):
    n = int(counts.sum())
    pt = rng.exponential(30, n) + 2
    eta = jets["jet_eta"][np.repeat(np.arange(len(counts)), counts)] + rng.normal(0, 0.1, n)
    columns = {
        "sv_px": pt,
        "sv_py": 0 * pt,
        "sv_pz": pt * np.sinh(eta),
        "sv_energy": pt * np.cosh(eta) + 1,
        "sv_deta": rng.normal(0, 0.1, n),
        "sv_dphi": rng.normal(0, 0.1, n),
        "sv_mass": rng.uniform(0.3, 5, n),
        "sv_normchi2": rng.uniform(0.1, 3, n),
        "sv_dxy": rng.uniform(0.1, 30, n),
        "sv_dxyerr": rng.uniform(0.01, 1, n),
        "sv_d3d": rng.uniform(0.1, 50, n),
        "sv_d3derr": rng.uniform(0.01, 1, n),
        "sv_costhetasvpv": rng.uniform(0.9, 1, n),
    }
    return _f32(columns) | {"sv_ntracks": rng.integers(2, 7, n).astype(np.int32)}
