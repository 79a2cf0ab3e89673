"""Weights of Keras in HDF5, the files of `model.save_weights("*.h5")` and of keras.applications.

The package `h5py` is needed: it is in the extra `keras`, and is imported when the first file is opened.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ConfigError, DataError, ReconError


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError as error:
        raise ConfigError("reading HDF5 needs the package h5py: pip install 'recon-hep[keras]'") from error


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Arrays by `layer/name`, such as "conv1_conv/kernel": the groups in front and the ":0" behind go.

    Args:
        path: of the file.

    Raises:
        DataError: the file is absent, damaged or has no arrays, or two of one name.
        ConfigError: the package `h5py` is not installed.
    """
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if not hasattr(item, "shape"):
            return
        short = "/".join(name.split("/")[-2:]).removesuffix(":0")
        if short in arrays:
            raise DataError(f"{path} has two arrays {short!r}; one of each name is allowed")
        arrays[short] = np.asarray(item)

    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except ReconError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an HDF5 file: {error}") from error
    if not arrays:
        raise DataError(f"{path} has no arrays")
    return arrays
