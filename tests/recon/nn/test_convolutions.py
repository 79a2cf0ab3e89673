"""Convolutions, pooling and Winograd's form against sums pixel by pixel."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.nn.convolutions import adaptive_mean, max_pool, same_padding
from recon.nn.fast_convolutions import (
    TOGETHER,
    all_at_once,
    fast_convolve,
    fast_pool,
    large_ones_apart,
    plain_convolve,
    with_winograd,
)
from recon.nn.winograd import TRANSFORMS, transform_kernel, winograd_convolution
from tests.reference import images as slow

pytestmark = pytest.mark.usefixtures("quick_programs")


winograd = jax.jit(winograd_convolution)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("tile", sorted(TRANSFORMS))
def test_a_tile_by_hand(tile):
    """A kernel of ones sums 3 x 3 pixels; of the corner's nine pixels four are in the image."""
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    kernel = transform_kernel(np.ones((3, 3, 1, 1), np.float32), tile)
    found = np.asarray(winograd(jnp.asarray(image), jnp.asarray(kernel)))[0, :, :, 0]
    assert found[0, 0] == pytest.approx(0 + 1 + 4 + 5, abs=1e-4)
    assert found[1, 1] == pytest.approx(9 * 5, abs=1e-4)
    assert found[3, 3] == pytest.approx(10 + 11 + 14 + 15, abs=1e-4)


@pytest.mark.parametrize("tile", sorted(TRANSFORMS))
def test_the_matrices_are_exact(tile):
    """The identity of minimal filtering for one axis: A^T [(G g) * (B^T d)] is the correlation of d and g."""
    matrices, rng = TRANSFORMS[tile], np.random.default_rng(1)
    signal, kernel = rng.normal(size=tile + 2), rng.normal(size=3)
    wanted = [signal[start : start + 3] @ kernel for start in range(tile)]
    found = matrices.result @ ((matrices.kernel @ kernel) * (matrices.image @ signal))
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 7, 10), (1, 5, 1)])
@pytest.mark.parametrize("tile", sorted(TRANSFORMS))
def test_winograd_against_the_slow_sum(tile, shape):
    images, kernel = normal(*shape, 3), normal(3, 3, 3, 5, seed=1)
    found = winograd(jnp.asarray(images), jnp.asarray(transform_kernel(kernel, tile)))
    np.testing.assert_allclose(found, slow.convolve(images, kernel, 1, ((1, 1), (1, 1))), rtol=0, atol=1e-4)


def test_winograd_moves_with_the_image():
    """What is one tile further in the image is one tile further in the result, wherever the tiles begin."""
    image = np.zeros((1, 24, 24, 2), np.float32)
    image[0, 6:12, 5:11] = normal(6, 6, 2)
    kernel = jnp.asarray(transform_kernel(normal(3, 3, 2, 3, seed=1), 4))
    here = np.asarray(winograd(jnp.asarray(image), kernel))
    there = np.asarray(winograd(jnp.asarray(np.roll(image, (3, 5), (1, 2))), kernel))
    np.testing.assert_allclose(np.roll(here, (3, 5), (1, 2)), there, rtol=0, atol=1e-4)


