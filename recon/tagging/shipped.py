"""Taggers by name: those that ship with the package, directories of the user's, and weights that others trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recon.errors import ConfigError, DataError
from recon.features import FeatureTable, features_from_json, features_to_json
from recon.io.weights import model_directory
from recon.io.weights import model_names as names_in
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.importing import load_pretrained
from recon.tagging.inputs import JetInputs, jetclass_inputs
from recon.tagging.labels import JETCLASS_LABELS, LABELS, PARTICLE_NET_LABELS
from recon.tagging.models import TaggingModel, load_tagging_model
from recon.tagging.particle_net import ParticleNet
from recon.tagging.particle_transformer import ParticleTransformer
from recon.tagging.preprocess import read_preprocess
from recon.tagging.scoring import Scorer

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Directory of the shipped models, one folder each."""

DEFAULT = "deepak8"

WEIGHT_FILES = {".onnx": ("deepak8", "particlenet"), ".pt": ("particlenet", "particletransformer")}
"""Weights that others trained, and the networks that a file with such an ending can hold."""

_LABELS = {len(labels): labels for labels in (LABELS, JETCLASS_LABELS, PARTICLE_NET_LABELS)}
_PREPROCESS = "*preprocess*.json"


@dataclass(frozen=True)
class Tagger:
    """A tagger that is ready for jets.

    Attributes:
        name: for legends and branches: of the shipped model, of the directory, or of the file without its ending.
        model: network, labels and card.
        inputs: what the network reads of a jet.
    """

    name: str
    model: TaggingModel
    inputs: JetInputs

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the columns of the scores."""
        return self.model.labels

    @cached_property
    def scorer(self) -> Scorer:
        """The compiled network; kept, so that a program serves the next jets too."""
        return Scorer(self.model.network)


def model_names() -> tuple[str, ...]:
    """Names of the models that are shipped."""
    return names_in(CHECKPOINTS)


def load_model(name: str | Path = DEFAULT, *, inputs: Path | None = None) -> Tagger:
    """Load a tagger.

    Args:
        name: of a shipped model, the directory of one of yours, or a file of weights: CMS's ONNX (DeepAK8, ParticleNet)
            or weaver's ".pt" of networks that were trained on JetClass.
        inputs: CMS's `preprocess.json` of a file of weights; if not given the one that lies beside it and fits.

    Raises:
        ConfigError: there is no such model, or nobody says what its network reads.
        DataError: a file is incomplete, damaged or of another network.
    """
    path = Path(name)
    if path.suffix in WEIGHT_FILES and not path.is_dir():
        return _of_others(path, inputs)
    if inputs is not None:
        raise ConfigError(f"{name} knows its own inputs; {inputs} goes with a file of weights")
    directory = model_directory(name, CHECKPOINTS)
    model = load_tagging_model(directory)
    return Tagger(directory.resolve().name, model, inputs_of(model, str(directory)))


def described(inputs: JetInputs) -> dict[str, Any]:
    """The tables of inputs as `TaggingModel.features` wants them; `inputs_of` reads them back."""
    tables = {"candidates": inputs.candidates, "vertices": inputs.vertices}
    return {name: features_to_json(table) for name, table in tables.items() if table is not None}


def inputs_of(model: TaggingModel, where: str) -> JetInputs:
    """What the network of a model reads, from the description that travels with it.

    Args:
        model: the model.
        where: for messages.

    Raises:
        DataError: it describes no candidates, or other inputs than its network has.
    """
    described = {name: features_from_json(table) for name, table in model.features.items() if table}
    if "candidates" not in described:
        raise DataError(f"{where} does not say what its network reads: there is no table 'candidates'")
    inputs = JetInputs(
        candidates=described["candidates"],
        vertices=described.get("vertices"),
        n_candidates=model.capacities[0],
        n_vertices=max(model.capacities[1], 1),
    )
    _check(inputs, model.network, where)
    return inputs


def read_columns(network: Any) -> tuple[int, int] | None:
    """How many columns a network reads of candidates and of vertices; `None` where its shape does not say."""
    config = network.config
    if isinstance(network, DeepAK8):
        return config.candidates, config.vertices
    if isinstance(network, ParticleNet):
        of_vertices = max(config.vertex_features, *(column + 1 for column in config.vertex_coordinates))
        of_candidates = max(config.features, *(column + 1 for column in config.coordinates))
        return of_candidates, of_vertices if config.vertex_features else 0
    if isinstance(network, ParticleTransformer):
        return max(config.features, *(column + 1 for column in config.vectors)), 0
    return None


def _columns(table: FeatureTable | None) -> int:
    return 0 if table is None else len(table)


def _check(inputs: JetInputs, network: Any, where: str) -> None:
    given = _columns(inputs.candidates), _columns(inputs.vertices)
    needed = read_columns(network)
    # A network that reads no vertices is not disturbed by them.
    if needed is not None and (given[0] != needed[0] or (needed[1] and given[1] != needed[1])):
        raise DataError(
            f"{where}: {given[0]} features of candidates and {given[1]} of vertices; the network reads {needed[0]} "
            f"and {needed[1]}"
        )


def _of_others(path: Path, inputs: Path | None) -> Tagger:
    """A file of weights tells by its arrays what network it holds."""
    if not path.is_file():
        raise ConfigError(f"there is no model {path}: it is neither a directory nor a file")
    kind, network = _read(path)
    classes = network.config.classes
    if classes not in _LABELS:
        raise ConfigError(f"{path} has {classes} outputs, of unknown meaning; known are {sorted(_LABELS)}")
    read = _inputs_beside(path, network, inputs)
    card = f"Weights of {path.name}, which others trained; their licence holds."
    capacities = read.n_candidates, read.n_vertices if read.vertices is not None else 0
    model = TaggingModel(kind, network, _LABELS[classes], capacities, described(read), card)
    return Tagger(path.stem, model, read)


def _read(path: Path) -> tuple[str, Any]:
    reasons = []
    for kind in WEIGHT_FILES[path.suffix]:
        try:
            return kind, load_pretrained(path, kind)
        except DataError as error:
            reasons.append(f"no {kind} ({error})")
    raise DataError(
        f"{path} holds none of the networks that are read from {path.suffix}: {'; '.join(reasons)}"
    )


def _inputs_beside(path: Path, network: Any, given: Path | None) -> JetInputs:
    """From a file of CMS, or by the rules of JetClass."""
    if given is not None:
        inputs = read_preprocess(given)
        _check(inputs, network, f"{path} with {given}")
        return inputs
    if network.config.classes == len(JETCLASS_LABELS):
        return jetclass_inputs(network.config.features, vectors=isinstance(network, ParticleTransformer))
    for beside in sorted(path.parent.glob(_PREPROCESS)):
        inputs = read_preprocess(beside)
        if read_columns(network) == (_columns(inputs.candidates), _columns(inputs.vertices)):
            return inputs
    raise ConfigError(
        f"{path} does not say what its network reads, and no {_PREPROCESS} beside it does: name one, as MODEL,INPUTS"
    )
