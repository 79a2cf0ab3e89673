"""ParticleNet (Qu and Gouskos, arXiv:1902.08570): a jet as an unordered cloud of particles, as weaver builds it.

With secondary vertices (CMS's taggers of AK8 jets) particles and vertices are each brought to the same features and
then are points of one cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from recon.errors import ConfigError
from recon.nn.edgeconv import BATCH_NORM_MOMENTUM, EdgeConv
from recon.types import Jets

EMBEDDING = 32
"""Features that particles and vertices are brought to before they are one cloud."""


@dataclass(frozen=True, kw_only=True)
class ParticleNetConfig:
    """Shape of a network.

    Attributes:
        features: columns of the candidates that are features, from the first.
        coordinates: two columns, of eta and phi relative to the jet; they may lie among the features or behind them.
        classes: outputs.
        blocks: number of neighbours and outputs of the layers of every edge convolution.
        dense: outputs of the layers behind the mean over the particles.
        dropout: after each of those, in training.
        fusion: the last layer sees the outputs of every block and not of the last alone.
        vertex_features: the same for vertices; 0 leaves them out.
        vertex_coordinates: the same for vertices.
    """

    features: int = 17
    coordinates: tuple[int, int] = (15, 16)
    classes: int = 10
    blocks: tuple[tuple[int, tuple[int, ...]], ...] = (
        (16, (64, 64, 64)),
        (16, (128, 128, 128)),
        (16, (256, 256, 256)),
    )
    dense: tuple[int, ...] = (256,)
    dropout: float = 0.1
    fusion: bool = False
    vertex_features: int = 0
    vertex_coordinates: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not self.blocks or not self.dense or min(self.features, self.classes, *self.dense) < 1:
            raise ConfigError(f"{self}: blocks and dense must not be empty, and every size be positive")
        if not 0 <= self.dropout < 1 or min(*self.coordinates, self.vertex_features) < 0:
            raise ConfigError(f"{self}: dropout must be in [0, 1), columns and vertex_features not negative")

    @property
    def width(self) -> int:
        """Numbers a jet is reduced to before the dense layers."""
        return self.fused if self.fusion else self.blocks[-1][1][-1]

    @property
    def fused(self) -> int:
        """Outputs of the layer that fuses the blocks, by weaver's rule: whole multiples of 128."""
        total = sum(outputs[-1] for _, outputs in self.blocks)
        return min(max(total // 128 * 128, 128), 1024)


JETCLASS_KIN = ParticleNetConfig(features=7, coordinates=(5, 6))
"""Kinematics only; 368,216 parameters."""
JETCLASS_KINPID = ParticleNetConfig(features=13, coordinates=(11, 12))
"""With particle identification; 369,380 parameters."""
JETCLASS_FULL = ParticleNetConfig()
"""With impact parameters; 370,156 parameters."""
LITE = ParticleNetConfig(
    features=7, coordinates=(5, 6), classes=2, blocks=((7, (32, 32, 32)), (7, (64, 64, 64))), dense=(128,)
)
"""ParticleNet-Lite as published: 26 k parameters."""


def norm_layer(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalisation with PyTorch's constants."""
    return nnx.BatchNorm(channels, momentum=BATCH_NORM_MOMENTUM, epsilon=1e-5, rngs=rngs)


class Embedding(nnx.Module):
    """Normalised features through one layer: particles and vertices become points of one kind."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs) -> None:
        self.norm = norm_layer(inputs, rngs)
        self.layer = nnx.Linear(inputs, EMBEDDING, use_bias=False, rngs=rngs)
        self.layer_norm = norm_layer(EMBEDDING, rngs)

    def __call__(self, features: Float[Array, "j n f"], valid: Bool[Array, "j n"]) -> Float[Array, "j n e"]:
        """Features; 0 for padding."""
        mask = valid[..., None]
        hidden = self.layer_norm(self.layer(self.norm(features, mask=mask)), mask=mask)
        return jnp.where(mask, jax.nn.relu(hidden), 0)


class ParticleNet(nnx.Module):
    """Edge convolutions, each in the space of the one before, and a mean over the particles.

    Args:
        config: shape of the network.
        rngs: where the initial weights come from.
    """

    def __init__(self, config: ParticleNetConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        vertices = config.vertex_features > 0
        self.candidates = Embedding(config.features, rngs=rngs) if vertices else None
        self.vertices = Embedding(config.vertex_features, rngs=rngs) if vertices else None
        features = EMBEDDING if vertices else config.features
        self.norm = norm_layer(features, rngs)
        blocks = []
        for k, outputs in config.blocks:
            blocks.append(EdgeConv(features, outputs, k, rngs=rngs))
            features = outputs[-1]
        self.blocks = nnx.List(blocks)
        total = sum(outputs[-1] for _, outputs in config.blocks)
        self.fusion = nnx.Linear(total, config.fused, use_bias=False, rngs=rngs) if config.fusion else None
        self.fusion_norm = norm_layer(config.fused, rngs) if config.fusion else None
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        sizes = (config.width, *config.dense)
        self.dense = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.dense[-1], config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits; the order of candidates and of vertices changes nothing, nor does padding."""
        return self.classify(self.features(jets))

    def features(self, jets: Jets) -> Float[Array, "j f"]:
        """Means over the particles, the input of the classifier and of an adversary."""
        points, features, valid = self.cloud(jets)
        mask = valid[..., None]
        features = jnp.where(mask, self.norm(features, mask=mask), 0)
        outputs = []
        for block in self.blocks:
            features = block(points, features, valid)
            points = features
            outputs.append(features)
        if self.fusion is not None and self.fusion_norm is not None:
            fused = self.fusion_norm(self.fusion(jnp.concatenate(outputs, -1)), mask=mask)
            features = jnp.where(mask, jax.nn.relu(fused), 0)
        return features.sum(1) / jnp.maximum(valid.sum(1, keepdims=True), 1)

    def classify(self, features: Float[Array, "j f"]) -> Float[Array, "j k"]:
        """Logits from `features`."""
        hidden = features
        for layer in self.dense:
            hidden = self.dropout(jax.nn.relu(layer(hidden)))
        logits: Array = self.output(hidden)
        return logits

    def cloud(self, jets: Jets) -> tuple[Float[Array, "j n 2"], Float[Array, "j n f"], Bool[Array, "j n"]]:
        """Coordinates, features and validity of the points of jets."""
        parts = [
            point_columns(
                jets.candidates, jets.candidate_valid, self.config.features, self.config.coordinates
            )
        ]
        if self.candidates is None or self.vertices is None:
            return (*parts[0], jets.candidate_valid)
        config = self.config
        parts.append(
            point_columns(jets.vertices, jets.vertex_valid, config.vertex_features, config.vertex_coordinates)
        )
        embedded = (
            self.candidates(parts[0][1], jets.candidate_valid),
            self.vertices(parts[1][1], jets.vertex_valid),
        )
        return (
            jnp.concatenate([points for points, _ in parts], 1),
            jnp.concatenate(embedded, 1),
            jnp.concatenate([jets.candidate_valid, jets.vertex_valid], 1),
        )


def point_columns(
    columns: Float[Array, "j n f"], valid: Bool[Array, "j n"], features: int, coordinates: tuple[int, int]
) -> tuple[Float[Array, "j n 2"], Float[Array, "j n g"]]:
    """Coordinates and features among the columns of a cloud; 0 for padding, whatever it holds.

    Raises:
        ConfigError: there are fewer columns than the network reads.
    """
    needed = max(features, *(column + 1 for column in coordinates))
    if columns.shape[-1] < needed:
        raise ConfigError(f"the network reads {needed} columns; given are {columns.shape[-1]}")
    clean = jnp.where(valid[..., None], columns, 0)
    return clean[..., jnp.asarray(coordinates)], clean[..., :features]
