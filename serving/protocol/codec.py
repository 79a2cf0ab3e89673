"""ModelInfer on the wire and as arrays, without a protobuf object around the numbers.

Raw contents are views of the message; the description of a tensor is parsed once and found again by its bytes. Typed
contents, which few clients send, go through protobuf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from serving.errors import InvalidInput
from serving.protocol.messages import message
from serving.protocol.wire import DELIMITED, fields, varint
from serving.shared_memory import SharedMemory
from serving.types import (
    DATATYPES,
    NAMES,
    InferRequest,
    InferResponse,
    OutputTensor,
    Region,
    RequestedOutput,
)

MODEL, VERSION, ID, PARAMETERS, INPUTS, OUTPUTS, RAW = 1, 2, 3, 4, 5, 6, 7
"""Fields of ModelInferRequest; the response has its outputs in 5 and their bytes in 6."""
RESPONSE_OUTPUTS, RESPONSE_RAW = 5, 6

MAX_BYTES = 2**31 - 1
"""Longest message that protobuf allows."""

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


class _Tensor(NamedTuple):
    """What a message says about a tensor, apart from its values."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    region: Region | None
    contents: Any


@lru_cache(maxsize=4096)
def _described(content: bytes) -> _Tensor:
    """An InferInputTensor, or an InferOutputTensor, which looks the same."""
    tensor = _parse(message("ModelInferRequest").InferInputTensor, content, "an input tensor")
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    if datatype == "BYTES":
        raise InvalidInput(
            f"input {name!r} has the datatype BYTES; compiled models take numbers: {', '.join(DATATYPES)}"
        )
    if datatype not in DATATYPES:
        raise InvalidInput(
            f"input {name!r} has the datatype {datatype!r}; allowed are {', '.join(DATATYPES)}"
        )
    dtype = DATATYPES[datatype]
    if any(length < 0 for length in shape):
        raise InvalidInput(f"input {name!r} has the shape {list(shape)}; lengths of 0 or more are allowed")
    if prod(shape) * dtype.itemsize > MAX_BYTES:
        raise InvalidInput(
            f"input {name!r} of shape {list(shape)} has {prod(shape) * dtype.itemsize} bytes; {MAX_BYTES} are allowed"
        )
    contents = tensor.contents if tensor.HasField("contents") else None
    return _Tensor(name, datatype, dtype, shape, region_of(tensor.parameters, f"input {name!r}"), contents)


def _parse(kind: Any, content: bytes, what: str) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidInput(f"{what} is no protobuf message: {error}") from error


def parameter_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """InferParameter messages as values."""
    found = {}
    for key, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[key] = getattr(value, choice) if choice else None
    return found


def region_of(parameters: Mapping[str, Any], what: str) -> Region | None:
    """The shared-memory region that the parameters of a tensor name."""
    values = parameter_values(parameters)
    name = values.get("shared_memory_region")
    if name is None:
        return None
    size, offset = values.get("shared_memory_byte_size"), values.get("shared_memory_offset", 0)
    if not (
        isinstance(name, str) and isinstance(size, int) and isinstance(offset, int) and size >= 0 <= offset
    ):
        raise InvalidInput(
            f"{what}: shared_memory_region {name!r}, shared_memory_byte_size {size!r}, "
            f"shared_memory_offset {offset!r}; a text and two numbers of 0 or more are allowed"
        )
    return Region(name, size, offset)


@lru_cache(maxsize=4096)
def _requested(content: bytes) -> RequestedOutput:
    output = _parse(message("ModelInferRequest").InferRequestedOutputTensor, content, "a requested output")
    if parameter_values(output.parameters).get("classification"):
        raise InvalidInput(f"output {output.name!r}: classification is not offered; ask for the scores")
    return RequestedOutput(output.name, region_of(output.parameters, f"output {output.name!r}"))


def parse_request(data: bytes, shared_memory: Callable[[], SharedMemory]) -> InferRequest:
    """A ModelInferRequest.

    Args:
        data: the message; inputs are read-only views of it.
        shared_memory: gives the server's regions, or raises where this caller may not use them.

    Raises:
        InvalidInput: names the field, what was given and what is allowed.
    """
    texts = {MODEL: "", VERSION: "", ID: ""}
    tensors: list[_Tensor] = []
    outputs: list[RequestedOutput] = []
    raw: list[tuple[int, int]] = []
    has_parameters = False
    for number, kind, start, end in fields(data):
        if number > RAW:
            continue
        if kind != DELIMITED:
            raise InvalidInput(f"field {number} of the request has wire type {kind}; {DELIMITED} is allowed")
        if number == RAW:
            raw.append((start, end))
        elif number == INPUTS:
            tensors.append(_described(data[start:end]))
        elif number == OUTPUTS:
            outputs.append(_requested(data[start:end]))
        elif number == PARAMETERS:
            has_parameters = True
        else:
            texts[number] = _text(data[start:end], number)
    if any(output.region is not None for output in outputs):
        shared_memory()
    request = InferRequest(
        model=texts[MODEL],
        version=texts[VERSION],
        id=texts[ID],
        inputs=_arrays(data, tensors, raw, shared_memory),
        outputs=tuple(outputs),
    )
    if has_parameters:
        _set_parameters(request, data)
    return request


