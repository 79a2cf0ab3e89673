"""What the updates of a training draw from: jets or their features, chances, a teacher's opinion, bins of mass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from recon.errors import ConfigError
from recon.tagging.adversary import AdversaryConfig, mass_bins
from recon.tagging.augmentation import Turning
from recon.tagging.flattening import draw_chance
from recon.tagging.inputs import JetInputs
from recon.tagging.labels import rows_among
from recon.tagging.particle_net import ParticleNet
from recon.tagging.precomputed import has_features, logits_of, precompute
from recon.tagging.samples import JetSample, Report, read_sample, single_precision
from recon.tagging.shipped import load_model
from recon.tagging.starting import Start
from recon.tagging.training_config import TrainingConfig
from recon.tagging.training_report import is_background
from recon.train.classification import LabelledBatch, labelled_batches
from recon.train.sampling import Sampler, take, validation_split

Say = Callable[[str], None]


class TrainingData(NamedTuple):
    """One row a jet, of all files.

    Attributes:
        sample: the jets; with frozen features their candidates are cut off.
        inputs: of what is trained: the jets, or frozen features.
        chance: of being drawn, before any jet was held out.
        held: rows that are held out.
        extra: what the loss reads besides: of a teacher "teacher" (logits of the groups) and "taught" (1 where a jet
            belongs to one), of an adversary "mass" (bins) and "background".
        groups: classes of ours that are one class of the teacher; `None` without one.
    """

    sample: JetSample
    inputs: Any
    chance: Float[np.ndarray, " j"]
    held: Int[np.ndarray, " h"]
    extra: dict[str, np.ndarray]
    groups: Bool[np.ndarray, "g k"] | None


def training_data(
    config: TrainingConfig, begin: Start, say: Say, report: Report | None = None
) -> TrainingData:
    """Read the files and ask the teacher.

    Args:
        config: of the training.
        begin: what is trained.
        say: told what is going on.
        report: told how far it is.

    Raises:
        ConfigError: a network without features where they are to be frozen, or a teacher of other classes.
        DataError: files that cannot be read, or without jets of any class.
    """
    # The candidates of jets whose features are frozen have been read, or will be.
    inputs = without_candidates(begin.inputs) if config.freeze else begin.inputs
    sample, lost = read_sample(config.files, inputs, begin.classes, report)
    label = sample.jets.label
    say(f"{lost.jets:,} jets, {int((label >= 0).sum()):,} of a class that is trained")
    if not config.freeze:
        say(
            f"{lost.candidates_dropped:,} of {lost.candidates:,} candidates and {lost.vertices_dropped:,} vertices "
            "over the capacity"
        )
    flatten = config.flatten or ("pt-mass" if begin.kind == "deepak8-md" else "pt")
    chance = draw_chance(label, sample.pt, sample.mass, flatten=flatten, balance=config.balance)
    known = np.flatnonzero(label >= 0)
    held = known[validation_split(len(known), config.validation, config.seed)[1]]
    learnt_from: Any = sample.jets
    if config.freeze:
        if not has_features(begin.network):
            raise ConfigError(f"a {begin.kind} has no features to freeze; deepak8 and particlenet have")
        say("computing the features of all jets")
        learnt_from = precompute(begin.network, begin.inputs, config.files, report)
    extra: dict[str, np.ndarray] = {}
    groups = None
    if config.teacher is not None:
        say(f"asking {config.teacher}")
        groups, extra["teacher"], extra["taught"] = _teach(config, begin, label, report)
    if config.adversary:
        shape = adversary_shape(begin.network, config.adversary)
        extra["mass"] = np.asarray(mass_bins(jnp.asarray(np.nan_to_num(sample.mass)), shape))
        extra["background"] = is_background(label, begin.labels) & np.isfinite(sample.mass)
    return TrainingData(sample, learnt_from, chance, held, extra, groups)


def without_candidates(inputs: JetInputs) -> JetInputs:
    """Inputs of which only labels, momenta and masses are wanted: the fewest candidates there can be."""
    return dataclasses.replace(inputs, n_candidates=1)


def _teach(
    config: TrainingConfig, begin: Start, label: Int[np.ndarray, " j"], report: Report | None
) -> tuple[Bool[np.ndarray, "g k"], Float32[np.ndarray, "j g"], Float32[np.ndarray, " j"]]:
    """Groups of our classes, the teacher's logits of them, and whose jets belong to one."""
    tagger = load_model(config.teacher or "")
    place = rows_among(begin.classes, tagger.labels)
    rows = np.unique(place[place >= 0])
    if len(rows) < 2:
        raise ConfigError(
            f"{tagger.name} knows {', '.join(tagger.labels)}; two of them at least must be classes of the files, which "
            f"have {', '.join(begin.classes)}"
        )
    groups = place[None] == rows[:, None]
    network = tagger.model.network
    logits = logits_of(network, precompute(network, tagger.inputs, config.files, report))
    taught = np.where(label >= 0, groups.any(0)[label], False)
    return groups, logits[:, rows].astype(np.float32), taught.astype(np.float32)


def adversary_shape(network: Any, strength: float) -> AdversaryConfig:
    """Shape of the adversary of a network.

    Raises:
        ConfigError: the network has no features that one could read.
    """
    if not has_features(network):
        raise ConfigError("an adversary needs the features of a deepak8 or a particlenet")
    width = network.config.width if isinstance(network, ParticleNet) else network.config.features
    return AdversaryConfig(features=width, strength=strength)


def batches_of(config: TrainingConfig, begin: Start, data: TrainingData) -> Callable[[int], LabelledBatch]:
    """Batches by number of updates made: jets by their chance, none that is held out, turned if asked for."""
    chance = data.chance.copy()
    chance[data.held] = 0
    turning = Turning(begin.inputs)

    def augment(batch: LabelledBatch, generator: np.random.Generator) -> LabelledBatch:
        if config.freeze:
            return batch._replace(inputs=np.asarray(batch.inputs, np.float32))
        jets = turning(batch.inputs, generator) if config.turn else single_precision(batch.inputs)
        return batch._replace(inputs=jets)

    sampler = Sampler(len(chance), config.batch, config.seed, chance)
    return labelled_batches(data.inputs, data.sample.jets.label, None, sampler, data.extra, augment)


def network_inputs(config: TrainingConfig, data: TrainingData, rows: Int[np.ndarray, " k"]) -> Any:
    """What the network reads of some rows, as they are, in single precision."""
    chosen = take(data.inputs, rows)
    return np.asarray(chosen, np.float32) if config.freeze else single_precision(chosen)
