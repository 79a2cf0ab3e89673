"""Networks for images by name: a featurizer, and a classifier that is one matrix behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from recon.errors import ConfigError
from recon.io.weights import SEPARATOR, array_shapes, set_model_arrays
from recon.nn import efficientnet, resnet, vgg
from recon.nn.efficientnet import EfficientNetConfig
from recon.nn.resnet import ResNetConfig
from recon.nn.vgg import VGGConfig

ImageConfig = ResNetConfig | VGGConfig | EfficientNetConfig
PRESETS: dict[str, ImageConfig] = {**resnet.PRESETS, **vgg.PRESETS, **efficientnet.PRESETS}
"""Shapes by name."""
FEATURIZERS: dict[type, Any] = {
    ResNetConfig: resnet.Featurizer,
    VGGConfig: vgg.Featurizer,
    EfficientNetConfig: efficientnet.Featurizer,
}
SMALLEST = 32
"""Pixels at the edge of an image: every network halves it five times."""


class ImageNetwork(nnx.Module):
    """Featurizer and classifier; `featurizer` and `classifier` are networks of their own.

    Args:
        config: of one of the families.
        rngs: where the initial weights come from.
    """

    def __init__(self, config: ImageConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.featurizer = FEATURIZERS[type(config)](config, rngs=rngs)
        self.classifier = nnx.Linear(config.features, config.classes, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b k"]:
        """Logits of images, of any height and width from 32.

        Raises:
            ConfigError: images of another shape, or with their channels elsewhere.
        """
        check_images(images.shape, self.config.channels)
        logits: Array = self.classifier(self.featurizer(images))
        return logits


class ImageScale(NamedTuple):
    """What images between 0 and 1, red first, go through before a network that was trained on such.

    Attributes:
        mean: of the channels.
        deviation: of the channels.
        reverse: blue comes first.
    """

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    reverse: bool = False

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The images as the network wants them."""
        images = images[..., ::-1] if self.reverse else images
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.deviation, images.dtype)


class Backbone(NamedTuple):
    """A network and what belongs to its weights.

    Attributes:
        name: of its shape, a key of `PRESETS`.
        network: in evaluation mode.
        scale: of the images that it was trained with.
        provenance: where the weights come from.
    """

    name: str
    network: ImageNetwork
    scale: ImageScale
    provenance: Mapping[str, Any]


def abstract_network(config: ImageConfig, seed: int = 0) -> ImageNetwork:
    """A network without its numbers, for `set_model_arrays`; only the random streams of training are there.

    Args:
        config: its shape.
        seed: of the streams.
    """
    network: ImageNetwork = nnx.eval_shape(lambda: ImageNetwork(config, rngs=nnx.Rngs(0)))

    def start(leaf: Any) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key(seed) if is_key else jnp.zeros(leaf.shape, leaf.dtype)

    nnx.update(network, jax.tree.map(start, nnx.state(network, nnx.RngState)))
    return network


def random_backbone(
    name: str, *, config: ImageConfig | None = None, classes: int | None = None, seed: int = 0
) -> Backbone:
    """A network at the start of its training, made on the host: nothing is compiled for it.

    Args:
        name: of a preset.
        config: in place of the preset's.
        classes: in place of those of the shape.
        seed: of the weights.

    Raises:
        ConfigError: there is no such preset.

    Source:
        He et al., arXiv:1502.01852: kernels are normal with the variance 2 / (outputs of a number's window).
    """
    config = config or preset(name)
    network = abstract_network(replace(config, classes=classes or config.classes), seed)
    rng = np.random.default_rng(seed)
    arrays = {
        place: _initial(rng, place.rpartition(SEPARATOR)[2], shape)
        for place, shape in array_shapes(network).items()
    }
    set_model_arrays(network, arrays)
    network.eval()
    return Backbone(name, network, ImageScale(), {"weights": "random", "seed": seed})


def _initial(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind in ("scale", "var"):
        return np.ones(shape, np.float32)
    if kind != "kernel":
        return np.zeros(shape, np.float32)
    # A channel on its own has one window, however many others there are.
    outputs = 1 if len(shape) == 4 and shape[2] == 1 else shape[-1]
    fan = outputs * (shape[0] * shape[1] if len(shape) == 4 else 1)
    return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan))


def preset(name: str) -> ImageConfig:
    """The shape of a network.

    Raises:
        ConfigError: there is none of this name; names those that there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def check_images(shape: tuple[Any, ...], channels: int) -> None:
    """Refuse images that a network cannot take.

    Args:
        shape: of the images; the first length may be a symbol.
        channels: of the network.

    Raises:
        ConfigError: says what was given, and whether the channels stand in front.
    """
    wanted = f"(images, height, width, {channels}), height and width {SMALLEST} or more"
    if len(shape) != 4:
        raise ConfigError(f"images of shape {shape}; allowed is {wanted}")
    if shape[3] != channels and shape[1] == channels:
        raise ConfigError(
            f"images of shape {shape} have their channels in front, as in PyTorch; allowed is {wanted}"
        )
    if shape[3] != channels or min(shape[1:3]) < SMALLEST:
        raise ConfigError(f"images of shape {shape}; allowed is {wanted}")
