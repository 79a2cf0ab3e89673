"""Times of hits: by hand for single particles, in size and spread for many, and none where none can be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.sensors import SENSORS
from recon.sim.calorimeter import CalorimeterSimulation, simulate_event
from recon.sim.calorimeter_particles import Incident
from recon.sim.calorimeter_time import (
    CHARGE_MIN,
    COLLISION_SPREAD,
    ERROR_AT_THRESHOLD,
    ERROR_MIN,
    lateness,
    since_collision,
)
from recon.sim.mixing import BEAM_SPOT, LIGHT_SPEED, GeneratedParticles

FACE = 3210.0
GUN = CalorimeterSimulation(
    particles="photon", n_particles=20, energy_min=50.0, energy_max=200.0, endcaps="both"
)
BUSY = replace(GUN, particles="none", pileup=30, pileup_source="hagedorn", minbias_pool=200)


def generated(momentum, *, mass=0.0, vertex=0.0, time=None, collision=None):
    momentum = np.atleast_2d(np.asarray(momentum, np.float64))
    n = len(momentum)
    whole = np.zeros(n, np.int64)
    place = np.zeros((n, 3))
    place[:, 2] = vertex
    return GeneratedParticles(
        collision=np.ones(n, np.int64) if collision is None else np.asarray(collision),
        secondary_vertex=whole,
        particle=whole,
        pdg=np.full(n, 22, np.int32),
        charge=np.zeros(n, np.int32),
        mass=np.full(n, mass),
        momentum=momentum,
        vertex=place,
        time=np.zeros(n) if time is None else np.asarray(time, np.float64),
    )


def at_face(n):
    zero = np.zeros(n)
    return Incident(
        np.arange(n, dtype=np.int32),
        np.full(n, 22, np.int32),
        np.zeros(n, np.int32),
        zero,
        zero,
        zero,
        zero,
        zero,
    )


@pytest.mark.parametrize("side", [1, -1])
def test_light_and_slower_particles(side):
    """Along the beam light takes z / c, a proton of its mass in momentum sqrt(2) as long, a slanted path longer."""
    straight = lateness(generated([0.0, 0.0, side * 5.0]), at_face(1), FACE, side)
    assert straight[0] == pytest.approx(FACE / LIGHT_SPEED)
    heavy = lateness(generated([0.0, 0.0, side * 0.938], mass=0.938), at_face(1), FACE, side)
    assert heavy[0] == pytest.approx(np.sqrt(2) * FACE / LIGHT_SPEED)
    slanted = lateness(generated([3.0, 0.0, side * 4.0]), at_face(1), FACE, side)
    assert slanted[0] == pytest.approx(5 / 4 * FACE / LIGHT_SPEED)
    nearer = lateness(generated([0.0, 0.0, side * 5.0], vertex=side * 210.0), at_face(1), FACE, side)
    assert nearer[0] == pytest.approx((FACE - 210.0) / LIGHT_SPEED)


def test_decays_in_flight_are_late_whenever_the_collision_was():
    particles = generated(
        np.ones((4, 3)), time=[700.0, 700.0 + LIGHT_SPEED, -50.0, -50.0], collision=[1, 1, 2, 2]
    )
    np.testing.assert_allclose(since_collision(particles), [0.0, 1.0, 0.0, 0.0], atol=1e-12)


@pytest.fixture(scope="module")
def photons():
    return [simulate_event(GUN, number) for number in range(12)]


def test_photons_come_with_their_collision(photons):
    """All hits of an endcap share the time of the collision, and of light from its vertex, to their errors."""
    means, pulls = [], []
    for event in photons:
        for side in (-1, 1):
            there = np.isfinite(event.times.time) & (np.sign(event.hits.position[:, 2]) == side)
            time, error = event.times.time[there], event.times.error[there]
            weight = 1 / error**2
            middle = float((weight * time).sum() / weight.sum())
            means.append(middle)
            pulls.append((time - middle) / error)
    assert np.std(means) == pytest.approx(np.hypot(COLLISION_SPREAD, BEAM_SPOT[2] / LIGHT_SPEED), rel=0.4)
    pull = np.concatenate(pulls)
    # A shower is wide: cells beside its axis are a few millimetres, 10 ps, further.
    assert np.percentile(pull, 84) - np.percentile(pull, 16) == pytest.approx(2.0, rel=0.1)
    assert abs(np.median(pull)) < 0.1


def test_which_hits_have_a_time_and_how_well(photons):
    calorimeter = load_calorimeter(EndcapGeometry())
    per_mip = np.array([sensor.fc_per_mip for sensor in SENSORS])[calorimeter.sensor]
    for event in photons:
        hits, times = event.hits, event.times
        charge = hits.energy / calorimeter.gev_per_mip[hits.cell] * per_mip[hits.cell]
        there = np.isfinite(times.time)
        np.testing.assert_array_equal(there, np.isfinite(times.error))
        assert (charge[there] >= CHARGE_MIN * (1 - 1e-5)).all()
        # Above the threshold only noise has none: of these few.
        assert there[charge >= 1.5 * CHARGE_MIN].mean() > 0.99
        assert ERROR_MIN < times.error[there].min() < 1.1 * ERROR_MIN
        assert times.error[there].max() <= np.hypot(ERROR_MIN, ERROR_AT_THRESHOLD) * (1 + 1e-5)


def test_pileup_is_spread_and_late():
    event = simulate_event(BUSY, 0)
    time = event.times.time[np.isfinite(event.times.time)]
    assert len(time) > 1000
    low, middle, high = np.percentile(time, [16, 50, 84])
    assert high - low > 2 * COLLISION_SPREAD
    assert middle > 0


def test_times_leave_the_rest_of_an_event_as_it_was():
    """Their random numbers are their own: without noise or with, energies do not move."""
    one, other = simulate_event(GUN, 3), simulate_event(GUN, 3)
    np.testing.assert_array_equal(one.times.time, other.times.time)
    assert not np.array_equal(
        one.times.time, simulate_event(replace(GUN, seed=2), 3).times.time, equal_nan=True
    )
