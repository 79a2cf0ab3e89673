"""PFNano: the real file where it is on this machine, its stored quantities against those computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import DataError
from recon.io.jet_columns import jet_columns
from recon.io.root_pfnano import REQUIRED, check_indices, is_pfnano, read_pfnano
from recon.tagging.features import fit_inputs, make_jets
from recon.tagging.inputs import deepak8_features
from tests.recon.tagging.small_jets import make_table

SHARED = Path(__file__).parents[4] / "shared" / "data" / "jets"
STORED = ("btagEtaRel", "btagPtRatio", "btagPParRatio", "btagSip3dVal", "btagJetDistVal")
MISSING = ("dptdpt", "detadeta", "dphidphi", "dxydz", "dphidxy", "dlambdadz")


@pytest.fixture(scope="module")
def path():
    file = SHARED / "pfnano.root"
    if not file.is_file():
        pytest.skip(f"{file} is not on this machine")
    return file


@pytest.fixture(scope="module")
def jets(path):
    return ak.concatenate(list(read_pfnano(path)))


def unstandardised(table, names):
    inputs = fit_inputs(jet_columns(table), names, (), n_candidates=200)
    plain = [dataclasses.replace(feature, clip=None) for feature in deepak8_features(names)]
    inputs = dataclasses.replace(
        inputs, candidates=dataclasses.replace(inputs.candidates, features=tuple(plain))
    )
    made, _ = make_jets(jet_columns(table), inputs)
    return made.candidates[made.candidate_valid]


def test_jets_and_scores_of_the_file(jets, path):
    with uproot.open(path) as file:
        tree = file["Events"]
        score = tree["FatJet_deepTag_TvsQCD"].array()
        candidates = tree["FatJetPFCands_jetIdx"].array()
        event = tree["event"].array(library="np")
    assert len(jets) == 24
    np.testing.assert_array_equal(jets["FatJet_deepTag_TvsQCD"], ak.flatten(score))
    np.testing.assert_array_equal(jets["event_number"], np.repeat(event, ak.num(score)))
    # All but those that PUPPI weighs with nothing.
    dropped = ak.count(candidates, axis=None) - ak.sum(jets["jet_nparticles"])
    assert 0 <= dropped < 0.02 * ak.count(candidates, axis=None)


def test_candidates_add_up_to_their_jet(jets):
    total = [np.asarray(ak.sum(jets[f"part_{name}"], axis=1)) for name in ("px", "py", "pz", "energy")]
    pt = np.hypot(total[0], total[1])
    # The file stores momenta with ten bits.
    np.testing.assert_allclose(pt, jets["jet_pt"], rtol=0.02)
    np.testing.assert_allclose(np.arcsinh(total[2] / pt), jets["jet_eta"], atol=0.01)
    ordered = np.hypot(jets["part_px"], jets["part_py"])
    assert ak.all(ordered[:, 1:] <= ordered[:, :-1])


@pytest.mark.parametrize("name", STORED)
def test_computed_track_quantities_are_those_that_cms_stored(jets, name):
    """The formulas, signs included, against what CMSSW computed from the full tracks."""
    names = [f"pfcand_{name}"]
    stored = unstandardised(jets, names)[:, 0]
    without = jets[[field for field in jets.fields if field != f"part_{name}"]]
    computed = unstandardised(without, names)[:, 0]
    assert (stored != 0).sum() > 500
    assert np.corrcoef(stored, computed)[0, 1] > 0.999
    assert np.median(np.abs(stored - computed)[stored != 0]) < 5e-3 * np.median(np.abs(stored[stored != 0]))


def test_significance_of_the_impact_parameter(jets):
    names = ["pfcand_btagSip3dSig"]
    without = jets[[field for field in jets.fields if field != "part_btagSip3dSig"]]
    stored, computed = unstandardised(jets, names)[:, 0], unstandardised(without, names)[:, 0]
    # Without the correlation of the two impact parameters, which the file does not have.
    assert np.corrcoef(stored, computed)[0, 1] > 0.99


def test_vertices(jets):
    inputs = fit_inputs(jet_columns(jets), n_vertices=20)
    made, report = make_jets(jet_columns(jets), inputs)
    assert made.vertex_valid.sum() == ak.sum(ak.num(jets["sv_px"])) > 30
    assert report.missing == tuple(f"pfcand_{name}" for name in MISSING)
    distance = np.hypot(jets["sv_deta"], jets["sv_dphi"])
    assert ak.all(distance < 0.8)
    energy = np.hypot(np.hypot(jets["sv_px"], jets["sv_py"]), jets["sv_pz"])
    np.testing.assert_allclose(
        ak.flatten(jets["sv_energy"]), np.hypot(ak.flatten(energy), ak.flatten(jets["sv_mass"])), rtol=1e-4
    )


def test_ranges(jets, path):
    parts = [list(read_pfnano(path, entry_start=low, entry_stop=high)) for low, high in ((0, 4), (4, None))]
    joined = ak.concatenate([part[0] for part in parts])
    for name in jets.fields:
        assert ak.array_equal(joined[name], jets[name], equal_nan=True), name


def test_what_is_pfnano(path, tmp_path):
    assert is_pfnano(path)
    other = tmp_path / "jets.root"
    with uproot.recreate(other) as file:
        file.mktree("tree", {"jet_pt": "float32"})
    assert not is_pfnano(other)


def test_plain_nanoaod_lacks_the_candidates():
    path = SHARED / "nano_dy.root"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    with pytest.raises(DataError, match="no branch 'PFCands_pt'"):
        next(read_pfnano(path))


def test_a_made_up_event(tmp_path):
    """One event by hand: two jets, candidates out of order, one that PUPPI removes, a vertex off the list."""
    path = tmp_path / "pfnano.root"
    columns = {name: [[0.0, 0.0]] for name in REQUIRED if name.startswith("FatJet_")}
    columns |= {"FatJet_pt": [[200.0, 100.0]], "FatJet_mass": [[20.0, 10.0]], "FatJet_eta": [[0.5, -0.5]]}
    columns |= {
        "FatJet_rawFactor": [[0.1, 0.0]],
        "FatJet_subJetIdx1": [[0, -1]],
        "FatJet_subJetIdx2": [[1, -1]],
    }
    columns |= {
        f"PFCands_{name.split('_')[1]}": [[0.0] * 3] for name in REQUIRED if name.startswith("PFCands_")
    }
    columns |= {"PFCands_pt": [[10.0, 50.0, 30.0]], "PFCands_puppiWeight": [[1.0, 0.5, 0.0]]}
    columns |= {"PFCands_charge": [[1.0, 0.0, 0.0]], "PFCands_pdgId": [[-211.0, 22.0, 130.0]]}
    columns |= {
        "PFCands_d0": [[0.2, 0, 0]],
        "PFCands_d0Err": [[0.1, -1, -1]],
        "PFCands_trkChi2": [[1.7, -1, -1]],
    }
    columns |= {name: [[0.0] * 3] for name in REQUIRED if name.startswith("FatJetPFCands_")}
    columns |= {"FatJetPFCands_jetIdx": [[0, 0, 1]], "FatJetPFCands_pFCandsIdx": [[0, 1, 2]]}
    columns |= {name: [[1.0]] for name in REQUIRED if name.startswith("FatJetSVs_")}
    columns |= {
        "FatJetSVs_jetIdx": [[1]],
        "FatJetSVs_sVIdx": [[-1]],
        "FatJetSVs_pt": [[20.0]],
        "FatJetSVs_mass": [[0.0]],
    }
    # Distance 0.5 of which 0.3 in azimuth: 0.4 away in eta, at -0.9 or -0.1; the energy says which.
    energy = np.sqrt((100 * np.cosh(0.5)) ** 2 + 100)
    columns |= {"FatJetSVs_deltaR": [[0.0]], "FatJetSVs_phirel": [[0.3]]}
    columns |= {"FatJetSVs_enration": [[20 * np.cosh(0.9) / energy]]}
    columns |= {"SV_eta": [[]], "SV_phi": [[]]}
    columns |= {name: [[40.0, 60.0]] for name in REQUIRED if name.startswith("SubJet_")}
    types = {
        name: "var * int32" if name.endswith(("Idx", "Idx1", "Idx2")) else "var * float32" for name in columns
    } | dict.fromkeys(("run", "luminosityBlock", "event"), "uint64")
    data = {
        name: ak.values_astype(ak.Array(values), types[name].removeprefix("var * "))
        for name, values in columns.items()
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", types, counter_name=lambda name: "n" + name)
        counts = {f"n{name}": np.asarray(ak.num(values), np.int32) for name, values in data.items()}
        numbers = {name: np.array([7], np.uint64) for name in ("run", "luminosityBlock", "event")}
        file["Events"].extend(data | counts | numbers)
    (table,) = read_pfnano(path)
    np.testing.assert_allclose(table["jet_pt"], [180.0, 100.0], rtol=1e-6)
    assert ak.num(table["part_px"]).to_list() == [2, 0]
    np.testing.assert_allclose(table["part_px"][0], [25.0, 10.0])
    assert table["part_isPhoton"][0].to_list() == [True, False]
    np.testing.assert_allclose(table["part_d0val"][0], [0.0, -2.0])
    np.testing.assert_allclose(table["part_d0err"][0], [0.0, 1.0])
    assert table["part_normchi2"][0].to_list() == [-1.0, 1.0]
    np.testing.assert_allclose(table["sv_deta"][1], [-0.4], atol=1e-5)
    np.testing.assert_allclose(table["subjet1_pt"], [60.0, 0.0])
    assert np.isinf(np.asarray(ak.flatten(table["part_drminsv"]))).all()
    assert table["event_number"].to_list() == [7, 7]
    assert set(table.fields) >= set(make_table(1).fields) - {"jet_label"}


INDICES = {
    "event": [5, 6, 7],
    "FatJet_pt": [[1.0, 1.0], [], [1.0]],
    "PFCands_pt": [[1.0], [1.0], [1.0, 1.0]],
    "SV_eta": [[], [], [0.1]],
    "SubJet_pt": [[1.0, 1.0, 1.0], [], [1.0]],
    "FatJetPFCands_jetIdx": [[0, 1], [], [0, 0]],
    "FatJetPFCands_pFCandsIdx": [[0, 0], [], [1, 0]],
    "FatJetSVs_jetIdx": [[], [], [0, 0]],
    "FatJetSVs_sVIdx": [[], [], [0, -1]],
    "FatJet_subJetIdx1": [[2, -1], [], [0]],
    "FatJet_subJetIdx2": [[-1, -1], [], [-1]],
}


@pytest.mark.parametrize(
    ("branch", "values", "message"),
    [
        (
            "FatJetPFCands_jetIdx",
            [[0, 1], [0], [0, 0]],
            "event 6: .* is 0; allowed are 0 to -1, the rows of FatJet ",
        ),
        ("FatJetPFCands_jetIdx", [[0, 1], [], [0, -1]], "event 7: .* is -1; allowed are 0 to 0"),
        (
            "FatJetPFCands_pFCandsIdx",
            [[0, 1], [], [2, 0]],
            r"event 5: .* is 1; allowed are 0 to 0.*\(2 such events\)",
        ),
        ("FatJetSVs_jetIdx", [[], [], [0, 1]], "event 7: .* is 1"),
        ("FatJetSVs_sVIdx", [[], [], [1, -1]], "event 7: .* is 1; allowed are -1 to 0, the rows of SV "),
        ("FatJet_subJetIdx1", [[3, -1], [], [0]], "event 5: .* is 3; allowed are -1 to 2"),
        ("FatJet_subJetIdx2", [[-1, -2], [], [-1]], "event 5: .* is -2"),
    ],
)
def test_indices_of_other_events_are_refused(branch, values, message):
    events = {name: ak.Array(column) for name, column in INDICES.items()}
    check_indices(ak.Array(events), "here")
    with pytest.raises(DataError, match=rf"here, {message}".replace(".*", branch, 1)):
        check_indices(ak.Array(events | {branch: ak.Array(values)}), "here")
