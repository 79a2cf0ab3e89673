"""State dictionaries of PyTorch, read without PyTorch: a .pt file is an archive of one pickle and raw numbers.

The pickle is read by a reader that knows tensors and dictionaries and refuses everything else, so that a file cannot
run code.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from recon.errors import DataError

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
"""Types of numbers by PyTorch's name."""


class _Storage(NamedTuple):
    dtype: np.dtype


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name.

    Args:
        path: of a file of `torch.save(module.state_dict(), path)`, PyTorch 1.6 or later.

    Raises:
        DataError: the file is absent, damaged, of another format, or holds anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise DataError(
                    f"{path} is no file of PyTorch: it holds {len(names)} entries data.pkl, not 1"
                )
            root = names[0].removesuffix("data.pkl")
            _check_order(archive, root)
            state = _Reader(archive, root, archive.read(names[0])).load()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of PyTorch: {error}") from error
    except (pickle.UnpicklingError, KeyError, ValueError, TypeError, EOFError, AttributeError) as error:
        raise DataError(f"{path} holds more than a state dictionary, or is damaged: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
        raise DataError(f"{path} holds more than a state dictionary: save module.state_dict() alone")
    return {str(name): array for name, array in state.items()}


def _check_order(archive: zipfile.ZipFile, root: str) -> None:
    """Refuse a file written on a machine of the other byte order."""
    name = root + "byteorder"
    if name in archive.namelist() and archive.read(name) != b"little":
        raise DataError(f"{archive.filename} was written with the byte order {archive.read(name)!r}")


class _Reader(pickle.Unpickler):
    """Knows the few names that a state dictionary consists of."""

    def __init__(self, archive: zipfile.ZipFile, root: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, requires_grad, hooks: data
        if module == "torch" and name in STORAGES:
            return _Storage(STORAGES[name])
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state dictionary")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, storage, key, _, count = pid
        values = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), storage.dtype)
        if len(values) < count:
            raise ValueError(f"array {key} has {len(values)} numbers instead of {count}")
        return values


def _tensor(storage: np.ndarray, offset: int, shape: Any, strides: Any, *rest: Any) -> np.ndarray:
    """A copy of the view that PyTorch describes; strides count numbers and not bytes."""
    del rest
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if shape and 0 not in shape and not 0 <= last < len(storage):
        raise ValueError(f"a tensor of shape {tuple(shape)} reaches past its {len(storage)} numbers")
    size = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], tuple(shape), [stride * size for stride in strides], writeable=False
    ).copy()
