"""VGG (Simonyan and Zisserman, arXiv:1409.1556), NHWC: 3x3 convolutions and three matrices, the last the classifier."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn.convolutions import adaptive_mean, batch_norm, conv, max_pool

POOLED = 7
"""Pixels at an edge of the image that the matrices see, as in torchvision: means over windows where it is larger."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """Shape of a network.

    Attributes:
        stages: numbers of convolutions between which the image is halved.
        widths: channels of each stage.
        dense: length of the feature vector, and of the one before it.
        norm: batch normalisation behind every convolution.
        dropout: share of the features that training drops.
        channels: of the image.
        classes: outputs of the classifier.
        epsilon: of the normalisation.
    """

    stages: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    dense: int = 4096
    norm: bool = False
    dropout: float = 0.5
    channels: int = 3
    classes: int = 1000
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        sizes = (*self.stages, *self.widths, self.dense, self.channels, self.classes)
        if not self.stages or len(self.stages) != len(self.widths) or min(sizes) < 1:
            raise ConfigError(f"{self}: every number must be 1 or more, and every stage needs a width")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.dense

    @property
    def last(self) -> tuple[int, ...]:
        """Numbers of the convolutions before which the image is not halved any more: the last of every stage."""
        return tuple(sum(self.stages[: stage + 1]) - 1 for stage in range(len(self.stages)))


PRESETS = {"vgg16": VGGConfig(), "vgg16-bn": VGGConfig(norm=True)}


class Featurizer(nnx.Module):
    """Everything but the last matrix."""

    def __init__(self, config: VGGConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        widths = [
            width for width, count in zip(config.widths, config.stages, strict=True) for _ in range(count)
        ]
        inputs = [config.channels, *widths[:-1]]
        self.convolutions = nnx.List(
            [conv(*pair, 3, bias=True, rngs=rngs) for pair in zip(inputs, widths, strict=True)]
        )
        self.norms = nnx.List(
            [batch_norm(width, config.epsilon, rngs=rngs) for width in widths] if config.norm else []
        )
        sizes = (POOLED**2 * widths[-1], config.dense)
        self.dense = nnx.List([nnx.Linear(size, config.dense, rngs=rngs) for size in sizes])
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
        """Features of images."""
        x = images
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            x = jax.nn.relu(self.norms[number](x) if self.config.norm else x)
            x = max_pool(x, 2) if number in self.config.last else x
        x = adaptive_mean(x, POOLED)
        x = x.reshape(x.shape[0], -1)
        for layer in self.dense:
            x = self.dropout(jax.nn.relu(layer(x)))
        return x
