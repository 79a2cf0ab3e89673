"""Inference requests and answers as JSON, with Triton's binary extension."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from serving.errors import InvalidInput
from serving.protocol.codec import set_parameters
from serving.protocol.tensors import check_bools, checked
from serving.shared_memory import SharedMemory
from serving.types import InferRequest, InferResponse, OutputTensor, Region, RequestedOutput


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InvalidInput: it is none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"the body is a JSON {type(content).__name__}; an object is allowed")
    return content


def take(entry: Mapping[str, Any], key: str, kind: type, what: str, default: Any = None) -> Any:
    """A value of a JSON object.

    Args:
        entry: the object.
        key: of the value.
        kind: that it must have; a bool is no int.
        what: the object, in errors.
        default: where the key is missing; `None` if it must be there.

    Raises:
        InvalidInput: it is missing, or of another type.
    """
    value = entry.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidInput(f"{what}: {key!r} is {value!r}; a value of type {kind.__name__} is needed")
    return value


def parse_infer(
    model: str,
    version: str,
    body: bytes,
    header_length: int | None,
    shared_memory: Callable[[], SharedMemory],
) -> tuple[InferRequest, dict[str, bool]]:
    """A request and, for every output, whether it is wanted in binary.

    Args:
        model: from the path.
        version: from the path.
        body: JSON, and the raw tensors behind it.
        header_length: bytes of the JSON; `None` for all.
        shared_memory: gives the server's regions, or raises where this caller may not use them.

    Raises:
        InvalidInput: names the field, what was given and what is allowed.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length is {header_length}; 0 to {len(body)} are allowed"
        )
    end = len(body) if header_length is None else header_length
    content = parse_json(body[:end])
    parameters = take(content, "parameters", dict, "the request", {})
    tail = _Tail(body, end)
    inputs: dict[str, np.ndarray] = {}
    for entry in _entries(content, "inputs"):
        name = take(entry, "name", str, "an input")
        if name in inputs:
            raise InvalidInput(f"input {name!r} is given twice")
        inputs[name] = _input(entry, name, tail, shared_memory)
    tail.check_empty()
    identity = take(content, "id", str, "the request", "")
    request = InferRequest(model=model, version=version, id=identity, inputs=inputs)
    everywhere = take(parameters, "binary_data_output", bool, "the request's parameters", False)
    binary: dict[str, bool] = {"": everywhere}
    wanted: list[RequestedOutput] = []
    for entry in _entries(content, "outputs") if "outputs" in content else []:
        output, binary[output.name] = _requested(entry, everywhere)
        if output.name in {other.name for other in wanted}:
            raise InvalidInput(f"output {output.name!r} is asked for twice")
        if output.region is not None:
            shared_memory()
        wanted.append(output)
    request.outputs = tuple(wanted)
    set_parameters(request, parameters)
    return request, binary


def _requested(entry: Mapping[str, Any], everywhere: bool) -> tuple[RequestedOutput, bool]:
    """An output, and whether it is wanted in binary."""
    name = take(entry, "name", str, "an output")
    what = f"output {name!r}"
    parameters = take(entry, "parameters", dict, what, {})
    if parameters.get("classification"):
        raise InvalidInput(f"{what}: classification is not offered; ask for the scores")
    is_binary = take(parameters, "binary_data", bool, what, everywhere)
    return RequestedOutput(name, _region(parameters, what)), is_binary


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = take(content, key, list, "the request")
    for entry in entries:
        if not isinstance(entry, dict):
            raise InvalidInput(f"{key!r} holds {entry!r}; objects are allowed")
    return entries


class _Tail:
    """The raw tensors behind the JSON, taken one after the other."""

    def __init__(self, body: bytes, start: int) -> None:
        self.body, self.at = body, start

    def take(self, length: int, name: str) -> int:
        """Start of the next `length` bytes."""
        start = self.at
        if start + length > len(self.body):
            raise InvalidInput(
                f"input {name!r} has binary_data_size {length}; {len(self.body) - start} bytes are left in the body"
            )
        self.at += length
        return start

    def check_empty(self) -> None:
        """Refuse bytes that belong to nothing."""
        if self.at != len(self.body):
            raise InvalidInput(
                f"{len(self.body) - self.at} bytes behind the last tensor of the body; none are allowed"
            )


def _region(parameters: Mapping[str, Any], what: str) -> Region | None:
    if "shared_memory_region" not in parameters:
        return None
    name = take(parameters, "shared_memory_region", str, what)
    size = take(parameters, "shared_memory_byte_size", int, what)
    return Region(name, size, take(parameters, "shared_memory_offset", int, what, 0))


