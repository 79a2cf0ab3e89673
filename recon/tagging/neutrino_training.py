"""Training for `recon train nova`: files -> events -> images -> network, or features -> classifier -> model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.pixel_maps import join_events, pixel_maps, take_events
from recon.io.root_pixel_maps import read_neutrino_events
from recon.io.weights import model_arrays, set_model_arrays
from recon.metrics import auc
from recon.nn.patch_network import PatchClassifier, PatchNetwork, with_measured_cells
from recon.tagging.cvn import TWO_VIEWS, NeutrinoModel, load_model, save_model
from recon.tagging.features_cache import cached_features, features_key
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.pixel_maps import images_of, reflected, two_views
from recon.train.classification import (
    FitConfig,
    Fitted,
    LabelledBatch,
    accuracy,
    cross_entropy,
    fit_classifier,
    labelled_batches,
    predict,
)
from recon.train.sampling import Sampler, validation_split
from recon.types import NeutrinoEvents

Say = Callable[[str], None]
SAMPLE = 2000
"""Events that the capacities of the network are measured on."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What to train, on what, and for how long.

    Attributes:
        train: files of simulated events.
        output: directory of the run; the model goes to `output/model`.
        initial: model to begin with, shipped or a directory of yours; its shape wins.
        frozen: keep the featurizer of `initial` as it is: features are computed once and kept, only a new classifier is
            trained on them.
        channels: of the network, on its three scales.
        blocks: residual blocks on every scale.
        epochs: passes over the events.
        batch: events of an update.
        learning_rate: the peak.
        weight_decay: of matrices.
        class_weights: factors of the loss, one a class; all 1 if not given.
        noise: standard deviation of the charge of a hit in training, relative.
        validation: fraction of the events that is held out, at most `validation_events`.
        validation_events: see `validation`.
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
    channels: tuple[int, int, int] = (48, 64, 96)
    blocks: tuple[int, int, int] = (1, 1, 1)
    epochs: float = 6.0
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    class_weights: tuple[float, ...] | None = None
    noise: float = 0.01
    validation: float = 0.02
    validation_events: int = 4000
    evaluations: int = 8
    patience: int = 0
    seed: int = 0
    max_seconds: float | None = None
    progress: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.train:
            raise ConfigError("no file to train on was given; make one with `recon simulate neutrino`")
        if self.frozen and self.initial is None:
            raise ConfigError("--frozen keeps the featurizer of a trained model: name it with --initial")
        n = len(NEUTRINO_LABELS)
        if self.class_weights is not None and (len(self.class_weights) != n or min(self.class_weights) < 0):
            raise ConfigError(
                f"TrainingConfig.class_weights is {self.class_weights}; allowed: {n} numbers, none negative"
            )


def train(config: TrainingConfig, say: Say = lambda _: None) -> tuple[NeutrinoModel, Fitted]:
    """Train; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.

    Returns:
        The model, which is also written to `config.output / "model"`, and the history of its training.

    Raises:
        DataError: files without events, or events without labels.
    """
    events = read_events(config.train)
    used, held = validation_split(len(events.label), config.validation, config.seed)
    held = held[: config.validation_events]
    say(f"{len(used):,} events to train on, {len(held):,} held out")
    network, fitted = (_train_classifier if config.frozen else _train_network)(
        config, events, used, held, say
    )
    model = NeutrinoModel("model", network, NEUTRINO_LABELS, card(config, fitted, network, len(used)))
    save_model(config.output / "model", model)
    return model, fitted


def read_events(files: tuple[Path, ...]) -> NeutrinoEvents:
    """All events of some files.

    Raises:
        DataError: there are none, or one has no label.
    """
    tables = [table for file in files for table in read_neutrino_events(file)]
    events = join_events(tables) if tables else None
    if events is None or not len(events.label):
        raise DataError(f"there are no events in {', '.join(map(str, files))}")
    if (unknown := int((events.label < 0).sum())) or events.label.max() >= len(NEUTRINO_LABELS):
        raise DataError(
            f"{unknown} of {len(events.label)} events in {', '.join(map(str, files))} have no label: branch label must "
            f"be 0 to {len(NEUTRINO_LABELS) - 1}"
        )
    return events


def augmented_batches(
    config: TrainingConfig, events: NeutrinoEvents, used: np.ndarray
) -> Callable[[int], LabelledBatch]:
    """Batches by number: images drawn from hits on the way, mirrored by chance."""
    sampler = Sampler(len(used), config.batch, config.seed)
    weights = class_weights(config)

    def batch(step: int) -> LabelledBatch:
        chosen = take_events(events, used[sampler(step)])
        mirrored = reflected(chosen, np.random.default_rng((config.seed, 1, step)), config.noise)
        return LabelledBatch(two_views(pixel_maps(mirrored)), chosen.label, weights[chosen.label])

    return batch


def class_weights(config: TrainingConfig) -> np.ndarray:
    """Factor of the loss of every class."""
    return np.asarray(config.class_weights or np.ones(len(NEUTRINO_LABELS)), np.float32)


