"""Trained models: weights, layer-pair map and settings in one directory, with a card that says where they are from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from recon.errors import DataError
from recon.io.weights import load_model as load_directory
from recon.io.weights import model_directory
from recon.io.weights import model_names as names_in
from recon.io.weights import save_model as save_directory
from recon.tracking.capacity import TrackingCapacity
from recon.tracking.config import TrackingConfig
from recon.tracking.detector import load_detector, load_passive_material
from recon.tracking.fit_setup import FitSurfaces, fit_surfaces
from recon.tracking.scoring import network_state, network_with
from recon.tracking.windows import LayerPairs
from recon.types import Detector

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Directory of the shipped models, one folder each."""

DEFAULT = "generic-1gev"
_NETWORK, _PAIRS = "network/", "pairs/"


class DeviceModel(NamedTuple):
    """A model as the compiled program wants it: a tree of arrays.

    Attributes:
        network: weights, from `network_state`.
        pairs: the layer-pair map.
        rotation: `Detector.rotation`.
        surfaces: what the fit needs of the detector.
    """

    network: Any
    pairs: LayerPairs
    rotation: Float32[Array, "m 3 3"]
    surfaces: FitSurfaces


@dataclass(frozen=True)
class TrackingModel:
    """A trained track finder.

    Attributes:
        config: settings of the chain.
        pairs: the layer-pair map.
        weights: of the network, as a flat dict.
        card: Markdown: data, seeds, command, numbers.
        capacities: array lengths in use, by padded number of hits; filled and enlarged as events are met.
    """

    config: TrackingConfig
    pairs: LayerPairs
    weights: dict[str, np.ndarray]
    card: str
    capacities: dict[int, TrackingCapacity] = field(default_factory=dict, compare=False)

    @cached_property
    def detector(self) -> Detector:
        """The sensor table of the detector that the model was trained for."""
        return load_detector(self.config.detector)

    @cached_property
    def device(self) -> DeviceModel:
        """The arrays of the model on the default device."""
        network = network_with(self.config.network, self.weights)
        return DeviceModel(
            network=network_state(network),
            pairs=jax.tree.map(jnp.asarray, self.pairs),
            rotation=jnp.asarray(self.detector.rotation),
            surfaces=fit_surfaces(self.detector, load_passive_material(self.config.detector)),
        )


def model_names() -> tuple[str, ...]:
    """Names of the models that are shipped."""
    return names_in(CHECKPOINTS)


def save_tracking_model(directory: Path, model: TrackingModel) -> None:
    """Write a model; `load_model` reads it back."""
    arrays = {_NETWORK + name: array for name, array in model.weights.items()}
    arrays |= {_PAIRS + name: np.asarray(array) for name, array in model.pairs._asdict().items()}
    save_directory(directory, arrays, model.config.to_json(), model.card)


def load_model(name: str | Path = DEFAULT) -> TrackingModel:
    """Load a trained track finder.

    Args:
        name: of a shipped model, or the directory of one of yours.

    Raises:
        ConfigError: there is no such model; names those that are.
        DataError: the directory is incomplete or damaged.
    """
    directory = model_directory(name, CHECKPOINTS)
    shipped = load_directory(directory)
    weights = {
        key.removeprefix(_NETWORK): array for key, array in shipped.arrays.items() if key.startswith(_NETWORK)
    }
    pairs = {
        key.removeprefix(_PAIRS): array for key, array in shipped.arrays.items() if key.startswith(_PAIRS)
    }
    if differing := sorted(set(pairs) ^ set(LayerPairs._fields)):
        raise DataError(
            f"{directory} is no tracking model of this version: its layer-pair map lacks or has too many of "
            f"{', '.join(differing)}"
        )
    config = TrackingConfig.from_json(shipped.config)
    return TrackingModel(config, LayerPairs(**pairs), weights, shipped.card)
