"""Neutrino events to classes by both of their views (after CVN, arXiv:1604.01444), and trained networks as directories.

CVN runs one tower of convolutions on each view and joins them late. So does this network, but its towers share their
weights, and they work on the few patches of an image that hold anything.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32

from recon.errors import DataError
from recon.io.pixel_maps import CELLS, GREY_VALUES, PLANES
from recon.io.weights import load_model as load_directory
from recon.io.weights import model_arrays, model_directory, set_model_arrays
from recon.io.weights import model_names as names_in
from recon.io.weights import save_model as save_directory
from recon.nn.patch_network import PatchNetwork, PatchNetworkConfig
from recon.settings import listed, tupled
from recon.tagging.backbone_network import BackboneConfig, BackboneNetwork, stored_part
from recon.tagging.batches import in_batches
from recon.tagging.labels import NEUTRINO_LABELS
from recon.types import Array

CHECKPOINTS = Path(__file__).parent / "neutrino_checkpoints"
"""Directory of the shipped models, one folder each."""
DEFAULT = "nova"
BATCH = 128
"""Events that are scored at once."""

TWO_VIEWS = PatchNetworkConfig(
    image=(PLANES, CELLS), views=2, classes=len(NEUTRINO_LABELS), gain=float(GREY_VALUES)
)
"""Both views of 100 planes x 80 cells; pixels enter as logarithms of their grey values."""


KINDS: dict[str, tuple[Any, Any]] = {
    "two-view": (PatchNetwork, PatchNetworkConfig),
    "backbone": (BackboneNetwork, BackboneConfig),
}
"""Networks and what builds them, by the name in the file of a model."""


@dataclass(frozen=True)
class NeutrinoModel:
    """A trained network for neutrino events.

    Attributes:
        name: of the shipped model or of the directory.
        network: featurizer and classifier, in evaluation mode.
        labels: of its outputs.
        card: Markdown: data, seeds, command, numbers.
    """

    name: str
    network: PatchNetwork | BackboneNetwork
    labels: tuple[str, ...]
    card: str

    @cached_property
    def scorer(self) -> EventScorer:
        """The compiled network; kept, so that a program serves the next events too."""
        return EventScorer(self.network)


def model_names() -> tuple[str, ...]:
    """Names of the models that are shipped."""
    return names_in(CHECKPOINTS)


def save_model(directory: Path, model: NeutrinoModel) -> None:
    """Write a model; `load_model` reads it back.

    Raises:
        ConfigError: the card is empty.
    """
    kind = next(name for name, (_, config) in KINDS.items() if isinstance(model.network.config, config))
    config = {
        "kind": kind,
        "network": listed(asdict(model.network.config)),
        "labels": list(model.labels),
    }
    save_directory(directory, model_arrays(stored_part(model.network)), config, model.card)


def load_model(name: str | Path = DEFAULT) -> NeutrinoModel:
    """Load a trained network.

    Args:
        name: of a shipped model, or the directory of one of yours.

    Raises:
        ConfigError: there is no such model, names those that are; weights that are missing, too many or of other
            shapes: named.
        DataError: the directory is incomplete or damaged, or holds a model of another task.
    """
    directory = model_directory(name, CHECKPOINTS)
    stored = load_directory(directory)
    try:
        if stored.config["kind"] not in KINDS:
            raise DataError(
                f"{directory} is a model of kind {stored.config['kind']!r}; needed is one of {', '.join(KINDS)}"
            )
        network_of, config_of = KINDS[stored.config["kind"]]
        fields = {name: tupled(value) for name, value in stored.config["network"].items()}
        config, labels = config_of(**fields), tuple(stored.config["labels"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{directory} is no model for neutrino events: {error}") from error
    network = network_of(config, rngs=nnx.Rngs(0))
    set_model_arrays(stored_part(network), stored.arrays)
    network.eval()
    return NeutrinoModel(directory.resolve().name, network, labels, stored.card)


class Scored(NamedTuple):
    """What a network says of events.

    Attributes:
        features: of the featurizer.
        scores: probabilities of the classes.
    """

    features: Float32[Array, "b f"]
    scores: Float32[Array, "b k"]


class EventScorer:
    """Compiled scoring of images by a featurizer and a classifier.

    Args:
        network: with `featurizer` and `classifier`; put into evaluation mode.
        batch: most events at once; fewer are padded to a ladder of sizes.
    """

    def __init__(self, network: Any, batch: int = BATCH) -> None:
        network.eval()
        self.batch = batch
        definition, self._weights = nnx.split(network)

        def score(weights: Any, images: jax.Array) -> Scored:
            module = nnx.merge(definition, weights, copy=True)
            features = module.featurizer(images)
            return Scored(features, jax.nn.softmax(module.classifier(features)))

        self._program: Any = jax.jit(score)

    @property
    def programs(self) -> int:
        """How many were compiled so far."""
        return int(self._program._cache_size())

    def __call__(self, images: Float32[np.ndarray, "b h w v"]) -> Scored:
        """Features and probabilities.

        Args:
            images: of `recon.tagging.pixel_maps.two_views`.
        """
        scored: Scored = in_batches(partial(self._program, self._weights), images, self.batch)
        return scored
