"""Particle flow network (Komiske, Metodiev and Thaler, arXiv:1810.05165): a function of a sum over the particles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from recon.errors import ConfigError
from recon.types import Jets


@dataclass(frozen=True, kw_only=True)
class PFNConfig:
    """Shape of a network.

    Attributes:
        features: of a candidate.
        classes: outputs.
        particle: outputs of the layers on every particle.
        jet: outputs of the layers on the sum.
        dropout: in front of the last layer, in training.
    """

    features: int = 17
    classes: int = 10
    particle: tuple[int, ...] = (100, 100, 256)
    jet: tuple[int, ...] = (100, 100, 100)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if (
            not (self.particle and self.jet)
            or min(self.features, self.classes, *self.particle, *self.jet) < 1
        ):
            raise ConfigError(f"{self}: particle and jet must not be empty, and every size be positive")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"PFNConfig.dropout is {self.dropout}; allowed: 0 or more, less than 1")


TOP_TAGGING = PFNConfig(features=3, classes=2)
"""pT, y and phi of the particles of a jet; the published 82 k parameters."""


class PFN(nnx.Module):
    """Dense layers on every particle, a sum, dense layers on the sum.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: PFNConfig | None = None, *, rngs: nnx.Rngs) -> None:
        config = config or PFNConfig()
        self.config = config
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.he_uniform(), rngs=rngs)
        sizes = (config.features, *config.particle)
        self.particle = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        sizes = (config.particle[-1], *config.jet)
        self.jet = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.jet[-1], config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits; the order of candidates changes nothing, nor does padding."""
        mask = jets.candidate_valid[..., None]
        hidden = jnp.where(mask, jets.candidates[..., : self.config.features], 0)
        for layer in self.particle:
            hidden = jax.nn.relu(layer(hidden))
        hidden = jnp.where(mask, hidden, 0).sum(1)
        for layer in self.jet:
            hidden = jax.nn.relu(layer(hidden))
        logits: Array = self.output(self.dropout(hidden))
        return logits
