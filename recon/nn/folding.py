"""Batch normalisation of a trained network, folded into the matrices beside it: one product less a layer.

On the host and in double precision: nothing is compiled for it, and nothing is lost but the last rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float32

from recon.nn.convolutions import DepthwiseConv

Layer = dict[str, np.ndarray]


def norm_affine(norm: nnx.BatchNorm) -> tuple[Float32[np.ndarray, " c"], Float32[np.ndarray, " c"]]:
    """What batch normalisation is in evaluation: `x * scale + shift`.

    Args:
        norm: with scale and bias.

    Returns:
        scale and shift of every channel.

    Source:
        Ioffe and Szegedy, arXiv:1502.03167, section 3.1.
    """
    scale, shift = _affine(norm)
    return scale.astype(np.float32), shift.astype(np.float32)


def _affine(norm: nnx.BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    gain, bias, mean, variance = (_host(part) for part in (norm.scale, norm.bias, norm.mean, norm.var))
    scale = gain / np.sqrt(variance + norm.epsilon)
    return scale, bias - mean * scale


def _host(parameter: Any) -> np.ndarray:
    return np.asarray(parameter[...], np.float64)


def fold_norm(
    layer: nnx.Linear | nnx.Conv | DepthwiseConv, norm: nnx.BatchNorm, before: nnx.BatchNorm | None = None
) -> Layer:
    """A layer and the normalisation behind it as one layer.

    Args:
        layer: dense or a convolution.
        norm: of its outputs.
        before: of its inputs; only where the layer does not pad them.

    Returns:
        "kernel" and "bias".
    """
    kernel, (scale, shift) = _host(layer.kernel), _affine(norm)
    kernel = kernel * scale
    if layer.bias is not None:
        shift = shift + _host(layer.bias) * scale
    if before is not None:
        gain, offset = _affine(before)
        shift = shift + offset @ kernel
        kernel = gain[:, None] * kernel
    return {"kernel": kernel.astype(np.float32), "bias": shift.astype(np.float32)}


def plain(layer: nnx.Linear | nnx.Conv) -> Layer:
    """A layer as it is: "kernel", and "bias" if it has one."""
    parts = {"kernel": layer.kernel, "bias": layer.bias}
    return {name: np.asarray(part[...]) for name, part in parts.items() if part is not None}
