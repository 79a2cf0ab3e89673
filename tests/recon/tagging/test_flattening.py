from __future__ import annotations

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.tagging.flattening import LARGEST, draw_chance


@pytest.fixture(scope="module")
def jets():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, -1], [6000, 2000, 50])
    falling = 400 + rng.exponential(150, 6000)
    rising = 1000 - rng.exponential(200, 2000)
    pt = np.concatenate([falling, rising, np.full(50, 500.0)]).clip(400, 1000)
    mass = np.concatenate([rng.exponential(40, 6000), rng.normal(120, 30, 2000), np.zeros(50)])
    return label, pt.astype(np.float32), mass.astype(np.float32)


def spectrum(values, chance, edges):
    histogram = np.histogram(values, edges, weights=chance)[0]
    return histogram / histogram.sum()


def test_momenta_become_flat_in_every_class(jets):
    label, pt, mass = jets
    chance = draw_chance(label, pt, mass, flatten="pt")
    edges = np.linspace(400, 1000, 21)
    for kind in (0, 1):
        rows = label == kind
        before, after = (spectrum(pt[rows], w[rows], edges) for w in (np.ones(len(pt)), chance))
        assert np.abs(after - 0.05).max() < 0.015
        assert np.abs(before - 0.05).max() > 0.05


def test_masses_become_flat_too(jets):
    label, pt, mass = jets
    chance = draw_chance(label, pt, mass, flatten="pt-mass")
    edges = np.linspace(30, 250, 12)
    rows = (label == 0) & (mass > 30)
    plain = draw_chance(label, pt, mass, flatten="pt")
    spread = [spectrum(mass[rows], w[rows], edges)[:6].std() for w in (plain, chance)]
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize(("balance", "ratio"), [(1.0, 3.0), (0.5, 3**0.5), (0.0, 1.0)])
def test_classes_are_balanced_as_asked(jets, balance, ratio):
    label, pt, mass = jets
    chance = draw_chance(label, pt, mass, balance=balance)
    assert chance[label == 0].sum() / chance[label == 1].sum() == pytest.approx(ratio, rel=1e-6)
    assert not chance[label < 0].any()


def test_without_flattening_all_jets_of_a_class_are_alike(jets):
    label, pt, mass = jets
    chance = draw_chance(label, pt, mass, flatten="none", balance=1.0)
    assert np.allclose(chance[label >= 0], 1.0)


def test_a_rare_jet_does_not_stand_for_a_whole_bin():
    label, pt = np.zeros(1001, int), np.append(np.full(1000, 500.0), 900.0)
    chance = draw_chance(label, pt, pt, flatten="pt")
    # Flat would be 1000 to 1; the mean is 2 of the common ones.
    assert chance[-1] / chance[0] == pytest.approx(2 * LARGEST, rel=1e-2)


def test_order_changes_nothing(jets):
    order = np.random.default_rng(1).permutation(len(jets[0]))
    whole = draw_chance(*jets)
    assert np.allclose(draw_chance(*(array[order] for array in jets)), whole[order])


def test_what_cannot_be_flattened_is_refused(jets):
    label, pt, mass = jets
    with pytest.raises(ConfigError, match="balance is 2"):
        draw_chance(label, pt, mass, balance=2.0)
    with pytest.raises(DataError, match="none of the 8050 jets"):
        draw_chance(np.full_like(label, -1), pt, mass)
    with pytest.raises(DataError, match="jet_sdmass"):
        draw_chance(label, pt, np.full_like(mass, np.nan), flatten="pt-mass")
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="jet_pt"):
            draw_chance(
                label, np.append(pt[1:], pt.dtype.type(500))[::-1] * np.append(bad, np.ones(8049)), mass
            )
    assert draw_chance(label, pt, np.full_like(mass, np.nan)).sum() > 0


def test_jets_that_are_never_drawn_decide_nothing(jets):
    label, pt, mass = jets
    plain = draw_chance(label, pt, mass)
    far = np.where(label < 0, np.float32(np.inf), pt)
    np.testing.assert_allclose(draw_chance(label, far, mass), plain)


def test_chances_by_hand():
    """Three jets in the first bin and one in the last: it stands for three, and the mean of a class is 1."""
    label, pt = np.array([0, 0, 0, 0, 1]), np.array([400.0, 401, 402, 500, 450])
    chance = draw_chance(label, pt, pt, balance=1.0)
    np.testing.assert_allclose(chance, [2 / 3, 2 / 3, 2 / 3, 2, 1])
    np.testing.assert_allclose(draw_chance(label, pt, pt, balance=0.0), np.append(chance[:4] / 4, 1))
