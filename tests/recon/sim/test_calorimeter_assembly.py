"""Putting endcaps together: rows of hits and particles stay where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter
from recon.sim.calorimeter_assembly import assemble
from recon.sim.calorimeter_noise import ReadOut
from recon.sim.calorimeter_particles import Incident
from recon.sim.mixing import GeneratedParticles


@pytest.fixture(scope="module")
def calorimeter():
    return build_calorimeter(EndcapGeometry(n_layers=2, phi_min=0.0, phi_max=0.1))


GENERATED = GeneratedParticles(
    collision=np.array([1, 1, 2, 3]),
    secondary_vertex=np.zeros(4, np.int64),
    particle=np.arange(1, 5),
    pdg=np.array([22, 211, -211, 130], np.int32),
    charge=np.array([0, 1, -1, 0], np.int32),
    mass=np.zeros(4),
    momentum=np.arange(12.0).reshape(4, 3),
    vertex=np.arange(12.0).reshape(4, 3) * 0.1,
    time=np.zeros(4),
)


def at_face(*rows):
    n = len(rows)
    row = np.array(rows, np.int32)
    zero = np.zeros(n)
    return Incident(row, GENERATED.pdg[row], GENERATED.charge[row], zero, zero, zero, zero, zero)


def read_out(cells, hits, particles, fractions):
    return ReadOut(
        np.array(cells), np.full(len(cells), 2.0), np.array(hits), np.array(particles), np.array(fractions)
    )


def test_two_endcaps_by_hand(calorimeter):
    forward = read_out([3, 8, 9], [0, 2, 2], [1, 0, 1], [1.0, 0.25, 0.5])
    backward = read_out([3, 5], [1], [0], [0.75])
    event = assemble(6, GENERATED, calorimeter, [(1, at_face(0, 2), forward), (-1, at_face(3, 1), backward)])
    assert event.number == 6
    assert event.hits.cell.tolist() == [3, 8, 9, 3, 5]
    np.testing.assert_array_equal(event.hits.position[:3], calorimeter.position[[3, 8, 9]])
    np.testing.assert_array_equal(event.hits.position[3:, 2], -calorimeter.position[[3, 5], 2])
    np.testing.assert_allclose(event.hits.energy, 2.0 * calorimeter.gev_per_mip[[3, 8, 9, 3, 5]])
    truth = event.truth
    assert truth.pdg.tolist() == [22, -211, 130, 211]
    assert truth.hard_scatter.tolist() == [True, False, False, True]
    np.testing.assert_allclose(truth.momentum, GENERATED.momentum[[0, 2, 3, 1]])
    np.testing.assert_allclose(truth.vertex, GENERATED.vertex[[0, 2, 3, 1]], rtol=1e-6)
    assert truth.hit.tolist() == [0, 2, 2, 4]
    assert truth.particle.tolist() == [1, 0, 1, 2]
    np.testing.assert_allclose(truth.fraction, [1.0, 0.25, 0.5, 0.75])


def test_the_table_of_cells_is_not_written_to(calorimeter):
    before = calorimeter.position.copy()
    assemble(0, GENERATED, calorimeter, [(-1, at_face(0), read_out([1, 2], [0], [0], [1.0]))])
    np.testing.assert_array_equal(calorimeter.position, before)


def test_nothing_at_all(calorimeter):
    empty = ReadOut(*(np.zeros(0, np.int64) if i != 1 else np.zeros(0) for i in range(4)), np.zeros(0))
    event = assemble(0, GENERATED, calorimeter, [(1, at_face(), empty)])
    assert len(event.hits.cell) == len(event.truth.pdg) == len(event.truth.hit) == 0
