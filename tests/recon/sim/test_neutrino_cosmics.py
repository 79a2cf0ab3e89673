"""Cosmic rays: the spectrum beside an independent one, directions and entry points beside geometry."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.sim.compiled import compiled
from recon.sim.neutrino_cosmics import (
    OVERBURDEN_LOSS,
    PHOTON_SHARE,
    Cosmics,
    cosmic_ray,
    cosmics,
    surface_flux,
)
from recon.sim.neutrino_detector import HALF_WIDTH, LENGTH, MUON
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_stack import Stack, new_stack

N = 20_000


@compiled
def many_rays(stack: Stack, tables: Cosmics, out: np.ndarray) -> None:
    truth = np.zeros(12)
    for i in range(len(out)):
        stack.size[0] = 0
        cosmic_ray(stack, tables, truth)
        out[i, :7] = stack.ray[0]
        out[i, 7] = stack.kind[0]
        out[i, 8] = truth[7]


@pytest.fixture(scope="module")
def rays():
    stack, out = new_stack(), np.zeros((N, 9))
    seed_stream(stack.random, 4, 0, 0)
    many_rays(stack, cosmics(), out)
    return out


@pytest.mark.parametrize(("energy", "flux"), [(1.0, 21.8), (5.0, 4.04), (20.0, 0.241)])
def test_vertical_flux(energy, flux):
    # The reference flux of the mulder package, 1/(m^2 s sr GeV), vertical, at sea level.
    assert surface_flux(np.array([energy]), np.array([1.0]))[0] == pytest.approx(flux, rel=0.08)


def test_integral_flux():
    # Particle Data Group: 70 vertical muons above 1 GeV/c a m^2 s sr; recent measurements find 10 to 15 % less.
    energy = np.geomspace(1.0, 2000, 4000)
    assert np.trapezoid(surface_flux(energy, np.ones_like(energy)), energy) == pytest.approx(
        0.875 * 70, rel=0.06
    )


def test_flux_falls_as_the_square_of_the_cosine():
    energy = np.full(1, 3.0)
    ratio = surface_flux(energy, np.array([0.5]))[0] / surface_flux(energy, np.array([1.0]))[0]
    assert ratio == pytest.approx(0.25, abs=0.12)


def test_fast_muons_come_from_the_side():
    share = [surface_flux(np.array([e]), np.array([0.3]))[0] / surface_flux(np.array([e]), np.array([1.0]))[0]
             for e in (3.0, 100.0, 1000.0)]  # fmt: skip
    assert share[0] < share[1] < share[2]


def test_rays_enter_through_the_surface(rays):
    x, y, z, ux, uy, uz = rays[:, :6].T
    assert (np.abs(x) <= HALF_WIDTH).all()
    assert (np.abs(y) <= HALF_WIDTH).all()
    assert ((z >= 0) & (z <= LENGTH)).all()
    top, left, right = y == HALF_WIDTH, x == -HALF_WIDTH, x == HALF_WIDTH
    front, back = z == 0.0, z == LENGTH
    assert (top | left | right | front | back).all()
    assert (ux[left & ~top] > 0).all()
    assert (ux[right & ~top] < 0).all()
    assert (uz[front & ~top] > 0).all()
    assert (uz[back & ~top] < 0).all()
    assert (uy < 0).all()
    np.testing.assert_allclose(np.linalg.norm(rays[:, 3:6], axis=1), 1, atol=1e-9)


def test_entries_by_face_beside_a_slow_integral(rays):
    tables = cosmics()
    # Flux by cosine from its quantiles, all azimuths, times the area of each face.
    cosine = np.repeat(0.5 * (tables.cosine[1:] + tables.cosine[:-1]), 180)
    phi = np.tile((np.arange(180) + 0.5) * 2 * np.pi / 180, len(tables.cosine) - 1)
    sine = np.sqrt(1 - cosine**2)
    side = 2 * HALF_WIDTH * LENGTH
    areas = np.array([(side * cosine).sum(), (side * np.abs(sine * np.cos(phi))).sum(),
                      (4 * HALF_WIDTH**2 * np.abs(sine * np.sin(phi))).sum()])  # fmt: skip
    top = rays[:, 1] == HALF_WIDTH
    sides = ~top & (np.abs(rays[:, 0]) == HALF_WIDTH)
    found = np.array([top.mean(), sides.mean(), 1 - top.mean() - sides.mean()])
    np.testing.assert_allclose(found, areas / areas.sum(), atol=0.012)


def test_entries_are_uniform_over_the_top(rays):
    top = rays[rays[:, 1] == HALF_WIDTH]
    assert top[:, 0].std() == pytest.approx(HALF_WIDTH / np.sqrt(3), rel=0.02)
    assert top[:, 2].std() == pytest.approx(LENGTH / np.sqrt(12), rel=0.02)


def test_energies_after_the_overburden(rays):
    muons = rays[rays[:, 7] == MUON]
    assert 1 - len(muons) / N == pytest.approx(PHOTON_SHARE, abs=0.005)
    assert (muons[:, 8] == -1).all()
    assert (rays[rays[:, 7] != MUON, 8] == -2).all()
    vertical = muons[-muons[:, 4] > 0.95]
    energy = np.geomspace(1e-3, 2000, 6000)
    value = surface_flux(energy + OVERBURDEN_LOSS, np.full_like(energy, 0.975))
    steps = np.concatenate([[0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(energy))])
    for cut in (2.0, 5.0, 20.0):
        expected = np.interp(cut, energy, steps) / steps[-1]
        assert np.mean(vertical[:, 6] < cut) == pytest.approx(expected, abs=0.03), cut
