"""Whole events: reproducible, whoever makes them, with truth that adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.io.rechit_checks import check_calorimeter_event
from recon.sim import calorimeter as simulation
from recon.sim.calorimeter import CalorimeterSimulation, pileup_source, simulate_calorimeter, simulate_event

GUN = CalorimeterSimulation(n_particles=5, events=2)
BUSY = CalorimeterSimulation(
    particles="none", pileup=30, pileup_source="hagedorn", minbias_pool=200, events=1, endcaps="both"
)


def assert_same(one, other):
    assert one.number == other.number
    for part in ("hits", "truth", "times"):
        for name, values in getattr(one, part)._asdict().items():
            np.testing.assert_array_equal(values, getattr(getattr(other, part), name), err_msg=name)


def shared_energy(event):
    """What every particle left, GeV."""
    truth = event.truth
    return np.bincount(truth.particle, truth.fraction * event.hits.energy[truth.hit], len(truth.pdg))


@pytest.fixture(scope="module")
def events():
    return list(simulate_calorimeter(GUN))


@pytest.fixture(scope="module")
def busy():
    return simulate_event(BUSY, 0)


def test_events_pass_the_checks_of_the_files(events, busy):
    calorimeter = load_calorimeter(EndcapGeometry())
    for event in [*events, busy]:
        check_calorimeter_event(event, "here", n_layers=47, n_cells=len(calorimeter.layer))


def test_hits_are_cells_of_the_table(events):
    calorimeter = load_calorimeter(EndcapGeometry())
    for event in events:
        hits = event.hits
        np.testing.assert_array_equal(hits.position, calorimeter.position[hits.cell])
        np.testing.assert_array_equal(hits.layer, calorimeter.layer[hits.cell])
        assert (np.diff(hits.cell) > 0).all()
        assert (hits.energy > 3.0 * hits.sigma_noise).all()


def test_particles_leave_about_their_energy(events):
    left = sum(shared_energy(event).sum() for event in events)
    energy = sum(np.linalg.norm(event.truth.momentum, axis=1).sum() for event in events)
    assert left / energy == pytest.approx(0.95, abs=0.15)
    assert all(len(event.truth.pdg) == 5 and event.truth.hard_scatter.all() for event in events)


def test_hits_of_a_particle_lie_around_its_path():
    config = replace(GUN, particles="photon", n_particles=1, noise=False)
    event = simulate_event(config, 3)
    momentum, vertex = event.truth.momentum[0], event.truth.vertex[0]
    expected = vertex[:2] + momentum[:2] / momentum[2] * (event.hits.position[:, 2:] - vertex[2])
    away = np.linalg.norm(event.hits.position[:, :2] - expected, axis=1)
    assert np.average(away, weights=event.hits.energy) < 25.0


def test_shares_and_noise_make_the_whole_hit(busy):
    total = np.bincount(busy.truth.hit, busy.truth.fraction, len(busy.hits.energy))
    assert total.max() < 1.0 + 1e-5
    noise = (total == 0.0).sum()
    # 0.135 per cent of the cells of both endcaps.
    n_cells = 2 * len(load_calorimeter(EndcapGeometry()).layer)
    assert noise == pytest.approx(n_cells * 0.00135, rel=0.1)


def test_both_endcaps_are_filled_alike(busy):
    forward = busy.hits.position[:, 2] > 0
    assert forward.sum() == pytest.approx((~forward).sum(), rel=0.15)
    toward = busy.truth.momentum[:, 2] > 0
    # Particles at z > 0 make hits at z > 0.
    np.testing.assert_array_equal(toward[busy.truth.particle], forward[busy.truth.hit])
    assert not busy.truth.hard_scatter.any()


def test_one_endcap_is_the_same_as_of_both(busy):
    single = simulate_event(replace(BUSY, endcaps="positive"), 0)
    n = len(single.hits.cell)
    np.testing.assert_array_equal(single.hits.cell, busy.hits.cell[:n])
    np.testing.assert_array_equal(single.hits.energy, busy.hits.energy[:n])
    assert (single.hits.position[:, 2] > 0).all()


def test_an_event_depends_on_its_number_alone(events):
    assert_same(simulate_event(GUN, 1), events[1])
    later = list(simulate_calorimeter(replace(GUN, first_event=1, events=1)))
    assert_same(later[0], events[1])
    assert not np.array_equal(events[0].truth.momentum, events[1].truth.momentum)
    other = simulate_event(replace(GUN, seed=2), 1)
    assert not np.array_equal(other.truth.momentum, events[1].truth.momentum)


def test_two_processes_make_the_same_events(events):
    calls = []
    config = replace(GUN, workers=2)
    parallel = list(simulate_calorimeter(config, lambda *call: calls.append(call)))
    for one, other in zip(parallel, events, strict=True):
        assert_same(one, other)
    assert calls == [("events", 1, 2), ("events", 2, 2)]


def test_without_noise_every_hit_has_a_particle():
    event = simulate_event(replace(GUN, noise=False), 0)
    total = np.bincount(event.truth.hit, event.truth.fraction, len(event.hits.energy))
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_older_geometry_has_fifty_layers():
    event = simulate_event(replace(GUN, geometry="v10", n_particles=2), 0)
    assert event.hits.layer.max() == 49


def test_nothing_but_noise():
    event = simulate_event(replace(GUN, particles="none"), 0)
    assert len(event.truth.pdg) == len(event.truth.hit) == 0
    assert 3000 < len(event.hits.cell) < 6000
    silent = simulate_event(replace(GUN, particles="none", noise=False), 0)
    assert len(silent.hits.cell) == 0
    assert list(simulate_calorimeter(replace(GUN, events=0))) == []


def test_top_pairs_with_pileup_from_pythia():
    pytest.importorskip("pythia8mc")
    config = CalorimeterSimulation(
        particles="ttbar", pileup=5, pileup_source="pythia", minbias_pool=500, events=1
    )
    (event,) = simulate_calorimeter(config)
    assert 0 < event.truth.hard_scatter.sum() < len(event.truth.pdg)
    assert {22, 211, 130} <= set(np.abs(event.truth.pdg))
    assert set(np.abs(event.truth.pdg)).isdisjoint({12, 14, 16})


def test_auto_takes_pythia_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(simulation.importlib.util, "find_spec", lambda name: None)
    assert pileup_source(GUN) == "hagedorn"
    monkeypatch.setattr(simulation.importlib.util, "find_spec", lambda name: name)
    assert pileup_source(GUN) == "pythia"
    assert pileup_source(BUSY) == "hagedorn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pileup": -1}, "pileup of the calorimeter simulation is -1; allowed: 0 to 1000"),
        (
            {"energy_min": 50.0, "energy_max": 20.0},
            "energy_max of the calorimeter simulation is 20.0; allowed: 50.0",
        ),
        ({"eta_max": 5.0}, "eta_max .* allowed: 1.6 to 3.2"),
        ({"threshold": -1.0}, "threshold"),
        ({"particles": "photon,quark"}, "'quark' is unknown"),
        ({"particles": ""}, "unknown"),
        ({"workers": 0}, "workers"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(GUN, **change)
