"""Simulated events: truth, noise, sizes, and that an event depends on its settings and number alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.sim.tracker import TrackerSimulation, simulate_events
from recon.tracking.detector import load_detector, to_global, to_local
from recon.types import NOISE

pytest.importorskip("acts")
pytest.importorskip("pythia8mc")


def assert_same_event(one, other):
    assert one.number == other.number
    np.testing.assert_array_equal(one.hit_id, other.hit_id)
    np.testing.assert_array_equal(one.particle_id, other.particle_id)
    for name in ("hits", "particles", "truth"):
        for field, column in getattr(one, name)._asdict().items():
            np.testing.assert_array_equal(column, getattr(getattr(other, name), field), err_msg=field)


def hits_per_particle(event):
    rows = event.particles.hit_particle
    return np.bincount(rows[rows >= 0], minlength=len(event.particle_id))


@pytest.fixture(scope="module")
def detector():
    return load_detector("generic")


def test_events_come_in_order_with_their_numbers(events):
    assert [event.number for event in events] == list(range(6))


def test_event_alone_is_the_event_in_a_run(events, settings):
    (alone,) = simulate_events(replace(settings, first_event=4, events=1))
    assert_same_event(alone, events[4])


def test_two_processes_make_the_same_events(monkeypatch, events, settings):
    # One event in a chunk, so that there is something to share out.
    monkeypatch.setattr("recon.sim.tracker._MAX_CHUNK", 1)
    again = list(simulate_events(replace(settings, first_event=1, events=3, workers=2)))
    for one, other in zip(again, events[1:4], strict=True):
        assert_same_event(one, other)


def test_seeds_and_numbers_give_different_events(events, settings):
    (other,) = simulate_events(replace(settings, seed=2, events=1))
    assert len(other.hit_id) != len(events[0].hit_id)
    assert len({len(event.hit_id) for event in events}) == len(events)


def test_noise_is_the_asked_fraction_of_the_real_hits(events):
    for event in events:
        noise = event.particles.hit_particle == NOISE
        assert noise.sum() == int(0.15 * (~noise).sum())


def test_without_noise_every_hit_has_a_particle(settings):
    (event,) = simulate_events(replace(settings, events=1, noise_fraction=0.0))
    assert (event.particles.hit_particle >= 0).all()
    assert np.isfinite(event.truth.position).all()


def test_noise_does_not_change_the_real_hits(events, settings):
    (clean,) = simulate_events(replace(settings, events=1, noise_fraction=0.0))
    real = events[0].particles.hit_particle >= 0
    ours = np.sort(events[0].hits.position[real], axis=0)
    np.testing.assert_array_equal(ours, np.sort(clean.hits.position, axis=0))


def test_place_in_the_list_tells_nothing(events):
    for event in events:
        n = len(event.hit_id)
        row = np.arange(n) / n
        noise = event.particles.hit_particle == NOISE
        # Mean of k uniform numbers: five standard deviations.
        assert abs(row[noise].mean() - 0.5) < 5 / np.sqrt(12 * noise.sum())
        assert abs(np.corrcoef(row, event.hits.layer)[0, 1]) < 5 / np.sqrt(n)


def test_identifiers(events):
    for event in events:
        assert event.hit_id.tolist() == list(range(1, len(event.hit_id) + 1))
        assert (np.diff(event.particle_id.astype(object)) > 0).all()
        collision = event.particle_id >> np.uint64(52)
        assert collision.min() == 1
        assert collision.max() == 11


def test_hits_lie_on_their_sensors(detector, events):
    hits = events[0].hits
    np.testing.assert_array_equal(hits.layer, detector.layer[hits.module])
    np.testing.assert_array_equal(hits.position, to_global(detector, hits.module, hits.local))
    assert (np.abs(hits.local[:, 1]) <= detector.half_size[hits.module, 2] * 1.0001).all()
    assert hits.valid.all()


def test_truth_lies_on_the_sensor_next_to_the_hit(detector, events):
    event = events[0]
    real = event.particles.hit_particle >= 0
    module, true = event.hits.module[real], event.truth.position[real]
    local = to_local(detector, module, true)
    off_plane = np.linalg.norm(to_global(detector, module, local) - true, axis=1)
    assert off_plane.max() < 2e-3
    sigma = np.sqrt(event.hits.variance[real])
    assert (np.abs(event.hits.local[real] - local) / sigma).max() < 20.0


def test_noise_has_no_truth(events):
    event = events[0]
    noise = event.particles.hit_particle == NOISE
    assert np.isnan(event.truth.position[noise]).all()
    assert np.isnan(event.truth.momentum[noise]).all()
    assert (event.truth.order[noise] == NOISE).all()
    assert np.isfinite(event.truth.momentum[~noise]).all()


def test_order_counts_the_hits_of_a_particle_outwards(events):
    event = events[0]
    rows, order = event.particles.hit_particle, event.truth.order
    count = hits_per_particle(event)
    for particle in np.flatnonzero(count):
        assert sorted(order[rows == particle].tolist()) == list(range(count[particle]))


def test_hard_particles_move_away_from_the_beam_line(events):
    event = events[0]
    momentum, rows = event.particles.momentum, event.particles.hit_particle
    for particle in np.flatnonzero(np.hypot(momentum[:, 0], momentum[:, 1]) > 2.0):
        hits = np.flatnonzero(rows == particle)
        distance = np.linalg.norm(event.truth.position[hits] - event.particles.vertex[particle], axis=1)
        assert (np.diff(distance[np.argsort(event.truth.order[hits])]) > 0).all()


def test_only_charged_particles_leave_hits(events):
    for event in events:
        count = hits_per_particle(event)
        assert (event.particles.charge[count > 0] != 0).all()
        assert np.isin(event.particles.charge, (-1, 0, 1)).all()


def test_secondaries_come_from_the_detector_material(events):
    vertex = np.concatenate([event.particles.vertex[~event.particles.primary] for event in events])
    pdg = np.concatenate([event.particles.pdg[~event.particles.primary] for event in events])
    assert set(np.unique(np.abs(pdg))) == {11, 22}  # conversions and bremsstrahlung
    # Nothing but the beam pipe at 19 mm lies further in.
    assert np.hypot(vertex[:, 0], vertex[:, 1]).min() > 18.9


def test_momentum_at_the_first_hit_is_the_momentum_at_birth(events):
    event = events[0]
    first = np.flatnonzero(event.truth.order == 0)
    born = np.linalg.norm(event.particles.momentum[event.particles.hit_particle[first]], axis=1)
    seen = np.linalg.norm(event.truth.momentum[first], axis=1)
    assert np.median(np.abs(seen / born - 1.0)) < 0.01
    assert (seen < born * 1.001).all()


def test_sizes_are_those_of_the_first_measurements(settings):
    """Means over 19 events were 2,150 measurements without pile-up; pions cross 11 to 12 layers."""
    events = list(simulate_events(replace(settings, pileup=0, events=30, noise_fraction=0.0)))
    n = np.array([len(event.hit_id) for event in events])
    assert abs(n.mean() - 2150) < 4 * n.std() / np.sqrt(len(n))
    crossed = np.concatenate(
        [
            hits_per_particle(event)[event.particles.primary & (event.particles.charge != 0)]
            for event in events
        ]
    )
    assert 10.0 < crossed[crossed > 0].mean() < 12.5


def test_pileup_adds_its_share_of_hits(events):
    # From 2,150 alone to 23,782 at a pile-up of 40: 541 measurements a collision, before noise.
    real = np.array([(event.particles.hit_particle >= 0).sum() for event in events])
    per_collision = (real - 2150) / 10
    assert abs(per_collision.mean() - 541) < 4 * per_collision.std() / np.sqrt(len(real))


def test_poisson_pileup_fluctuates_about_its_mean(settings):
    poisson = replace(settings, pileup=4, events=12, pileup_distribution="poisson", pt_min=0.5)
    n = [int((event.particle_id >> np.uint64(52)).max()) - 1 for event in simulate_events(poisson)]
    assert len(set(n)) > 3
    assert abs(np.mean(n) - 4.0) < 4 * np.sqrt(4 / 12)


def test_smeared_digitisation_has_no_cluster_shapes(detector, settings):
    (event,) = simulate_events(replace(settings, pileup=0, events=1, digitisation="smeared"))
    assert (event.hits.features == 0.0).all()
    real = event.particles.hit_particle >= 0
    true = to_local(detector, event.hits.module, event.truth.position)
    pull = ((event.hits.local - true) / np.sqrt(event.hits.variance))[real]
    np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.08)


def test_event_without_particles_is_empty(settings):
    (event,) = simulate_events(replace(settings, pileup=0, events=1, pt_min=100.0, eta_max=0.1))
    assert len(event.hit_id) == len(event.particle_id) == 0
    assert event.hits.position.shape == (0, 3)
    assert event.hits.features.shape == (0, 3)


def test_acceptance_settings_hold(settings):
    (event,) = simulate_events(replace(settings, events=1, pt_min=1.0, eta_max=2.0))
    momentum = event.particles.momentum[event.particles.primary]
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    assert pt.min() > 1.0
    assert np.abs(np.arcsinh(momentum[:, 2] / pt)).max() < 2.0


def test_no_events_is_no_work(settings):
    assert list(simulate_events(replace(settings, events=0))) == []


def test_simulation_is_silent_and_reports_progress(capfd, settings):
    calls = []
    few = replace(settings, events=2)
    list(simulate_events(few, progress=lambda *call: calls.append(call)))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert calls[-2:] == [("events", 1, 2), ("events", 2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pileup": -1}, "pileup of the tracker simulation is -1; allowed: 0 to 1000"),
        ({"events": -1}, "events of the tracker simulation is -1"),
        ({"first_event": -3}, "first_event of the tracker simulation is -3"),
        ({"seed": 2**40}, "seed of the tracker simulation"),
        ({"noise_fraction": -0.1}, "noise_fraction .* allowed: 0.0 to 10.0"),
        ({"noise_fraction": float("nan")}, "noise_fraction of the tracker simulation is nan"),
        ({"pt_min": 0.05}, "pt_min .* is 0.05; allowed: 0.1 to 100.0"),
        ({"eta_max": 5.0}, "eta_max .* allowed: 0.1 to 4.5"),
        ({"minbias_pool": 0}, "minbias_pool"),
        ({"workers": 0}, "workers"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ConfigError, match=message):
        TrackerSimulation(**change)


def test_missing_extra_is_reported_before_any_work(monkeypatch, settings):
    monkeypatch.setitem(__import__("sys").modules, "acts.examples", None)
    with pytest.raises(ConfigError, match=r"pyacts.*pip install 'recon-hep\[sim\]'"):
        simulate_events(settings)


def test_failure_inside_the_sequencer_is_reported_as_itself(monkeypatch, settings):
    def fail(*_):
        raise ConfigError("no such collision")

    monkeypatch.setattr("recon.sim.tracker.single_collision", fail)
    with pytest.raises(ConfigError, match="no such collision"):
        list(simulate_events(replace(settings, events=1)))
