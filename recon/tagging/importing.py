"""Weights that others trained, put into our networks: CMS's ONNX files and weaver's state dictionaries.

The shape of the network follows from the file. Every array has its place by name (or, where the export of ParticleNet
lost the names, by order) and must have the shape of that place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.weights import model_arrays, set_model_arrays

TORCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
"""PyTorch's name -> ours; layer normalisation has the first two."""

Network = TypeVar("Network", bound=nnx.Module)


class Filler(Generic[Network]):
    """Puts arrays of a file into a network, each once, and nothing is left empty.

    Args:
        network: whose arrays are replaced.
        path: of the file, for messages.
    """

    def __init__(self, network: Network, path: Path) -> None:
        self._network, self._path = network, path
        self._needed = model_arrays(network)
        self._placed: dict[str, np.ndarray] = {}

    def put(self, place: str, array: Any, source: str) -> None:
        """Put one array into its place.

        Args:
            place: path in the network, such as "dense/0/kernel".
            array: as the network wants it, any float type.
            source: its name in the file.

        Raises:
            DataError: there is no such place, it is taken, the shape is another, or a number is not finite.
        """
        values = np.asarray(array, np.float32)
        if place not in self._needed or place in self._placed:
            raise DataError(f"{self._path}: {source!r} has no place: {place!r} is not there, or taken")
        if values.shape != self._needed[place].shape:
            raise DataError(
                f"{self._path}: {source!r} has shape {values.shape}, but {place!r} needs "
                f"{self._needed[place].shape}"
            )
        if not np.isfinite(values).all():
            raise DataError(f"{self._path}: {source!r} has numbers that are not finite")
        self._placed[place] = values

    def identity_norm(self, place: str, shift: np.ndarray, source: str, epsilon: float) -> None:
        """Batch normalisation that only adds: its scale lies in the matrix before it already.

        Args:
            place: of the normalisation.
            shift: what it adds.
            source: name of `shift` in the file.
            epsilon: of the normalisation.
        """
        ones = np.ones_like(shift)
        self.put(f"{place}/scale", ones, source)
        self.put(f"{place}/bias", shift, source)
        self.put(f"{place}/mean", 0 * ones, source)
        self.put(f"{place}/var", ones - np.float32(epsilon), source)

    def finish(self) -> Network:
        """The network, filled and in evaluation mode.

        Raises:
            DataError: a place was left empty.
        """
        if missing := sorted(self._needed.keys() - self._placed.keys()):
            raise DataError(
                f"{self._path} lacks {len(missing)} of {len(self._needed)} arrays, first that for {missing[0]!r}"
            )
        set_model_arrays(self._network, self._placed)
        self._network.eval()
        return self._network


def find(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """An array of a file by its name.

    Raises:
        DataError: there is none; names a few that there are.
    """
    if name not in arrays:
        raise DataError(f"{path} has no array {name!r}; it has {', '.join(sorted(arrays)[:6])}, ...")
    return arrays[name]


def load_pretrained(path: Path, kind: str, **options: Any) -> Any:
    """A network with the weights of a file that others made.

    Args:
        path: ".onnx" or ".pt".
        kind: "deepak8", "deepak8-md", "deepdoubleb" (both ONNX), "particlenet" or "particletransformer".
        options: of the importer, `coordinates` and `k` of ParticleNet for example.

    Raises:
        ConfigError: there is no importer for such a file.
        DataError: the file cannot be read or its weights do not fit.
    """
    # The importers of the kinds use this module.
    from recon.tagging import import_cms, import_particle_net, import_weaver  # noqa: PLC0415

    importers = {
        ("deepak8", ".onnx"): import_cms.load_deepak8,
        ("deepak8-md", ".onnx"): import_cms.load_deepak8,
        ("deepdoubleb", ".onnx"): import_cms.load_deepdoubleb,
        ("particlenet", ".onnx"): import_particle_net.load_particle_net,
        ("particlenet", ".pt"): import_weaver.load_particle_net,
        ("particlenet-lite", ".pt"): import_weaver.load_particle_net,
        ("particletransformer", ".pt"): import_weaver.load_particle_transformer,
    }
    key = (kind, Path(path).suffix)
    if key not in importers:
        known = ", ".join(f"{name} from {suffix}" for name, suffix in importers)
        raise ConfigError(
            f"{path}: no importer of {kind} from {key[1] or 'a file without a suffix'}; there are {known}"
        )
    return importers[key](Path(path), **options)
