"""Images of jets: by hand, against the twin, and what must not change them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError
from recon.io.jet_columns import jet_columns
from recon.tagging.features import make_jets
from recon.tagging.jet_images import (
    FAR,
    IMAGE_INPUTS,
    JetImageConfig,
    aligned,
    average_image,
    jet_images,
    turned,
)
from tests.recon.tagging.small_jets import make_table
from tests.reference.jet_images import jet_image, principal_axis

SMALL = JetImageConfig(pixels=8, channels=1)


def candidates_of(*rows):
    eta, phi, share = np.array(rows, np.float32).T
    return jnp.asarray(np.stack([eta, phi, np.log(share)], -1)[None])


def cloud(n=5, candidates=20, seed=0):
    rng = np.random.default_rng(seed)
    place = rng.normal(0, 0.45, (n, candidates, 2))
    share = rng.dirichlet(np.full(candidates, 0.4), n).clip(1e-6)
    valid = np.arange(candidates) < rng.integers(0, candidates + 1, n)[:, None]
    stacked = np.concatenate([place, np.log(share)[..., None]], -1).astype(np.float32)
    return jnp.asarray(stacked), jnp.asarray(valid)


def test_by_hand():
    # Pixels of 0.25: the axis lies on the edge that begins pixel 4.
    given = candidates_of((0.0, 0.0, 0.5), (0.1, 0.2, 0.25), (-1.0, 0.99, 0.125), (1.0, 0.0, 0.0625))
    pixels, outside = jet_images(given, jnp.ones((1, 4), bool), JetImageConfig(pixels=8))
    expected = np.zeros((8, 8))
    expected[4, 4], expected[0, 7] = 0.75, 0.125
    assert pixels.shape == (1, 8, 8, 3)
    for channel in range(3):
        np.testing.assert_allclose(pixels[0, ..., channel], expected, rtol=1e-6)
    # The upper edge is outside: the window is half open, so that every candidate has one pixel.
    np.testing.assert_allclose(outside, [0.0625], rtol=1e-6)


@pytest.mark.parametrize("pixels", [1, 7, 32])
def test_as_the_twin(pixels):
    given, valid = cloud()
    found = jet_images(given, valid, JetImageConfig(pixels=pixels, half_width=0.8, channels=1))
    for jet in range(len(given)):
        image, outside = jet_image(np.asarray(given[jet]), np.asarray(valid[jet]), pixels, 0.8)
        np.testing.assert_allclose(found.pixels[jet, ..., 0], image, atol=1e-6)
        np.testing.assert_allclose(found.outside[jet], outside, atol=1e-6)


def test_nothing_is_lost():
    given, valid = cloud(seed=1)
    pixels, outside = jet_images(given, valid, SMALL)
    share = np.where(valid, np.exp(given[..., 2]), 0).sum(-1)
    np.testing.assert_allclose(pixels.sum((1, 2, 3)) + outside, share, rtol=1e-5)
    assert float(outside.max()) > 0


def test_padding_and_order_change_nothing():
    given, valid = cloud(seed=2)
    plain = jet_images(given, valid, SMALL)
    longer = jnp.pad(given, ((0, 0), (0, 3), (0, 0)), constant_values=0.3)
    mixed = np.random.default_rng(0).permutation(longer.shape[1])
    other = jet_images(longer[:, mixed], jnp.pad(valid, ((0, 0), (0, 3)))[:, mixed], SMALL)
    for one, another in zip(plain, other, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-6)


def test_an_empty_jet_is_an_empty_image():
    pixels, outside = jet_images(jnp.zeros((1, 4, 3)), jnp.zeros((1, 4), bool), SMALL)
    assert float(jnp.abs(pixels).sum()) == float(outside[0]) == 0
    pixels, _ = jet_images(
        jnp.zeros((1, 4, 3)), jnp.zeros((1, 4), bool), JetImageConfig(pixels=8, align=True)
    )
    assert float(jnp.abs(pixels).sum()) == 0


def test_alignment_follows_the_principal_axis():
    given, _ = cloud(seed=3)
    share = jnp.exp(given[..., 2])
    place = np.asarray(aligned(given[..., :2], share))
    for jet in range(len(given)):
        axis = principal_axis(place[jet], np.asarray(share[jet]))
        np.testing.assert_allclose(np.abs(axis), [0, 1], atol=2e-3)
        for side in range(2):
            weight = np.asarray(share[jet])
            assert weight[place[jet, :, side] > 0].sum() >= weight[place[jet, :, side] < 0].sum()


def test_alignment_undoes_rotations_and_reflections():
    given, valid = cloud(seed=4)
    share = jnp.where(valid, jnp.exp(given[..., 2]), 0)
    once = aligned(given[..., :2], share)
    angle = jnp.linspace(0.3, 5.0, len(given))
    again = aligned(turned(given[..., :2], angle, jnp.arange(len(given)) % 2 == 0), share)
    np.testing.assert_allclose(once, again, atol=2e-4)


def test_turned_by_hand():
    place = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    found = turned(place, jnp.full(2, np.pi / 2), jnp.array([False, True]))
    np.testing.assert_allclose(found[:, 0], [[0, 1], [0, -1]], atol=1e-6)


def test_candidates_of_a_file_are_leading_and_counted():
    columns = jet_columns(make_table(6, candidates=(4, 12)))
    jets, report = make_jets(columns, IMAGE_INPUTS)
    assert jets.candidates.shape == (6, IMAGE_INPUTS.n_candidates, 3)
    share = np.where(jets.candidate_valid, np.exp(jets.candidates[..., 2]), 0)
    assert (np.diff(share, axis=1) <= 1e-6).all()
    assert report.candidates_dropped == 0
    assert report.missing == ()


def test_a_candidate_nowhere_is_outside():
    table = make_table(3, candidates=(4, 12))
    columns = jet_columns(table)
    columns.candidates["part_deta"][0] = np.nan
    jets, report = make_jets(columns, IMAGE_INPUTS)
    assert report.replaced == 1
    assert (jets.candidates[..., 0] == FAR).sum() == 1
    images = jet_images(
        jnp.asarray(jets.candidates),
        jnp.asarray(jets.candidate_valid),
        JetImageConfig(pixels=8, half_width=9.0, align=True),
    )
    assert bool(jnp.isfinite(images.pixels).all())
    row = int(np.flatnonzero((jets.candidates[..., 0] == FAR).any(1))[0])
    column = int(np.flatnonzero(jets.candidates[row, :, 0] == FAR)[0])
    np.testing.assert_allclose(images.outside[row], np.exp(jets.candidates[row, column, 2]), rtol=1e-5)


def test_mean_of_images():
    given, valid = cloud(seed=5)
    expected = jet_images(given, valid, SMALL).pixels[..., 0].mean(0)
    np.testing.assert_allclose(average_image(given, valid, SMALL), expected, atol=1e-7)


def test_one_program_a_shape():
    program = jax.jit(lambda *jets: jet_images(*jets, SMALL))
    for seed in range(3):
        program(*cloud(seed=seed))
    assert program._cache_size() == 1


@pytest.mark.parametrize("wrong", [{"pixels": 0}, {"half_width": 0.0}, {"channels": 0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        JetImageConfig(**wrong)
