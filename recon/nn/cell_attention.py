"""Attention among the active cells of an event: what is far apart, or in another view, is one step away.

All that acts on one cell at a time works on the list of active cells (`recon.nn.active_cells`); only the weights are
computed on full images, whose few cells on the coarsest scale cost little.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32

from recon.errors import ConfigError
from recon.nn.active_cells import ActiveCells, dense_cells, with_zero_row

WIDENING = 4
"""Hidden channels of the part that works on each cell alone, by its channels."""


class CellAttention(nnx.Module):
    """Attention with a way around it, then a perceptron with one (Vaswani et al., arXiv:1706.03762; norms in front).

    Args:
        channels: of the cells; a multiple of `heads`.
        heads: weights that are computed side by side.
        rngs: of the parameters; both parts begin as the identity.

    Raises:
        ConfigError: the channels cannot be shared out.
    """

    def __init__(self, channels: int, heads: int, *, rngs: nnx.Rngs) -> None:
        if heads < 1 or channels % heads:
            raise ConfigError(
                f"{channels} channels and {heads} heads of attention; allowed: a multiple of the heads, 1 or more"
            )
        self.heads = heads
        self.norms = nnx.List([nnx.LayerNorm(channels, rngs=rngs) for _ in range(2)])
        self.queries = nnx.Linear(channels, 3 * channels, rngs=rngs)
        zeros = nnx.initializers.zeros
        self.answer = nnx.Linear(channels, channels, kernel_init=zeros, rngs=rngs)
        he = nnx.initializers.he_normal()
        self.widening = nnx.Linear(channels, WIDENING * channels, kernel_init=he, rngs=rngs)
        self.narrowing = nnx.Linear(WIDENING * channels, channels, kernel_init=zeros, rngs=rngs)

    def __call__(
        self, features: Float32[Array, "t c"], active: ActiveCells, views: int
    ) -> Float32[Array, "t c"]:
        """Features in, features out.

        Args:
            features: of the active cells.
            active: the cells, images of one event after the other.
            views: images of an event; their cells see each other.
        """
        asked = self.queries(self.norms[0](features))
        answers = attend(asked, active, views, self.heads)
        features = features + self.answer(answers)
        alone = jax.nn.relu(self.widening(self.norms[1](features)))
        return features + self.narrowing(alone)


class CellMeeting(nnx.Module):
    """Cells of all views of an event learn of each other; what they make of it is summed up.

    Args:
        channels: of the cells.
        places: cells of an event, empty ones too; each has a vector of its own that says where it is.
        blocks: of attention.
        heads: of each.
        views: images of an event.
        rngs: of the parameters.
    """

    def __init__(
        self, channels: int, places: int, blocks: int, heads: int, views: int, *, rngs: nnx.Rngs
    ) -> None:
        self.views = views
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (places, channels)))
        self.blocks = nnx.List([CellAttention(channels, heads, rngs=rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(channels, rngs=rngs)

    def __call__(self, features: Float32[Array, "t c"], active: ActiveCells) -> Float32[Array, "b k"]:
        """Means and maxima over the cells of every event; 0 where there is none."""
        features = features + self.places[...][place_in_event(active, self.views)]
        for block in self.blocks:
            features = block(features, active, self.views)
        occupied = occupied_cells(active, self.views)[..., None]
        cells = dense_cells(self.norm(features), active).reshape(*occupied.shape[:2], -1)
        count = occupied.sum(1)
        mean = jnp.where(occupied, cells, 0).sum(1) / jnp.maximum(count, 1)
        largest = jnp.where(count > 0, jnp.where(occupied, cells, -jnp.inf).max(1), 0)
        return jnp.concatenate([mean, largest], -1)


def attend(
    asked: Float32[Array, "t k"], active: ActiveCells, views: int, heads: int
) -> Float32[Array, "t c"]:
    """Means of the values of all active cells of an event, weighted by queries and keys.

    Args:
        asked: queries, keys and values of the cells, side by side.
        active: the cells.
        views: images of an event.
        heads: groups of channels, each with its own weights.
    """
    images, h, w = active.grid
    events, cells, channels = images // views, views * h * w, asked.shape[1] // 3
    dense = jnp.zeros((events * cells + 1, asked.shape[1]), asked.dtype).at[active.cell].set(asked)[:-1]
    query, key, value = jnp.moveaxis(dense.reshape(events, cells, 3, heads, channels // heads), 2, 0)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(channels // heads)
    # Not infinity: in an event without any cell there would be nothing to divide by.
    weights = jax.nn.softmax(jnp.where(occupied_cells(active, views)[:, None, None], logits, -1e9))
    means = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(events * cells, channels)
    return with_zero_row(means)[active.cell]


def occupied_cells(active: ActiveCells, views: int) -> Bool[Array, "b s"]:
    """Which cells of an event are in the list, view by view."""
    images, h, w = active.grid
    flags = jnp.zeros(images * h * w + 1, bool).at[active.cell].set(active.valid)[:-1]
    return flags.reshape(images // views, views * h * w)


def place_in_event(active: ActiveCells, views: int) -> Int32[Array, " t"]:
    """View, row and column of every cell as one number; that of the first cell for padding."""
    _, h, w = active.grid
    return active.cell % (views * h * w)