def _input(
    entry: Mapping[str, Any], name: str, tail: _Tail, shared_memory: Callable[[], SharedMemory]
) -> np.ndarray:
    what = f"input {name!r}"
    shape, datatype = take(entry, "shape", list, what), take(entry, "datatype", str, what)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise InvalidInput(f"{what} has the shape {shape}; lengths of 0 or more are allowed")
    lengths = tuple(shape)
    dtype = checked(what, datatype, lengths)
    needed = prod(lengths) * dtype.itemsize
    parameters = take(entry, "parameters", dict, what, {})
    region = _region(parameters, what)
    if region is not None:
        array = shared_memory().view(region, dtype, lengths)
        check_bools(array, what)
        return array
    if "binary_data_size" in parameters:
        size = take(parameters, "binary_data_size", int, what)
        if size != needed:
            raise InvalidInput(
                f"{what} has binary_data_size {size}; {needed} is allowed for {datatype} {shape}"
            )
        start = tail.take(size, name)
        if not size:
            return np.zeros(lengths, dtype)
        array = np.frombuffer(tail.body, dtype, prod(lengths), start).reshape(lengths)
        check_bools(array, what)
        return array
    return _from_numbers(take(entry, "data", list, what), dtype, lengths, what)


def _from_numbers(data: list[Any], dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> np.ndarray:
    """Values of a JSON list, flat or nested."""
    try:
        array = np.array(data)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{what}: 'data' cannot be read: {error}") from error
    if array.size and array.dtype.kind not in "biuf":
        raise InvalidInput(
            f"{what}: 'data' holds other things than numbers of 64 bits, or lists of unequal length"
        )
    if array.size != prod(shape):
        raise InvalidInput(
            f"{what} has {array.size} values in 'data'; {prod(shape)} are allowed for {list(shape)}"
        )
    if array.ndim != 1 and array.shape != shape:
        raise InvalidInput(
            f"{what}: 'data' is nested as {list(array.shape)}; {list(shape)} or flat is allowed"
        )
    if array.dtype.kind == "f" and dtype.kind in "iu":
        # Long numbers, and those beside fractions, have become floats of 53 bits: each is looked at for itself.
        array = _whole(np.array(data, object), what)
    if array.size:
        _check_range(array, dtype, what)
    return array.astype(dtype).reshape(shape)


def _whole(array: np.ndarray, what: str) -> np.ndarray:
    """An array of Python's numbers, 2.0 among them, as one of Python's integers."""
    values = [int(value) if value == value // 1 else None for value in array.ravel()]
    if None in values:
        raise InvalidInput(f"{what}: 'data' holds fractions; whole numbers are allowed")
    return np.array(values, object).reshape(array.shape)


def _check_range(array: np.ndarray, dtype: np.dtype[Any], what: str) -> None:
    """Refuse what a datatype cannot hold; floats are rounded, as everywhere."""
    if dtype.kind in "iu":
        limits: Any = np.iinfo(dtype)
        lowest, highest = limits.min, limits.max
    elif dtype.kind == "b":
        lowest, highest = 0, 1
        if array.dtype.kind == "f":
            raise InvalidInput(f"{what}: 'data' holds fractions; true, false, 1 and 0 are allowed")
    else:
        limits = ml_dtypes.finfo(dtype)
        lowest, highest = float(limits.min), float(limits.max)
        # Infinities and NaN can be held; whether the model takes them is its own affair.
        array = array[np.isfinite(array)]
    if array.size and (array.min() < lowest or array.max() > highest):
        raise InvalidInput(f"{what}: 'data' goes beyond {lowest} to {highest}")


def build_infer(response: InferResponse, binary: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """(body, bytes of its JSON if raw tensors follow).

    Args:
        response: to send.
        binary: from `parse_infer`.
    """
    tail: list[bytes] = []
    outputs = [_output(output, binary.get(output.name, binary[""]), tail) for output in response.outputs]
    content: dict[str, Any] = {
        "model_name": response.model,
        "model_version": response.version,
        "outputs": outputs,
    }
    if response.id:
        content["id"] = response.id
    if response.parameters:
        content["parameters"] = response.parameters
    head = json.dumps(content).encode()
    return (b"".join([head, *tail]), len(head)) if tail else (head, None)


def _output(output: OutputTensor, is_binary: bool, tail: list[bytes]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
    if output.data is None:
        region = output.region or Region("", 0)
        entry["parameters"] = {
            "shared_memory_region": region.name,
            "shared_memory_byte_size": region.byte_size,
            "shared_memory_offset": region.offset,
        }
    elif is_binary:
        raw = output.data.tobytes()
        entry["parameters"] = {"binary_data_size": len(raw)}
        tail.append(raw)
    else:
        # JSON knows no NaN; clients read what Python writes for it.
        entry["data"] = (
            output.data.astype(np.float32 if output.datatype == "BF16" else output.data.dtype)
            .ravel()
            .tolist()
        )
    return entry
