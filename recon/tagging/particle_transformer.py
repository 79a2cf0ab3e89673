"""Particle Transformer (Qu, Li and Qian, arXiv:2202.03772): attention between particles, biased by pairs of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from recon.errors import ConfigError
from recon.geometry import delta_phi
from recon.types import Jets

PAIR_FEATURES = 4
_FAR = -1e9
"""Added to the logits of attention to padding."""


@dataclass(frozen=True, kw_only=True)
class ParticleTransformerConfig:
    """Shape of a network.

    Attributes:
        features: columns of the candidates that are features, from the first.
        vectors: columns that are px, py, pz and E, GeV.
        classes: outputs.
        embedding: outputs of the layers on every particle.
        pairs: outputs of the layers on every pair, before those of the heads.
        heads: of every attention.
        layers: attentions between particles.
        class_layers: attentions of the class token to the particles.
        dropout: in training.
    """

    features: int = 17
    vectors: tuple[int, int, int, int] = (17, 18, 19, 20)
    classes: int = 10
    embedding: tuple[int, ...] = (128, 512, 128)
    pairs: tuple[int, ...] = (64, 64, 64)
    heads: int = 8
    layers: int = 8
    class_layers: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        sizes = (self.features, self.classes, self.heads, self.layers, self.class_layers)
        if not self.embedding or min(*sizes, *self.embedding, *self.pairs) < 1:
            raise ConfigError(f"{self}: embedding must not be empty, and every size be positive")
        if self.embedding[-1] % self.heads or not 0 <= self.dropout < 1 or min(self.vectors) < 0:
            raise ConfigError(
                f"{self}: the last embedding must be a multiple of heads, dropout in [0, 1), columns not negative"
            )


def pair_features(
    one: Float32[Array, "*b 4"], other: Float32[Array, "*b 4"], least: float = 1e-8
) -> Float32[Array, "*b 4"]:
    """Logarithms of kT, z, the angle and the squared mass of pairs.

    Args:
        one: px, py, pz and E of the first particle of every pair, GeV.
        other: the same of the second; exchanging the two changes nothing.
        least: floor of every logarithm's argument.

    Source:
        arXiv:2202.03772, equation 3, with the rapidity in the angle; as weaver computes it.
    """
    (pt, rapidity, phi), (other_pt, other_rapidity, other_phi) = _cylindrical(one), _cylindrical(other)
    squared = (rapidity - other_rapidity) ** 2 + delta_phi(phi, other_phi) ** 2
    # Twice "where": the square root has no gradient at 0, the angle of a particle to itself.
    apart = squared > 0
    angle = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    softer = jnp.minimum(pt, other_pt)
    total = one + other
    mass2 = total[..., 3] ** 2 - jnp.square(total[..., :3]).sum(-1)
    arguments = (softer * angle, softer / jnp.maximum(pt + other_pt, least), angle, mass2)
    return jnp.stack([jnp.log(jnp.maximum(argument, least)) for argument in arguments], -1)


def _cylindrical(momentum: Array) -> tuple[Array, Array, Array]:
    """Transverse momentum, rapidity and azimuth; finite gradients at 0 too, which is what padding holds."""
    px, py, pz, energy = (momentum[..., axis] for axis in range(4))
    squared = px**2 + py**2
    rapidity = 0.5 * jnp.log(jnp.maximum(1 + 2 * pz / jnp.maximum(energy - pz, 1e-20), 1e-30))
    return jnp.sqrt(jnp.maximum(squared, 1e-30)), rapidity, jnp.arctan2(py, jnp.where(squared > 0, px, 1.0))


def _triangle(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the pairs i >= j, and the place of every pair (i, j) among them."""
    rows, columns = np.tril_indices(n)
    place = np.zeros((n, n), np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows), dtype=np.int32)
    return rows, columns, place


