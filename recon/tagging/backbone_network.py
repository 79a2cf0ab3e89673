"""Events and jets by a network that was trained on photographs: their views merged into one picture, a new classifier.

As long as the featurizer is as its authors trained it, its weights are not stored with a model, which names them
instead. Once it is `trainable` its weights are the model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.io.pixel_maps import CELLS, PLANES
from recon.nn.backbones import Backbone, ImageScale, preset, random_backbone
from recon.nn.patch_network import PatchClassifier
from recon.nn.pretrained import load_backbone
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.pixel_maps import MERGED_PIXELS, merged_images

NetworkT = TypeVar("NetworkT", bound=nnx.Module)
Scale = tuple[tuple[float, ...], tuple[float, ...], bool]
"""The fields of an `ImageScale`, as a file of settings holds them."""


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """What a model is made of.

    Attributes:
        backbone: name of the network, as for `recon export backbone`.
        weights: file of its weights; "" for those that a package brings.
        pixels: of every side of the merged picture.
        image: rows and columns of a view.
        views: of an event.
        scale: of a featurizer whose weights are the model's; `None` if name and file of weights say which they are.
        gain: pixels enter as log(1 + gain * pixel) / log(1 + gain); as they are for 0.
        classes: outputs.
        hidden: of the classifier.
        dropout: in training.
    """

    backbone: str
    weights: str = ""
    pixels: int = MERGED_PIXELS
    image: tuple[int, int] = (PLANES, CELLS)
    views: int = 2
    scale: Scale | None = None
    gain: float = 0.0
    classes: int = len(NEUTRINO_LABELS)
    hidden: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        sizes = (self.pixels, *self.image, self.views, self.classes, self.hidden)
        if min(sizes) < 1 or not 0 <= self.dropout < 1 or not self.gain >= 0:
            raise ConfigError(f"{self}: sizes must be 1 or more, dropout from 0 to below 1, gain 0 or more")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return preset(self.backbone).features


class MergedFeaturizer(nnx.Module):
    """All views to one picture to features.

    Args:
        config: what it is made of.
        backbone: the network; loaded by name if not given.
    """

    def __init__(self, config: BackboneConfig, backbone: Backbone | None = None) -> None:
        self.trainable = config.scale is not None
        if config.scale is not None:
            backbone = random_backbone(config.backbone)._replace(scale=ImageScale(*config.scale))
        elif backbone is None:
            backbone = load_backbone(config.backbone, Path(config.weights) if config.weights else None)
        self.inner = backbone.network.featurizer
        self.scale = backbone.scale
        self.pixels, self.gain = config.pixels, config.gain

    def __call__(self, images: Float32[Array, "b h w v"]) -> Float32[Array, "b f"]:
        """Features of events."""
        if self.gain:
            images = jnp.log1p(self.gain * images) / math.log1p(self.gain)
        features: Array = self.inner(self.scale(merged_images(images, self.pixels)))
        return features


class BackboneNetwork(nnx.Module):
    """A featurizer of others, and a classifier of ours.

    Args:
        config: what it is made of.
        backbone: the network; loaded by name if not given.
        rngs: where the weights of the classifier come from.
    """

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs, backbone: Backbone | None = None) -> None:
        self.config = config
        self.featurizer: Any = MergedFeaturizer(config, backbone)
        self.classifier = PatchClassifier(config, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w v"]) -> Float32[Array, "b k"]:
        """Logits of events."""
        logits: Array = self.classifier(self.featurizer(images))
        return logits


def of_others(network: Any) -> bool:
    """Whether a network has a featurizer that is as its authors trained it."""
    featurizer = getattr(network, "featurizer", None)
    return isinstance(featurizer, MergedFeaturizer) and not featurizer.trainable


def stored_part(network: Any) -> Any:
    """What a model's file holds: all but a featurizer of others, which is loaded by its name."""
    return network.classifier if of_others(network) else network


def trainable(network: NetworkT) -> NetworkT:
    """The same network with the weights of its featurizer for its own.

    Args:
        network: with a `MergedFeaturizer`.
    """
    own: Any = nnx.clone(network)
    own.featurizer.trainable = True
    own.config = replace(own.config, scale=tuple(own.featurizer.scale))
    result: NetworkT = own
    return result
