"""Training for `recon train nova`: files -> events -> images -> network, or features -> classifier -> model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from recon.errors import DataError
from recon.io.pixel_maps import join_events, packed, pixel_maps, take_events
from recon.io.root_pixel_maps import count_neutrino_events, read_neutrino_events
from recon.io.weights import model_arrays, set_model_arrays
from recon.metrics import auc
from recon.nn.patch_network import PatchNetwork
from recon.tagging.backbone_network import BackboneConfig, BackboneNetwork
from recon.tagging.cvn import TWO_VIEWS, NeutrinoModel, load_model, save_model
from recon.tagging.features_cache import image_features
from recon.tagging.image_training import (
    SAMPLE,
    ImageTraining,
    Report,
    Say,
    card,
    measured,
    parameters,
    train_classifier,
)
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.pixel_maps import images_of, reflected, two_views
from recon.train.classification import (
    Fitted,
    LabelledBatch,
    accuracy,
    cross_entropy,
    fit_classifier,
    predict,
)
from recon.train.sampling import Sampler, validation_split
from recon.types import NeutrinoEvents

CLASSES = len(NEUTRINO_LABELS)


@dataclass(frozen=True, kw_only=True)
class NeutrinoTraining(ImageTraining):
    """What to train, on what, and for how long.

    Attributes:
        noise: standard deviation of the charge of a hit in training, relative.
        stem: of the network, hidden channels between the pixels of a patch and the first scale; 0 for none.
        attention: blocks where the cells of both views see each other; 0 for a convolution.
        events: use no more of them; features of a large network take time.
    """

    noise: float = 0.01
    stem: int = 128
    attention: int = 2
    events: int | None = None


class Trained(NamedTuple):
    """What came out of a training.

    Attributes:
        model: also written to `output / "model"`.
        fitted: its history.
        held: the events that were held out.
    """

    model: NeutrinoModel
    fitted: Fitted
    held: NeutrinoEvents


def train(config: NeutrinoTraining, say: Say = lambda _: None, report: Report | None = None) -> Trained:
    """Train; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.
        report: told how far the features of a frozen featurizer are.

    Raises:
        DataError: files without events, or events without labels.
        ConfigError: class weights of another number of classes.
    """
    config.weights_of(CLASSES)
    events = read_events(config.train)
    if config.events is not None:
        events = take_events(events, np.arange(min(config.events, len(events.label))))
    used, held = validation_split(len(events.label), config.validation, config.seed)
    held = held[: config.validation_rows]
    say(f"{len(used):,} events to train on, {len(held):,} held out")
    if config.keeps_featurizer:
        network, fitted = _train_classifier(config, events, used, held, say, report)
    else:
        network, fitted = _train_network(config, events, used, held, say)
    what = config.backbone or "a sparse residual network"
    text = (
        f"By {what}, {parameters(network):,} parameters, on pixel maps of 100 planes x 80 cells; "
        f"classes {', '.join(NEUTRINO_LABELS)}. Trained on {len(used):,} events of `recon simulate neutrino`."
    )
    model = NeutrinoModel(
        config.output.name,
        network,
        NEUTRINO_LABELS,
        card("Neutrino events in two views", text, config, fitted),
    )
    save_model(config.output / "model", model)
    return Trained(model, fitted, take_events(events, held))


def read_events(files: tuple[Path, ...]) -> NeutrinoEvents:
    """All events of some files.

    Raises:
        DataError: there are none, or one has no label.
    """
    if not sum(map(count_neutrino_events, files)):
        raise DataError(f"there are no events in {', '.join(map(str, files))}")
    events = join_events(packed(table) for file in files for table in read_neutrino_events(file))
    unknown = (events.label < 0) | (events.label >= CLASSES)
    if unknown.any():
        raise DataError(
            f"{int(unknown.sum())} of {len(unknown)} events in {', '.join(map(str, files))} have no label: branch "
            f"label must be 0 to {CLASSES - 1}"
        )
    return events


def augmented_batches(
    config: NeutrinoTraining, events: NeutrinoEvents, used: np.ndarray
) -> Callable[[int], LabelledBatch]:
    """Batches by number: images drawn from hits on the way, mirrored by chance."""
    sampler = Sampler(len(used), config.batch, config.seed)
    weights = config.weights_of(CLASSES)

    def batch(step: int) -> LabelledBatch:
        chosen = take_events(events, used[sampler(step)])
        mirrored = reflected(chosen, np.random.default_rng((config.seed, 1, step)), config.noise)
        return LabelledBatch(two_views(pixel_maps(mirrored)), chosen.label, weights[chosen.label])

    return batch


def _initial(config: NeutrinoTraining, sample: np.ndarray) -> PatchNetwork | BackboneNetwork:
    """The network to begin with, with room for batches of such images."""
    found = _named(config).network if config.backbone or config.initial else None
    if isinstance(found, BackboneNetwork):
        return config.to_train(found)
    shape = (
        found.config
        if found
        else dataclasses.replace(
            TWO_VIEWS,
            channels=config.channels,
            blocks=config.blocks,
            stem=config.stem,
            attention=config.attention,
        )
    )
    shape = dataclasses.replace(shape, **measured(shape, sample))
    network = PatchNetwork(shape, rngs=nnx.Rngs(config.seed))
    return set_model_arrays(network, model_arrays(found)) if found else network


def _train_network(
    config: NeutrinoTraining, events: NeutrinoEvents, used: np.ndarray, held: np.ndarray, say: Say
) -> tuple[PatchNetwork | BackboneNetwork, Fitted]:
    """All weights."""
    label = events.label[held]
    parts = np.array_split(held, max(len(held) // config.batch, 1))

    def evaluate(now: Any) -> dict[str, float]:
        logits = np.concatenate([predict(now, images_of(events, rows), config.batch) for rows in parts])
        metrics = scores_of(logits, label)
        say("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    fitted = fit_classifier(
        _initial(config, images_of(events, used[:SAMPLE])),
        augmented_batches(config, events, used),
        config.fit_config(),
        rows=len(used),
        evaluate=evaluate,
        settings=config.settings(),
    )
    return fitted.network, fitted


def _train_classifier(
    config: NeutrinoTraining,
    events: NeutrinoEvents,
    used: np.ndarray,
    held: np.ndarray,
    say: Say,
    report: Report | None,
) -> tuple[PatchNetwork | BackboneNetwork, Fitted]:
    """A new classifier on features that are computed once."""
    model = _named(config)
    say(f"features of {len(events.label):,} events by the featurizer of {model.name}")
    hits = (events.offsets, events.view, events.plane, events.cell, events.charge)
    features = image_features(
        model.network, hits, len(events.label), lambda rows: images_of(events, rows), report
    )
    shape = model.network.config
    fitted = train_classifier(config, shape, features, events.label, used, held, scores_of)
    network = nnx.clone(model.network)
    network.classifier = fitted.network
    network.eval()
    return network, fitted


def _named(config: NeutrinoTraining) -> NeutrinoModel:
    """The model to begin with."""
    if config.backbone is None:
        assert config.initial is not None
        return load_model(config.initial)
    shape = BackboneConfig(backbone=config.backbone, weights=str(config.weights or ""))
    network = BackboneNetwork(shape, rngs=nnx.Rngs(config.seed))
    return NeutrinoModel(config.backbone, network, NEUTRINO_LABELS, "")


def scores_of(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Metrics of an evaluation in training: loss, accuracy, AUC of electron neutrinos against the rest."""
    electron = NEUTRINO_LABELS.index("nue CC")
    return {
        "loss": float(cross_entropy(logits, label)),
        "accuracy": float(accuracy(logits, label)),
        "auc_nue": auc(label == electron, logits[:, electron] - np.delete(logits, electron, 1).max(1)),
    }
