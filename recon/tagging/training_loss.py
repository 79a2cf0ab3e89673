"""The loss of a tagger: labels, and if there are any a teacher and an adversary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool

from recon.tagging.adversary import MassAdversary, adversary_loss
from recon.train.classification import LabelledBatch, accuracy, cross_entropy
from recon.train.distillation import distillation_loss
from recon.train.state import LossFn


class Adversarial(nnx.Module):
    """A tagger and the adversary that reads the mass off its features.

    Args:
        tagger: DeepAK8 or ParticleNet.
        adversary: of as many features.
    """

    def __init__(self, tagger: Any, adversary: MassAdversary) -> None:
        self.tagger, self.adversary = tagger, adversary


def tagger_of(network: Any) -> Any:
    """The tagger alone."""
    return network.tagger if isinstance(network, Adversarial) else network


def tagging_loss(groups: Bool[np.ndarray, "g k"] | None, distill: float, softness: float) -> LossFn:
    """A loss for `recon.train.classification.fit_classifier`.

    Args:
        groups: of a teacher's classes, see `recon.train.distillation`; `None` without one.
        distill: share of the teacher.
        softness: temperature of the distillation.

    Returns:
        Function of an `Adversarial` or a tagger, a batch and a key. Metrics are the accuracy, and the parts of the
        loss by name.
    """

    def loss(network: Any, batch: LabelledBatch, key: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        del key  # dropout has streams of its own
        tagger, adversarial = tagger_of(network), isinstance(network, Adversarial)
        features = tagger.features(batch.inputs) if adversarial else None
        logits = tagger.classify(features) if adversarial else tagger(batch.inputs)
        total = cross_entropy(logits, batch.label, batch.weight)
        metrics = {"accuracy": accuracy(logits, batch.label, batch.weight)}
        if groups is not None:
            teacher, taught = batch.extra["teacher"], batch.extra["taught"]
            learnt = distillation_loss(logits, jnp.asarray(groups), teacher, taught, softness)
            total = (1 - distill) * total + distill * learnt
            metrics["distillation"] = learnt
        if adversarial:
            found = network.adversary(features)
            against = adversary_loss(found, batch.extra["mass"], batch.extra["background"])
            # Its gradient is turned where it reaches the tagger.
            total = total + against
            metrics["adversary"] = against
        return total, metrics

    return loss
