"""Convolutions, normalisation and pooling that the networks for images consist of, NHWC."""

from __future__ import annotations

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
    groups: int = 1,
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
        groups: of channels that do not see each other.
        bias: whether it has one; normalisation behind it makes it superfluous.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2 if padding is None else padding,
        feature_group_count=groups,
        use_bias=bias,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )


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
