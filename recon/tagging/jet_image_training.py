"""Training for `recon train jet-images`: files -> jets -> images inside the program -> network -> model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.jet_columns import jet_columns
from recon.io.jets import read_jets
from recon.io.weights import model_arrays, model_directory, set_model_arrays
from recon.metrics import auc
from recon.tagging.features import make_jets
from recon.tagging.features_cache import cached_features, features_key
from recon.tagging.image_training import (
    SAMPLE,
    ImageTraining,
    Say,
    card,
    measured,
    parameters,
    train_classifier,
)
from recon.tagging.inputs import JetInputs
from recon.tagging.jet_image_network import JetImageNetwork, JetImageNetworkConfig
from recon.tagging.jet_images import ABSOLUTE_INPUTS, IMAGE_INPUTS, draw_jets
from recon.tagging.labels import GROUPS, LABELS, discriminant, label_index
from recon.tagging.models import TaggingModel, load_tagging_model, save_tagging_model
from recon.tagging.shipped import CHECKPOINTS, described
from recon.train.classification import (
    Fitted,
    LabelledBatch,
    accuracy,
    cross_entropy,
    fit_classifier,
    predict,
)
from recon.train.sampling import Sampler, take, validation_split
from recon.types import Jets

KIND = "jet-image"
SCALES = {"absolute": ABSOLUTE_INPUTS, "share": IMAGE_INPUTS}
"""What pixels are in units of."""
COLUMNS = ("part_px", "part_py", "part_deta", "part_dphi", "jet_pt", "jet_label")
"""What is read of a file."""


@dataclass(frozen=True, kw_only=True)
class JetImageTraining(ImageTraining):
    """What to train, on what, and for how long.

    Attributes:
        pixels: of every side of the image.
        scale: pixels hold pT / 500 GeV, from which the network learns the mass, or the share of the jet's pT.
        smear: standard deviation of the transverse momentum of a candidate in training, relative.
        drop: fraction of the candidates that are left out in training.
    """

    pixels: int = 80
    scale: Literal["absolute", "share"] = "absolute"
    smear: float = 0.05
    drop: float = 0.04


def train(config: JetImageTraining, say: Say = lambda _: None) -> tuple[TaggingModel, Fitted]:
    """Train; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.

    Returns:
        The model, which is also written to `config.output / "model"`, and the history of its training.

    Raises:
        DataError: files without jets, or jets without labels.
        ConfigError: class weights of another number of classes, or an initial model of another kind.
    """
    config.weights_of(len(LABELS))
    inputs = SCALES[config.scale]
    jets = read_labelled_jets(config.train, inputs, say)
    used, held = validation_split(len(jets.label), config.validation, config.seed)
    held = held[: config.validation_rows]
    say(f"{len(used):,} jets to train on, {len(held):,} held out")
    network, fitted = (_train_classifier if config.frozen else _train_network)(config, jets, used, held, say)
    network.eval()
    text = (
        f"A sparse residual network of {parameters(network):,} parameters on images of AK8 jets, "
        f"{network.config.pixels} pixels a side of +-{network.config.half_width:g} in eta and phi, with the classes of "
        f"DeepAK8. Trained on {len(used):,} jets of `recon simulate jets`."
    )
    capacities = (inputs.n_candidates, 0)
    text = card("Images of jets", text, config, fitted)
    model = TaggingModel(KIND, network, LABELS, capacities, described(inputs), text)
    save_tagging_model(config.output / "model", model)
    return model, fitted


def read_labelled_jets(files: tuple[Path, ...], inputs: JetInputs, say: Say = lambda _: None) -> Jets:
    """Leading candidates of all jets of some files, and their labels.

    Args:
        files: jets, as ROOT or parquet.
        inputs: what is read of a jet.
        say: told what was left out.

    Raises:
        DataError: there are none, or one has no label.
    """
    parts, dropped, candidates = [], 0, 0
    for file in files:
        for table in read_jets(file, COLUMNS):
            jets, report = make_jets(jet_columns(table), inputs)
            parts.append(jets)
            dropped, candidates = dropped + report.candidates_dropped, candidates + report.candidates
    if not parts:
        raise DataError(f"there are no jets in {', '.join(map(str, files))}")
    joined = Jets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    if not ((joined.label >= 0) & (joined.label < len(LABELS))).all():
        raise DataError(f"{', '.join(map(str, files))}: branch jet_label must be 0 to {len(LABELS) - 1}")
    say(f"{dropped:,} of {candidates:,} candidates beyond the leading {inputs.n_candidates} left out")
    return joined


def augmented(batch: LabelledBatch, rng: np.random.Generator, *, smear: float, drop: float) -> LabelledBatch:
    """A batch with transverse momenta smeared and a few candidates missing."""
    jets: Jets = batch.inputs
    candidates = np.array(jets.candidates)
    candidates[..., 2] += rng.normal(0, smear, candidates.shape[:2])
    kept = jets.candidate_valid & (rng.random(candidates.shape[:2]) >= drop)
    return batch._replace(inputs=jets._replace(candidates=candidates, candidate_valid=kept))


def _initial(config: JetImageTraining, sample: Jets) -> JetImageNetwork:
    """The network to begin with, with room for batches of such images."""
    found = _load(config.initial) if config.initial is not None else None
    shape = (
        found.config
        if found
        else JetImageNetworkConfig(pixels=config.pixels, channels=config.channels, blocks=config.blocks)
    )
    images = draw_jets(jnp.asarray(sample.candidates), jnp.asarray(sample.candidate_valid), shape.image)
    shape = dataclasses.replace(shape, **measured(shape.network, np.asarray(images)))
    network = JetImageNetwork(shape, rngs=nnx.Rngs(config.seed))
    return set_model_arrays(network, model_arrays(found)) if found else network


def _load(name: str) -> JetImageNetwork:
    network = load_tagging_model(model_directory(name, CHECKPOINTS)).network
    if not isinstance(network, JetImageNetwork):
        raise ConfigError(f"{name} is a {type(network).__name__}; needed is a model of kind {KIND}")
    return network


def _train_network(
    config: JetImageTraining, jets: Jets, used: np.ndarray, held: np.ndarray, say: Say
) -> tuple[JetImageNetwork, Fitted]:
    """All weights."""
    chosen = take(jets, held)

    def evaluate(now: Any) -> dict[str, float]:
        metrics = scores_of(predict(now, chosen, config.batch), chosen.label)
        say("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        return metrics

    fitted = fit_classifier(
        _initial(config, take(jets, used[:SAMPLE])),
        _batches(config, jets, jets.label, used),
        config.fit_config(),
        rows=len(used),
        evaluate=evaluate,
        settings=config.settings(),
    )
    return fitted.network, fitted


def _batches(
    config: JetImageTraining, jets: Jets, label: np.ndarray, used: np.ndarray
) -> Callable[[int], LabelledBatch]:
    sampler = Sampler(len(used), config.batch, config.seed)
    weights = config.weights_of(len(LABELS))

    def batch(step: int) -> LabelledBatch:
        rows = used[sampler(step)]
        plain = LabelledBatch(take(jets, rows), label[rows], weights[label[rows]])
        rng = np.random.default_rng((config.seed, 1, step))
        return augmented(plain, rng, smear=config.smear, drop=config.drop)

    return batch


def _train_classifier(
    config: JetImageTraining, jets: Jets, used: np.ndarray, held: np.ndarray, say: Say
) -> tuple[JetImageNetwork, Fitted]:
    """A new classifier on features that are computed once."""
    assert config.initial is not None
    network = _load(config.initial)
    network.eval()
    say(f"features of {len(jets.label):,} jets by the featurizer of {config.initial}")
    program = nnx.jit(lambda featurizer, images: featurizer(images))

    def compute(rows: np.ndarray) -> np.ndarray:
        some = take(jets, rows)
        images = draw_jets(
            jnp.asarray(some.candidates), jnp.asarray(some.candidate_valid), network.config.image
        )
        return np.asarray(program(network.featurizer, images))

    features = cached_features(
        config.output / "features.npz",
        features_key(network.featurizer, (jets.candidates, jets.candidate_valid)),
        len(jets.label),
        compute,
    )
    shape = network.config.network
    fitted = train_classifier(config, shape, features, jets.label, used, held, scores_of)
    network.classifier = fitted.network
    return network, fitted


def scores_of(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Metrics of an evaluation in training: loss, accuracy, AUC of top against QCD (NaN without either)."""
    rows = {name: [label_index(member) for member in GROUPS[name]] for name in ("T", "QCD")}
    top, qcd = (np.isin(label, rows[name]) for name in ("T", "QCD"))
    probabilities = np.asarray(jax.nn.softmax(logits))
    return {
        "loss": float(cross_entropy(logits, label)),
        "accuracy": float(accuracy(logits, label)),
        "auc_top": auc(top, discriminant(probabilities, "T"), top | qcd),
    }
