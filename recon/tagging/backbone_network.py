"""Neutrino events by a network that was trained on photographs: both views merged into one picture, a new classifier.

The featurizer stays as its authors trained it; its weights are not stored with a model, which names them instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.io.pixel_maps import CELLS, PLANES
from recon.nn.backbones import Backbone, preset
from recon.nn.patch_network import PatchClassifier
from recon.nn.pretrained import load_backbone
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.pixel_maps import MERGED_PIXELS, merged_images


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """What a model is made of.

    Attributes:
        backbone: name of the network, as for `recon export backbone`.
        weights: file of its weights; "" for those that a package brings.
        pixels: of every side of the merged picture.
        classes: outputs.
        hidden: of the classifier.
        dropout: in training.
    """

    backbone: str
    weights: str = ""
    pixels: int = MERGED_PIXELS
    classes: int = len(NEUTRINO_LABELS)
    hidden: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if min(self.pixels, self.classes, self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"{self}: sizes must be 1 or more, dropout from 0 to below 1")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return preset(self.backbone).features

    @property
    def image(self) -> tuple[int, int]:
        """Planes and cells of a view."""
        return PLANES, CELLS

    @property
    def views(self) -> int:
        """Of an event."""
        return 2


class MergedFeaturizer(nnx.Module):
    """Both views to one picture to features."""

    def __init__(self, backbone: Backbone, pixels: int) -> None:
        self.inner = backbone.network.featurizer
        self.scale = backbone.scale
        self.pixels = pixels

    def __call__(self, images: Float32[Array, "b planes cells 2"]) -> Float32[Array, "b f"]:
        """Features of events."""
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
        backbone = backbone or load_backbone(
            config.backbone, Path(config.weights) if config.weights else None
        )
        self.featurizer: Any = MergedFeaturizer(backbone, config.pixels)
        self.classifier = PatchClassifier(config, rngs=rngs)

    def __call__(self, images: Float32[Array, "b planes cells 2"]) -> Float32[Array, "b k"]:
        """Logits of events."""
        logits: Array = self.classifier(self.featurizer(images))
        return logits