def _initial(config: TrainingConfig, sample: np.ndarray) -> PatchNetwork:
    """The network to begin with, with room for batches of such images."""
    if config.initial is not None:
        found = load_model(config.initial).network
        network = PatchNetwork(with_measured_cells(found.config, sample), rngs=nnx.Rngs(config.seed))
        return set_model_arrays(network, model_arrays(found))
    shape = dataclasses.replace(TWO_VIEWS, channels=config.channels, blocks=config.blocks)
    shape = with_measured_cells(shape, sample)
    return PatchNetwork(shape, rngs=nnx.Rngs(config.seed))


def _train_network(
    config: TrainingConfig, events: NeutrinoEvents, used: np.ndarray, held: np.ndarray, say: Say
) -> tuple[PatchNetwork, Fitted]:
    """All weights."""
    network = _initial(config, images_of(events, used[:SAMPLE]))
    label = events.label[held]
    parts = np.array_split(held, max(len(held) // config.batch, 1))

    def evaluate(now: Any) -> dict[str, float]:
        logits = np.concatenate([predict(now, images_of(events, rows), config.batch) for rows in parts])
        metrics = scores_of(logits, label)
        say("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    fitted = fit_classifier(
        network,
        augmented_batches(config, events, used),
        fit_config(config),
        rows=len(used),
        evaluate=evaluate,
        settings=run_settings(config),
    )
    return fitted.network, fitted


def _train_classifier(
    config: TrainingConfig, events: NeutrinoEvents, used: np.ndarray, held: np.ndarray, say: Say
) -> tuple[PatchNetwork, Fitted]:
    """A new classifier on features that are computed once."""
    assert config.initial is not None
    model = load_model(config.initial)
    say(f"features of {len(used) + len(held):,} events by the featurizer of {model.name}")
    hits = (events.offsets, events.view, events.plane, events.cell, events.charge)
    features = cached_features(
        config.output / "features.npz",
        features_key(model.network.featurizer, hits),
        len(events.label),
        lambda rows: model.scorer(images_of(events, rows)).features,
    )
    classifier = PatchClassifier(model.network.config, rngs=nnx.Rngs(config.seed))
    sampler = Sampler(len(used), config.batch, config.seed)
    label = events.label[used]
    fitted = fit_classifier(
        classifier,
        labelled_batches(features[used], label, class_weights(config)[label], sampler),
        fit_config(config),
        rows=len(used),
        evaluate=lambda now: scores_of(predict(now, features[held]), events.label[held]),
        settings=run_settings(config),
    )
    network = nnx.clone(model.network)
    network.classifier = fitted.network
    network.eval()
    return network, fitted


def scores_of(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Metrics of an evaluation in training: loss, accuracy, AUC of electron neutrinos against the rest."""
    electron = NEUTRINO_LABELS.index("nue CC")
    return {
        "loss": float(cross_entropy(logits, label)),
        "accuracy": float(accuracy(logits, label)),
        "auc_nue": auc(label == electron, logits[:, electron] - np.delete(logits, electron, 1).max(1)),
    }


def fit_config(config: TrainingConfig) -> FitConfig:
    """The settings of the loop."""
    return FitConfig(
        directory=config.output,
        batch=config.batch,
        epochs=config.epochs,
        seed=config.seed,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        ema_decay=0.998,
        evaluations=config.evaluations,
        patience=config.patience,
        max_seconds=config.max_seconds,
        progress=config.progress,
        tensorboard=config.tensorboard,
    )


def run_settings(config: TrainingConfig) -> dict[str, Any]:
    """The settings that decide the result, as JSON values."""
    tree = dataclasses.asdict(config)
    for name in ("output", "max_seconds", "progress", "tensorboard"):
        del tree[name]
    lists = {name: list(value) for name, value in tree.items() if isinstance(value, tuple)}
    return tree | lists | {"train": [path.name for path in config.train]}


def card(config: TrainingConfig, fitted: Fitted, network: PatchNetwork, events: int) -> str:
    """The model card: data, seeds, settings, numbers of the held-out events."""
    settings = "\n".join(f"| {name} | {value} |" for name, value in sorted(run_settings(config).items()))
    best = next((row for row in fitted.history if row["step"] == fitted.step), {})
    numbers = "".join(f"| {name} | {value:.4f} |\n" for name, value in best.items() if name != "step")
    size = sum(array.size for array in jax.tree.leaves(nnx.state(network, nnx.Param)))
    return f"""# Neutrino events in two views

A sparse residual network of {size:,} parameters on pixel maps of 100 planes x 80 cells, classes
{", ".join(NEUTRINO_LABELS)}. {fitted.step:,} updates of {config.batch} events on {events:,} simulated events
(`recon simulate neutrino`, a parametrised simulation: scores on real events are not calibrated). Weights are under the
licence of this package.

## Held-out events

| metric | value |
| --- | --- |
{numbers}
## Settings

| setting | value |
| --- | --- |
{settings}
"""