def _text(content: bytes, number: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"field {number} of the request is no UTF-8 text: {error.reason}") from error


def _set_parameters(request: InferRequest, data: bytes) -> None:
    content = b"".join(
        b"\x22" + varint(end - start) + data[start:end]
        for number, _, start, end in fields(data)
        if number == PARAMETERS
    )
    parameters = _parse(message("ModelInferRequest"), content, "the parameters").parameters
    set_parameters(request, parameter_values(parameters))


def set_parameters(request: InferRequest, values: dict[str, Any]) -> None:
    """Take over the parameters of a request, of which "priority" has a meaning here.

    Raises:
        InvalidInput: it is not a number of 0 or more.
    """
    priority = values.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        raise InvalidInput(f"parameter 'priority' is {priority!r}; a whole number of 0 or more is allowed")
    request.priority, request.parameters = priority, values


def _arrays(
    data: bytes,
    tensors: Sequence[_Tensor],
    raw: Sequence[tuple[int, int]],
    shared_memory: Callable[[], SharedMemory],
) -> dict[str, np.ndarray]:
    """The inputs; raw contents belong to the tensors in their order, without those in shared memory."""
    arrays: dict[str, np.ndarray] = {}
    places = iter(raw)
    for tensor in tensors:
        if tensor.name in arrays:
            raise InvalidInput(f"input {tensor.name!r} is given twice")
        if tensor.region is not None:
            arrays[tensor.name] = shared_memory().view(tensor.region, tensor.dtype, tensor.shape)
        elif raw:
            place = next(places, None)
            if place is None:
                raise InvalidInput(
                    f"raw_input_contents has {len(raw)} entries, none for input {tensor.name!r}"
                )
            if tensor.contents is not None:
                raise InvalidInput(
                    f"input {tensor.name!r} has typed contents beside raw_input_contents; one is allowed"
                )
            arrays[tensor.name] = _raw(data, tensor, *place)
        else:
            arrays[tensor.name] = _typed(tensor)
    left = sum(1 for _ in places)
    if left:
        raise InvalidInput(f"raw_input_contents has {len(raw)} entries; {len(raw) - left} are allowed")
    return arrays


def _raw(data: bytes, tensor: _Tensor, start: int, end: int) -> np.ndarray:
    count = prod(tensor.shape)
    needed = count * tensor.dtype.itemsize
    if end - start != needed:
        raise InvalidInput(
            f"input {tensor.name!r} has {end - start} bytes in raw_input_contents; "
            f"{needed} are allowed for {tensor.datatype} {list(tensor.shape)}"
        )
    if count == 0:
        return np.zeros(tensor.shape, tensor.dtype)
    return np.frombuffer(data, tensor.dtype, count, start).reshape(tensor.shape)


def _typed(tensor: _Tensor) -> np.ndarray:
    field = TYPED.get(tensor.datatype)
    if field is None:
        raise InvalidInput(f"input {tensor.name!r}: {tensor.datatype} is allowed in raw_input_contents only")
    values = getattr(tensor.contents, field) if tensor.contents is not None else []
    if len(values) != prod(tensor.shape):
        raise InvalidInput(
            f"input {tensor.name!r} has {len(values)} values in {field}; "
            f"{prod(tensor.shape)} are allowed for shape {list(tensor.shape)}"
        )
    try:
        return np.array(list(values), tensor.dtype).reshape(tensor.shape)
    except OverflowError as error:
        raise InvalidInput(
            f"input {tensor.name!r}: a value does not fit into {tensor.datatype}: {error}"
        ) from error


def _delimited(number: int, content: bytes | memoryview) -> tuple[bytes, bytes | memoryview]:
    return varint(number << 3 | DELIMITED) + varint(len(content)), content


def _bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of an array without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@lru_cache(maxsize=4096)
def _output_header(name: str, datatype: str, shape: tuple[int, ...], region: Region | None) -> bytes:
    output = message("ModelInferResponse").InferOutputTensor(name=name, datatype=datatype, shape=shape)
    if region is not None:
        _set_region(output.parameters, region)
    return b"".join(_delimited(RESPONSE_OUTPUTS, output.SerializeToString()))


