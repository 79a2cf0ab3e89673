"""DeepAK8 (CMS, arXiv:2004.08262): one-dimensional residual networks over candidates and over secondary vertices.

The nominal network normalises before each convolution (He et al., arXiv:1603.05027), the mass-decorrelated one after
it. Candidates are ordered, and padding is part of the input: it holds zeros, which the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from recon.errors import ConfigError
from recon.tagging.labels import LABELS
from recon.types import Jets

Stages = tuple[tuple[int, int], ...]
"""Channels and number of units of every stage; all but the first halve the length."""


@dataclass(frozen=True, kw_only=True)
class DeepAK8Config:
    """Shape of a network.

    Attributes:
        candidates: features of a candidate.
        vertices: features of a secondary vertex.
        classes: outputs.
        candidate_stem: channels before the first stage.
        vertex_stem: the same for vertices.
        candidate_stages: see `Stages`.
        vertex_stages: the same for vertices.
        dense: outputs of the layers behind the means over the length.
        slope: of those layers' activation below 0; 0 is ReLU.
        dropout: after each of them, in training.
        preactivation: normalisation before the convolutions and not after.
        epsilon: of the normalisation.
    """

    candidates: int = 42
    vertices: int = 15
    classes: int = len(LABELS)
    candidate_stem: int = 64
    vertex_stem: int = 32
    candidate_stages: Stages = ((64, 2), (64, 2), (128, 2))
    vertex_stages: Stages = ((32, 2), (64, 2))
    dense: tuple[int, ...] = (512,)
    slope: float = 0.0
    dropout: float = 0.2
    preactivation: bool = True
    epsilon: float = 2e-5

    def __post_init__(self) -> None:
        stages = (*self.candidate_stages, *self.vertex_stages)
        sizes = [self.candidates, self.vertices, self.classes, self.candidate_stem, self.vertex_stem]
        sizes += [*self.dense, *(number for stage in stages for number in stage)]
        if not (self.candidate_stages and self.vertex_stages and self.dense) or min(sizes) < 1:
            raise ConfigError(f"{self}: stages and dense must not be empty, and every size be positive")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"DeepAK8Config.dropout is {self.dropout}; allowed: 0 or more, less than 1")

    @property
    def features(self) -> int:
        """Numbers a jet is reduced to before the dense layers."""
        return self.candidate_stages[-1][0] + self.vertex_stages[-1][0]


NOMINAL = DeepAK8Config()
"""100 candidates of 42 features, 7 vertices of 15: 468,373 numbers, 13.7 M multiply-adds."""
DECORRELATED = DeepAK8Config(
    candidates=36,
    candidate_stem=32,
    dense=(256, 256, 256),
    slope=0.2,
    preactivation=False,
    epsilon=1e-5,
)
"""As CMS trains it against the mass: 36 features of a candidate, 534,397 numbers."""


def convolution(
    inputs: int, outputs: int, size: int, stride: int, *, bias: bool = False, rngs: nnx.Rngs
) -> nnx.Conv:
    """A convolution over a sequence, with as many zeros at either end as keep its length.

    Args:
        inputs: channels.
        outputs: channels.
        size: neighbours, an odd number.
        stride: step; 2 halves the length.
        bias: whether it adds numbers of its own.
        rngs: where the initial weights come from.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (size,),
        strides=stride,
        # "SAME" would pad a stride of 2 at one end only.
        padding=((size // 2, size // 2),),
        use_bias=bias,
        kernel_init=nnx.initializers.he_normal(),
        rngs=rngs,
    )


def _norm(channels: int, config: DeepAK8Config, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=config.epsilon, rngs=rngs)


class Unit(nnx.Module):
    """Two convolutions of three neighbours with a way around, which has a convolution in the first unit of a stage."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, config: DeepAK8Config, *, first: bool, rngs: nnx.Rngs
    ) -> None:
        self.preactivation = config.preactivation
        self.norms = nnx.List(
            [_norm(inputs if config.preactivation else outputs, config, rngs), _norm(outputs, config, rngs)]
        )
        self.convolutions = nnx.List(
            [
                convolution(inputs, outputs, 3, stride, rngs=rngs),
                convolution(outputs, outputs, 3, 1, rngs=rngs),
            ]
        )
        self.shortcut = convolution(inputs, outputs, 1, stride, rngs=rngs) if first else None
        normalised = first and not config.preactivation
        self.shortcut_norm = _norm(outputs, config, rngs) if normalised else None

    def __call__(self, x: Float[Array, "j n c"]) -> Float[Array, "j m d"]:
        """Sequences in, sequences out."""
        return self._before(x) if self.preactivation else self._after(x)

    def _before(self, x: Array) -> Array:
        active = jax.nn.relu(self.norms[0](x))
        inner = self.convolutions[1](jax.nn.relu(self.norms[1](self.convolutions[0](active))))
        return inner + (x if self.shortcut is None else self.shortcut(active))

    def _after(self, x: Array) -> Array:
        inner = jax.nn.relu(self.norms[0](self.convolutions[0](x)))
        inner = self.norms[1](self.convolutions[1](inner))
        around = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            around = self.shortcut_norm(self.shortcut(x))
        return jax.nn.relu(inner + around)


class Tower(nnx.Module):
    """Residual network over one kind of object, and the mean over its length."""

    def __init__(
        self, inputs: int, stem: int, stages: Stages, config: DeepAK8Config, *, rngs: nnx.Rngs
    ) -> None:
        self.norm = _norm(inputs, config, rngs)
        self.stem = convolution(inputs, stem, 3, 1, rngs=rngs)
        units, channels = [], stem
        for stage, (outputs, count) in enumerate(stages):
            for number in range(count):
                stride = 2 if stage and not number else 1
                units.append(Unit(channels, outputs, stride, config, first=not number, rngs=rngs))
                channels = outputs
        self.units = nnx.List(units)
        self.last_norm = _norm(channels, config, rngs) if config.preactivation else None

    def __call__(self, x: Float[Array, "j n f"]) -> Float[Array, "j c"]:
        """Features of jets."""
        x = self.stem(self.norm(x))
        for unit in self.units:
            x = unit(x)
        if self.last_norm is not None:
            x = jax.nn.relu(self.last_norm(x))
        return x.mean(1)


class DeepAK8(nnx.Module):
    """Both towers and the classifier.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: DeepAK8Config = NOMINAL, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.candidates = Tower(
            config.candidates, config.candidate_stem, config.candidate_stages, config, rngs=rngs
        )
        self.vertices = Tower(config.vertices, config.vertex_stem, config.vertex_stages, config, rngs=rngs)
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        sizes = (config.features, *config.dense)
        self.dense = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.dense[-1], config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits of jets; the capacities are part of the network: CMS's are 100 candidates and 7 vertices."""
        return self.classify(self.features(jets))

    def features(self, jets: Jets) -> Float[Array, "j f"]:
        """What both towers found, the input of the classifier and of an adversary."""
        candidates = jnp.where(jets.candidate_valid[..., None], jets.candidates, 0)
        vertices = jnp.where(jets.vertex_valid[..., None], jets.vertices, 0)
        return jnp.concatenate([self.candidates(candidates), self.vertices(vertices)], -1)

    def classify(self, features: Float[Array, "j f"]) -> Float[Array, "j k"]:
        """Logits from `features`."""
        for layer in self.dense:
            features = self.dropout(jax.nn.leaky_relu(layer(features), self.config.slope))
        logits: Array = self.output(features)
        return logits
