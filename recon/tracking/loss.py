"""Losses for edges and for object condensation; padding has neither weight nor gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from recon.errors import ConfigError
from recon.segments import segment_max
from recon.types import NOISE


def edge_loss(
    logits: Float[Array, " e"],
    labels: Bool[Array, " e"],
    weights: Float[Array, " e"],
    *,
    focus: float = 0.0,
    positive_weight: float = 1.0,
) -> Float[Array, ""]:
    """Weighted mean of the binary cross-entropy, stable for any logit; 0 where all weights are 0.

    With `focus` above 0 the focal loss of Lin et al. (arXiv:1708.02002, eq. 4 and 5): an edge whose true class has the
    probability p counts (1 - p)^focus.

    Args:
        logits: of the edges.
        labels: whether the edge joins two hits in a row of one particle.
        weights: of the edges; 0 for padding.
        focus: gamma of the focal loss.
        positive_weight: factor on the weight of true edges.

    Raises:
        ConfigError: a negative `focus` or `positive_weight`.
    """
    if focus < 0 or positive_weight < 0:
        raise ConfigError(
            f"edge_loss(focus={focus}, positive_weight={positive_weight}): both must be 0 or more"
        )
    # A padded logit may be anything, NaN too: it is replaced before it can spoil a gradient.
    logits = jnp.where(weights > 0, logits, 0)
    toward_truth = jnp.where(labels, logits, -logits)
    loss = jax.nn.softplus(-toward_truth)
    if focus:
        # (1 - p)^focus through the logarithm: its gradient stays finite where p = 1.
        loss = loss * jnp.exp(focus * jax.nn.log_sigmoid(-toward_truth))
    weights = jnp.where(labels, positive_weight * weights, weights)
    return (loss * weights).sum() / jnp.maximum(weights.sum(), 1e-12)


class CondensationLoss(NamedTuple):
    """The parts of the object condensation loss; the user weighs and adds them.

    Attributes:
        attractive: pull of every hit to its object's condensation point.
        repulsive: push away from those of the others.
        coward: objects whose condensation point has a low beta.
        noise: mean beta of noise hits.
    """

    attractive: Float[Array, ""]
    repulsive: Float[Array, ""]
    coward: Float[Array, ""]
    noise: Float[Array, ""]


def condensation_loss(
    beta: Float[Array, " n"],
    coordinates: Float[Array, "n c"],
    objects: Int32[Array, " n"],
    valid: Bool[Array, " n"],
    *,
    count: int,
    q_min: float = 0.1,
    block: int = 64,
) -> CondensationLoss:
    """Object condensation (Kieseler, arXiv:2002.03605, eq. 3 to 8).

    A hit has the charge q = artanh(beta)^2 + q_min; the hit of the largest charge is its object's condensation
    point. The potentials are summed over blocks of objects: memory grows with `n * block`, not with `n * count`.

    Args:
        beta: in [0, 1).
        coordinates: in the clustering space.
        objects: the object of every hit, 0 to count - 1; `NOISE` for none.
        valid: false for padding.
        count: number of objects, those without hits included.
        q_min: least charge of a hit.
        block: objects at a time.

    Raises:
        ConfigError: a charge, a count or a block that is not positive.
    """
    if q_min <= 0 or count < 1 or block < 1:
        raise ConfigError(
            f"condensation_loss(q_min={q_min}, count={count}, block={block}): all must be positive"
        )
    member = valid & (objects != NOISE)
    # artanh(1) is infinite.
    charge = jnp.square(jnp.arctanh(jnp.clip(beta, 0.0, 1.0 - 1e-4))) + q_min
    point, exists = _condensation_points(charge, objects, member, count)
    total = jnp.where(valid, charge, 0)
    attractive, repulsive = _potentials(
        coordinates, total, jnp.where(member, objects, NOISE), point, exists, block
    )
    n_hits, n_objects = jnp.maximum(valid.sum(), 1), jnp.maximum(exists.sum(), 1)
    noise = valid & ~member
    return CondensationLoss(
        attractive=attractive / n_hits,
        repulsive=repulsive / n_hits,
        coward=jnp.where(exists, 1 - beta[point], 0).sum() / n_objects,
        noise=jnp.where(noise, beta, 0).sum() / jnp.maximum(noise.sum(), 1),
    )


def _condensation_points(
    charge: Float[Array, " n"], objects: Int32[Array, " n"], member: Bool[Array, " n"], count: int
) -> tuple[Int32[Array, " k"], Bool[Array, " k"]]:
    """The hit of the largest charge of every object (the first of equals), and whether the object has hits."""
    rows = jnp.arange(len(charge), dtype=jnp.int32)
    own = jnp.where(member, objects, 0)
    charge = jax.lax.stop_gradient(charge)
    largest = segment_max(charge, own, count, valid=member)
    best = jnp.where(member & (charge == largest[own]), rows, len(charge))
    first = jax.ops.segment_min(best, own, count)
    exists = first < len(charge)
    return jnp.where(exists, first, 0), exists


def _potentials(
    coordinates: Float[Array, "n c"],
    charge: Float[Array, " n"],
    objects: Int32[Array, " n"],
    point: Int32[Array, " k"],
    exists: Bool[Array, " k"],
    block: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Charge-weighted sums of both potentials over all pairs of hit and object."""
    fill = -len(point) % block
    identifiers = jnp.arange(len(point) + fill, dtype=jnp.int32).reshape(-1, block)
    points = jnp.pad(point, (0, fill)).reshape(-1, block)
    # Objects without hits attract and repel nothing.
    strengths = jnp.pad(jnp.where(exists, charge[point], 0), (0, fill)).reshape(-1, block)

    def add(sums: tuple[Array, Array], part: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        identifier, at, strength = part
        difference = coordinates[:, None] - coordinates[at][None]
        squared = jnp.square(difference).sum(-1)
        same = objects[:, None] == identifier
        # The square root has no gradient at 0, which is where a condensation point meets itself.
        distance = jnp.sqrt(jnp.where(same, 1.0, squared) + 1e-12)
        pull = jnp.where(same, squared, 0.0) * strength
        push = jnp.where(same, 0.0, jax.nn.relu(1 - distance)) * strength
        return (sums[0] + (charge * pull.sum(1)).sum(), sums[1] + (charge * push.sum(1)).sum()), None

    zero = jnp.zeros((), coordinates.dtype)
    return jax.lax.scan(jax.checkpoint(add), (zero, zero), (identifiers, points, strengths))[0]
