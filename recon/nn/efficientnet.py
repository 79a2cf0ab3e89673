"""EfficientNet-Lite (Tan and Le, arXiv:1905.11946, without squeeze and excitation, ReLU6), NHWC, in two parts.

The smallest, Lite0, has a tenth of the multiply-adds of ResNet-50: a backbone for a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn.convolutions import DepthwiseConv, batch_norm, conv


class Stage(NamedTuple):
    """Blocks of one shape.

    Attributes:
        blocks: how many; the first has the stride and changes the channels.
        size: of the windows, pixels.
        stride: of the first block.
        expansion: channels inside a block, in units of its inputs.
        outputs: channels.
    """

    blocks: int
    size: int
    stride: int
    expansion: int
    outputs: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Shape of a network.

    Attributes:
        stages: of blocks.
        stem: channels of the first convolution.
        head: channels of the last, the length of the feature vector.
        dropout: share of the features that training drops.
        channels: of the image.
        classes: outputs of the classifier.
        epsilon: of the normalisation.
    """

    stages: tuple[Stage, ...] = LITE0
    stem: int = 32
    head: int = 1280
    dropout: float = 0.2
    channels: int = 3
    classes: int = 1000
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        sizes = [*(number for stage in self.stages for number in stage), self.stem, self.head, self.channels]
        if not self.stages or min(*sizes, self.classes) < 1:
            raise ConfigError(f"{self}: every number must be 1 or more, and there must be a stage")

    @property
    def features(self) -> int:
        """Length of the feature vector."""
        return self.head

    def blocks(self) -> list[tuple[int, Stage]]:
        """Input channels and shape of every block."""
        found, inputs = [], self.stem
        for stage in self.stages:
            for number in range(stage.blocks):
                found.append((inputs, stage._replace(blocks=1, stride=1 if number else stage.stride)))
                inputs = stage.outputs
        return found


PRESETS = {"efficientnet-lite0": EfficientNetConfig()}


class Block(nnx.Module):
    """More channels, a convolution within each of them, and fewer again; a way around where the shape allows."""

    def __init__(self, inputs: int, shape: Stage, config: EfficientNetConfig, *, rngs: nnx.Rngs) -> None:
        inner = inputs * shape.expansion
        wider = [] if shape.expansion == 1 else [conv(inputs, inner, 1, rngs=rngs)]
        channels = [inner] * (len(wider) + 1) + [shape.outputs]
        within = DepthwiseConv(inner, shape.size, shape.stride, rngs=rngs)
        self.convolutions = nnx.List([*wider, within, conv(inner, shape.outputs, 1, rngs=rngs)])
        self.norms = nnx.List([batch_norm(count, config.epsilon, rngs=rngs) for count in channels])
        self.around = shape.stride == 1 and inputs == shape.outputs

    def __call__(self, x: Float32[Array, "b h w c"]) -> Float32[Array, "b H W C"]:
        """Image in, image out."""
        before, last = x, len(self.convolutions) - 1
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = norm(convolution(x))
            x = x if number == last else jax.nn.relu6(x)
        return x + before if self.around else x


class Featurizer(nnx.Module):
    """Everything but the last matrix."""

    def __init__(self, config: EfficientNetConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        norm = partial(batch_norm, epsilon=config.epsilon, rngs=rngs)
        self.stem = conv(config.channels, config.stem, 3, 2, padding="SAME", rngs=rngs)
        self.stem_norm = norm(config.stem)
        self.blocks = nnx.List([Block(inputs, shape, config, rngs=rngs) for inputs, shape in config.blocks()])
        self.head = conv(config.stages[-1].outputs, config.head, 1, rngs=rngs)
        self.head_norm = norm(config.head)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w c"]) -> Float32[Array, "b f"]:
        """Features of images."""
        x = jax.nn.relu6(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        features: Array = self.dropout(jax.nn.relu6(self.head_norm(self.head(x))).mean((1, 2)))
        return features
