"""P-CNN, the particle-level convolutional network: DeepAK8's predecessor, over the candidates alone.

Qu and Gouskos describe it as the particle branch of CMS's DeepAK8 (arXiv:1902.08570, section 4.1); the shape is the one
that stands beside ParticleNet in Qu, Li and Qian (arXiv:2202.03772, table 1). Candidates are ordered by transverse
momentum, and padding is part of the input: it holds zeros, which the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from recon.errors import ConfigError
from recon.tagging.deepak8 import Stages, convolution
from recon.types import Jets

_norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)


@dataclass(frozen=True, kw_only=True)
class PCNNConfig:
    """Shape of a network.

    Attributes:
        features: of a candidate.
        classes: outputs.
        stem: channels before the first stage.
        stages: channels and number of units of every stage; all but the first halve the length.
        dense: outputs of the layer behind the mean over the length.
        dropout: after it, in training.
    """

    features: int = 17
    classes: int = 10
    stem: int = 32
    stages: Stages = ((64, 2), (64, 2), (128, 2))
    dense: int = 512
    dropout: float = 0.2

    def __post_init__(self) -> None:
        sizes = (
            self.features,
            self.classes,
            self.stem,
            self.dense,
            *(n for stage in self.stages for n in stage),
        )
        if not self.stages or min(sizes) < 1:
            raise ConfigError(f"{self}: stages must not be empty, and every size be positive")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"PCNNConfig.dropout is {self.dropout}; allowed: 0 or more, less than 1")


class Unit(nnx.Module):
    """Two convolutions of three neighbours, normalised and cut at 0, added to what came in.

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the first convolution and of the way around.
        rngs: where the initial weights come from.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.convolutions = nnx.List(
            [
                convolution(inputs, outputs, 3, stride, bias=True, rngs=rngs),
                convolution(outputs, outputs, 3, 1, bias=True, rngs=rngs),
            ]
        )
        self.norms = nnx.List([_norm(outputs, rngs=rngs) for _ in range(2)])
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else convolution(inputs, outputs, 1, stride, rngs=rngs)

    def __call__(self, x: Float[Array, "j n c"]) -> Float[Array, "j m d"]:
        """Sequences in, sequences out."""
        around = x if self.shortcut is None else self.shortcut(x)
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x)))
        return around + x


class PCNN(nnx.Module):
    """Residual units over the candidates, their mean, dense layers.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: PCNNConfig | None = None, *, rngs: nnx.Rngs) -> None:
        self.config = config = config or PCNNConfig()
        self.norm = _norm(config.features, rngs=rngs)
        self.stem = convolution(config.features, config.stem, 3, 1, bias=True, rngs=rngs)
        self.stem_norm = _norm(config.stem, rngs=rngs)
        units, channels = [], config.stem
        for stage, (outputs, count) in enumerate(config.stages):
            for number in range(count):
                units.append(Unit(channels, outputs, 2 if stage and not number else 1, rngs=rngs))
                channels = outputs
        self.units = nnx.List(units)
        self.dense = nnx.Linear(channels, config.dense, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.dense, config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits of jets; the capacity in candidates is part of the network."""
        x = jnp.where(jets.candidate_valid[..., None], jets.candidates[..., : self.config.features], 0)
        x = jax.nn.relu(self.stem_norm(self.stem(self.norm(x))))
        for unit in self.units:
            x = unit(x)
        logits: Array = self.output(self.dropout(jax.nn.relu(self.dense(x.mean(1)))))
        return logits
