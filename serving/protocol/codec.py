"""ModelInfer on the wire and as arrays, without a protobuf object around the numbers.

The description of a tensor is parsed once and found again by its bytes; its raw contents are views of the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from serving.errors import InvalidInput
from serving.protocol.messages import message
from serving.protocol.tensors import (
    LONGEST_KEPT,
    Tensor,
    check_bools,
    describe,
    parameter_values,
    parse,
    raw_array,
    region_of,
    set_values,
    typed_array,
)
from serving.protocol.wire import DELIMITED, fields, varint
from serving.shared_memory import SharedMemory
from serving.types import (
    CHECKSUM,
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


def _requested(content: bytes) -> RequestedOutput:
    return _kept_requested(content) if len(content) <= LONGEST_KEPT else _parse_requested(content)


def _parse_requested(content: bytes) -> RequestedOutput:
    output = parse(message("ModelInferRequest").InferRequestedOutputTensor, content, "a requested output")
    if parameter_values(output.parameters).get("classification"):
        raise InvalidInput(f"output {output.name!r}: classification is not offered; ask for the scores")
    return RequestedOutput(output.name, region_of(output.parameters, f"output {output.name!r}"))


_kept_requested = lru_cache(maxsize=4096)(_parse_requested)


def parse_request(data: bytes, shared_memory: Callable[[], SharedMemory]) -> InferRequest:
    """A ModelInferRequest.

    Args:
        data: the message; inputs are read-only views of it.
        shared_memory: gives the server's regions, or raises where this caller may not use them.

    Raises:
        InvalidInput: names the field, what was given and what is allowed.
    """
    texts = {MODEL: "", VERSION: "", ID: ""}
    tensors: list[Tensor] = []
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
            tensors.append(describe(data[start:end], "input"))
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
        set_parameters(request, _parameters(data))
    return request


def _text(content: bytes, number: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"field {number} of the request is no UTF-8 text: {error.reason}") from error


def _parameters(data: bytes) -> dict[str, Any]:
    """The parameters of a request or an answer, which have the same place in both."""
    content = b"".join(
        b"\x22" + varint(end - start) + data[start:end]
        for number, kind, start, end in fields(data)
        if number == PARAMETERS and kind == DELIMITED
    )
    return dict(_values(content) if len(content) <= LONGEST_KEPT else _values.__wrapped__(content))


@lru_cache(maxsize=256)
def _values(content: bytes) -> dict[str, Any]:
    """The values of parameters: those of a session are the same in every request."""
    return parameter_values(parse(message("ModelInferRequest"), content, "the parameters").parameters)


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
    tensors: Sequence[Tensor],
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
            arrays[tensor.name] = _shared(tensor, shared_memory())
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
            arrays[tensor.name] = raw_array(data, tensor, *place)
        else:
            arrays[tensor.name] = typed_array(tensor)
    left = sum(1 for _ in places)
    if left:
        raise InvalidInput(f"raw_input_contents has {len(raw)} entries; {len(raw) - left} are allowed")
    return arrays


def _shared(tensor: Tensor, memory: SharedMemory) -> np.ndarray:
    if tensor.contents is not None:
        raise InvalidInput(f"{tensor.what} has typed contents beside shared memory; one is allowed")
    if tensor.region is None:
        raise InvalidInput(f"{tensor.what} names no shared-memory region")
    array = memory.view(tensor.region, tensor.dtype, tensor.shape)
    check_bools(array, tensor.what)
    return array


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
        parts.append(_parameter_fields(response.parameters))
    parts += [_output_header(o.name, o.datatype, o.shape, o.region) for o in response.outputs]
    for output in response.outputs:
        parts += _delimited(RESPONSE_RAW, b"" if output.data is None else _bytes_of(output.data))
    return b"".join(parts)


def _parameter_fields(values: Mapping[str, Any], priority: int = 0) -> bytes:
    """Parameters of a request or an answer."""
    holder = message("ModelInferRequest")()
    set_values(holder.parameters, values)
    if priority:
        holder.parameters["priority"].uint64_param = priority
    content: bytes = holder.SerializeToString()
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


@lru_cache(maxsize=64)
def _checksum_field(checksum: str) -> bytes:
    return _parameter_fields({CHECKSUM: checksum})


def build_request(
    request: InferRequest, regions: Mapping[str, Region] | None = None, checksum: str = ""
) -> bytes:
    """A ModelInferRequest with raw contents.

    Args:
        request: what to send.
        regions: inputs that lie in shared memory already.
        checksum: of the artefact that must answer; empty for any.
    """
    regions = regions or {}
    parts: list[bytes | memoryview] = [_texts(request.model, request.version)]
    if request.id:
        parts += _delimited(ID, request.id.encode())
    if request.priority or request.parameters:
        parts.append(_parameter_fields(request.parameters, request.priority))
    if checksum:
        parts.append(_checksum_field(checksum))
    parts += [_input_header(name, a.dtype, a.shape, regions.get(name)) for name, a in request.inputs.items()]
    parts += [_requested_header(output) for output in request.outputs]
    for name, array in request.inputs.items():
        if name not in regions:
            parts += _delimited(RAW, _bytes_of(array))
    return b"".join(parts)


def parse_response(data: bytes, asked: Iterable[RequestedOutput] = ()) -> InferResponse:
    """A ModelInferResponse; outputs are read-only views of the message.

    Args:
        data: the message.
        asked: outputs of the request: where a server does not repeat the region that it wrote to.

    Raises:
        InvalidInput: it is none.
    """
    texts = {MODEL: "", VERSION: "", ID: ""}
    tensors: list[Tensor] = []
    raw: list[tuple[int, int]] = []
    has_parameters = False
    for number, kind, start, end in fields(data):
        if kind != DELIMITED:
            continue
        if number == RESPONSE_OUTPUTS:
            tensors.append(describe(data[start:end], "output"))
        elif number == RESPONSE_RAW:
            raw.append((start, end))
        elif number == PARAMETERS:
            has_parameters = True
        elif number in texts:
            texts[number] = _text(data[start:end], number)
    if raw and len(tensors) != len(raw):
        raise InvalidInput(
            f"the answer has {len(tensors)} outputs and {len(raw)} raw contents; equal numbers are allowed"
        )
    regions = {output.name: output.region for output in asked}
    # Other servers answer with typed contents, then for all outputs.
    places: list[tuple[int, int] | None] = [*raw] if raw else [None] * len(tensors)
    return InferResponse(
        model=texts[MODEL],
        version=texts[VERSION],
        id=texts[ID],
        outputs=[
            _output(data, tensor, place, regions.get(tensor.name))
            for tensor, place in zip(tensors, places, strict=True)
        ],
        parameters=_parameters(data) if has_parameters else {},
    )


def _output(data: bytes, tensor: Tensor, place: tuple[int, int] | None, asked: Region | None) -> OutputTensor:
    """An output of an answer."""
    region, array = tensor.region, None
    if region is None and asked is not None and tensor.contents is None and prod(tensor.shape) > 0:
        region = asked if place is None or place[0] == place[1] else None
    if region is None:
        array = typed_array(tensor) if place is None else raw_array(data, tensor, *place)
    return OutputTensor(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, data=array, region=region
    )
