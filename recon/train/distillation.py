"""Distillation: a network learns from the probabilities that another one gives, whose classes may be others.

Classes that both sides can tell apart are groups; the student's probabilities are summed over the members of a group.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from jaxtyping import Bool, Float

from recon.types import Array


def group_logits(logits: Float[Array, "b k"], groups: Bool[Array, "g k"]) -> Float[Array, "b g"]:
    """Logarithms of the summed probabilities of groups, up to one number a row.

    Args:
        logits: of the classes.
        groups: which classes belong to each; none of them may be empty.
    """
    return jax.nn.logsumexp(jnp.where(groups, logits[:, None], -jnp.inf), axis=-1)


def distillation_loss(
    logits: Float[Array, "b k"],
    groups: Bool[Array, "g k"],
    teacher: Float[Array, "b g"],
    weight: Float[Array, " b"],
    temperature: float,
) -> Float[Array, ""]:
    """Weighted mean of the divergence (Kullback-Leibler) of student and teacher, both softened.

    Args:
        logits: of the student.
        groups: classes of the student in every group.
        teacher: logits of the groups.
        weight: of every row; rows that belong to no group have none.
        temperature: that both sides' logits of the groups are divided by.

    Returns:
        Times temperature squared, which keeps the size of its gradient beside a cross entropy; 0 without any weight.

    Source:
        Hinton, Vinyals and Dean, arXiv:1503.02531, section 2.
    """
    own = jax.nn.log_softmax(group_logits(logits.astype(jnp.float32), groups) / temperature)
    target = jax.nn.softmax(teacher.astype(jnp.float32) / temperature)
    each = optax.losses.kl_divergence(own, target)
    return temperature**2 * (weight * each).sum() / jnp.maximum(weight.sum(), 1e-12)
