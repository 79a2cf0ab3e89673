"""Samples of neutrino events as a whole: what they depend on, and what the classes look like."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.errors import ConfigError
from recon.io.pixel_maps import CELLS, PLANES, check_events, has_empty_view, join_events, take_events
from recon.sim import neutrino
from recon.sim.neutrino import CLASSES, NeutrinoSimulation, simulate_chunk, simulate_neutrinos
from recon.sim.neutrino_detector import HALF_WIDTH, LENGTH, PLANE_PITCH
from recon.tagging.labels import NEUTRINO_LABELS

EVENTS = 800


def sample(**changes):
    return join_events(list(simulate_neutrinos(NeutrinoSimulation(**{"chunk_events": 20, **changes}))))


def assert_same(left, right):
    for name in left._fields:
        if name != "truth":
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    for name, values in left.truth._asdict().items():
        np.testing.assert_array_equal(values, getattr(right.truth, name), err_msg=name)


@pytest.fixture(scope="module")
def events():
    return sample(events=EVENTS, seed=7)


@pytest.fixture(scope="module")
def of_class(events):
    return {
        name: take_events(events, np.flatnonzero(events.label == row)) for row, name in enumerate(CLASSES)
    }


def extent(events):
    """Planes of the map from the first to the last hit, mean over views."""
    row = np.repeat(np.arange(len(events.label)), np.diff(events.offsets))
    last = np.zeros(len(events.label))
    np.maximum.at(last, row, events.plane)
    return last


def test_classes_take_turns(events):
    assert len(events.label) == EVENTS
    assert events.label[:7].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert np.bincount(events.label).tolist() == [EVENTS // 5] * 5
    np.testing.assert_array_equal(events.number, np.arange(EVENTS))
    assert tuple(CLASSES.values()) == NEUTRINO_LABELS


def test_every_hit_is_in_its_window(events):
    check_events(events, "sample", windowed=True)
    assert np.diff(events.offsets).min() >= 0
    assert (np.diff(events.offsets) + events.outside >= 20).all()
    # One hit a pixel, sorted by view, plane and cell.
    row = np.repeat(np.arange(EVENTS), np.diff(events.offsets))
    key = ((row * 2 + events.view) * PLANES + events.plane) * CELLS + events.cell
    assert (np.diff(key) > 0).all()
    # The window begins with a hit, unless that is far beside the others, as it often is of steep cosmic rays.
    empty = np.ones(EVENTS, bool)
    empty[row[events.plane == 0]] = False
    assert empty[events.label < 4].mean() < 0.1


@pytest.mark.parametrize("changes", [{"chunk_events": 37}, {"chunk_events": 1}, {"events": 91}])
def test_samples_depend_on_neither_chunks_nor_size(changes):
    small = {"events": 60, "seed": 3}
    assert_same(sample(**small), take_events(sample(**{**small, **changes}), np.arange(60)))


def test_samples_do_not_depend_on_processes():
    calls = []
    config = NeutrinoSimulation(events=30, seed=3, chunk_events=10, workers=2, classes=("numu", "cosmic"))
    two = join_events(list(simulate_neutrinos(config, lambda *call: calls.append(call))))
    assert_same(two, sample(events=30, seed=3, classes=("numu", "cosmic")))
    assert calls[-1] == ("events", 30, 30)


def test_classes_do_not_depend_on_each_other():
    alone = sample(events=4, seed=3, classes=("nc",))
    mixed = sample(events=20, seed=3)
    chosen = take_events(mixed, np.flatnonzero(mixed.label == 3))
    assert_same(alone, chosen._replace(number=alone.number))


def test_seeds_differ():
    one, other = (sample(events=10, seed=seed) for seed in (1, 2))
    assert not np.isin(one.truth.energy, other.truth.energy).any()


def test_groups_fit_together(monkeypatch):
    whole = sample(events=50, seed=3)
    monkeypatch.setattr(neutrino, "_GROUP", 11)
    groups = list(simulate_neutrinos(NeutrinoSimulation(events=50, seed=3, chunk_events=20)))
    assert [len(group.label) for group in groups] == [10] * 5
    assert_same(join_events(groups), whole)


def test_too_little_room_for_hits_is_made_larger(monkeypatch):
    whole = simulate_chunk(NeutrinoSimulation(seed=3, chunk_events=20), "nutau", 0)
    monkeypatch.setattr(neutrino, "_HITS_PER_EVENT", 1)
    assert_same(simulate_chunk(NeutrinoSimulation(seed=3, chunk_events=20), "nutau", 0), whole)


def test_truth_is_within_the_detector(events):
    truth = events.truth
    assert (np.abs(truth.vertex[:, :2]) <= HALF_WIDTH + 1).all()
    assert ((truth.vertex[:, 2] >= 0) & (truth.vertex[:, 2] <= LENGTH + 1)).all()
    neutrinos = events.label < 4
    assert set(np.unique(truth.mode[neutrinos])) == {0, 1, 2}
    assert (truth.mode[~neutrinos] == -1).all()
    lepton = np.linalg.norm(truth.lepton, axis=1)
    assert (lepton[neutrinos] < truth.energy[neutrinos] + 0.3).all()
    assert (truth.visible_energy[neutrinos] < truth.energy[neutrinos] + 0.2).all()
    assert (truth.visible_energy > 0).all()
    # The window begins where the event does, within a track's length.
    offset = events.window[neutrinos, 0] * PLANE_PITCH - truth.vertex[neutrinos, 2]
    assert np.median(np.abs(offset)) < 200


def test_flavours(of_class):
    flavours = {name: set(np.unique(table.truth.flavour)) for name, table in of_class.items()}
    assert flavours["numu"] == {14}
    assert flavours["nue"] == {12}
    assert flavours["nutau"] == {16}
    assert flavours["nc"] == {14}
    assert {13} <= flavours["cosmic"] <= {13, 22}


def test_muons_are_long_and_electrons_are_short(of_class):
    length = {name: extent(table) for name, table in of_class.items()}
    quiet = {name: length[name][(of_class[name].truth.energy > 1) & (of_class[name].truth.energy < 4)]
             for name in ("numu", "nue", "nc")}  # fmt: skip
    # Half of the muons of such events have more than a GeV: 480 cm are 36 planes of a view.
    assert np.median(quiet["numu"]) > 1.4 * np.median(quiet["nue"]) > 1.4 * np.median(quiet["nc"])
    assert 15 < np.median(quiet["nue"]) < 35


def test_tau_leptons_need_energy(of_class):
    assert of_class["nutau"].truth.energy.min() > 3.3
    assert np.median(of_class["numu"].truth.energy) < 4


def test_cosmic_rays_come_from_above(of_class):
    lepton = of_class["cosmic"].truth.lepton
    assert (lepton[:, 1] < 0).all()
    steep = -lepton[:, 1] / np.linalg.norm(lepton, axis=1)
    assert np.median(steep) > 0.7
    # Many leave the 80 cells of the window.
    outside = {name: table.outside.mean() / np.diff(table.offsets).mean() for name, table in of_class.items()}
    assert outside["cosmic"] > outside["nue"]


def test_energy_is_found_again(of_class):
    table = of_class["nue"]
    row = np.repeat(np.arange(len(table.label)), np.diff(table.offsets))
    seen = np.bincount(row, table.charge, minlength=len(table.label))
    contained = table.outside < 5
    ratio = seen[contained] / table.truth.visible_energy[contained]
    # Quenching and the threshold take some of the energy in the scintillator.
    assert 0.8 < np.median(ratio) < 1.0
    assert np.subtract(*np.percentile(ratio, [84, 16])) / 2 < 0.12


def test_empty_views_are_rare(events):
    assert has_empty_view(events).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": -1}, "events of the neutrino simulation is -1; allowed: 0 to"),
        ({"seed": 2**32}, "seed of the neutrino simulation is 4294967296"),
        ({"min_hits": 0}, "min_hits of the neutrino simulation is 0"),
        ({"workers": 0}, "workers of the neutrino simulation is 0"),
        (
            {"classes": ("numu", "numubar")},
            "are numu, numubar; allowed: one or more of numu, nue, nutau, nc, cosmic",
        ),
        ({"classes": ()}, "are none; allowed"),
        ({"classes": ("nc", "nc")}, "each once"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        NeutrinoSimulation(**change)


def test_hits_that_no_event_has():
    config = NeutrinoSimulation(events=1, classes=("cosmic",), min_hits=9999, chunk_events=1)
    with pytest.raises(ConfigError, match="none of 20 events of class cosmic has 9999 hits; lower min_hits"):
        list(simulate_neutrinos(config))


def test_no_events_cost_nothing():
    assert list(simulate_neutrinos(NeutrinoSimulation(events=0))) == []
