"""Trained settings and networks: one directory each, with a card that says where they are from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from flax import nnx

from recon.errors import DataError
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.model import CondensationConfig, CondensationNetwork
from recon.io.weights import load_model as load_directory
from recon.io.weights import model_directory, set_model_arrays
from recon.io.weights import model_names as names_in
from recon.io.weights import save_model as save_directory

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Directory of the shipped models, one folder each."""


@dataclass(frozen=True)
class HgcalModel:
    """Trained settings, with a network where the method has one.

    Attributes:
        config: settings of the chain.
        weights: of the network, as a flat dict; empty without one.
        card: Markdown: data, seeds, command, numbers.
    """

    config: HgcalConfig
    card: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)


def model_names() -> tuple[str, ...]:
    """Names of the models that are shipped."""
    return names_in(CHECKPOINTS)


def save_model(directory: Path, model: HgcalModel) -> None:
    """Write a model; `load_model` reads it back.

    Settings that name the model's own network name the directory.
    """
    save_directory(directory, model.weights, model.config.to_json(), model.card)


def load_model(name: str | Path) -> HgcalModel:
    """Load trained settings.

    Args:
        name: of a shipped model, or the directory of one of yours.

    Raises:
        ConfigError: there is no such model; names those that are.
        DataError: the directory is incomplete or damaged.
    """
    directory = model_directory(name, CHECKPOINTS)
    shipped = load_directory(directory)
    config = HgcalConfig.from_json(shipped.config)
    if shipped.arrays:
        # A copied directory finds its own network.
        config = replace(config, hybrid=replace(config.hybrid, weights=str(name)))
    return HgcalModel(config, shipped.card, dict(shipped.arrays))


@lru_cache(maxsize=8)
def load_network(name: str, shape: CondensationConfig) -> CondensationNetwork:
    """The network of a model; kept, so that a program compiled for it serves the next event.

    Raises:
        ConfigError: there is no such model, or its network has another shape.
        DataError: the model has no network.
    """
    model = load_model(name)
    if not model.weights:
        raise DataError(f"the model {name!r} has settings only; the hybrid method needs one with a network")
    return set_model_arrays(CondensationNetwork(shape, rngs=nnx.Rngs(0)), model.weights)
