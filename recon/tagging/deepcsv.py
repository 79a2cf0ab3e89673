"""A b tagger of the size of DeepCSV (CMS, arXiv:1712.07158): dense layers on a few tracks and one secondary vertex.

It is the small baseline beside the networks that read every particle.
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
from recon.types import Jets

CLASSES = ("b", "bb", "c", "cc", "udsg")
"""Outputs of CMS's network."""


@dataclass(frozen=True, kw_only=True)
class DeepCSVConfig:
    """Shape of a network.

    Attributes:
        candidates: features of a track.
        vertices: features of a vertex.
        tracks: that are read; the first, the caller sorts them by impact parameter significance.
        secondaries: vertices that are read, the first.
        hidden: outputs of the layers.
        classes: outputs.
        dropout: after each layer, in training.
    """

    candidates: int = 8
    vertices: int = 8
    tracks: int = 6
    secondaries: int = 1
    hidden: tuple[int, ...] = (100, 100, 100, 100)
    classes: int = len(CLASSES)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.candidates, self.vertices, self.tracks, self.secondaries, self.classes, *self.hidden)
        if not self.hidden or min(sizes) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                f"{self}: hidden must not be empty, every size be positive, and dropout in [0, 1)"
            )

    @property
    def inputs(self) -> int:
        """Numbers of a jet: the features of tracks and vertices, and how many there are of each."""
        return self.tracks * self.candidates + self.secondaries * self.vertices + 2


class DeepCSV(nnx.Module):
    """Dense layers on a fixed number of tracks and vertices.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: DeepCSVConfig | None = None, *, rngs: nnx.Rngs) -> None:
        config = config or DeepCSVConfig()
        self.config = config
        self.norm = nnx.BatchNorm(config.inputs, momentum=0.9, epsilon=1e-5, rngs=rngs)
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        sizes = (config.inputs, *config.hidden)
        self.layers = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.hidden[-1], config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits; tracks and vertices past the first few count, but their features are not read."""
        config = self.config
        parts = [
            _first(jets.candidates[..., : config.candidates], jets.candidate_valid, config.tracks),
            _first(jets.vertices[..., : config.vertices], jets.vertex_valid, config.secondaries),
            *(mask.sum(1, dtype=jnp.float32)[:, None] for mask in (jets.candidate_valid, jets.vertex_valid)),
        ]
        hidden = self.norm(jnp.concatenate(parts, -1))
        for layer in self.layers:
            hidden = self.dropout(jax.nn.relu(layer(hidden)))
        logits: Array = self.output(hidden)
        return logits


def _first(features: Array, valid: Array, count: int) -> Array:
    """Features of the first rows side by side; zeros where there are none."""
    clean = jnp.where(valid[..., None], features, 0)[:, :count]
    missing = max(count - clean.shape[1], 0)
    return jnp.pad(clean, ((0, 0), (0, missing), (0, 0))).reshape(len(clean), -1)