def _set_region(parameters: Any, region: Region) -> None:
    parameters["shared_memory_region"].string_param = region.name
    parameters["shared_memory_byte_size"].int64_param = region.byte_size
    if region.offset:
        parameters["shared_memory_offset"].int64_param = region.offset


@lru_cache(maxsize=1024)
def _texts(model: str, version: str) -> bytes:
    return b"".join([*_delimited(MODEL, model.encode()), *_delimited(VERSION, version.encode())])


def build_response(response: InferResponse) -> bytes:
    """A ModelInferResponse: raw contents for every output, empty for one in shared memory (C++ clients count on it)."""
    parts: list[bytes | memoryview] = [_texts(response.model, response.version)]
    if response.id:
        parts += _delimited(ID, response.id.encode())
    if response.parameters:
        parts.append(_response_parameters(response.parameters))
    parts += [_output_header(o.name, o.datatype, o.shape, o.region) for o in response.outputs]
    for output in response.outputs:
        parts += _delimited(RESPONSE_RAW, b"" if output.data is None else _bytes_of(output.data))
    return b"".join(parts)


def _response_parameters(values: Mapping[str, Any]) -> bytes:
    response = message("ModelInferResponse")()
    for key, value in values.items():
        kind = (
            "bool_param"
            if isinstance(value, bool)
            else "int64_param"
            if isinstance(value, int)
            else "string_param"
        )
        setattr(response.parameters[key], kind, value)
    content: bytes = response.SerializeToString()
    return content


@lru_cache(maxsize=4096)
def _input_header(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], region: Region | None) -> bytes:
    if dtype not in NAMES:
        raise InvalidInput(f"input {name!r} is {dtype}; allowed are {', '.join(DATATYPES)}")
    tensor = message("ModelInferRequest").InferInputTensor(name=name, datatype=NAMES[dtype], shape=shape)
    if region is not None:
        _set_region(tensor.parameters, region)
    return b"".join(_delimited(INPUTS, tensor.SerializeToString()))


@lru_cache(maxsize=4096)
def _requested_header(output: RequestedOutput) -> bytes:
    asked = message("ModelInferRequest").InferRequestedOutputTensor(name=output.name)
    if output.region is not None:
        _set_region(asked.parameters, output.region)
    return b"".join(_delimited(OUTPUTS, asked.SerializeToString()))


def build_request(request: InferRequest, regions: Mapping[str, Region] | None = None) -> bytes:
    """A ModelInferRequest with raw contents.

    Args:
        request: what to send.
        regions: inputs that lie in shared memory already.
    """
    regions = regions or {}
    parts: list[bytes | memoryview] = [_texts(request.model, request.version)]
    if request.id:
        parts += _delimited(ID, request.id.encode())
    if request.priority:
        priority = message("ModelInferRequest")()
        priority.parameters["priority"].uint64_param = request.priority
        parts.append(priority.SerializeToString())
    parts += [_input_header(name, a.dtype, a.shape, regions.get(name)) for name, a in request.inputs.items()]
    parts += [_requested_header(output) for output in request.outputs]
    for name, array in request.inputs.items():
        if name not in regions:
            parts += _delimited(RAW, _bytes_of(array))
    return b"".join(parts)


def parse_response(data: bytes) -> InferResponse:
    """A ModelInferResponse; outputs are read-only views of the message.

    Raises:
        InvalidInput: it is none.
    """
    texts = {MODEL: "", VERSION: "", ID: ""}
    tensors: list[_Tensor] = []
    raw: list[tuple[int, int]] = []
    for number, kind, start, end in fields(data):
        if kind != DELIMITED:
            continue
        if number == RESPONSE_OUTPUTS:
            tensors.append(_described(data[start:end]))
        elif number == RESPONSE_RAW:
            raw.append((start, end))
        elif number in texts:
            texts[number] = _text(data[start:end], number)
    if len(tensors) != len(raw):
        raise InvalidInput(
            f"the answer has {len(tensors)} outputs and {len(raw)} raw contents; equal numbers are allowed"
        )
    outputs = []
    for tensor, place in zip(tensors, raw, strict=True):
        array = None if tensor.region is not None else _raw(data, tensor, *place)
        outputs.append(
            OutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tensor.shape,
                data=array,
                region=tensor.region,
            )
        )
    return InferResponse(model=texts[MODEL], version=texts[VERSION], id=texts[ID], outputs=outputs)
