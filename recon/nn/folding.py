"""Batch normalisation of a trained network, folded into the matrices beside it: one product less a layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def norm_affine(norm: nnx.BatchNorm) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """What batch normalisation is in evaluation: `x * scale + shift`.

    Args:
        norm: with scale and bias.

    Returns:
        scale and shift of every channel.

    Source:
        Ioffe and Szegedy, arXiv:1502.03167, section 3.1.
    """
    scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + norm.epsilon)  # type: ignore[index]
    return scale, norm.bias[...] - norm.mean[...] * scale  # type: ignore[index]


def fold_norm(kernel: Float[Array, "*k i o"], norm: nnx.BatchNorm) -> dict[str, Array]:
    """A layer without a bias and the normalisation behind it as one layer.

    Args:
        kernel: of a dense layer or a convolution; the last axis is the outputs.
        norm: of those outputs.

    Returns:
        "kernel" and "bias".
    """
    scale, shift = norm_affine(norm)
    return {"kernel": jnp.asarray(kernel) * scale, "bias": shift}


def dense(layer: nnx.Linear) -> dict[str, Array]:
    """The "kernel" and "bias" of a layer that has both."""
    return {"kernel": layer.kernel[...], "bias": layer.bias[...]}  # type: ignore[index]