FORMS = {
    "product": (1, 16, 1),
    "product, stride": (1, 16, 2),
    "winograd": (3, 16, 1),
    "windows": (3, 16, 2),
    "few channels": (7, 3, 2),
    "few channels, small": (3, 3, 1),
}


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_sum(form, same):
    size, channels, stride = FORMS[form]
    images, kernel = normal(2, 9, 8, channels), normal(size, size, channels, 16, seed=1) / size
    layer = with_winograd({"kernel": kernel, "bias": normal(16, seed=2)}, stride)
    assert ("winograd" in layer) == (form == "winograd")
    padding = ((size // 2, size // 2),) * 2
    if same:
        padding = tuple(same_padding(length, size, stride) for length in images.shape[1:3])
    wanted = slow.convolve(images, kernel, stride, padding) + layer["bias"]
    for convolve in (fast_convolve, plain_convolve):
        found = jax.jit(convolve, static_argnums=(2, 3))(layer, images, stride, same)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4, err_msg=convolve.__name__)


@pytest.mark.parametrize(
    ("channels", "size", "stride"), [(40, 1, 1), (3000, 1, 1), (16, 3, 1), (300, 3, 2), (3, 7, 2)]
)
def test_bfloat16_rounds_factors_alone(channels, size, stride):
    """Sums are as good as in float32, also where they come in pieces; Winograd's form rounds other factors."""

    def rounded(x):
        return x.astype(jnp.bfloat16)

    images, kernel = normal(1, 9, 8, channels), normal(size, size, channels, 16, seed=1) / size
    layer = with_winograd({"kernel": kernel, "bias": normal(16, seed=2)}, stride, True)
    short = {name: array if name == "bias" else rounded(array) for name, array in layer.items()}
    found = jax.jit(fast_convolve, static_argnums=2)(short, rounded(images), stride)
    assert found.dtype == jnp.bfloat16
    factors = (np.asarray(rounded(x), np.float64) for x in (images, kernel))
    wanted = slow.convolve(*factors, stride, ((size // 2, size // 2),) * 2) + layer["bias"]
    tolerance = 0.02 if "winograd" in layer else 0.004
    np.testing.assert_allclose(
        found.astype(np.float32), wanted, rtol=0, atol=tolerance * np.abs(wanted).max()
    )


def test_small_images_go_together():
    """Steps see one image as long as their result, or that of a later step, is large."""
    side = math.isqrt(TOGETHER) + 1
    seen = []

    def step(scale, size):
        def run(x):
            seen.append(x.shape[0])
            return jnp.full((1, size, size, 1), scale) * x[:, :1, :1]

        return run

    steps, images = (
        [step(2.0, 2), step(3.0, side), step(5.0, 3), step(7.0, 1)],
        jnp.asarray(normal(4, 2, 2, 1)),
    )
    found = jax.jit(partial(large_ones_apart, steps))(images)
    # Each is looked at for its shape first.
    assert seen == [4, 4, 4, 4, 1, 1, 4, 4]
    np.testing.assert_allclose(found, all_at_once(steps, images), rtol=1e-6)
    np.testing.assert_allclose(found, 210 * images[:, :1, :1], rtol=1e-6)
    seen.clear()
    large_ones_apart(steps, images[:1])
    assert seen == [1, 1, 1, 1]


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_channels_on_their_own(size, stride):
    images = normal(2, 8, 7, 6)
    layer = {"kernel": normal(size, size, 1, 6, seed=1), "bias": normal(6, seed=2)}
    padding = tuple(same_padding(length, size, stride) for length in images.shape[1:3])
    wanted = slow.convolve(images, layer["kernel"], stride, padding) + layer["bias"]
    for convolve in (fast_convolve, plain_convolve):
        found = jax.jit(convolve, static_argnums=(2, 3))(layer, images, stride, True)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=convolve.__name__)


def test_deep_kernels_have_small_tiles():
    layer = {"kernel": np.zeros((3, 3, 512, 512), np.float32)}
    assert with_winograd(layer, 1)["winograd"].shape == (4, 4, 512, 512)
    assert "winograd" not in with_winograd(layer, 2)


def test_same_padding_by_hand():
    """TensorFlow pads less in front: 224 pixels, 3 wide, stride 2 need 225, one behind."""
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(224, 5, 2) == (1, 2)
    assert same_padding(7, 3, 1) == (1, 1)
    assert same_padding(7, 1, 2) == (0, 0)


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 0)])
def test_pooling(size, padding):
    images = np.maximum(normal(2, 9, 6, 3), 0)
    wanted = slow.largest(images, size, padding)
    for pool in (fast_pool, max_pool):
        np.testing.assert_array_equal(pool(jnp.asarray(images), size, padding), wanted.astype(np.float32))


def test_pooling_of_negative_numbers_ignores_the_edge():
    images = -1 - np.abs(normal(1, 4, 4, 1))
    found = max_pool(jnp.asarray(images), 3, 1)
    np.testing.assert_array_equal(found, slow.largest(images, 3, 1).astype(np.float32))


@pytest.mark.parametrize("shape", [(7, 7), (10, 3), (1, 21)])
def test_adaptive_mean(shape):
    images = normal(2, *shape, 3)
    found = adaptive_mean(jnp.asarray(images), 7)
    np.testing.assert_allclose(found, slow.adaptive_mean(images, 7), rtol=0, atol=1e-6)
