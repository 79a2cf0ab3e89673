"""Featurizers of images for inference: normalisation folded into the convolutions, each platform's fastest form.

A featurizer becomes a tree of weights and a pure function. On a CPU images go through one after another, so that
each stays in the cache; on an accelerator all at once, in bfloat16 where that is asked for. The features are those of
the network in evaluation mode to 1e-4 (float32).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
        bfloat16: compute in it on accelerators; features are float32 always.

    Raises:
        ConfigError: another network.
    """
    for kind, (fold, features) in _FAMILIES.items():
        if isinstance(featurizer, kind):
            config: Any = featurizer.config  # type: ignore[attr-defined]
            part = partial(features, config)
            return FoldedFeaturizer(
                fold(featurizer),
                partial(_on_platform, part, channels=config.channels, bfloat16=bfloat16),
            )
    known = ", ".join(kind.__module__.rpartition(".")[2] for kind in _FAMILIES)
    raise ConfigError(f"{type(featurizer).__name__} has no form for inference; those of {known} have one")


def _on_platform(part: Part, weights: Weights, images: Array, *, channels: int, bfloat16: bool) -> Array:
    check_images(images.shape, channels)
    return jax.lax.platform_dependent(
        weights,
        images,
        cpu=partial(one_by_one, part),
        default=partial(all_at_once, part, dtype=jnp.bfloat16 if bfloat16 else jnp.float32),
    )


def one_by_one(part: Part, weights: Weights, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
    """Features by the operations of a CPU, each image on its own."""

    def one(image: Array) -> Array:
        return part(FAST, weights, image[None])[0]

    return one(images[0])[None] if images.shape[0] == 1 else jax.lax.map(one, images)


def all_at_once(
    part: Part, weights: Weights, images: Float32[Array, "b h w c"], dtype: Any = jnp.float32
) -> Float32[Array, "b f"]:
    """Features by the operations of an accelerator, in a type of its choice."""
    weights, images = jax.tree.map(lambda array: array.astype(dtype), (weights, images))
    return part(PLAIN, weights, images).astype(jnp.float32)


def _convolutions(block: Any) -> list[Layer]:
    """The layers of a block, folded."""
    return [fold_norm(layer, norm) for layer, norm in zip(block.convolutions, block.norms, strict=True)]


def _fold_resnet(network: resnet.Featurizer) -> Weights:
    config = network.config
    blocks = []
    for block, stride in zip(network.blocks, config.block_strides(), strict=True):
        steps = zip(_convolutions(block), config.strides(stride), strict=True)
        folded: Weights = {"layers": [with_winograd(layer, step) for layer, step in steps]}
        if block.shortcut is not None:
            layer, norm = block.shortcut.layers
            folded["around"] = fold_norm(layer, norm)  # type: ignore[arg-type]
        blocks.append(folded)
    return {"stem": fold_norm(network.stem, network.norm), "blocks": blocks}


def _resnet(config: ResNetConfig, operations: Operations, weights: Weights, images: Array) -> Array:
    convolve = operations.convolve
    x = operations.pool(jax.nn.relu(convolve(weights["stem"], images, 2)), 3, 1)
    for block, stride in zip(weights["blocks"], config.block_strides(), strict=True):
        around = convolve(block["around"], x, stride) if "around" in block else x
        strides = config.strides(stride)
        for layer, step in zip(block["layers"][:-1], strides[:-1], strict=True):
            x = jax.nn.relu(convolve(layer, x, step))
        x = jax.nn.relu(convolve(block["layers"][-1], x, strides[-1]) + around)
    return x.mean((1, 2))


def _fold_vgg(network: vgg.Featurizer) -> Weights:
    layers = _convolutions(network) if network.norms else [plain(layer) for layer in network.convolutions]
    return {
        "layers": [with_winograd(layer, 1) for layer in layers],
        "dense": [plain(layer) for layer in network.dense],
    }


def _vgg(config: VGGConfig, operations: Operations, weights: Weights, images: Array) -> Array:
    x = images
    for number, layer in enumerate(weights["layers"]):
        x = jax.nn.relu(operations.convolve(layer, x, 1))
        x = operations.pool(x, 2, 0) if number in config.last else x
    x = adaptive_mean(x, POOLED)
    x = x.reshape(x.shape[0], -1)
    for layer in weights["dense"]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x


def _fold_efficientnet(network: efficientnet.Featurizer) -> Weights:
    return {
        "stem": fold_norm(network.stem, network.stem_norm),
        "blocks": [_convolutions(block) for block in network.blocks],
        "head": fold_norm(network.head, network.head_norm),
    }


def _efficientnet(
    config: EfficientNetConfig, operations: Operations, weights: Weights, images: Array
) -> Array:
    convolve = operations.convolve
    x = jax.nn.relu6(convolve(weights["stem"], images, 2, True))
    for layers, (inputs, shape) in zip(weights["blocks"], config.blocks(), strict=True):
        before = x
        for layer in layers[:-2]:
            x = jax.nn.relu6(convolve(layer, x))
        x = jax.nn.relu6(convolve(layers[-2], x, shape.stride, True))
        x = convolve(layers[-1], x)
        x = x + before if shape.stride == 1 and inputs == shape.outputs else x
    return jax.nn.relu6(convolve(weights["head"], x)).mean((1, 2))


_FAMILIES: dict[type, tuple[Callable[[Any], Weights], Callable[..., Array]]] = {
    resnet.Featurizer: (_fold_resnet, _resnet),
    vgg.Featurizer: (_fold_vgg, _vgg),
    efficientnet.Featurizer: (_fold_efficientnet, _efficientnet),
}
