"""ResNet (He et al., arXiv:1512.03385), v1.5 by default: the stride is in the 3x3 convolution. NHWC, in two parts.

The featurizer turns an image into features, the classifier, which is one matrix, features into logits: a service may
hold the one and a job the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn.convolutions import batch_norm, conv, max_pool

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
        first_stride: a bottleneck halves the image in its first convolution: v1, as Keras has it.
        epsilon: of the normalisation.
    """

    stages: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    channels: int = 3
    classes: int = 1000
    first_stride: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if not self.stages or min(*self.stages, self.width, self.channels, self.classes) < 1:
            raise ConfigError(f"{self}: every number must be 1 or more, and there must be a stage")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.width * 2 ** (len(self.stages) - 1) * (EXPANSION if self.bottleneck else 1)

    def block_strides(self) -> list[int]:
        """Stride of every block."""
        return [
            2 if stage and not number else 1
            for stage, count in enumerate(self.stages)
            for number in range(count)
        ]

    def strides(self, stride: int) -> tuple[int, ...]:
        """Strides of the convolutions of a block of this stride."""
        if not self.bottleneck or self.first_stride:
            return (stride, 1, 1)[: 3 if self.bottleneck else 2]
        return (1, stride, 1)


PRESETS = {
    "resnet18": ResNetConfig(stages=(2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetConfig(bottleneck=False),
    "resnet50": ResNetConfig(),
}


class Block(nnx.Module):
    """Convolutions with a way around them."""

    def __init__(self, inputs: int, inner: int, stride: int, config: ResNetConfig, *, rngs: nnx.Rngs) -> None:
        outputs = inner * (EXPANSION if config.bottleneck else 1)
        shapes = [(inputs, inner, 3), (inner, outputs, 3)]
        if config.bottleneck:
            shapes = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
        norm = partial(batch_norm, epsilon=config.epsilon, rngs=rngs)
        self.convolutions = nnx.List(
            [
                conv(*shape, step, rngs=rngs)
                for shape, step in zip(shapes, config.strides(stride), strict=True)
            ]
        )
        self.norms = nnx.List([norm(shape[1]) for shape in shapes])
        fits = stride == 1 and inputs == outputs
        self.shortcut = (
            None if fits else nnx.Sequential(conv(inputs, outputs, 1, stride, rngs=rngs), norm(outputs))
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
        self.config = config
        self.stem = conv(config.channels, config.width, 7, 2, rngs=rngs)
        self.norm = batch_norm(config.width, config.epsilon, rngs=rngs)
        blocks, inputs = [], config.width
        stages = [stage for stage, count in enumerate(config.stages) for _ in range(count)]
        for stage, stride in zip(stages, config.block_strides(), strict=True):
            inner = config.width * 2**stage
            blocks.append(Block(inputs, inner, stride, config, rngs=rngs))
            inputs = inner * (EXPANSION if config.bottleneck else 1)
        self.blocks = nnx.List(blocks)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
        """Features of images."""
        x = max_pool(jax.nn.relu(self.norm(self.stem(images))), 3, padding=1)
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))
