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
import numpy as np
from jaxtyping import Array, Float

from recon.nn.convolutions import max_pool, same_padding
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
    kernel = layer["kernel"]
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _padding(x.shape, kernel.shape[0], stride, same),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3] // kernel.shape[2],
    )
    return y + layer["bias"]


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
        return _within_channels(kernel, x, stride, same) + layer["bias"]
    if size == 3 and x.shape[3] >= 16:
        return _by_rows(kernel, x, stride, same) + layer["bias"]
    return plain_convolve(layer, x, stride, same)


def _padding(shape: tuple[Any, ...], size: int, stride: int, same: bool) -> list[tuple[int, int]]:
    if not same:
        return [(size // 2, size // 2)] * 2
    return [same_padding(length, size, stride) for length in shape[1:3]]


def _padded(x: Array, size: int, stride: int, same: bool) -> Array:
    return jnp.pad(x, ((0, 0), *_padding(x.shape, size, stride, same), (0, 0)))


def _every(x: Array, axis: int, start: int, size: int, stride: int) -> Array:
    """Pixels that the window's pixel `start` falls on."""
    count = (x.shape[axis] - size) // stride + 1
    return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def _by_rows(kernel: Array, x: Array, stride: int, same: bool) -> Array:
    """One matrix product for every row of the window."""
    size = kernel.shape[0]
    x = _padded(x, size, stride, same)
    beside = jnp.concatenate([_every(x, 2, column, size, stride) for column in range(size)], 3)
    total: Any = 0
    for row in range(size):
        part = _every(beside, 1, row, size, stride)
        total = total + part.reshape(-1, part.shape[3]) @ kernel[row].reshape(part.shape[3], -1)
    return total.reshape(*part.shape[:3], -1)


def _within_channels(kernel: Array, x: Array, stride: int, same: bool) -> Array:
    """Every channel on its own: a sum of shifted images."""
    size = kernel.shape[0]
    x = _padded(x, size, stride, same)
    rows = [_every(x, 1, row, size, stride) for row in range(size)]
    return sum(
        _every(rows[row], 2, column, size, stride) * kernel[row, column, 0]
        for row, column in np.ndindex(size, size)
    )  # type: ignore[return-value]


def fast_pool(x: Float[Array, "b h w c"], size: int, padding: int = 0) -> Float[Array, "b H W c"]:
    """Largest value of windows two pixels apart, of numbers that are not negative: zeros do for padding."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = _largest([_every(x, 1, start, size, 2) for start in range(size)])
    # Written out, or both axes are one loop over all pixels of a window.
    rows = jax.lax.optimization_barrier(rows)
    return _largest([_every(rows, 2, start, size, 2) for start in range(size)])


def _largest(arrays: list[Array]) -> Array:
    largest = arrays[0]
    for array in arrays[1:]:
        largest = jnp.maximum(largest, array)
    return largest


FAST = Operations(fast_convolve, fast_pool)
PLAIN = Operations(plain_convolve, max_pool)
