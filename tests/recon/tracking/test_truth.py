"""True segments: order of the hits, overlaps, selection of particles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from recon.errors import DataError
from recon.tracking.truth import TargetHits, hit_order, particle_selection, true_segments
from recon.types import NOISE, Event, Hits, HitTruth, Particles


def particles(momentum, vertex=None, charge=None, hit_particle=(), valid=None):
    n = len(momentum)
    return Particles(
        momentum=np.asarray(momentum, np.float32).reshape(n, 3),
        vertex=np.zeros((n, 3), np.float32) if vertex is None else np.asarray(vertex, np.float32),
        charge=np.ones(n, np.int32) if charge is None else np.asarray(charge, np.int32),
        pdg=np.full(n, 211, np.int32),
        primary=np.ones(n, bool),
        valid=np.ones(n, bool) if valid is None else np.asarray(valid),
        hit_particle=np.asarray(hit_particle, np.int32),
    )


def event_of(layer, made, *, order=None, radius=None, momentum=None, vertex=None):
    """Hits on the x axis, one a row, of particles with a momentum of 1 GeV."""
    n = len(layer)
    position = np.zeros((n, 3), np.float32)
    position[:, 0] = np.arange(n) if radius is None else radius
    hits = Hits(
        position=position,
        layer=np.asarray(layer, np.int32),
        module=np.zeros(n, np.int32),
        local=np.zeros((n, 2), np.float32),
        variance=np.ones((n, 2), np.float32),
        features=np.ones((n, 2), np.float32),
        valid=np.ones(n, bool),
    )
    n_particles = max([0, *(np.asarray(made, int) + 1)])
    momentum = np.tile([1.0, 0.0, 0.0], (n_particles, 1)) if momentum is None else momentum
    truth = None
    if order is not None:
        unknown = np.full((n, 3), np.nan, np.float32)
        truth = HitTruth(unknown, unknown, np.asarray(order, np.int32))
    ids = np.arange(n, dtype=np.uint64)
    made_by = particles(momentum, vertex, hit_particle=made)
    return Event(3, hits, made_by, truth, ids, np.arange(len(momentum), dtype=np.uint64))


def segments(event, usable=None, **selection):
    inner, outer = true_segments(event, TargetHits(**selection), usable)
    assert len(inner) == len(outer)
    return sorted(zip(inner.tolist(), outer.tolist(), strict=True))


def slow_segments(event, order, selected, usable):
    """The definition in loops: group neighbours on one layer, join every group with the next."""
    found = []
    for particle in np.flatnonzero(selected):
        rows = [
            row for row in np.argsort(order, kind="stable") if event.particles.hit_particle[row] == particle
        ]
        groups, last = [], None
        for row in (row for row in rows if usable[row]):
            if event.hits.layer[row] != last:
                groups.append([])
            groups[-1].append(int(row))
            last = event.hits.layer[row]
        for one, two in pairwise(groups):
            found += [(i, o) for i in one for o in two]
    return sorted(found)


def test_a_chain_by_hand():
    # Particle 1 first hits row 4, then 0, then 2; rows 1 and 3 are of others.
    event = event_of([1, 5, 2, 5, 0], [1, NOISE, 1, 0, 1], order=[1, NOISE, 2, 0, 0])
    assert segments(event) == [(0, 2), (4, 0)]


def test_overlaps_are_connected_all_to_all():
    event = event_of([0, 1, 1, 2, 2, 3], [0] * 6, order=range(6))
    assert segments(event) == [(0, 1), (0, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 5), (4, 5)]


def test_a_particle_may_come_back_to_a_layer():
    event = event_of([0, 1, 0], [0] * 3, order=range(3))
    assert segments(event) == [(0, 1), (1, 2)]


def test_hits_on_one_layer_give_no_segment():
    assert segments(event_of([4, 4, 4], [0] * 3, order=range(3))) == []


def test_particles_are_never_joined():
    event = event_of([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], order=[0, 1, 2, 0, 1, 2])
    assert segments(event) == [(0, 1), (1, 2), (3, 4), (4, 5)]


def test_recorded_order_goes_before_distance():
    by_truth = event_of([0, 1, 2], [0] * 3, order=[2, 1, 0])
    assert segments(by_truth) == [(1, 0), (2, 1)]
    assert segments(by_truth._replace(truth=None)) == [(0, 1), (1, 2)]


def test_an_order_that_is_not_recorded_is_made_from_distances():
    # One hit of a particle without an order: none of them can be trusted.
    event = event_of([0, 1, 2], [0] * 3, order=[2, NOISE, 0])
    assert segments(event) == [(0, 1), (1, 2)]
    # Noise has no order anyway.
    noisy = event_of([0, 1, 2, 5], [0, 0, 0, NOISE], order=[2, 1, 0, NOISE])
    assert segments(noisy) == [(1, 0), (2, 1)]


def test_distance_counts_from_the_vertex_of_the_particle():
    event = event_of([0, 1, 2], [0] * 3, radius=[10.0, 20.0, 30.0], vertex=[[40.0, 0.0, 0.0]])
    assert segments(event) == [(1, 0), (2, 1)]
    assert hit_order(event).tolist() == [2, 1, 0]


def test_usable_hits_alone_take_part():
    event = event_of([0, 1, 2, 3], [0] * 4, order=range(4))
    assert segments(event, usable=np.array([True, False, True, True])) == [(0, 2), (2, 3)]


def test_loops_agree(small_event):
    usable = np.random.default_rng(0).uniform(size=len(small_event.hits.layer)) < 0.9
    selected = particle_selection(small_event.particles, TargetHits(pt_min=1.5))
    assert 0 < selected.sum() < len(selected)
    slow = slow_segments(small_event, small_event.truth.order, selected, usable)
    assert segments(small_event, usable, pt_min=1.5) == slow


def test_distances_give_the_recorded_order_of_particles_that_do_not_curl(small_event):
    assert segments(small_event._replace(truth=None)) == segments(small_event)


def test_simulated_segments_run_outwards_but_for_a_few(simulated_events):
    event = simulated_events[0]
    inner, outer = true_segments(event, TargetHits(pt_min=0.9, min_hits=6))
    assert len(inner) > 100
    distance = np.linalg.norm(event.hits.position, axis=1)
    assert (distance[outer] > distance[inner]).mean() > 0.99


def test_permuting_hits_permutes_segments(small_event, select_hits):
    order = np.random.default_rng(1).permutation(len(small_event.hits.layer))
    permuted = segments(select_hits(small_event, order))
    assert sorted((int(order[i]), int(order[o])) for i, o in permuted) == segments(small_event)


@pytest.mark.parametrize(
    ("setting", "value", "passes"),
    [
        ("pt_min", 5.0, True),
        ("pt_min", 5.001, False),
        ("min_hits", 3, True),
        ("min_hits", 4, False),
        ("radius_max", 13.0, True),
        ("radius_max", 12.999, False),
        ("eta_max", 1.001, True),
        ("eta_max", 0.999, False),
    ],
)
def test_limits_are_allowed_values(setting, value, passes):
    # pT 5 GeV from a 3-4-5 triangle, pseudorapidity 1 downwards, a vertex at radius 13, three hits.
    one = particles([[3.0, -4.0, -5.0 * np.sinh(1.0)]], [[5.0, 12.0, 99.0]], hit_particle=[0, NOISE, 0, 0])
    assert particle_selection(one, TargetHits(**{setting: value})).tolist() == [passes]


def test_neutral_and_padded_particles_are_left_out():
    two = particles([[1, 0, 0]] * 3, charge=[1, 0, -1], valid=[True, True, False], hit_particle=[0, 1, 2] * 3)
    assert particle_selection(two, TargetHits()).tolist() == [True, False, False]


def test_a_particle_at_rest_is_no_target():
    assert particle_selection(
        particles([[0, 0, 0]], hit_particle=[0] * 3), TargetHits(eta_max=4.0)
    ).tolist() == [True]
    forward = particles([[0, 0, 1.0]], hit_particle=[0] * 3)
    assert particle_selection(forward, TargetHits(eta_max=4.0)).tolist() == [False]


def test_empty_events():
    assert segments(event_of([], [])) == []
    assert segments(event_of([0, 1], [NOISE, NOISE])) == []
    assert segments(event_of([0, 1, 2], [NOISE] * 3, order=[NOISE] * 3)) == []
    assert hit_order(event_of([0, 1], [NOISE, NOISE])).shape == (2,)


def test_data_has_no_segments():
    event = event_of([0, 1], [0, 0])._replace(particles=None)
    with pytest.raises(DataError, match="event 3 has no truth"):
        true_segments(event, TargetHits())
    with pytest.raises(DataError, match="event 3 has no truth"):
        hit_order(event)
