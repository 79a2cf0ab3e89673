"""What a training starts from: a network with random weights, or one that was trained before, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recon.errors import ConfigError
from recon.io.weights import model_arrays, set_model_arrays
from recon.tagging.deepak8 import DeepAK8Config
from recon.tagging.deepcsv import CLASSES as FLAVOURS
from recon.tagging.deepcsv import DeepCSVConfig
from recon.tagging.inputs import JetInputs, jetclass_inputs
from recon.tagging.models import kind_of, make_network
from recon.tagging.particle_net import ParticleNetConfig
from recon.tagging.particle_transformer import ParticleTransformerConfig
from recon.tagging.pcnn import PCNNConfig
from recon.tagging.pfn import PFNConfig
from recon.tagging.samples import file_labels, fitted_inputs, tables
from recon.tagging.shipped import Tagger, load_model

FLAVOUR_LABELS = ("QCDb", "QCDbb", "QCDc", "QCDcc", "QCDothers")
"""The jets that a b tagger is trained on, in the order of its classes."""


_TRAINED = (DeepAK8Config, DeepCSVConfig, ParticleNetConfig, ParticleTransformerConfig, PCNNConfig, PFNConfig)
"""DeepDoubleB reads features of whole jets, images have a training of their own."""


class Start(NamedTuple):
    """What is trained.

    Attributes:
        kind: name in `recon.tagging.models.KINDS`.
        network: with the weights to begin with.
        inputs: what it reads.
        labels: of its outputs.
        classes: of the files that these outputs are.
        before: the tagger it was, where it is one that was trained before.
    """

    kind: str
    network: Any
    inputs: JetInputs
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    before: Tagger | None


def start(
    files: Sequence[Path], model: str | None = None, initial: Path | None = None, *, seed: int = 0
) -> Start:
    """Make the network that is trained.

    Args:
        files: that it is trained on; their labels are its classes, and DeepAK8's features are standardised on them.
        model: kind of network; that of `initial`, or DeepAK8, if not given.
        initial: a trained model, a directory or a file of weights: it keeps its inputs, and of its outputs those whose
            classes the files have too.
        seed: of new weights.

    Raises:
        ConfigError: an unknown kind, one that cannot be trained on such files, or another than that of `initial`.
        DataError: files or weights that cannot be read.
    """
    classes = file_labels(next(tables(files[0])), str(files[0]))[0]
    if initial is not None:
        return _again(load_model(initial), model, classes, seed)
    kind = model or "deepak8"
    config = kind_of(kind).config
    if not isinstance(config, _TRAINED):
        raise ConfigError(f"a {kind} does not read what is computed from jets here; train another kind")
    if isinstance(config, DeepCSVConfig):
        inputs, classes = fitted_inputs(files, 100, 7), FLAVOUR_LABELS
    elif isinstance(config, DeepAK8Config):
        inputs = fitted_inputs(files, 100, 7)
    else:
        vectors = isinstance(config, ParticleTransformerConfig)
        inputs = jetclass_inputs(config.features, vectors=vectors)
    changes: dict[str, Any] = {"classes": len(classes)}
    if isinstance(config, DeepAK8Config | DeepCSVConfig):
        changes["candidates"] = len(inputs.candidates)
        changes["vertices"] = len(inputs.vertices) if inputs.vertices is not None else 1
    labels = FLAVOURS if isinstance(config, DeepCSVConfig) else classes
    network = make_network(kind, replace(config, **changes), seed=seed)
    return Start(kind, network, inputs, labels, classes, None)


def _again(tagger: Tagger, model: str | None, classes: tuple[str, ...], seed: int) -> Start:
    kind = tagger.model.kind
    if not isinstance(tagger.model.network.config, _TRAINED):
        raise ConfigError(f"{tagger.name} is a {kind}, which does not read what is computed from jets here")
    if model is not None and model != kind:
        raise ConfigError(f"{tagger.name} is a {kind}; --model {model} cannot begin from it")
    old = tagger.model.network
    if isinstance(old.config, DeepCSVConfig):
        return Start(kind, old, tagger.inputs, tagger.labels, FLAVOUR_LABELS, tagger)
    network = old if tagger.labels == classes else _with_outputs(kind, old, tagger.labels, classes, seed)
    return Start(kind, network, tagger.inputs, classes, classes, tagger)


def _with_outputs(kind: str, old: Any, labels: tuple[str, ...], classes: tuple[str, ...], seed: int) -> Any:
    """The network with one output a class: its own where it has the class, random ones elsewhere."""
    network = make_network(kind, replace(old.config, classes=len(classes)), seed=seed)
    arrays = dict(model_arrays(network))
    for name, array in model_arrays(old).items():
        if not name.startswith("output/"):
            arrays[name] = array
            continue
        fresh = np.array(arrays[name])
        for row, label in enumerate(classes):
            if label in labels:
                fresh[..., row] = array[..., labels.index(label)]
        arrays[name] = fresh
    return set_model_arrays(network, arrays)
