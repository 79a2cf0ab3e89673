"""An adversary that reads the mass off a tagger's features, so that the tagger learns to hide it.

The adversary is trained to find the mass; what reaches the tagger is its gradient with the sign turned (Ganin et al.,
arXiv:1505.07818), as in the mass-decorrelated DeepAK8 (CMS, arXiv:2004.08262, section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Float32, Int32

from recon.errors import ConfigError
from recon.types import Array


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """Shape of an adversary.

    Attributes:
        features: of the tagger, its input.
        hidden: outputs of its layers.
        bins: of the soft-drop mass, of equal width.
        mass: lower edge of the first and upper edge of the last bin, GeV.
        strength: of the turned gradient.
    """

    features: int = 192
    hidden: tuple[int, ...] = (256, 256, 256)
    bins: int = 22
    mass: tuple[float, float] = (30.0, 250.0)
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not self.hidden or min(self.features, self.bins, *self.hidden) < 1:
            raise ConfigError(f"{self}: hidden must not be empty, and every size be positive")
        if not self.mass[0] < self.mass[1] or self.strength < 0:
            raise ConfigError(f"{self}: the range of the mass must ascend, and strength not be negative")


@jax.custom_vjp
def turn_gradient(values: Float[Array, "*n"], strength: Float[Array, ""]) -> Float[Array, "*n"]:
    """The values themselves; their gradient is multiplied by -strength."""
    del strength
    return values


def _forward(values: Array, strength: Array) -> tuple[Array, Array]:
    return values, strength


def _backward(strength: Array, slope: Array) -> tuple[Array, Array]:
    return -strength * slope, jnp.zeros_like(strength)


turn_gradient.defvjp(_forward, _backward)


class MassAdversary(nnx.Module):
    """Dense layers with SELU that classify jets by their mass."""

    def __init__(self, config: AdversaryConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        dense = partial(nnx.Linear, kernel_init=nnx.initializers.lecun_normal(), rngs=rngs)
        sizes = (config.features, *config.hidden)
        self.layers = nnx.List([dense(*pair) for pair in pairwise(sizes)])
        self.output = nnx.Linear(config.hidden[-1], config.bins, rngs=rngs)

    def __call__(self, features: Float[Array, "j f"]) -> Float[Array, "j m"]:
        """Logits of the bins of mass; gradients are turned where they leave for the tagger."""
        hidden = turn_gradient(features, jnp.asarray(self.config.strength, features.dtype))
        for layer in self.layers:
            hidden = jax.nn.selu(layer(hidden))
        logits: Array = self.output(hidden)
        return logits


def mass_bins(mass: Float32[Array, " j"], config: AdversaryConfig) -> Int32[Array, " j"]:
    """Bin of every jet; masses outside the range lie in the first or the last bin.

    Args:
        mass: soft-drop mass, GeV.
        config: says what the bins are.
    """
    low, high = config.mass
    place = jnp.floor((mass - low) / (high - low) * config.bins)
    return jnp.clip(place, 0, config.bins - 1).astype(jnp.int32)


def adversary_loss(
    logits: Float[Array, "j m"], bins: Int32[Array, " j"], background: Bool[Array, " j"]
) -> Float[Array, ""]:
    """Mean cross entropy over the background jets: only their mass must not be sculpted.

    Args:
        logits: of `MassAdversary`.
        bins: of `mass_bins`.
        background: jets that count.

    Returns:
        0 where there is no background.
    """
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), bins[:, None], 1)[:, 0]
    return -jnp.where(background, picked, 0).sum() / jnp.maximum(background.sum(), 1)
