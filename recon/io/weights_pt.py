"""State dictionaries of PyTorch, read without PyTorch: a .pt file is an archive of one pickle and raw numbers.

Before PyTorch 1.6 it was five pickles and raw numbers behind each other; many weights are still published so.

The pickle is read by a reader that knows tensors and dictionaries and refuses everything else, so that a file cannot
run code.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable
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


LEGACY = (0x1950A86A20F9469CFC6C, 1001)
"""Magic number and version in front of the files of old."""
_DAMAGE = (
    pickle.UnpicklingError, KeyError, ValueError, TypeError, EOFError, AttributeError, IndexError, OverflowError
)  # fmt: skip


class _Storage(NamedTuple):
    dtype: np.dtype


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name.

    Args:
        path: of a file of `torch.save(module.state_dict(), path)`.

    Raises:
        DataError: the file is absent, damaged, of another format, or holds anything but tensors.
    """
    try:
        state = _read_archive(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of PyTorch: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{path} holds more than a state dictionary, or is damaged: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
        raise DataError(f"{path} holds more than a state dictionary: save module.state_dict() alone")
    return {str(name): array for name, array in state.items()}


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise DataError(f"{path} is no file of PyTorch: it holds {len(names)} entries data.pkl, not 1")
        root = names[0].removesuffix("data.pkl")
        _check_order(archive, root)

        def stored(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype)

        return _Reader(io.BytesIO(archive.read(names[0])), stored).load()


def _read_legacy(path: Path) -> Any:
    """The numbers stand behind the pickle that says of which type they are: it is read twice."""
    with path.open("rb") as stream:
        try:
            front = tuple(_Reader(stream, _nothing).load() for _ in LEGACY)
        except _DAMAGE:
            front = ()
        if front != LEGACY:
            raise DataError(f"{path} cannot be read as a file of PyTorch: it is neither of the two formats")
        system = _Reader(stream, _nothing).load()
        if not system["little_endian"]:
            raise DataError(f"{path} was written with the other byte order")
        start, types = stream.tell(), {}

        def note(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            types[key] = dtype
            return np.zeros(count, dtype)

        _Reader(stream, note).load()
        arrays = {}
        for key in _Reader(stream, _nothing).load():
            count = int.from_bytes(stream.read(8), "little")
            arrays[key] = np.frombuffer(stream.read(count * types[key].itemsize), types[key])
        stream.seek(start)
        return _Reader(stream, lambda key, dtype, count: arrays[key]).load()


def _nothing(key: str, dtype: np.dtype, count: int) -> np.ndarray:
    raise pickle.UnpicklingError(f"array {key} stands where none belongs")


def _check_order(archive: zipfile.ZipFile, root: str) -> None:
    """Refuse a file written on a machine of the other byte order."""
    name = root + "byteorder"
    if name in archive.namelist() and archive.read(name) != b"little":
        raise DataError(f"{archive.filename} was written with the byte order {archive.read(name)!r}")


class _Reader(pickle.Unpickler):
    """Knows the few names that a state dictionary consists of."""

    def __init__(self, stream: Any, stored: Callable[[str, np.dtype, int], np.ndarray]) -> None:
        super().__init__(stream)
        self._stored = stored

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
        # The files of old may add a description of a view, which state dictionaries do not have.
        _, storage, key, _, count = pid[:5]
        values = self._stored(key, storage.dtype, count)
        if len(values) < count:
            raise ValueError(f"array {key} has {len(values)} numbers instead of {count}")
        return values


def _tensor(storage: np.ndarray, offset: int, shape: Any, strides: Any, *rest: Any) -> np.ndarray:
    """A copy of the view that PyTorch describes; strides count numbers and not bytes."""
    del rest
    if min((offset, *shape, *strides)) < 0:
        raise ValueError(f"a tensor of shape {tuple(shape)} from {offset} in steps of {tuple(strides)}")
    # What is outside must not be read: it is the memory of the program.
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= len(storage):
        raise ValueError(f"a tensor of shape {tuple(shape)} reaches past its {len(storage)} numbers")
    size = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], tuple(shape), [stride * size for stride in strides], writeable=False
    ).copy()
