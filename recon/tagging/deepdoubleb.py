"""DeepDoubleB (CMS): H(bb) against QCD from tracks and vertices read by recurrent units, 40.7 k parameters.

Tracks and vertices are read from the last to the first, as CMS does, so that what is most displaced comes last. Padding
holds zeros and is read as well: it is part of the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.types import Jets

CLASSES = ("QCD", "Hbb")
"""Outputs of CMS's file, in its order."""


@dataclass(frozen=True, kw_only=True)
class DeepDoubleBConfig:
    """Shape of a network.

    Attributes:
        jet: features of the jet itself.
        candidates: features of a track.
        vertices: features of a vertex.
        hidden: outputs of both layers on tracks and vertices.
        units: of the recurrent layers.
        dense: outputs of the layer that joins all.
        classes: outputs.
        dropout: in front of the last layers, in training.
    """

    jet: int = 27
    candidates: int = 8
    vertices: int = 2
    hidden: int = 32
    units: int = 50
    dense: int = 100
    classes: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.jet, self.candidates, self.vertices, self.hidden, self.units, self.dense, self.classes)
        if min(sizes) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"{self}: every size must be positive, and dropout in [0, 1)")


def hard_sigmoid(x: Float32[Array, "*n"]) -> Float32[Array, "*n"]:
    """Keras' straight line with ends, 0.2 x + 0.5; that of JAX has another slope."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


class GatedUnit(nnx.Module):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078), the reset gate in front of the matrix.

    Two biases, as the files have them: one would do, but the published number of parameters counts both.
    """

    def __init__(self, inputs: int, units: int, *, rngs: nnx.Rngs) -> None:
        glorot, orthogonal = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        self.units = units
        self.kernel = nnx.Param(glorot(rngs.params(), (inputs, 3 * units), jnp.float32))
        self.recurrent = nnx.Param(orthogonal(rngs.params(), (units, 3 * units), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(3 * units))
        self.recurrent_bias = nnx.Param(jnp.zeros(3 * units))

    def __call__(self, x: Float32[Array, "j n f"]) -> Float32[Array, "j u"]:
        """State after the sequences were read from the last entry to the first."""
        bias = self.bias[...] + self.recurrent_bias[...]
        # The products that do not wait for the state are one, in front of the loop.
        driven = jnp.moveaxis(x @ self.kernel[...] + bias, 1, 0)
        gates, candidate = jnp.split(self.recurrent[...], [2 * self.units], axis=1)

        def step(state: Array, given: Array) -> tuple[Array, None]:
            update, reset = jnp.split(hard_sigmoid(given[:, : 2 * self.units] + state @ gates), 2, -1)
            new = jnp.tanh(given[:, 2 * self.units :] + (reset * state) @ candidate)
            return update * state + (1 - update) * new, None

        return jax.lax.scan(step, jnp.zeros((x.shape[0], self.units)), driven, reverse=True)[0]


class Reader(nnx.Module):
    """Normalisation, two layers entry by entry, and the recurrent unit."""

    def __init__(self, inputs: int, config: DeepDoubleBConfig, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(inputs, momentum=0.9, epsilon=1e-6, rngs=rngs)
        sizes = (inputs, config.hidden, config.hidden)
        self.layers = nnx.List([nnx.Linear(*pair, use_bias=False, rngs=rngs) for pair in pairwise(sizes)])
        self.recurrent = GatedUnit(config.hidden, config.units, rngs=rngs)

    def __call__(self, x: Float32[Array, "j n f"]) -> Float32[Array, "j u"]:
        """One state a jet."""
        x = self.norm(x)
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.recurrent(x)


class DeepDoubleB(nnx.Module):
    """Readers of tracks and of vertices beside the jet's own features.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: DeepDoubleBConfig | None = None, *, rngs: nnx.Rngs) -> None:
        config = config or DeepDoubleBConfig()
        self.config = config
        self.norm = nnx.BatchNorm(config.jet, momentum=0.9, epsilon=1e-6, rngs=rngs)
        self.candidates = Reader(config.candidates, config, rngs=rngs)
        self.vertices = Reader(config.vertices, config, rngs=rngs)
        self.dense = nnx.Linear(config.jet + 2 * config.units, config.dense, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.dense, config.classes, rngs=rngs)

    def __call__(self, jets: Jets, jet_features: Float32[Array, "j g"]) -> Float32[Array, "j k"]:
        """Logits of jets; CMS's capacities are 60 tracks and 5 vertices.

        Args:
            jets: tracks are the candidates.
            jet_features: of the jets themselves.
        """
        read = (
            self.candidates(jnp.where(jets.candidate_valid[..., None], jets.candidates, 0)),
            self.vertices(jnp.where(jets.vertex_valid[..., None], jets.vertices, 0)),
        )
        joined = jnp.concatenate([self.norm(jet_features), *(self.dropout(part) for part in read)], -1)
        logits: Array = self.output(self.dropout(jax.nn.relu(self.dense(joined))))
        return logits
