"""Convolutions, normalisation and pooling that the networks for images consist of, NHWC."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

BATCH_NORM_MOMENTUM = 0.9
"""Of the old mean in the new one: PyTorch's momentum of 0.1."""


def conv(
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    *,
    rngs: nnx.Rngs,
    padding: str | int | None = None,
    bias: bool = False,
) -> nnx.Conv:
    """A square convolution.

    Args:
        inputs: channels.
        outputs: channels.
        size: of the window, pixels.
        stride: pixels.
        rngs: where the initial weights come from.
        padding: pixels at every edge, as in PyTorch, half of the window by default; or "SAME" as in TensorFlow, which
            pads less at the upper left.
        bias: whether it has one; normalisation behind it makes it superfluous.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2 if padding is None else padding,
        use_bias=bias,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )


class DepthwiseConv(nnx.Module):
    """A square convolution within every channel, padded as TensorFlow does, without a bias.

    On a CPU it is a sum of shifted images: XLA's own is ten times slower there, and its gradient up to five.

    Args:
        channels: of inputs and outputs.
        size: of the window, pixels.
        stride: pixels.
        rngs: where the initial weights come from.
    """

    def __init__(self, channels: int, size: int, stride: int, *, rngs: nnx.Rngs) -> None:
        initialise = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
        self.kernel = nnx.Param(initialise(rngs.params(), (size, size, 1, channels)))
        self.bias = None
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
        """Image in, image out."""
        result: Array = jax.lax.platform_dependent(
            self.kernel[...],
            x,
            cpu=partial(sum_of_shifted, stride=self.stride, same=True),
            default=partial(lax_convolution, stride=self.stride, same=True),
        )
        return result


def batch_norm(channels: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalisation; its running variance is that of the batch, where PyTorch's is n / (n - 1) times that."""
    return nnx.BatchNorm(channels, momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, rngs=rngs)


def max_pool(x: Float[Array, "b h w c"], size: int, padding: int = 0) -> Float[Array, "b H W c"]:
    """Largest value of windows two pixels apart; the padding is smaller than everything."""
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, size, size, 1), (1, 2, 2, 1), edges)


def same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Pixels in front and behind that TensorFlow's "SAME" pads."""
    total = max(0, (-(-length // stride) - 1) * stride + size - length)
    return total // 2, total - total // 2


def lax_convolution(
    kernel: Float[Array, "k k i o"], x: Float[Array, "b h w c"], stride: int, same: bool
) -> Float[Array, "b H W o"]:
    """XLA's convolution; channels are on their own where the kernel has one input.

    Args:
        kernel: of the convolution.
        x: images.
        stride: pixels.
        same: pad as TensorFlow does, otherwise by half of the window.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _edges(x.shape, kernel.shape[0], stride, same),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


def sum_of_shifted(
    kernel: Float[Array, "k k 1 c"], x: Float[Array, "b h w c"], stride: int, same: bool
) -> Float[Array, "b H W c"]:
    """The same of channels on their own, as a sum of images."""
    size = kernel.shape[0]
    x = padded(x, size, stride, same)
    rows = [every_pixel(x, 1, row, size, stride) for row in range(size)]
    terms = [
        every_pixel(rows[row], 2, column, size, stride) * kernel[row, column, 0]
        for row, column in np.ndindex(size, size)
    ]
    return sum(terms[1:], terms[0])


def _edges(shape: tuple[Any, ...], size: int, stride: int, same: bool) -> list[tuple[int, int]]:
    if not same:
        return [(size // 2, size // 2)] * 2
    return [same_padding(length, size, stride) for length in shape[1:3]]


def padded(x: Float[Array, "b h w c"], size: int, stride: int, same: bool) -> Float[Array, "b H W c"]:
    """The images with the zeros around them that a window of this size and stride needs."""
    return jnp.pad(x, ((0, 0), *_edges(x.shape, size, stride, same), (0, 0)))


def every_pixel(
    x: Float[Array, "b h w c"], axis: int, start: int, size: int, stride: int
) -> Float[Array, "b H W c"]:
    """The pixels along an axis that pixel `start` of the window falls on."""
    count = (x.shape[axis] - size) // stride + 1
    return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def adaptive_mean(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b s s c"]:
    """Means over `size` times `size` windows that cover an image of any size.

    Source:
        `AdaptiveAvgPool2d` of PyTorch: window i reaches from floor(i h / size) to ceil((i + 1) h / size).
    """
    if x.shape[1:3] == (size, size):
        return x
    down, across = (jnp.asarray(_windows(length, size), x.dtype) for length in x.shape[1:3])
    return jnp.einsum("sh,bhwc,tw->bstc", down, x, across)


def _windows(length: int, size: int) -> np.ndarray:
    """The means as a matrix."""
    windows = np.zeros((size, length))
    for number in range(size):
        start, end = number * length // size, -(-(number + 1) * length // size)
        windows[number, start:end] = 1 / (end - start)
    return windows
