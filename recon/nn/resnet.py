"""ResNet v1.5 (He et al., arXiv:1512.03385, with the stride in the 3x3 convolution), NHWC, in two parts.

The featurizer turns an image into features, the classifier, which is one matrix, features into logits: a service may
hold the one and a job the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError

BATCH_NORM_MOMENTUM = 0.9
EXPANSION = 4
"""Channels of a bottleneck's output, in units of those inside it."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Shape of a network.

    Attributes:
        stages: blocks of each stage; every stage but the first halves the image and doubles the channels.
        bottleneck: 1x1, 3x3, 1x1 convolutions in a block, as in the deep ones; otherwise two of 3x3.
        width: channels of the first stage.
        channels: of the image.
        classes: outputs of the classifier.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    channels: int = 3
    classes: int = 1000

    def __post_init__(self) -> None:
        if not self.stages or min(*self.stages, self.width, self.channels, self.classes) < 1:
            raise ConfigError(f"{self}: every number must be 1 or more, and there must be a stage")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.width * 2 ** (len(self.stages) - 1) * (EXPANSION if self.bottleneck else 1)


PRESETS = {
    "resnet18": ResNetConfig(stages=(2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetConfig(bottleneck=False),
    "resnet50": ResNetConfig(),
}


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=stride,
        padding=size // 2,
        use_bias=False,
        kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
        rngs=rngs,
    )


class Block(nnx.Module):
    """Convolutions with a way around them."""

    def __init__(self, inputs: int, inner: int, stride: int, *, bottleneck: bool, rngs: nnx.Rngs) -> None:
        outputs = inner * (EXPANSION if bottleneck else 1)
        sizes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        if not bottleneck:
            sizes = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        norm = partial(nnx.BatchNorm, momentum=BATCH_NORM_MOMENTUM, epsilon=1e-5, rngs=rngs)
        self.convolutions = nnx.List([_conv(*size, rngs) for size in sizes])
        self.norms = nnx.List([norm(size[1]) for size in sizes])
        fits = stride == 1 and inputs == outputs
        self.shortcut = (
            None if fits else nnx.Sequential(_conv(inputs, outputs, 1, stride, rngs), norm(outputs))
        )

    def __call__(self, x: Float32[Array, "b h w c"]) -> Float32[Array, "b H W C"]:
        """Image in, image out."""
        around = x if self.shortcut is None else self.shortcut(x)
        last = len(self.convolutions) - 1
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = norm(convolution(x))
            x = x if number == last else jax.nn.relu(x)
        return jax.nn.relu(x + around)


class Featurizer(nnx.Module):
    """Everything but the last matrix."""

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs) -> None:
        self.stem = _conv(config.channels, config.width, 7, 2, rngs)
        self.norm = nnx.BatchNorm(config.width, momentum=BATCH_NORM_MOMENTUM, epsilon=1e-5, rngs=rngs)
        blocks, inputs = [], config.width
        for stage, count in enumerate(config.stages):
            inner = config.width * 2**stage
            for number in range(count):
                stride = 2 if stage and not number else 1
                block = Block(inputs, inner, stride, bottleneck=config.bottleneck, rngs=rngs)
                blocks.append(block)
                inputs = inner * (EXPANSION if config.bottleneck else 1)
        self.blocks = nnx.List(blocks)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
        """Features of images."""
        x = jax.nn.relu(self.norm(self.stem(images)))
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))


class ResNet(nnx.Module):
    """Featurizer and classifier."""

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs) -> None:
        self.featurizer = Featurizer(config, rngs=rngs)
        self.classifier = nnx.Linear(config.features, config.classes, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b k"]:
        """Logits of images, of any height and width from 32."""
        logits: Array = self.classifier(self.featurizer(images))
        return logits
