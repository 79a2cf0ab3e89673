"""Training of taggers, from files of jets to a model directory, top to bottom.

files -> features -> chances of the draw -> network -> temperature -> model with its card
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from recon.errors import ConfigError
from recon.io.weights import CONFIG_FILE
from recon.tagging.adversary import MassAdversary
from recon.tagging.calibration import fit_temperature
from recon.tagging.labels import rows_among
from recon.tagging.models import TaggingModel, save_tagging_model
from recon.tagging.particle_net import ParticleNet
from recon.tagging.precomputed import Classifier, logits_of, precompute, with_classifier
from recon.tagging.samples import JetSample, Report, read_sample, select, single_precision
from recon.tagging.shipped import described
from recon.tagging.starting import Start, start
from recon.tagging.training_config import TrainingConfig
from recon.tagging.training_data import (
    Say,
    TrainingData,
    adversary_shape,
    batches_of,
    network_inputs,
    training_data,
    without_candidates,
)
from recon.tagging.training_loss import Adversarial, tagger_of, tagging_loss
from recon.tagging.training_report import Quality, card_text, quality
from recon.train.classification import Fitted, accuracy, cross_entropy, fit_classifier, predict

LOOK_AT = 6000
"""Held-out jets that an evaluation during the training looks at; the numbers at the end are of all of them."""


class Trained(NamedTuple):
    """What a training ends with.

    Attributes:
        model: calibrated, also written to `output/model`.
        quality: its numbers.
        before: those of the model it began from.
        fitted: how the training went.
    """

    model: TaggingModel
    quality: Quality
    before: Quality | None
    fitted: Fitted


def train(config: TrainingConfig, say: Say = lambda _: None, report: Report | None = None) -> Trained:
    """Train a tagger; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.
        report: told how far reading is.

    Raises:
        ConfigError: settings that do not fit together, a directory with a run of others.
        DataError: files that cannot be read, or without jets of any class.
    """
    if not config.resume and (config.output / CONFIG_FILE).exists():
        raise ConfigError(f"{config.output} holds a run; go on with it, or choose another directory")
    begin = start(config.files, config.model, config.initial, seed=config.seed)
    data = training_data(config, begin, say, report)
    fitted = _fit(config, begin, data)
    network = tagger_of(fitted.network)
    logits = predict(network, network_inputs(config, data, data.held))
    temperature = fit_temperature(data.sample.jets.label[data.held], logits)
    if config.freeze:
        network = with_classifier(begin.network, fitted.network)
    cool(network, temperature)
    found, before = _measure(config, begin, network, data, logits / temperature, report)
    found = found._replace(temperature=temperature)
    capacities = begin.inputs.n_candidates, begin.inputs.n_vertices if begin.inputs.vertices else 0
    card = _card(config, begin, fitted, network, [found] if before is None else [found, before])
    model = TaggingModel(begin.kind, network, begin.labels, capacities, described(begin.inputs), card)
    save_tagging_model(config.output / "model", model)
    return Trained(model, found, before, fitted)


def _fit(config: TrainingConfig, begin: Start, data: TrainingData) -> Fitted:
    network: Any = Classifier(begin.network) if config.freeze else begin.network
    if config.adversary:
        shape = adversary_shape(network, config.adversary)
        network = Adversarial(network, MassAdversary(shape, rngs=nnx.Rngs(config.seed + 1)))
    chosen = np.random.default_rng((config.seed, 2)).permutation(data.held)[:LOOK_AT]
    return fit_classifier(
        network,
        batches_of(config, begin, data),
        config.fit,
        rows=int((data.sample.jets.label >= 0).sum()) - len(data.held),
        evaluate=lambda now: _look(config, begin, now, data, np.sort(chosen)),
        loss=tagging_loss(data.groups, config.distill, config.softness),
        settings=config.settings(),
    )


def _look(
    config: TrainingConfig, begin: Start, network: Any, data: TrainingData, rows: Int[np.ndarray, " k"]
) -> dict[str, float]:
    """Metrics of an evaluation: the loss with the chances of the draw, areas as the jets are."""
    logits = predict(tagger_of(network), network_inputs(config, data, rows))
    label = data.sample.jets.label[rows]
    arrays = jnp.asarray(logits), jnp.asarray(label), jnp.asarray(data.chance[rows], jnp.float32)
    found = quality(logits, label, data.sample.mass[rows], begin.labels)
    areas = {f"auc_{name}": signal.auc for name, signal in found.signals.items()}
    return {"loss": float(cross_entropy(*arrays)), "accuracy": float(accuracy(*arrays))} | areas


def cool(network: Any, temperature: float) -> None:
    """Divide the logits of a network by a temperature, in place.

    In the last layer it reaches every form of the network: exported, served, folded.
    """
    for parameter in (network.output.kernel, network.output.bias):
        parameter[...] = parameter[...] / temperature


def _measure(
    config: TrainingConfig,
    begin: Start,
    network: Any,
    data: TrainingData,
    held: Float[np.ndarray, "h k"],
    report: Report | None,
) -> tuple[Quality, Quality | None]:
    """Numbers of the model, and of the one it began from, on the test files or on the jets held out."""
    files: Sequence[Path] = config.test or config.files
    if config.test:
        sample, logits = _score(network, begin, files, report)
        rows = np.arange(len(sample.pt))
    else:
        sample, logits, rows = select(data.sample, data.held), held, data.held
    found = quality(logits, sample.jets.label, sample.mass, begin.labels)
    if begin.before is None:
        return found, None
    old = begin.before
    seen = precompute(old.model.network, old.inputs, files, report)[rows]
    # The labels of the jets among the classes of another network; a b tagger has names of its own for them.
    same = begin.labels == old.labels
    place = np.append(np.arange(len(old.labels)) if same else rows_among(begin.classes, old.labels), -1)
    label = place[sample.jets.label]
    return found, quality(logits_of(old.model.network, seen), label, sample.mass, old.labels)


def _score(
    network: Any, begin: Start, files: Sequence[Path], report: Report | None
) -> tuple[JetSample, Float[np.ndarray, "j k"]]:
    """Jets of files and their logits; through the features in the cache where these are expensive."""
    kept = isinstance(network, ParticleNet)
    inputs = without_candidates(begin.inputs) if kept else begin.inputs
    sample = read_sample(files, inputs, begin.classes, report)[0]
    if kept:
        return sample, logits_of(network, precompute(network, begin.inputs, files, report))
    return sample, predict(network, single_precision(sample.jets))


def _card(
    config: TrainingConfig, begin: Start, fitted: Fitted, network: Any, found: Sequence[Quality]
) -> str:
    names = ", ".join(path.name for path in config.test)
    sample = f"the jets of {names}, none of which was trained on" if names else "the jets held out"
    return card_text(
        f"Tagger of jets: {begin.kind}, {len(begin.labels)} classes",
        network,
        (sample, found, ["this model", "what it began from"][: len(found)]),
        config.files,
        f"{fitted.steps} updates of {config.batch} jets; the network is that of update {fitted.step}, the best on the "
        "jets held out.",
        config.settings(),
    )
