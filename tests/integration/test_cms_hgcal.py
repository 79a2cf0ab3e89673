"""HGCAL hits as CMS writes them (NanoAOD-like) through every command that reads them."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.cli import USER_ERROR
from recon.geometry import eta, wrap_phi
from recon.hgcal_clustering import find_showers
from recon.hgcal_clustering.attachment import attach_cells
from recon.hgcal_clustering.commands.options import settings_of
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.lookup import load_lookup
from recon.io.root_showers import read_showers
from recon.sim.calorimeter import CalorimeterSimulation, simulate_event
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_programs")

N_EVENTS, N_PARTICLES = 2, 6


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Neither the user's cache of detectors nor that of servers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def events():
    """Photons and pions in both endcaps, without noise."""
    simulation = CalorimeterSimulation(
        n_particles=N_PARTICLES, energy_min=50.0, endcaps="both", noise=False, events=N_EVENTS, seed=3
    )
    return [simulate_event(simulation, number) for number in range(N_EVENTS)]


def best_match(event):
    """The particle that gave a hit most, and how much of it, as CMS writes the truth."""
    truth, n = event.truth, len(event.hits.energy)
    order = np.argsort(truth.fraction, kind="stable")
    match, quality = np.full(n, -1, np.int32), np.zeros(n, np.float32)
    match[truth.hit[order]] = truth.particle[order]
    quality[truth.hit[order]] = truth.fraction[order]
    return match, quality


def columns_of(events):
    """The branches of the file: cm, no layers, no cells, and a best match for every hit."""
    columns = {"event": np.array([1000 + event.number for event in events], np.uint64)}
    hits = {"energy": [event.hits.energy for event in events]}
    for axis, name in enumerate("xyz"):
        hits[name] = [event.hits.position[:, axis] / 10 for event in events]
    matches = [best_match(event) for event in events]
    hits["SimClusterBestMatchIdx"], hits["SimClusterBestMatchQual"] = map(list, zip(*matches, strict=True))
    columns["RecHitHGC"] = ak.zip({name: ak.Array(values) for name, values in hits.items()})
    momenta = [event.truth.momentum for event in events]
    particles = {
        "pt": [np.hypot(p[:, 0], p[:, 1]) for p in momenta],
        "eta": [np.asarray(eta(p)) for p in momenta],
        "phi": [np.arctan2(p[:, 1], p[:, 0]) for p in momenta],
        "pdgId": [event.truth.pdg.astype(np.int32) for event in events],
    }
    columns["SimCluster"] = ak.zip({name: ak.Array(values) for name, values in particles.items()})
    return columns


@pytest.fixture(scope="module")
def nano(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("nano") / "nano.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", columns_of(events))
    return path


def test_branches_are_those_of_cms(nano):
    with uproot.open(nano) as file:
        names = set(file["Events"].keys())
    assert {"nRecHitHGC", "RecHitHGC_x", "RecHitHGC_energy", "nSimCluster", "SimCluster_pdgId"} <= names


@pytest.mark.parametrize("algorithm", ["clue3d", "hits"])
def test_reconstruct(algorithm, nano, events, tmp_path):
    output, summary = tmp_path / "showers.root", tmp_path / "summary.json"
    words = ["reconstruct", "hgcal", nano, "-o", output, "--geometry", "v16", "--algorithm", algorithm]
    assert run(*words, "--json", summary) == 0
    geometry = EndcapGeometry()
    calorimeter, lookup = load_calorimeter(geometry), load_lookup(geometry)
    config = settings_of(algorithm, None, geometry)
    stored = list(read_showers(output))
    assert [event.number for event in stored] == [1000, 1001]
    for event, found in zip(events, stored, strict=True):
        # A float32 in cm and back.
        rounded = event.hits._replace(position=np.float32(10) * (event.hits.position / 10).astype(np.float32))
        wanted = find_showers(attach_cells(rounded, calorimeter, lookup), config)
        np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
        np.testing.assert_allclose(
            found.tracksters.regressed_energy, wanted.tracksters.regressed_energy, rtol=1e-4
        )
    tree = json.loads(summary.read_text())
    assert [event["hits"] for event in tree["events"]] == [len(event.hits.energy) for event in events]


def test_photons_are_found_where_they_were(nano, events, tmp_path):
    output = tmp_path / "showers.root"
    assert run("reconstruct", "hgcal", nano, "-o", output, "--geometry", "v16") == 0
    n_photons = 0
    for event, found in zip(events, read_showers(output), strict=True):
        position, energy = found.tracksters.position.astype(float), found.tracksters.energy
        for momentum, pdg in zip(event.truth.momentum.astype(float), event.truth.pdg, strict=True):
            if pdg != 22:
                continue
            apart = np.hypot(
                np.asarray(eta(position)) - float(eta(momentum[None])[0]),
                np.asarray(
                    wrap_phi(
                        np.arctan2(position[:, 1], position[:, 0]) - np.arctan2(momentum[1], momentum[0])
                    )
                ),
            )
            near = apart < 0.05
            n_photons += 1
            assert energy[near].max(initial=0) == pytest.approx(np.linalg.norm(momentum), rel=0.25)
    assert n_photons >= 3


def test_evaluate_against_the_matches_in_the_file(nano, events, tmp_path):
    report = tmp_path / "report.json"
    words = ["evaluate", "hgcal", nano, "-o", tmp_path / "report", "--geometry", "v16", "--json", report]
    assert run(*words, "--algorithms", "tuned") == 0
    text = report.read_text()
    assert "tuned" in text
    assert "efficiency" in text
    assert (tmp_path / "report").is_dir()


def test_display(nano, tmp_path):
    assert run("display", "hgcal", nano, "-o", tmp_path / "event", "--geometry", "v16") == 0
    assert any(path.stat().st_size > 10_000 for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"geometry": "v10"}, "RecHitHGC_z (cm)"),
        ({"geometry": None}, "say --geometry v16 or v10"),
        ({"cut": 3000}, "nano.root"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(change, message, nano, tmp_path, capsys):
    path = tmp_path / "nano.root"
    path.write_bytes(nano.read_bytes()[: -change.get("cut", 0) or None])
    geometry = change.get("geometry", "v16")
    words = [] if geometry is None else ["--geometry", geometry]
    capsys.readouterr()
    assert run("reconstruct", "hgcal", path, "-o", tmp_path / "s.root", *words) == USER_ERROR
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not (tmp_path / "s.root").exists()
