"""Convolutions of inference: the fastest form of each that XLA has on a CPU, and the plain one for accelerators.

XLA's matrix product runs near the peak of a core, its convolutions do not, nor does anything that is larger than the
cache. So 1x1 convolutions are products, 3x3 ones are Winograd's (stride 1) or three products (stride 2), those
within channels are sums of shifted images, and pooling goes along one axis at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from recon.nn.convolutions import every_pixel, lax_convolution, max_pool, padded, sum_of_shifted
from recon.nn.winograd import transform_kernel, winograd_convolution

Layer = dict[str, Any]
"""`kernel` (h, w, inputs, outputs), `bias`, and `winograd` where that form is good."""

LARGE_TILES = 256
"""Channels up to which a transformed kernel of 6 x 6 is read from memory faster than it saves products."""


class Operations(NamedTuple):
    """How a platform does it.

    Attributes:
        convolve: `(layer, images, stride, same)`; `same` pads like TensorFlow, otherwise by half of the window.
        pool: `(images, size, padding)`, images of positive numbers.
    """

    convolve: Callable[..., Array]
    pool: Callable[..., Array]


def with_winograd(layer: Layer, stride: int) -> Layer:
    """A layer with its transformed kernel, if its shape is one that gains by it."""
    height, width, inputs, outputs = layer["kernel"].shape
    if (height, width, stride) != (3, 3, 1) or min(inputs, outputs) < 16:
        return layer
    tile = 4 if max(inputs, outputs) <= LARGE_TILES else 2
    return layer | {"winograd": transform_kernel(layer["kernel"], tile)}


def plain_convolve(
    layer: Layer, x: Float[Array, "b h w i"], stride: int = 1, same: bool = False
) -> Float[Array, "b H W o"]:
    """One convolution of XLA's."""
    return lax_convolution(layer["kernel"], x, stride, same) + layer["bias"]


def fast_convolve(
    layer: Layer, x: Float[Array, "b h w i"], stride: int = 1, same: bool = False
) -> Float[Array, "b H W o"]:
    """The same by the form that is fastest on a CPU."""
    kernel = layer["kernel"]
    size = kernel.shape[0]
    if size == 1:
        x = x[:, ::stride, ::stride]
        # Two axes only: XLA's matrix product is slower with more.
        y = x.reshape(-1, x.shape[3]) @ kernel[0, 0]
        return y.reshape(*x.shape[:3], -1) + layer["bias"]
    if "winograd" in layer and stride == 1:
        return winograd_convolution(x, layer["winograd"]) + layer["bias"]
    if kernel.shape[2] == 1 and x.shape[3] > 1:
        return sum_of_shifted(kernel, x, stride, same) + layer["bias"]
    if size == 3 and x.shape[3] >= 16:
        return _by_rows(kernel, x, stride, same) + layer["bias"]
    return plain_convolve(layer, x, stride, same)


def _by_rows(kernel: Array, x: Array, stride: int, same: bool) -> Array:
    """One matrix product for every row of the window."""
    size = kernel.shape[0]
    x = padded(x, size, stride, same)
    beside = jnp.concatenate([every_pixel(x, 2, column, size, stride) for column in range(size)], 3)
    total: Any = 0
    for row in range(size):
        part = every_pixel(beside, 1, row, size, stride)
        total = total + part.reshape(-1, part.shape[3]) @ kernel[row].reshape(part.shape[3], -1)
    return total.reshape(*part.shape[:3], -1)


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


FAST = Operations(fast_convolve, fast_pool)
PLAIN = Operations(plain_convolve, max_pool)
