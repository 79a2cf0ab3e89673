"""Hadronic showers and tracks: where they begin, what they leave, and which particles make what."""

from __future__ import annotations

import numpy as np
import pytest

from recon.hgcal_clustering.layers import endcap_layers
from recon.sim.calorimeter_hadrons import ENERGY_PER_LENGTH, hadronic_spots, shower_spots, track_spots
from recon.sim.calorimeter_particles import Incident

LAYERS = endcap_layers("v16")


def incident(pdg, charge, energy, n=1, x=1100.0):
    """Particles parallel to the beam."""
    return Incident(
        row=np.arange(n, dtype=np.int32),
        pdg=np.full(n, pdg, np.int32),
        charge=np.full(n, charge, np.int32),
        energy=np.full(n, float(energy)),
        x0=np.full(n, x),
        y0=np.zeros(n),
        slope_x=np.zeros(n),
        slope_y=np.zeros(n),
    )


def weighted_energy(spots, n):
    return np.bincount(spots.particle, spots.energy * LAYERS.weight[spots.layer], n) * 1e-3


def test_a_muon_leaves_one_spot_a_layer(rng):
    n = 500
    spots = shower_spots(incident(13, -1, 30.0, n), LAYERS, rng)
    assert (np.bincount(spots.particle) == 47).all()
    np.testing.assert_allclose(spots.x, 1100.0)
    assert spots.energy.mean() == pytest.approx(1.0, abs=0.05)
    assert 0.7 < np.median(spots.energy) < 0.95
    assert spots.energy.max() <= 10.0


def test_tracks_end_where_they_are_told_to(rng):
    length = np.array([0.0, 0.1, LAYERS.interaction[30] + 1e-6, np.inf])
    spots = track_spots(incident(211, 1, 5.0, 4), length, LAYERS, rng)
    expected = [(LAYERS.interaction < depth).sum() for depth in length]
    assert np.bincount(spots.particle, minlength=4).tolist() == expected
    assert expected[2:] == [31, 47]


def test_oblique_tracks_cross_more_silicon(rng):
    slanted = incident(13, 1, 5.0, 2000)._replace(slope_x=np.full(2000, 0.75))
    straight = track_spots(incident(13, 1, 5.0, 2000), np.full(2000, 0.3), LAYERS, rng)
    oblique = track_spots(slanted, np.full(2000, 0.3), LAYERS, rng)
    assert oblique.energy.mean() / straight.energy.mean() == pytest.approx(1.25, rel=0.01)
    assert oblique.layer.max() < straight.layer.max()


def test_neutral_hadrons_leave_no_track(rng):
    n = 400
    track, _, _ = hadronic_spots(incident(130, 0, 20.0, n), np.arange(n), LAYERS, rng)
    assert len(track.layer) == 0
    charged, _, _ = hadronic_spots(incident(211, 1, 20.0, n), np.arange(n), LAYERS, rng)
    assert len(charged.layer) > 5 * n


def test_hadrons_interact_after_one_length_on_average(rng):
    n = 4000
    track, _, _ = hadronic_spots(incident(211, 1, 100.0, n), np.arange(n), LAYERS, rng)
    crossed = np.bincount(track.particle, minlength=n)
    # Sensors at depth d are crossed by exp(-d / length) of the tracks.
    share = (crossed > 25).mean()
    assert share == pytest.approx(np.exp(-LAYERS.interaction[25] / 1.2), abs=0.03)


def test_soft_charged_hadrons_range_out(rng):
    """0.3 GeV is spent after 1.5 interaction lengths at the latest."""
    n = 2000
    track, electromagnetic, hadronic = hadronic_spots(incident(211, 1, 0.3, n), np.arange(n), LAYERS, rng)
    assert LAYERS.interaction[track.layer].max() < 0.3 / ENERGY_PER_LENGTH
    deepest = np.flatnonzero(LAYERS.interaction < 0.3 / ENERGY_PER_LENGTH).max()
    assert (track.layer == deepest).any()
    assert len(electromagnetic.layer) == 0
    assert len(hadronic.layer) < 3 * n


@pytest.mark.parametrize("energy", [20.0, 50.0, 200.0])
def test_calibrated_response_of_pions(rng, energy):
    """Silicon of CE-E is divided by 0.76, that of CE-H by 0.85."""
    n = 2000
    spots = shower_spots(incident(211, 1, energy, n), LAYERS, rng)
    correction = np.where(spots.layer < 26, 0.76, 0.85)
    calibrated = spots._replace(energy=spots.energy / correction)
    assert weighted_energy(calibrated, n).mean() / energy == pytest.approx(1.0, abs=0.12)


def test_hadronic_showers_are_wider_than_electromagnetic_ones(rng):
    pion = shower_spots(incident(211, 1, 50.0, 200), LAYERS, rng)
    photon = shower_spots(incident(22, 0, 50.0, 200), LAYERS, rng)
    width = [np.average(np.hypot(s.x - 1100.0, s.y), weights=s.energy) for s in (pion, photon)]
    assert width[0] > 2.0 * width[1]


def test_electrons_do_not_convert_first(rng):
    n = 300
    depth = [
        LAYERS.x0[shower_spots(incident(pdg, charge, 50.0, n), LAYERS, rng).layer].mean()
        for pdg, charge in ((22, 0), (11, -1))
    ]
    assert depth[0] - depth[1] == pytest.approx(9.0 / 7.0, abs=0.4)


def test_every_kind_at_once_keeps_its_row(rng):
    kinds = [(22, 0), (11, 1), (13, -1), (211, 1), (130, 0), (2112, 0)]
    mixed = incident(0, 0, 30.0, len(kinds))._replace(
        pdg=np.array([pdg for pdg, _ in kinds], np.int32), charge=np.array([q for _, q in kinds], np.int32)
    )
    spots = shower_spots(mixed._replace(x0=np.arange(6) * 300.0), LAYERS, rng)
    assert set(spots.particle) == set(range(6))
    for row in range(6):
        assert np.median(spots.x[spots.particle == row]) == pytest.approx(300.0 * row, abs=30.0)


def test_nobody_comes(rng):
    assert len(shower_spots(incident(22, 0, 1.0, 0), LAYERS, rng).energy) == 0
