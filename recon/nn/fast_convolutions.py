"""Convolutions of inference: the fastest form of each that XLA has on a CPU, and the plain one for accelerators.

XLA's matrix product runs near the peak of a core, its convolutions do not, nor does anything that is larger than the
cache. So 1x1 convolutions are products, 3x3 ones are Winograd's (stride 1) or one long product (stride 2), those
within channels are sums of shifted images, and pooling goes along one axis at a time. Large images go through alone.

The type of a kernel decides the arithmetic: with one of bfloat16 the factors of products are rounded to it, sums stay
float32, and so does everything that is no product; images between layers are kept in the kernel's type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recon.nn.convolutions import every_pixel, lax_convolution, max_pool, padded, sum_of_shifted
from recon.nn.winograd import transform_kernel, winograd_convolution

Layer = dict[str, Any]
"""`kernel` (h, w, inputs, outputs), `bias`, and `winograd` where that form is good."""
Step = Callable[[Array], Array]
"""Images in, images out."""

LARGE_TILES = 256
"""Channels up to which a transformed kernel of 6 x 6 is read from memory faster than it saves products."""


LONGEST_SHORT_PRODUCT = 1024
"""Inputs up to which XLA's product of bfloat16 is twice as fast as that of float32; from there on it can be slower."""
TOGETHER = 14 * 14
"""Pixels up to which images gain more by sharing the weights in the cache than they lose by sharing its room."""


class Operations(NamedTuple):
    """How a platform does it.

    Attributes:
        convolve: `(layer, images, stride, same)`; `same` pads like TensorFlow, otherwise by half of the window.
        pool: `(images, size, padding)`, images of positive numbers.
        follow: `(steps, images)`: the steps one after the other.
    """

    convolve: Callable[..., Array]
    pool: Callable[..., Array]
    follow: Callable[[Sequence[Step], Array], Array]


def with_winograd(layer: Layer, stride: int, bfloat16: bool = False) -> Layer:
    """A layer with its transformed kernel, if its shape is one that gains by it.

    Args:
        layer: in float32.
        stride: of the convolution.
        bfloat16: products will be computed in it; larger tiles would turn its three digits into one.
    """
    height, width, inputs, outputs = layer["kernel"].shape
    if (height, width, stride) != (3, 3, 1) or min(inputs, outputs) < 16:
        return layer
    tile = 4 if max(inputs, outputs) <= LARGE_TILES and not bfloat16 else 2
    return layer | {"winograd": transform_kernel(layer["kernel"], tile)}


def plain_convolve(
    layer: Layer, x: Float[Array, "b h w i"], stride: int = 1, same: bool = False
) -> Float[Array, "b H W o"]:
    """One convolution of XLA's."""
    return lax_convolution(layer["kernel"], x, stride, same) + layer["bias"]


def all_at_once(steps: Sequence[Step], images: Float[Array, "b h w c"]) -> Float[Array, "b H W o"]:
    """The steps, each for all images."""
    for step in steps:
        images = step(images)
    return images


def fast_convolve(
    layer: Layer, x: Float[Array, "b h w i"], stride: int = 1, same: bool = False
) -> Float[Array, "b H W o"]:
    """The same by the form that is fastest on a CPU."""
    return (_convolved(layer, x, stride, same) + layer["bias"]).astype(layer["kernel"].dtype)


def _convolved(layer: Layer, x: Array, stride: int, same: bool) -> Array:
    kernel = layer["kernel"]
    size = kernel.shape[0]
    if size == 1:
        return _of_pixels(x[:, ::stride, ::stride], kernel)
    if "winograd" in layer and stride == 1:
        return winograd_convolution(x, layer["winograd"])
    if size == 3 and kernel.shape[2] >= 16:
        return _of_pixels(_windows(x, size, stride, same), kernel)
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    if kernel.shape[2] == 1 and x.shape[3] > 1:
        return sum_of_shifted(kernel, x, stride, same)
    return lax_convolution(kernel, x, stride, same)


def _of_pixels(x: Array, kernel: Array) -> Array:
    """A product for every pixel. Two axes only: XLA's is slower with more."""
    y = _product(x.reshape(-1, x.shape[3]), kernel.reshape(-1, kernel.shape[3]))
    return y.reshape(*x.shape[:3], -1)


def _product(x: Array, kernel: Array) -> Array:
    """In float32, of factors in the kernel's type."""
    x, length = x.astype(kernel.dtype), len(kernel)
    pieces = -(-length // LONGEST_SHORT_PRODUCT) if kernel.dtype == jnp.bfloat16 else 1
    cuts = [slice(length * k // pieces, length * (k + 1) // pieces) for k in range(pieces)]
    terms = [jnp.matmul(x[:, cut], kernel[cut], preferred_element_type=jnp.float32) for cut in cuts]
    return sum(terms[1:], terms[0])


def _windows(x: Array, size: int, stride: int, same: bool) -> Array:
    """All pixels of the window of every result, as channels."""
    x = padded(x, size, stride, same)
    rows = [every_pixel(x, 1, row, size, stride) for row in range(size)]
    return jnp.concatenate(
        [every_pixel(row, 2, column, size, stride) for row in rows for column in range(size)], 3
    )


def large_ones_apart(steps: Sequence[Step], images: Float[Array, "b h w c"]) -> Float[Array, "b H W o"]:
    """Every image alone through the steps up to the last whose result is large, so that it stays in the cache."""
    if images.shape[0] == 1:
        return all_at_once(steps, images)
    large, shape = 0, jax.eval_shape(lambda x: x, images)
    for number, step in enumerate(steps, start=1):
        shape = jax.eval_shape(step, shape)
        large = number if shape.shape[1] * shape.shape[2] > TOGETHER else large
    images = jax.lax.map(lambda image: all_at_once(steps[:large], image[None])[0], images)
    return all_at_once(steps[large:], images)


def fast_pool(x: Float[Array, "b h w c"], size: int, padding: int = 0) -> Float[Array, "b H W c"]:
    """Largest value of windows two pixels apart, of numbers that are not negative: zeros do for padding."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = _largest([every_pixel(x, 1, start, size, 2) for start in range(size)])
    # Written out, or both axes are one loop over all pixels of a window.
    rows = jax.lax.optimization_barrier(rows)
    return _largest([every_pixel(rows, 2, start, size, 2) for start in range(size)])


def _largest(arrays: list[Array]) -> Array:
    largest = arrays[0]
    for array in arrays[1:]:
        largest = jnp.maximum(largest, array)
    return largest


FAST = Operations(fast_convolve, fast_pool, large_ones_apart)
PLAIN = Operations(plain_convolve, max_pool, all_at_once)
