"""Edge convolution: what a point learns from its nearest neighbours (Wang et al., arXiv:1801.07829).

    edges_ij = mlp([x_i, x_j - x_i])        j one of the k nearest to i
    x_i'     = relu(shortcut(x_i) + mean over j of edges_ij)

The first matrix W = [A; B] acts on points and not on edges: A x_i + B (x_j - x_i) = (A - B) x_i + B x_j, so its two
products are k times smaller. That is the same network with the same parameters, only cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float

from recon.errors import ConfigError
from recon.nn.neighbors import nearest_neighbors
from recon.types import Array

BATCH_NORM_MOMENTUM = 0.9


class EdgeConv(nnx.Module):
    """One block: dense layers on edges, each with batch normalisation and ReLU, their mean, and a way around.

    Args:
        inputs: features of a point.
        outputs: of every layer.
        k: number of neighbours.
        rngs: where the initial weights come from.

    Raises:
        ConfigError: no layer, or a size that is not positive.
    """

    def __init__(self, inputs: int, outputs: Sequence[int], k: int, *, rngs: nnx.Rngs) -> None:
        if not outputs or min(inputs, k, *outputs) < 1:
            raise ConfigError(
                f"EdgeConv(inputs={inputs}, outputs={tuple(outputs)}, k={k}): all must be positive"
            )
        dense = partial(nnx.Linear, use_bias=False, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        norm = partial(nnx.BatchNorm, momentum=BATCH_NORM_MOMENTUM, epsilon=1e-5, rngs=rngs)
        sizes = (2 * inputs, *outputs)
        self.k = k
        self.layers = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.norms = nnx.List([norm(size) for size in outputs])
        fits = inputs == outputs[-1]
        self.shortcut = None if fits else dense(inputs, outputs[-1])
        self.shortcut_norm = None if fits else norm(outputs[-1])

    def __call__(
        self,
        points: Float[Array, "j n d"],
        features: Float[Array, "j n f"],
        valid: Bool[Array, "j n"],
    ) -> Float[Array, "j n o"]:
        """Features of points from those of their neighbours.

        Args:
            points: coordinates in which neighbours are looked for.
            features: 0 for padding.
            valid: false for padding: it has no neighbours, does not count in the normalisation and stays 0.
        """
        # Distances want every digit, whatever the layers compute in.
        rows = jax.vmap(partial(nearest_neighbors, k=self.k))(points.astype(jnp.float32), valid)
        own, other = split_kernel(self.layers[0].kernel[...].astype(features.dtype))
        # Padding counts in no statistics, or the same jet would train differently in a longer array.
        mask = valid[:, :, None, None]
        gathered = jax.vmap(lambda values, index: values[index])(features @ other, rows)
        edges = (features @ own)[:, :, None] + gathered
        edges = jax.nn.relu(self.norms[0](edges, mask=mask))
        for layer, norm in zip(self.layers[1:], self.norms[1:], strict=True):
            edges = jax.nn.relu(norm(layer(edges), mask=mask))
        around = features
        if self.shortcut is not None and self.shortcut_norm is not None:
            around = self.shortcut_norm(self.shortcut(features), mask=valid[..., None])
        return jnp.where(valid[..., None], jax.nn.relu(around + edges.mean(2)), 0)


def split_kernel(kernel: Float[Array, "i2 o"]) -> tuple[Float[Array, "i o"], Float[Array, "i o"]]:
    """The matrix of [x_i, x_j - x_i] as one of x_i and one of x_j."""
    half = kernel.shape[0] // 2
    return kernel[:half] - kernel[half:], kernel[half:]
