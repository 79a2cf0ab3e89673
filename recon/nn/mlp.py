"""Dense layers: the encoders and the heads of every graph network here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from recon.errors import ConfigError
from recon.nn.blocks import map_rows


class MLP(nnx.Module):
    """Linear layers with ReLU between them.

    Args:
        sizes: features of the input, of every hidden layer and of the output; at least two numbers.
        activate_last: whether ReLU follows the last layer too (an encoder) or not (a head).
        rngs: where the initial weights come from (He et al., arXiv:1502.01852).

    Raises:
        ConfigError: fewer than two sizes, or one that is not positive.
    """

    def __init__(self, sizes: Sequence[int], *, activate_last: bool = False, rngs: nnx.Rngs) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ConfigError(f"MLP(sizes={tuple(sizes)}): two or more positive sizes are needed")
        initialise = jax.nn.initializers.he_normal()
        self.layers = nnx.List(
            nnx.Linear(inputs, outputs, kernel_init=initialise, rngs=rngs)
            for inputs, outputs in pairwise(sizes)
        )
        self.activate_last = activate_last

    def __call__(self, inputs: Float[Array, "rows features"]) -> Float[Array, "rows outputs"]:
        """Maps every row on its own."""
        weights = [(layer.kernel[...], layer.bias[...]) for layer in self.layers if layer.bias is not None]
        width = max(max(matrix.shape) for matrix, _ in weights)
        return map_rows(_perceptron_activated if self.activate_last else _perceptron, width, weights, inputs)


def _perceptron(weights: Sequence[tuple[Array, Array]], inputs: Array) -> Array:
    for index, (matrix, bias) in enumerate(weights):
        inputs = (jax.nn.relu(inputs) if index else inputs) @ matrix + bias
    return inputs


def _perceptron_activated(weights: Sequence[tuple[Array, Array]], inputs: Array) -> Array:
    return jax.nn.relu(_perceptron(weights, inputs))


def layer_norm(
    inputs: Float[Array, "rows features"],
    scale: Float[Array, " features"],
    shift: Float[Array, " features"],
    epsilon: float = 1e-5,
) -> Float[Array, "rows features"]:
    """Normalises every row to mean 0 and variance 1, then scales and shifts (Ba et al., arXiv:1607.06450)."""
    centred = inputs - inputs.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + epsilon) * scale + shift