def _layer_norm(channels: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(channels, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


_batch_norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5)
_gelu = partial(jax.nn.gelu, approximate=False)


class Block(nnx.Module):
    """Attention and two dense layers, normalised before and after (NormFormer, arXiv:2110.09456)."""

    def __init__(self, width: int, heads: int, dropout: float, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.attention_norm, self.attended_norm = _layer_norm(width, rngs), _layer_norm(width, rngs)
        self.project = nnx.Linear(width, 3 * width, rngs=rngs)
        self.merge = nnx.Linear(width, width, rngs=rngs)
        self.head_scale = nnx.Param(jnp.ones(heads))
        self.dense_norm, self.hidden_norm = _layer_norm(width, rngs), _layer_norm(4 * width, rngs)
        self.dense = nnx.List(
            [nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)]
        )
        self.residual_scale = nnx.Param(jnp.ones(width))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(
        self, x: Float[Array, "j q w"], context: Float[Array, "j n w"], bias: Float[Array, "j ... n"]
    ) -> Float[Array, "j q w"]:
        """New states of `x`, which looks at `context`.

        Args:
            x: states that ask.
            context: states that are asked, normalised here.
            bias: added to the logits of attention; far below 0 for padding.
        """
        x = x + self.dropout(self.attended_norm(self._attend(x, context, bias)))
        hidden = self.hidden_norm(self.dropout(_gelu(self.dense[0](self.dense_norm(x)))))
        return x * self.residual_scale[...] + self.dropout(self.dense[1](hidden))

    def _attend(self, x: Array, context: Array, bias: Array) -> Array:
        normalised = self.attention_norm(context)
        # The class token asks as it is, the particles are normalised; the file of weights has one matrix for all.
        asking = normalised if x is context else x
        width = x.shape[-1]
        kernel, shift = self.project.kernel[...], self.project.bias[...]  # type: ignore[index]
        query = self._split(asking @ kernel[:, :width] + shift[:width])
        key, value = (
            self._split(part) for part in jnp.split(normalised @ kernel[:, width:] + shift[width:], 2, -1)
        )
        logits = jnp.einsum("jqhd,jnhd->jhqn", query, key) / (width // self.heads) ** 0.5 + bias
        weights = self.dropout(jax.nn.softmax(logits))
        merged = self.merge(jnp.einsum("jhqn,jnhd->jqhd", weights, value).reshape(x.shape))
        return (self._split(merged) * self.head_scale[...][:, None]).reshape(x.shape)

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)


class ParticleTransformer(nnx.Module):
    """Blocks between particles, then blocks of a class token that looks at them.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: ParticleTransformerConfig | None = None, *, rngs: nnx.Rngs) -> None:
        config = config or ParticleTransformerConfig()
        self.config = config
        width = config.embedding[-1]
        self.norm = _batch_norm(config.features, rngs=rngs)
        sizes = (config.features, *config.embedding)
        self.embedding_norms = nnx.List([_layer_norm(size, rngs) for size in sizes[:-1]])
        self.embedding = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairwise(sizes)])
        sizes = (PAIR_FEATURES, *config.pairs, config.heads)
        self.pair_norm = _batch_norm(PAIR_FEATURES, rngs=rngs)
        self.pairs = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairwise(sizes)])
        self.pair_norms = nnx.List([_batch_norm(size, rngs=rngs) for size in sizes[1:]])
        block = partial(Block, width, config.heads, rngs=rngs)
        self.blocks = nnx.List([block(config.dropout) for _ in range(config.layers)])
        self.class_blocks = nnx.List([block(0.0) for _ in range(config.class_layers)])
        self.class_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, width)))
        self.last_norm = _layer_norm(width, rngs)
        self.output = nnx.Linear(width, config.classes, rngs=rngs)

    def __call__(self, jets: Jets) -> Float[Array, "j k"]:
        """Logits; the order of candidates changes nothing, nor does padding.

        Raises:
            ConfigError: there are fewer columns than the network reads.
        """
        columns, valid = jets.candidates, jets.candidate_valid
        needed = max(self.config.features, *(column + 1 for column in self.config.vectors))
        if columns.shape[-1] < needed:
            raise ConfigError(f"the network reads {needed} columns; given are {columns.shape[-1]}")
        clean = jnp.where(valid[..., None], columns, 0)
        x = self._embed(clean[..., : self.config.features], valid)
        padding = jnp.where(valid, 0.0, _FAR)[:, None, None, :]
        bias = self._pair_bias(clean[..., jnp.asarray(self.config.vectors)], valid) + padding
        for block in self.blocks:
            x = block(x, x, bias)
        token = jnp.broadcast_to(self.class_token[...], (len(x), 1, x.shape[-1]))
        padding = jnp.pad(padding, ((0, 0), (0, 0), (0, 0), (1, 0)))
        for block in self.class_blocks:
            token = block(token, jnp.concatenate([token, x], 1), padding)
        logits: Array = self.output(self.last_norm(token[:, 0]))
        return logits

    def _embed(self, features: Array, valid: Array) -> Array:
        mask = valid[..., None]
        x = jnp.where(mask, self.norm(features, mask=mask), 0)
        for norm, layer in zip(self.embedding_norms, self.embedding, strict=True):
            x = _gelu(layer(norm(x)))
        return jnp.where(mask, x, 0)

    def _pair_bias(
        self, momenta: Float32[Array, "j n 4"], valid: Bool[Array, "j n"]
    ) -> Float[Array, "j h n n"]:
        # Pairs are symmetric: half of them tell all.
        rows, columns, place = _triangle(valid.shape[1])
        mask = (valid[:, rows] & valid[:, columns])[..., None]
        x = self.pair_norm(pair_features(momenta[:, rows], momenta[:, columns]), mask=mask)
        for layer, norm in zip(self.pairs, self.pair_norms, strict=True):
            x = _gelu(norm(layer(x), mask=mask))
        return jnp.moveaxis(jnp.where(mask, x, 0), -1, 1)[:, :, place]
