"""Training for `recon train jet-images`: files -> jets -> images inside the program -> network -> model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from recon.errors import ConfigError
from recon.io.weights import model_arrays, model_directory, set_model_arrays
from recon.metrics import auc
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
from recon.tagging.jet_image_network import JetBackboneConfig, JetImageNetwork, JetImageNetworkConfig
from recon.tagging.jet_image_samples import augmented, chosen_rows, read_labelled_jets
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
ShapeT = TypeVar("ShapeT", JetImageNetworkConfig, JetBackboneConfig)


@dataclass(frozen=True, kw_only=True)
class JetImageTraining(ImageTraining):
    """What to train, on what, and for how long.

    Attributes:
        pixels: of every side of the image; 80, or 224 for a backbone, if not given.
        scale: pixels hold pT / 500 GeV, from which the network learns the mass, or the share of the jet's pT.
        smear: standard deviation of the transverse momentum of a candidate in training, relative.
        drop: fraction of the candidates that are left out in training.
        jets: use no more of them, drawn from all files; features of a large network take time.
    """

    pixels: int | None = None
    scale: Literal["absolute", "share"] = "absolute"
    smear: float = 0.05
    drop: float = 0.04
    jets: int | None = None

    def drawn(self, shape: ShapeT) -> ShapeT:
        """The shape of a network with images of the size that is asked for."""
        return shape if self.pixels is None else dataclasses.replace(shape, pixels=self.pixels)


class Trained(NamedTuple):
    """What came out of a training.

    Attributes:
        model: also written to `output / "model"`.
        fitted: its history.
        held: rows of the jets that were held out, counted through all files.
    """

    model: TaggingModel
    fitted: Fitted
    held: Int[np.ndarray, " h"]


def train(config: JetImageTraining, say: Say = lambda _: None, report: Report | None = None) -> Trained:
    """Train; goes on where an interrupted run of the same settings stopped.

    Args:
        config: what and how.
        say: told what is going on.
        report: told how far the features of a frozen featurizer are.

    Raises:
        DataError: files without jets, or jets without labels.
        ConfigError: class weights of another number of classes, or an initial model of another kind.
    """
    config.weights_of(len(LABELS))
    inputs = SCALES[config.scale]
    jets = read_labelled_jets(config.train, inputs, say)
    rows = chosen_rows(len(jets.label), config.jets, config.seed)
    jets = take(jets, rows)
    used, held = validation_split(len(jets.label), config.validation, config.seed)
    held = held[: config.validation_rows]
    say(f"{len(used):,} jets to train on, {len(held):,} held out")
    if config.keeps_featurizer:
        network, fitted = _train_classifier(config, jets, used, held, say, report)
    else:
        network, fitted = _train_network(config, jets, used, held, say)
    network.eval()
    what = config.backbone or "a sparse residual network"
    text = (
        f"By {what}, {parameters(network):,} parameters, on images of AK8 jets, {network.config.pixels} pixels a side "
        f"of +-{network.config.half_width:g} in eta and phi, with the classes of DeepAK8. Trained on {len(used):,} "
        "jets of `recon simulate jets`."
    )
    kind = "jet-backbone" if isinstance(network.config, JetBackboneConfig) else KIND
    capacities = (inputs.n_candidates, 0)
    model = TaggingModel(
        kind, network, LABELS, capacities, described(inputs), card("Images of jets", text, config, fitted)
    )
    save_tagging_model(config.output / "model", model)
    return Trained(model, fitted, rows[held])


def _initial(config: JetImageTraining, sample: Jets) -> JetImageNetwork:
    """The network to begin with, with room for batches of such images."""
    found = _named(config) if config.backbone or config.initial else None
    start = JetImageNetworkConfig(channels=config.channels, blocks=config.blocks)
    shape = found.config if found is not None else config.drawn(start)
    if isinstance(shape, JetBackboneConfig):
        assert found is not None
        return config.to_train(found)
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
    config: JetImageTraining,
    jets: Jets,
    used: np.ndarray,
    held: np.ndarray,
    say: Say,
    report: Report | None,
) -> tuple[JetImageNetwork, Fitted]:
    """A new classifier on features that are computed once."""
    network = _named(config)
    say(f"features of {len(jets.label):,} jets by the featurizer of {config.backbone or config.initial}")

    def draw(rows: np.ndarray) -> np.ndarray:
        some = take(jets, rows)
        candidates, valid = jnp.asarray(some.candidates), jnp.asarray(some.candidate_valid)
        return np.asarray(draw_jets(candidates, valid, network.config.image))

    shown = (jets.candidates, jets.candidate_valid)
    features = image_features(network, shown, len(jets.label), draw, report)
    shape = network.config.network
    fitted = train_classifier(config, shape, features, jets.label, used, held, scores_of)
    network.classifier = fitted.network
    return network, fitted


def _named(config: JetImageTraining) -> JetImageNetwork:
    """The network to begin with."""
    if config.backbone is None:
        assert config.initial is not None
        return _load(config.initial)
    shape = JetBackboneConfig(backbone=config.backbone, weights=str(config.weights or ""))
    return JetImageNetwork(config.drawn(shape), rngs=nnx.Rngs(config.seed))


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
