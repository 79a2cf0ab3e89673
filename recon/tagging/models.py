"""The networks by name, and trained ones as directories: weights never travel without what builds their network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.weights import load_model, model_arrays, save_model, set_model_arrays
from recon.nn.pretrained import DEFAULT as BACKBONE
from recon.settings import listed, tupled
from recon.tagging import deepak8, particle_net
from recon.tagging.backbone_network import stored_part
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.deepcsv import CLASSES as FLAVOURS
from recon.tagging.deepcsv import DeepCSV, DeepCSVConfig
from recon.tagging.deepdoubleb import CLASSES as DOUBLE_B
from recon.tagging.deepdoubleb import DeepDoubleB, DeepDoubleBConfig
from recon.tagging.jet_image_network import JetBackboneConfig, JetImageNetwork, JetImageNetworkConfig
from recon.tagging.labels import JETCLASS_LABELS, LABELS
from recon.tagging.particle_net import ParticleNet
from recon.tagging.particle_transformer import ParticleTransformer, ParticleTransformerConfig
from recon.tagging.pcnn import PCNN, PCNNConfig
from recon.tagging.pfn import PFN, PFNConfig


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
        network: its class.
        config: what builds one.
        labels: of its outputs; empty where it depends on the training.
        candidates: capacity in candidates.
        vertices: capacity in vertices.
    """

    network: Any
    config: Any
    labels: tuple[str, ...]
    candidates: int
    vertices: int


KINDS = {
    "deepak8": Kind(DeepAK8, deepak8.NOMINAL, LABELS, 100, 7),
    "deepak8-md": Kind(DeepAK8, deepak8.DECORRELATED, LABELS, 100, 7),
    "deepdoubleb": Kind(DeepDoubleB, DeepDoubleBConfig(), DOUBLE_B, 60, 5),
    "deepcsv": Kind(DeepCSV, DeepCSVConfig(), FLAVOURS, 6, 1),
    "particlenet": Kind(ParticleNet, particle_net.JETCLASS_FULL, JETCLASS_LABELS, 128, 0),
    "particlenet-lite": Kind(ParticleNet, particle_net.LITE, (), 128, 0),
    "particletransformer": Kind(ParticleTransformer, ParticleTransformerConfig(), JETCLASS_LABELS, 128, 0),
    "jet-image": Kind(JetImageNetwork, JetImageNetworkConfig(), LABELS, 128, 0),
    "jet-backbone": Kind(JetImageNetwork, JetBackboneConfig(backbone=BACKBONE), LABELS, 128, 0),
    "pcnn": Kind(PCNN, PCNNConfig(), JETCLASS_LABELS, 128, 0),
    "pfn": Kind(PFN, PFNConfig(), JETCLASS_LABELS, 128, 0),
}
"""Every kind of network by the name that commands know it by."""


def kind_of(name: str) -> Kind:
    """Look a kind up.

    Raises:
        ConfigError: there is no such kind; names those that are.
    """
    if name not in KINDS:
        raise ConfigError(f"there is no network {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]


def make_network(name: str, config: Any = None, *, seed: int = 0) -> Any:
    """A network with random weights.

    Args:
        name: in `KINDS`.
        config: in place of the kind's own, of the same type.
        seed: of weights and dropout.

    Raises:
        ConfigError: there is no such kind, or the configuration is of another.
    """
    kind = kind_of(name)
    config = config or kind.config
    if type(config) is not type(kind.config):
        raise ConfigError(f"{name} needs a {type(kind.config).__name__}; given is {type(config).__name__}")
    return kind.network(config, rngs=nnx.Rngs(seed))


@dataclass(frozen=True)
class TaggingModel:
    """A trained tagger.

    Attributes:
        kind: name in `KINDS`.
        network: in evaluation mode.
        labels: of its outputs.
        capacities: in candidates and in vertices.
        features: what the columns of its inputs are, JSON-serialisable, as `recon.features.features_to_json` gives
            them under "candidates" and "vertices".
        card: Markdown: data, seeds, command, numbers, licence.
    """

    kind: str
    network: Any
    labels: tuple[str, ...]
    capacities: tuple[int, int]
    features: dict[str, Any] = field(default_factory=dict)
    card: str = ""


def save_tagging_model(directory: Path, model: TaggingModel) -> None:
    """Write a model; `load_tagging_model` reads it back.

    Raises:
        ConfigError: the card is empty.
    """
    config = {
        "kind": model.kind,
        "network": listed(asdict(model.network.config)),
        "labels": list(model.labels),
        "capacities": list(model.capacities),
        "features": model.features,
    }
    save_model(directory, model_arrays(stored_part(model.network)), config, model.card)


def load_tagging_model(directory: Path) -> TaggingModel:
    """Read a directory of `save_tagging_model`.

    Raises:
        DataError: a file is missing or damaged, or it is no tagging model of this version.
        ConfigError: weights that do not fit the network.
    """
    stored = load_model(Path(directory))
    try:
        name, fields = stored.config["kind"], stored.config["network"]
        config = type(kind_of(name).config)(**{key: tupled(value) for key, value in fields.items()})
        labels, capacities = tuple(stored.config["labels"]), tuple(stored.config["capacities"])
        features = dict(stored.config["features"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory} is no tagging model of this version: {error}") from error
    network = make_network(name, config)
    set_model_arrays(stored_part(network), stored.arrays)
    network.eval()
    return TaggingModel(name, network, labels, capacities, features, stored.card)
