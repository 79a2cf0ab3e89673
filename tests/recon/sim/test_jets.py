"""Simulated jets as a whole: classes, masses, columns, and that they depend on nothing but their settings."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.sim.jets import JetSimulation, simulate_chunk, simulate_jets
from recon.sim.jets_clustering import cluster
from recon.sim.jets_detector import Particles, detect, four_momenta, is_visible
from recon.sim.jets_generation import charges, generate_collisions
from recon.sim.jets_truth import contains_quark, label_jets
from recon.tagging.labels import JETCLASS_MEMBERS, LABELS
from recon.types import NOISE
from tests.reference import jets as twin

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")


EVENTS = 60


def settings(process="wz", **changes):
    return JetSimulation(process=process, **{"chunk_events": EVENTS, **changes})


def assert_same(left, right):
    assert left.fields == right.fields
    for name in left.fields:
        assert ak.array_equal(left[name], right[name], equal_nan=True), name


@pytest.fixture(scope="module")
def chunks():
    """One chunk of every process."""
    return {process: simulate_chunk(settings(process), 0) for process in ("qcd", "top", "wz", "hz")}


def rows(*names):
    return [LABELS.index(name) for name in names]


def of_class(table, *names):
    return table[np.isin(ak.to_numpy(table["jet_label"]), rows(*names))]


def test_every_process_makes_its_classes(chunks):
    allowed = {
        "qcd": JETCLASS_MEMBERS["QCD"],
        "top": ("Tbcq", "Tbqq", "Tbc", "Tbq", "Wcq", "Wqq"),
        "wz": ("Wcq", "Wqq", "Zbb", "Zcc", "Zqq"),
        "hz": ("Hbb", "Hcc", "Zbb", "Zcc", "Zqq"),
    }
    for process, table in chunks.items():
        assert len(table) > EVENTS
        assert set(ak.to_numpy(table["jet_label"])) == set(rows(*allowed[process])), process


@pytest.mark.parametrize(
    ("process", "names", "mass"),
    [
        ("top", ("Tbqq", "Tbcq"), 172.5),
        ("wz", ("Wqq", "Wcq"), 80.4),
        ("hz", ("Hbb", "Hcc"), 125.0),
        ("hz", ("Zqq",), 91.2),
    ],
)
def test_groomed_masses_peak_where_the_particle_weighs(chunks, process, names, mass):
    values = ak.to_numpy(of_class(chunks[process], *names)["jet_sdmass"])
    assert np.median(values) == pytest.approx(mass, rel=0.09)
    assert np.median(ak.to_numpy(chunks["qcd"]["jet_sdmass"])) < 45


def test_jets_are_within_the_settings_and_add_up(chunks):
    for table in chunks.values():
        pt, eta = ak.to_numpy(table["jet_pt"]), ak.to_numpy(table["jet_eta"])
        assert pt.min() >= 400
        assert pt.max() <= 1200
        assert np.abs(eta).max() < 2
        total = {name: ak.to_numpy(ak.sum(table[f"part_{name}"], axis=1)) for name in ("px", "py", "energy")}
        np.testing.assert_allclose(np.hypot(total["px"], total["py"]), pt, rtol=1e-4)
        np.testing.assert_allclose(total["energy"], table["jet_energy"], rtol=1e-4)
        assert (ak.num(table["part_px"]) == table["jet_nparticles"]).to_list() == [True] * len(table)
        falling = np.hypot(table["part_px"], table["part_py"])
        assert ak.all(falling[:, 1:] <= falling[:, :-1])
        kinds = ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
        assert ak.all(sum(ak.values_astype(table[f"part_is{kind}"], int) for kind in kinds) == 1)
        assert ak.all(np.hypot(table["part_deta"], table["part_dphi"]) < 1.2)
        assert ak.to_numpy(table["event_weight"]).min() > 0


def test_subjets_make_the_groomed_mass(chunks):
    table = chunks["top"]
    total = np.zeros((len(table), 4))
    for k in (1, 2):
        pt, eta, phi, mass = (
            ak.to_numpy(table[f"subjet{k}_{name}"]).astype(float) for name in ("pt", "eta", "phi", "mass")
        )
        energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
        total += np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy], axis=1)
    mass = np.sqrt(np.maximum(total[:, 3] ** 2 - (total[:, :3] ** 2).sum(axis=1), 0))
    np.testing.assert_allclose(mass, table["jet_sdmass"], rtol=1e-2, atol=0.5)
    assert ak.all(table["subjet1_pt"] >= table["subjet2_pt"])


def test_bottom_quarks_leave_vertices_and_displaced_tracks(chunks):
    bottom, light = of_class(chunks["hz"], "Hbb"), of_class(chunks["wz"], "Wqq")
    assert ak.mean(ak.num(bottom["sv_dxy"])) > 1.5
    assert ak.mean(ak.num(light["sv_dxy"])) < 0.4

    def displaced(table):
        tracks = table["part_d0err"] > 0
        return ak.mean(np.abs(table["part_d0val"][tracks] / table["part_d0err"][tracks]) > 5)

    assert displaced(light) < 0.02 < 0.1 < displaced(bottom)
    assert ak.all(bottom["jet_n_b_hadrons"] >= 0)
    assert ak.mean(bottom["jet_n_b_hadrons"] >= 2) > 0.9
    assert ak.all(bottom["sv_d3d"] > 3 * bottom["sv_d3derr"])


def test_labels_of_jetclass(chunks):
    for table in chunks.values():
        for name, members in JETCLASS_MEMBERS.items():
            expected = np.isin(ak.to_numpy(table["jet_label"]), rows(*members))
            np.testing.assert_array_equal(ak.to_numpy(table[f"label_{name}"]), expected)


def test_subjettiness_tells_prongs(chunks):
    def median(table, upper, lower):
        return np.median(ak.to_numpy(table[f"jet_tau{upper}"] / table[f"jet_tau{lower}"]))

    tops, bosons = of_class(chunks["top"], "Tbqq", "Tbcq"), of_class(chunks["wz"], "Wqq")
    assert median(tops, 3, 2) < 0.6 < median(bosons, 3, 2)
    assert median(bosons, 2, 1) < 0.45 < median(chunks["qcd"], 2, 1)


@pytest.mark.parametrize("process", ["top", "hz", "wz"])
def test_labels_agree_with_a_walk_through_the_record(process):
    collisions = generate_collisions(process, 40, (5, 0), pt_min=400.0, pt_max=1200.0)
    final = np.flatnonzero(collisions.status > 0)
    final = final[is_visible(collisions.pdg[final], collisions.momentum[final])]
    seen = Particles(
        collisions.event[final],
        collisions.pdg[final],
        charges(collisions.pdg[final]),
        collisions.momentum[final],
        collisions.vertex[final],
        np.full(len(final), np.nan),
    )
    candidates = detect(seen, np.random.default_rng(0))
    bounds = np.searchsorted(candidates.event, np.arange(41)).astype(np.int64)
    jets = cluster(four_momenta(candidates), bounds, pt_min=250.0)
    truth = label_jets(process, collisions, jets)
    slow = [
        twin.label_of_jet(collisions, event, axis, process, LABELS)
        for event, axis in zip(jets.event, jets.momentum, strict=True)
    ]
    assert truth.label.tolist() == slow
    assert {NOISE} < set(slow)
    known = truth.label >= 0
    assert (np.isin(np.abs(truth.parent_pdg[known]), (6, 23, 24, 25))).all()


@pytest.mark.parametrize(
    ("code", "flavour"),
    [(511, 5), (-521, 5), (5122, 5), (553, 5), (10511, 5), (411, 4), (-4122, 4), (443, 4), (20413, 4)],
)
def test_heaviest_quark_of_hadrons(code, flavour):
    assert contains_quark(np.array([code]), flavour).all()
    assert not contains_quark(np.array([code]), 9 - flavour).any()


def test_what_is_no_heavy_hadron():
    others = np.array([5, 4, 21, 211, 3122, 13, 4101, 5503, 1000511])
    assert not contains_quark(others, 5).any()
    assert not contains_quark(others, 4).any()


def test_charges():
    assert charges(np.array([211, -211, 22, 11, -2212, 211])).tolist() == [1, -1, 0, -1, -1, 1]


def test_samples_depend_on_neither_their_size_nor_the_processes():
    calls = []
    small = {"chunk_events": 12, "seed": 3}
    two = ak.concatenate(
        list(simulate_jets(settings(jets=25, workers=2, **small), lambda *call: calls.append(call)))
    )
    assert len(two) == 25
    assert calls[-1] == ("jets", 25, 25)
    # This process makes other chunks and processes in between.
    second, first = (simulate_chunk(settings(**small), index) for index in (1, 0))
    assert_same(two[: len(first)], first)
    assert_same(two[len(first) :], second[: 25 - len(first)])
    assert set(ak.to_numpy(second["event_number"])) <= set(range(12, 24))


def test_seeds_differ(chunks):
    other = simulate_chunk(settings(seed=2, chunk_events=10), 0)
    assert not np.isin(ak.to_numpy(other["jet_pt"]), ak.to_numpy(chunks["wz"]["jet_pt"])).any()


def test_pileup_is_seen_and_removed(minbias):
    # `minbias` fills the cache that the simulation reads.
    del minbias
    busy = {"pileup": 20.0, "minbias_pool": 500, "chunk_events": 40}
    tables = {
        removal: simulate_chunk(settings(removal=removal, **busy), 0) for removal in ("none", "chs", "puppi")
    }
    clean = simulate_chunk(settings(chunk_events=40), 0)
    number = {name: ak.mean(table["jet_nparticles"]) for name, table in tables.items()}
    assert number["none"] > number["chs"] > number["puppi"] > 0.7 * ak.mean(clean["jet_nparticles"])
    mass = {name: ak.mean(table["jet_mass"]) for name, table in tables.items()}
    assert abs(mass["puppi"] - ak.mean(clean["jet_mass"])) < abs(mass["none"] - ak.mean(clean["jet_mass"]))
    assert 15 < ak.mean(tables["puppi"]["n_pileup"]) < 25
    weights = ak.flatten(tables["puppi"]["part_puppi_weight"])
    assert 0 < ak.min(weights) < 1 == ak.max(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jets": -1}, "jets of the jet simulation is -1; allowed: 0 to"),
        ({"pt_min": 50.0}, "pt_min of the jet simulation is 50"),
        ({"pt_max": 420.0}, "at least 1.1 times pt_min"),
        ({"eta_max": 3.0}, "eta_max of the jet simulation is 3"),
        ({"pileup": 400.0}, "pileup of the jet simulation is 400"),
        ({"workers": 0}, "workers of the jet simulation is 0"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        JetSimulation(**change)


def test_no_jets_cost_nothing():
    assert list(simulate_jets(JetSimulation(jets=0))) == []
