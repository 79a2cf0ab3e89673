"""Featurizers of images for inference: normalisation folded into the convolutions, each platform's fastest form.

A featurizer becomes a tree of weights and a pure function. On a CPU images go through one after another as long as
they are large, so that each stays in the cache; on an accelerator all at once. The features are those of the network
in evaluation mode to 1e-4 in float32, to three digits in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn import efficientnet, resnet, vgg
from recon.nn.backbones import check_images
from recon.nn.convolutions import adaptive_mean
from recon.nn.efficientnet import EfficientNetConfig
from recon.nn.fast_convolutions import FAST, PLAIN, Layer, Operations, with_winograd
from recon.nn.folding import fold_norm, plain
from recon.nn.resnet import ResNetConfig
from recon.nn.vgg import POOLED, VGGConfig

Weights = dict[str, Any]
Part = Callable[[Operations, Weights, Array], Array]


class FoldedFeaturizer(NamedTuple):
    """A featurizer for inference.

    Attributes:
        weights: tree of arrays.
        features: pure function of the weights and images.
    """

    weights: Weights
    features: Callable[[Weights, Float32[Array, "b h w c"]], Float32[Array, "b f"]]


def fold_featurizer(featurizer: Any, *, bfloat16: bool = False) -> FoldedFeaturizer:
    """The fast form of a trained featurizer.

    Args:
        featurizer: of an `ImageNetwork`.
        bfloat16: keep the kernels of convolutions and compute their products in it: half the memory, and half the
            time where there are instructions for it (AVX-512 BF16, AMX, accelerators). Features are float32 always.

    Raises:
        ConfigError: another network.
    """
    for kind, (fold, features) in _FAMILIES.items():
        if isinstance(featurizer, kind):
            config: Any = featurizer.config  # type: ignore[attr-defined]
            part = partial(features, config)
            dtype = jnp.bfloat16 if bfloat16 else jnp.float32
            return FoldedFeaturizer(
                _with_kernels_in(dtype, fold(featurizer, bfloat16)),
                partial(_on_platform, part, channels=config.channels, dtype=dtype),
            )
    known = ", ".join(kind.__module__.rpartition(".")[2] for kind in _FAMILIES)
    raise ConfigError(f"{type(featurizer).__name__} has no form for inference; those of {known} have one")


def _with_kernels_in(dtype: Any, weights: Weights) -> Weights:
    """Those of convolutions: biases cost nothing, and XLA sorts dense matrices of bfloat16 before it reads them."""

    def convert(path: Any, array: np.ndarray) -> np.ndarray:
        return array.astype(dtype) if path[-1].key != "bias" and array.ndim == 4 else array

    return dict(jax.tree.map_with_path(convert, weights))


def _on_platform(part: Part, weights: Weights, images: Array, *, channels: int, dtype: Any) -> Array:
    check_images(images.shape, channels)
    return jax.lax.platform_dependent(
        weights, images, cpu=partial(on_cpu, part), default=partial(on_accelerator, part, dtype=dtype)
    )


def on_cpu(part: Part, weights: Weights, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
    """Features by the operations of a CPU, in the type of the kernels."""
    return part(FAST, weights, images).astype(jnp.float32)


def on_accelerator(
    part: Part, weights: Weights, images: Float32[Array, "b h w c"], dtype: Any = jnp.float32
) -> Float32[Array, "b f"]:
    """Features by the operations of an accelerator, in a type of its choice."""
    weights, images = jax.tree.map(lambda array: array.astype(dtype), (weights, images))
    return part(PLAIN, weights, images).astype(jnp.float32)


def _convolutions(block: Any) -> list[Layer]:
    """The layers of a block, folded."""
    return [fold_norm(layer, norm) for layer, norm in zip(block.convolutions, block.norms, strict=True)]


def _fold_resnet(network: resnet.Featurizer, bfloat16: bool) -> Weights:
    config = network.config
    blocks = []
    for block, stride in zip(network.blocks, config.block_strides(), strict=True):
        steps = zip(_convolutions(block), config.strides(stride), strict=True)
        folded: Weights = {"layers": [with_winograd(layer, step, bfloat16) for layer, step in steps]}
        if block.shortcut is not None:
            layer, norm = block.shortcut.layers
            folded["around"] = fold_norm(layer, norm)  # type: ignore[arg-type]
        blocks.append(folded)
    return {"stem": fold_norm(network.stem, network.norm), "blocks": blocks}


def _resnet(config: ResNetConfig, operations: Operations, weights: Weights, images: Array) -> Array:
    convolve = operations.convolve

    def stem(x: Array) -> Array:
        return operations.pool(jax.nn.relu(convolve(weights["stem"], x, 2)), 3, 1)

    def residual(block: Weights, stride: int, x: Array) -> Array:
        around = convolve(block["around"], x, stride) if "around" in block else x
        strides = config.strides(stride)
        for layer, step in zip(block["layers"][:-1], strides[:-1], strict=True):
            x = jax.nn.relu(convolve(layer, x, step))
        return jax.nn.relu(convolve(block["layers"][-1], x, strides[-1]) + around)

    blocks = zip(weights["blocks"], config.block_strides(), strict=True)
    return _mean(operations.follow([stem, *(partial(residual, *block) for block in blocks)], images))


def _fold_vgg(network: vgg.Featurizer, bfloat16: bool) -> Weights:
    layers = _convolutions(network) if network.norms else [plain(layer) for layer in network.convolutions]
    return {
        "layers": [with_winograd(layer, 1, bfloat16) for layer in layers],
        "dense": [plain(layer) for layer in network.dense],
    }


def _vgg(config: VGGConfig, operations: Operations, weights: Weights, images: Array) -> Array:
    def layer(number: int, x: Array) -> Array:
        x = jax.nn.relu(operations.convolve(weights["layers"][number], x, 1))
        return operations.pool(x, 2, 0) if number in config.last else x

    x = operations.follow([partial(layer, number) for number in range(len(weights["layers"]))], images)
    x = adaptive_mean(x, POOLED)
    x = x.reshape(x.shape[0], -1)
    for dense in weights["dense"]:
        x = jax.nn.relu(x @ dense["kernel"] + dense["bias"])
    return x


def _fold_efficientnet(network: efficientnet.Featurizer, _: bool) -> Weights:
    return {
        "stem": fold_norm(network.stem, network.stem_norm),
        "blocks": [_convolutions(block) for block in network.blocks],
        "head": fold_norm(network.head, network.head_norm),
    }


def _efficientnet(
    config: EfficientNetConfig, operations: Operations, weights: Weights, images: Array
) -> Array:
    convolve = operations.convolve

    def stem(x: Array) -> Array:
        return jax.nn.relu6(convolve(weights["stem"], x, 2, True))

    def inverted(layers: list[Layer], stride: int, around: bool, before: Array) -> Array:
        x = before
        for layer in layers[:-2]:
            x = jax.nn.relu6(convolve(layer, x))
        x = jax.nn.relu6(convolve(layers[-2], x, stride, True))
        x = convolve(layers[-1], x)
        return x + before if around else x

    def head(x: Array) -> Array:
        return jax.nn.relu6(convolve(weights["head"], x))

    blocks = [
        partial(inverted, layers, shape.stride, shape.stride == 1 and inputs == shape.outputs)
        for layers, (inputs, shape) in zip(weights["blocks"], config.blocks(), strict=True)
    ]
    return _mean(operations.follow([stem, *blocks, head], images))


def _mean(x: Array) -> Array:
    """Over all pixels; bfloat16 is too short for the sum."""
    return x.mean((1, 2), dtype=jnp.float32)


_FAMILIES: dict[type, tuple[Callable[[Any, bool], Weights], Callable[..., Array]]] = {
    resnet.Featurizer: (_fold_resnet, _resnet),
    vgg.Featurizer: (_fold_vgg, _vgg),
    efficientnet.Featurizer: (_fold_efficientnet, _efficientnet),
}
