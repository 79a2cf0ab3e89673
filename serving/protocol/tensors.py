"""What a message says about one tensor, and its values as an array.

Raw contents are views of the message; typed contents, which few clients send, go through protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from serving.errors import InvalidInput
from serving.protocol.messages import message
from serving.types import DATATYPES, Region

MAX_BYTES = 2**31 - 1
"""Longest message that protobuf allows."""

MAX_RANK = 64
"""Most axes that an array of NumPy can have."""

LONGEST_KEPT = 256
"""Bytes of a description that is worth keeping; the cache is bounded in bytes and not only in entries."""

TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Field of InferTensorContents that holds a datatype; FP16 and BF16 travel raw only."""


class Tensor(NamedTuple):
    """What a message says about a tensor, apart from its raw bytes."""

    role: str
    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    region: Region | None
    contents: Any

    @property
    def what(self) -> str:
        """The tensor in errors."""
        return f"{self.role} {self.name!r}"


def parse(kind: Any, content: bytes, what: str) -> Any:
    """A protobuf message of a class.

    Raises:
        InvalidInput: the bytes are none.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidInput(f"{what} is no protobuf message: {error}") from error


def describe(content: bytes, role: str) -> Tensor:
    """An InferInputTensor, or an InferOutputTensor, which looks the same.

    Args:
        content: the message.
        role: "input" or "output", for errors.

    Raises:
        InvalidInput: names the tensor, what was given and what is allowed.
    """
    # Long ones hold typed contents, which never come again.
    return _kept(content, role) if len(content) <= LONGEST_KEPT else _describe(content, role)


def _describe(content: bytes, role: str) -> Tensor:
    tensor = parse(message("ModelInferRequest").InferInputTensor, content, f"an {role} tensor")
    what, shape = f"{role} {tensor.name!r}", tuple(tensor.shape)
    dtype = checked(what, tensor.datatype, shape)
    contents = tensor.contents if tensor.HasField("contents") else None
    region = region_of(tensor.parameters, what)
    return Tensor(role, tensor.name, tensor.datatype, dtype, shape, region, contents)


_kept = lru_cache(maxsize=4096)(_describe)


def checked(what: str, datatype: str, shape: tuple[int, ...]) -> np.dtype[Any]:
    """NumPy's type of a tensor that a request describes.

    Raises:
        InvalidInput: no array can be of this type or shape.
    """
    if datatype not in DATATYPES:
        why = "; compiled models take numbers" if datatype == "BYTES" else ""
        raise InvalidInput(f"{what} has the datatype {datatype!r}{why}; allowed are {', '.join(DATATYPES)}")
    if any(length < 0 for length in shape):
        raise InvalidInput(f"{what} has the shape {list(shape)}; lengths of 0 or more are allowed")
    if len(shape) > MAX_RANK:
        raise InvalidInput(f"{what} has {len(shape)} axes; {MAX_RANK} are allowed")
    # An empty tensor may not have an endless axis either: NumPy refuses it.
    extent = prod(length or 1 for length in shape) * DATATYPES[datatype].itemsize
    if extent > MAX_BYTES:
        raise InvalidInput(f"{what} of shape {list(shape)} has {extent} bytes; {MAX_BYTES} are allowed")
    return DATATYPES[datatype]


def parameter_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """InferParameter messages as values."""
    found = {}
    for key, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[key] = getattr(value, choice) if choice else None
    return found


def set_values(parameters: Any, values: Mapping[str, Any]) -> None:
    """Values as InferParameter messages.

    Raises:
        InvalidInput: the protocol has no parameter of this type.
    """
    for key, value in values.items():
        kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        field = kinds.get(type(value))
        if field is None:
            raise InvalidInput(
                f"parameter {key!r} is {value!r}; a bool, a whole number, a float or a text is allowed"
            )
        if type(value) is int and value >= 2**63:
            field = "uint64_param"
        try:
            setattr(parameters[key], field, value)
        except ValueError as error:
            raise InvalidInput(f"parameter {key!r} is {value!r}; 64 bits are allowed") from error


def region_of(parameters: Mapping[str, Any], what: str) -> Region | None:
    """The shared-memory region that the parameters of a tensor name."""
    if not parameters:
        return None
    values = parameter_values(parameters)
    name = values.get("shared_memory_region")
    if name is None:
        return None
    size, offset = values.get("shared_memory_byte_size"), values.get("shared_memory_offset", 0)
    if not (isinstance(name, str) and type(size) is int and type(offset) is int and size >= 0 <= offset):
        raise InvalidInput(
            f"{what}: shared_memory_region {name!r}, shared_memory_byte_size {size!r}, "
            f"shared_memory_offset {offset!r}; a text and two numbers of 0 or more are allowed"
        )
    return Region(name, size, offset)


def raw_array(data: bytes, tensor: Tensor, start: int, end: int) -> np.ndarray:
    """Raw contents as a read-only view of the message."""
    count = prod(tensor.shape)
    needed = count * tensor.dtype.itemsize
    if end - start != needed:
        raise InvalidInput(
            f"{tensor.what} has {end - start} bytes in raw_{tensor.role}_contents; "
            f"{needed} are allowed for {tensor.datatype} {list(tensor.shape)}"
        )
    if count == 0:
        return np.zeros(tensor.shape, tensor.dtype)
    array = np.frombuffer(data, tensor.dtype, count, start).reshape(tensor.shape)
    check_bools(array, tensor.what)
    return array


def check_bools(array: np.ndarray, what: str) -> None:
    """Refuse bytes that are neither false nor true: programs compute nonsense from them.

    Raises:
        InvalidInput: there are such bytes.
    """
    if array.dtype != np.bool_:
        return
    largest = array.view(np.uint8).max(initial=0)
    if largest > 1:
        raise InvalidInput(f"{what} of datatype BOOL holds the byte {largest}; 0 and 1 are allowed")


def typed_array(tensor: Tensor) -> np.ndarray:
    """Typed contents as an array."""
    field = TYPED.get(tensor.datatype)
    if field is None:
        raise InvalidInput(f"{tensor.what}: {tensor.datatype} is allowed in raw_{tensor.role}_contents only")
    given = [] if tensor.contents is None else [found.name for found, _ in tensor.contents.ListFields()]
    others = [name for name in given if name != field]
    if others:
        raise InvalidInput(f"{tensor.what} of datatype {tensor.datatype} has {others[0]}; {field} is allowed")
    values = getattr(tensor.contents, field) if given else []
    if len(values) != prod(tensor.shape):
        raise InvalidInput(
            f"{tensor.what} has {len(values)} values in {field}; "
            f"{prod(tensor.shape)} are allowed for shape {list(tensor.shape)}"
        )
    try:
        return np.array(list(values), tensor.dtype).reshape(tensor.shape)
    except OverflowError as error:
        raise InvalidInput(f"{tensor.what}: a value does not fit into {tensor.datatype}: {error}") from error
