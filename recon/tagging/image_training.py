"""What the trainings of networks for images share: settings, the loop's part of them, model cards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int

from recon.errors import ConfigError
from recon.nn.patch_network import (
    ClassifierShape,
    PatchClassifier,
    PatchNetworkConfig,
    with_measured_cells,
)
from recon.settings import listed
from recon.tagging.backbone_network import NetworkT, of_others, trainable
from recon.train.classification import (
    FitConfig,
    Fitted,
    Metrics,
    fit_classifier,
    labelled_batches,
    predict,
)
from recon.train.optim import Optimizer
from recon.train.sampling import Sampler

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]
SAMPLE = 2000
"""Images that the capacities of a network are measured on."""


@dataclass(frozen=True, kw_only=True)
class ImageTraining:
    """What to train, on what, and for how long.

    Attributes:
        train: files of simulated events.
        output: directory of the run; the model goes to `output/model`.
        initial: model to begin with, shipped or a directory of yours; its shape wins.
        frozen: keep the featurizer of `initial` as it is: features are computed once and kept, only a new classifier
            is trained on them.
        backbone: train a classifier on the features of this network of others, which stays as it is and sees one
            picture of 224 x 224.
        fine_tune: train all weights, those of the backbone too, be it `backbone` or that of `initial`; the batch and
            the learning rate want to be smaller then.
        weights: file of the backbone's weights; efficientnet-lite0 has a package that brings them.
        channels: of the network, on its three scales.
        blocks: residual blocks on every scale.
        epochs: passes over the events.
        batch: events of an update.
        optimizer: `muon` learns more from the same images than `adamw`; see `recon.train.optim`.
        learning_rate: the peak.
        weight_decay: of matrices.
        class_weights: factors of the loss, one a class; all 1 if not given.
        validation: fraction that is held out, at most `validation_rows`.
        validation_rows: see `validation`.
        evaluations: how many, evenly over the run; the best network is kept.
        patience: evaluations without a better one after which the run ends; 0 for never.
        seed: of weights, order and augmentation.
        max_seconds: wall time after which to stop with a checkpoint; the same command goes on from there.
        progress: draw a progress bar.
        tensorboard: write TensorBoard events too.
    """

    train: tuple[Path, ...]
    output: Path
    initial: str | None = None
    frozen: bool = False
    backbone: str | None = None
    fine_tune: bool = False
    weights: Path | None = None
    channels: tuple[int, int, int] = (48, 64, 96)
    blocks: tuple[int, int, int] = (1, 1, 1)
    epochs: float = 6.0
    batch: int = 256
    optimizer: Optimizer = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    class_weights: tuple[float, ...] | None = None
    validation: float = 0.02
    validation_rows: int = 4000
    evaluations: int = 8
    patience: int = 0
    seed: int = 0
    max_seconds: float | None = None
    progress: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("no file to train on was given: --train FILE")
        if self.backbone is not None and self.initial is not None:
            raise ConfigError("--backbone and --initial both say which featurizer to begin with: choose one")
        if self.weights is not None and self.backbone is None:
            raise ConfigError("--weights are those of a network of others: name it with --backbone")
        if self.frozen and not (self.initial or self.backbone):
            raise ConfigError("--frozen keeps the featurizer of a trained model: name it with --initial")
        if self.fine_tune and (self.frozen or not (self.initial or self.backbone)):
            raise ConfigError(
                "--fine-tune trains all weights of a network: name it with --backbone or --initial, without --frozen"
            )

    @property
    def keeps_featurizer(self) -> bool:
        """Whether the classifier alone is trained."""
        return self.frozen or (self.backbone is not None and not self.fine_tune)

    def to_train(self, network: NetworkT) -> NetworkT:
        """A network behind a backbone, all of whose weights may be trained.

        Raises:
            ConfigError: they are of others, and nobody said so.
        """
        if of_others(network) and not self.fine_tune:
            raise ConfigError(
                f"{self.initial} has a featurizer of others: train its classifier with --frozen, all with --fine-tune"
            )
        return trainable(network)

    def weights_of(self, classes: int) -> np.ndarray:
        """Factor of the loss of every class.

        Raises:
            ConfigError: there are other numbers of them, or negative ones.
        """
        given = self.class_weights
        if given is not None and (len(given) != classes or min(given) < 0):
            raise ConfigError(f"class_weights is {given}; allowed: {classes} numbers, none negative")
        return np.asarray(given or np.ones(classes), np.float32)

    def fit_config(self) -> FitConfig:
        """The settings of the loop."""
        return FitConfig(
            directory=self.output,
            batch=self.batch,
            epochs=self.epochs,
            seed=self.seed,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema_decay=0.998,
            evaluations=self.evaluations,
            patience=self.patience,
            max_seconds=self.max_seconds,
            progress=self.progress,
            tensorboard=self.tensorboard,
        )

    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON values."""
        tree = dataclasses.asdict(self)
        for name in ("output", "max_seconds", "progress", "tensorboard"):
            del tree[name]
        weights = None if self.weights is None else self.weights.name
        return dict(listed(tree | {"train": [path.name for path in self.train], "weights": weights}))


def measured(config: PatchNetworkConfig, images: np.ndarray) -> dict[str, Any]:
    """The capacities that such images need, as fields of a configuration."""
    shape = with_measured_cells(config, images)
    return {"cells": shape.cells, "spread": shape.spread}


def parameters(network: nnx.Module) -> int:
    """Number of trainable numbers of a network."""
    return sum(array.size for array in jax.tree.leaves(nnx.state(network, nnx.Param)))


def train_classifier(
    config: ImageTraining,
    shape: ClassifierShape,
    features: Float32[np.ndarray, "n f"],
    label: Int[np.ndarray, " n"],
    used: np.ndarray,
    held: np.ndarray,
    scores_of: Callable[[np.ndarray, np.ndarray], Metrics],
) -> Fitted:
    """Train a new classifier on features of a featurizer that stays as it is.

    Args:
        config: settings.
        shape: of the classifier.
        features: of all images.
        label: classes of all images.
        used: rows to train on.
        held: rows to evaluate on.
        scores_of: logits and labels to metrics.

    Returns:
        The classifier and its history.
    """
    weights = config.weights_of(shape.classes)
    return fit_classifier(
        PatchClassifier(shape, rngs=nnx.Rngs(config.seed)),
        labelled_batches(
            features[used],
            label[used],
            weights[label[used]],
            Sampler(len(used), config.batch, config.seed),
        ),
        config.fit_config(),
        rows=len(used),
        evaluate=lambda now: scores_of(predict(now, features[held]), label[held]),
        settings=config.settings(),
    )


def card(title: str, text: str, config: ImageTraining, fitted: Fitted) -> str:
    """The model card: what it is, numbers of the held-out events, settings.

    Args:
        title: of the card.
        text: what the model is and what it was trained on.
        config: settings.
        fitted: whose best evaluation is quoted.
    """
    settings = "\n".join(f"| {name} | {value} |" for name, value in sorted(config.settings().items()))
    best = next((row for row in fitted.history if row["step"] == fitted.step), {})
    numbers = "".join(f"| {name} | {value:.4f} |\n" for name, value in best.items() if name != "step")
    return f"""# {title}

{text} {fitted.step:,} updates with {config.batch} of them each. Only simulated events were seen: scores of real ones
are not calibrated. Weights are under the licence of this package.

## Held out

| metric | value |
| --- | --- |
{numbers}
## Settings

| setting | value |
| --- | --- |
{settings}
"""
