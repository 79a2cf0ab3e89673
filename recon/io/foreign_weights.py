"""Arrays of files that others wrote, and how they get into our networks: each once, and no place stays empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import safetensors
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.weights import array_shapes, set_model_arrays
from recon.io.weights_h5 import read_h5
from recon.io.weights_pt import read_state_dict

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
        self._needed = array_shapes(network)
        self._placed: dict[str, np.ndarray] = {}
        self._sources: set[str] = set()

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
        if values.shape != self._needed[place]:
            raise DataError(
                f"{self._path}: {source!r} has shape {values.shape}, but {place!r} needs "
                f"{self._needed[place]}"
            )
        if not np.isfinite(values).all():
            raise DataError(f"{self._path}: {source!r} has numbers that are not finite")
        self._placed[place] = values
        self._sources.add(source)

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

    def finish(self, names: Iterable[str] = ()) -> Network:
        """The network, filled and in evaluation mode.

        Args:
            names: of arrays of the file that must all have found a place.

        Raises:
            DataError: a place was left empty, or an array has none.
        """
        if missing := sorted(self._needed.keys() - self._placed.keys()):
            raise DataError(
                f"{self._path} lacks {len(missing)} of {len(self._needed)} arrays, first that for {missing[0]!r}"
            )
        if extra := sorted(set(names) - self._sources):
            raise DataError(
                f"{self._path}: {len(extra)} arrays have no place in the network, first {extra[0]!r}"
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


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name of a safetensors file that any program wrote.

    Raises:
        DataError: the file is absent or damaged, or has numbers of a type that NumPy lacks.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a safetensors file: {error}") from error


READERS = {
    ".safetensors": read_safetensors,
    ".pth": read_state_dict,
    ".pt": read_state_dict,
    ".bin": read_state_dict,
    ".h5": read_h5,
}
"""By the suffix of a file."""


def read_foreign_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name of a file of weights.

    Args:
        path: safetensors, a state dictionary of PyTorch, or HDF5 of Keras.

    Raises:
        ConfigError: another suffix.
        DataError: the file is absent or cannot be read.
    """
    if path.suffix not in READERS:
        raise ConfigError(f"{path}: weights are read from files {', '.join(READERS)}")
    return READERS[path.suffix](path)
