"""The detector in formulas, its secondary vertices and its pile-up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from recon.sim.jets_clustering import ClusteredJets
from recon.sim.jets_detector import (
    CHARGED_HADRON,
    ELECTRON,
    HCAL_CELL,
    MUON,
    NEUTRAL_HADRON,
    PHOTON,
    Candidates,
    Particles,
    detect,
    directions,
    four_momenta,
    impact_parameter_errors,
    is_visible,
)
from recon.sim.jets_pileup import _alpha, _puppi_weights, from_primary_vertex, mix_pileup, remove_pileup
from recon.sim.jets_vertices import find_vertices
from recon.sim.pool import Pool

N = 20_000


def particles(pdg, charge, pt, eta, phi=0.3, *, vertex=(0.0, 0.0, 0.0), event=None):
    pt, eta, phi = np.broadcast_arrays(*(np.asarray(values, float) for values in (pt, eta, phi)))
    n = len(pt)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    return Particles(
        event=np.arange(n) if event is None else event,
        pdg=np.full(n, pdg, np.int32),
        charge=np.full(n, charge, np.int32),
        momentum=momentum,
        vertex=np.tile(np.asarray(vertex, float), (n, 1)),
        pileup=np.full(n, np.nan),
    )


def candidates(n, rng, **changes):
    """Random tracks of one event."""
    columns = {
        "event": np.zeros(n, np.int64),
        "kind": np.full(n, CHARGED_HADRON, np.int32),
        "charge": np.ones(n, np.int32),
        "pt": rng.exponential(2, n) + 0.5,
        "eta": rng.uniform(-2, 2, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
        "d0": np.zeros(n),
        "d0_error": np.full(n, 0.02),
        "dz": np.zeros(n),
        "dz_error": np.full(n, 0.02),
        "vertex": np.zeros((n, 3)),
        "pileup": np.full(n, np.nan),
        "weight": np.ones(n),
    }
    return Candidates(**{**columns, **changes})


@pytest.mark.parametrize(
    ("code", "charge", "kinds"),
    [
        (211, 1, {CHARGED_HADRON, NEUTRAL_HADRON}),
        (11, -1, {ELECTRON, PHOTON}),
        (13, -1, {MUON}),
        (22, 0, {PHOTON}),
        (130, 0, {NEUTRAL_HADRON}),
    ],
)
def test_kinds_and_what_becomes_of_lost_tracks(rng, code, charge, kinds):
    seen = detect(particles(code, charge, np.full(2000, 20.0), 0.5), rng)
    assert set(seen.kind) == kinds
    assert ((seen.charge != 0) == np.isin(seen.kind, (CHARGED_HADRON, ELECTRON, MUON))).all()
    assert (seen.d0_error[seen.charge == 0] == 0).all()
    assert (seen.weight == 1).all()
    share = len(seen.event) / 2000
    assert share == pytest.approx(0.95, abs=0.02) if code == 13 else share > 0.95


@pytest.mark.parametrize(("eta", "efficiency"), [(0.5, 0.95), (2.0, 0.85), (2.7, 0.0)])
def test_tracks_are_found_as_often_as_they_should(rng, eta, efficiency):
    seen = detect(particles(211, 1, np.full(N, 20.0), eta), rng)
    assert (seen.charge != 0).sum() / N == pytest.approx(efficiency, abs=4 * 0.5 / math.sqrt(N))


def test_resolutions(rng):
    muons = detect(particles(13, -1, np.full(N, 100.0), 0.5), rng)
    np.testing.assert_allclose(muons.pt.std() / 100, math.hypot(0.01, 0.015), rtol=0.03)
    np.testing.assert_allclose((muons.d0 / muons.d0_error).std(), 1, rtol=0.03)
    photons = detect(particles(22, 0, np.full(N, 50.0), 0.0), rng)
    energy = four_momenta(photons)[:, 3]
    np.testing.assert_allclose(energy.mean(), 50, rtol=2e-3)
    np.testing.assert_allclose(energy.std() / 50, math.hypot(0.05 / math.sqrt(50), 0.007), rtol=0.04)


def test_impact_parameters_by_hand():
    # Made 3 mm off along x, flying along y: d0 = x sin(phi) - y cos(phi) = 3 mm, and z where it was made.
    lots = particles(13, -1, np.full(N, 1000.0), 1.0, math.pi / 2, vertex=(3.0, 0.0, 7.0))
    seen = detect(lots, np.random.default_rng(0))
    np.testing.assert_allclose(seen.d0.mean(), 3.0, atol=1e-3)
    np.testing.assert_allclose(seen.dz.mean(), 7.0, atol=1e-3)
    # Flying along x instead, the point at x = 0 is 3 sinh(eta) below.
    lots = particles(13, -1, np.full(N, 1000.0), 1.0, 0.0, vertex=(3.0, 0.0, 7.0))
    seen = detect(lots, np.random.default_rng(0))
    np.testing.assert_allclose(seen.d0.mean(), 0.0, atol=1e-3)
    np.testing.assert_allclose(seen.dz.mean(), 7.0 - 3.0 * math.sinh(1.0), atol=1e-3)
    errors = impact_parameter_errors(np.array([1.0, 100.0]), np.zeros(2))
    np.testing.assert_allclose(errors[0], [math.hypot(0.012, 0.070), math.hypot(0.012, 0.0007)])
    np.testing.assert_allclose(errors[1], [math.hypot(0.020, 0.100), math.hypot(0.020, 0.001)])


def test_towers_add_up_what_falls_into_them():
    # Two of four in one tower, one next to it, one in another event.
    eta = np.array([0.1, 0.5, 1.5, 0.1]) * HCAL_CELL
    event = np.array([0, 0, 0, 1])
    together = particles(130, 0, np.full(4, 1000.0), eta, 0.01, event=event)
    seen = detect(together, np.random.default_rng(0))
    assert seen.event.tolist() == [0, 0, 1]
    assert sorted(np.round(seen.pt / 1000)) == [1, 1, 2]
    assert (np.abs(seen.eta) < 2 * HCAL_CELL).all()


def test_what_is_visible():
    momentum = np.array([[1.0, 0, 0, 1], [0.05, 0, 0, 0.05], [1, 0, 100, 100], [1, 0, 0, 1]])
    assert is_visible(np.array([22, 22, 22, -14], np.int32), momentum).tolist() == [True, False, False, False]


def test_directions_at_the_seam():
    pt, eta, phi = directions(np.array([[-1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose([pt[0], eta[0], phi[0]], [1, np.arcsinh(1), np.pi])
    assert np.isfinite([pt[1], eta[1], phi[1]]).all()


def one_jet(n):
    return ClusteredJets(
        np.zeros(1, np.int64), np.array([[100.0, 0, 0, 110]]), np.arange(n), np.array([0, n])
    )


def test_vertices_of_tracks_from_one_point(rng):
    place = np.zeros((9, 3))
    place[:3] = (5.0, 0.0, 1.0)  # three tracks
    place[3] = (0.0, 9.0, 0.0)  # alone
    place[4:6] = (0.05, 0.0, 0.0)  # too near to be told from the collision
    place[6:8] = (900.0, 0.0, 0.0)  # outside the pixels
    tracks = candidates(
        9, rng, vertex=place, eta=rng.normal(0.2, 0.02, 9), phi=rng.normal(0, 0.02, 9), pt=np.full(9, 20.0)
    )
    found = find_vertices(tracks, one_jet(9), rng)
    assert found.n_tracks.tolist() == [3]
    np.testing.assert_allclose(found.momentum[0], four_momenta(tracks)[:3].sum(axis=0))
    assert abs(found.d3d[0] - math.sqrt(26)) < 5 * found.d3d_error[0]
    assert abs(found.dxy[0] - 5) < 5 * found.dxy_error[0]
    assert found.cosine[0] > 0.99
    # A neutral candidate from there has no track to add.
    neutral = tracks._replace(charge=np.r_[0, tracks.charge[1:]], d0_error=np.r_[0.0, tracks.d0_error[1:]])
    assert find_vertices(neutral, one_jet(9), rng).n_tracks.tolist() == [2]


def test_vertices_are_smeared_by_their_errors(rng):
    n = 4000
    place = np.tile([30.0, 0.0, 6.0], (2 * n, 1))
    tracks = candidates(
        2 * n, rng, vertex=place, eta=np.full(2 * n, 0.2), phi=np.zeros(2 * n), pt=np.full(2 * n, 30.0)
    )
    momentum = np.tile([100.0, 0, 0, 110], (n, 1))
    jets = ClusteredJets(np.zeros(n, np.int64), momentum, np.arange(2 * n), np.arange(0, 2 * n + 1, 2))
    found = find_vertices(tracks, jets, rng)
    assert len(found.jet) > 0.99 * n
    pulls = (found.d3d - math.hypot(30, 6)) / found.d3d_error
    np.testing.assert_allclose([pulls.mean(), pulls.std()], [0, 1], atol=0.06)
    np.testing.assert_allclose(found.normalised_chi2.mean(), 1, atol=0.1)


def test_no_tracks_no_vertices(rng):
    empty = find_vertices(candidates(0, rng), one_jet(0), rng)
    assert len(empty.jet) == 0


def toy_pool(n):
    codes = np.tile(np.int32([211, 22, 130]), n)
    vectors = np.tile(np.float32([[1, 0, 0.5]]), (3 * n, 1))
    zeros = np.zeros(3 * n, np.float32)
    charge = (codes == 211).astype(np.int32)
    extra = {"tracked": charge > 0} if "tracked" in Pool._fields else {}
    columns = {
        "pdg": codes,
        "charge": charge,
        "mass": zeros,
        "momentum": vectors,
        "vertex": 0 * vectors,
        "time": zeros,
    }
    return Pool(**columns, **extra, offsets=np.arange(0, 3 * n + 1, 3))


def test_pileup_is_laid_under_its_event(rng):
    hard = particles(211, 1, np.full(4, 10.0), 0.1, event=np.array([0, 0, 1, 2]))
    mixed = mix_pileup(hard, toy_pool(5), np.array([3, 0, 2]), rng)
    # A charged particle and a photon of each collision; neutral hadrons are not drawn.
    assert np.bincount(mixed.event).tolist() == [2 + 6, 1, 1 + 4]
    assert (np.diff(mixed.event) >= 0).all()
    own = np.isnan(mixed.pileup)
    assert own.sum() == 4
    np.testing.assert_allclose(mixed.vertex[~own][:, 2], mixed.pileup[~own])
    np.testing.assert_allclose(np.hypot(*mixed.momentum[~own][:, :2].T), 1)
    assert mix_pileup(hard, toy_pool(5), np.zeros(3, np.int64), rng) is hard


def busy_event(rng, n=1200):
    """Tracks of a hard jet, of pile-up everywhere, and photons of both; two events."""
    jet = rng.random(n) < 0.3
    eta = np.where(jet, rng.normal(0, 0.15, n), rng.uniform(-1.2, 1.2, n))
    phi = np.where(jet, np.pi + rng.normal(0, 0.15, n), rng.uniform(-np.pi, np.pi, n))
    phi = (phi + np.pi) % (2 * np.pi) - np.pi
    charge = (rng.random(n) < 0.6).astype(np.int32)
    return candidates(
        n,
        rng,
        event=np.sort(rng.integers(0, 2, n)),
        eta=eta,
        phi=phi,
        charge=charge,
        kind=np.where(charge > 0, CHARGED_HADRON, PHOTON).astype(np.int32),
        pt=np.where(jet, 10.0, 1.0) * rng.uniform(0.5, 1.5, n),
        pileup=np.where(jet, np.nan, rng.normal(0, 50, n)),
    )


def test_puppi_agrees_with_the_twin(rng):
    busy = busy_event(rng)
    primary = from_primary_vertex(busy)
    weights = _puppi_weights(busy, primary, 2)
    slow = np.zeros(len(weights))
    for i in range(len(slow)):
        for j in np.flatnonzero(primary & (busy.event == busy.event[i])):
            gap = math.hypot(
                busy.eta[i] - busy.eta[j], math.remainder(busy.phi[i] - busy.phi[j], 2 * math.pi)
            )
            if 0.02 < gap < 0.4:
                slow[i] += (busy.pt[j] / gap) ** 2
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(_alpha(busy, primary, 2), np.log(slow))
    for event in range(2):
        here = busy.event == event
        alpha = [math.log(a) for a in slow[here & (busy.charge != 0) & ~primary] if a > 0]
        median = np.median(alpha)
        below = [(a - median) ** 2 for a in alpha if a < median]
        width = math.sqrt(sum(below) / len(below))
        for i in np.flatnonzero(here):
            pull = (math.log(slow[i]) - median) / width if slow[i] > 0 else -1
            weight = chi2.cdf(pull**2, 1) if pull > 0 else 0
            np.testing.assert_allclose(weights[i], weight if weight >= 0.01 else 0, atol=1e-9)


def test_removal(rng):
    busy, n_pileup = busy_event(rng), np.array([30, 30])
    assert remove_pileup(busy, "none", n_pileup) is busy
    assert remove_pileup(busy, "puppi", np.zeros(2, np.int64)) is busy
    own = np.isnan(busy.pileup)
    kept = remove_pileup(busy, "chs", n_pileup)
    assert len(kept.pt) == (~((busy.charge != 0) & (np.abs(busy.pileup) > 0.3))).sum()
    weighted = remove_pileup(busy, "puppi", n_pileup)
    neutral = weighted.charge == 0
    assert (weighted.weight[~neutral] == 1).all()
    assert 0 < weighted.weight[neutral].min() <= weighted.weight.max() <= 1
    hard, soft = (weighted.weight[neutral & (np.isnan(weighted.pileup) == flag)] for flag in (True, False))
    assert hard.sum() / ((busy.charge == 0) & own).sum() > 0.8
    assert soft.sum() / ((busy.charge == 0) & ~own).sum() < 0.2
    np.testing.assert_allclose(
        four_momenta(weighted)[:, 0], weighted.weight * weighted.pt * np.cos(weighted.phi)
    )


def test_rotation_does_not_change_the_weights(rng):
    busy = busy_event(rng)
    turned = busy._replace(phi=(busy.phi + 2.0 + np.pi) % (2 * np.pi) - np.pi)
    one, other = (_puppi_weights(event, from_primary_vertex(event), 2) for event in (busy, turned))
    np.testing.assert_allclose(one, other, atol=1e-6)
