"""What travels between the transports and the dataplane, in the words of the KServe v2 protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""KServe's names of datatypes; BYTES is not among them, no compiled program takes strings."""

NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DATATYPES.items()}


def name_of(dtype: np.dtype[Any]) -> str:
    """KServe's name of a type, or NumPy's if it has none there."""
    return NAMES.get(dtype, str(dtype))


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: as clients write it.
        datatype: KServe's name, a key of `DATATYPES`.
        shape: lengths; a string names an axis of free length, and equal names mean equal lengths.
        index_of: the values are rows of this axis: they are shifted when requests are joined.
        finite: whether NaN and infinities are refused.
        is_sorted: whether values that fall are refused.
        limits: smallest and largest value that is allowed.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    index_of: str | None = None
    finite: bool = False
    is_sorted: bool = False
    limits: tuple[int, int] | None = None

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type."""
        return DATATYPES[self.datatype]

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape as the protocol writes it: -1 for a free axis."""
        return tuple(-1 if isinstance(length, str) else length for length in self.shape)

    def padded(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with the lengths of a bucket on its free axes."""
        return tuple(sizes[length] if isinstance(length, str) else length for length in self.shape)


CHECKSUM = "artifact_checksum"
"""Parameter of a request: sha256 of the manifest of the artefact that must answer, and no other."""


class Region(NamedTuple):
    """A place in a registered shared-memory region.

    Attributes:
        name: of the region.
        byte_size: of the tensor's place.
        offset: of the tensor in the region, bytes.
    """

    name: str
    byte_size: int
    offset: int = 0


class RequestedOutput(NamedTuple):
    """An output that the caller wants.

    Attributes:
        name: of the output.
        region: where to put it; `None` sends it in the answer.
    """

    name: str
    region: Region | None = None


@dataclass(slots=True, kw_only=True)
class InferRequest:
    """One call.

    Attributes:
        model: name of the model.
        version: empty for the newest.
        id: given back in the answer.
        inputs: arrays by name, read only; an array may be a view of the message or of shared memory.
        outputs: empty for all.
        priority: 1 is the most urgent; 0 is the default level.
        deadline: on the clock of `time.monotonic`; `None` waits for ever.
        parameters: whatever else the caller sent.
        is_wanted: asked before the request runs; false if the caller is gone.
    """

    model: str
    version: str = ""
    id: str = ""
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()
    priority: int = 0
    deadline: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    is_wanted: Callable[[], bool] | None = None


@dataclass(slots=True, kw_only=True)
class OutputTensor:
    """One output of an answer.

    Attributes:
        name: of the output.
        datatype: KServe's name.
        shape: of the tensor.
        data: the values, C-contiguous; `None` where they lie in shared memory.
        region: where they lie instead.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    region: Region | None = None


@dataclass(slots=True, kw_only=True)
class InferResponse:
    """One answer.

    Attributes:
        model: name of the model.
        version: that answered.
        id: of the request.
        outputs: in the order they were asked for.
        parameters: of the answer.
    """

    model: str
    version: str
    id: str = ""
    outputs: list[OutputTensor] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """The outputs that came with the answer, by name."""
        return {output.name: output.data for output in self.outputs if output.data is not None}


@dataclass(frozen=True, kw_only=True)
class ServerMetadata:
    """Who answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One version of a model in the repository; `state` is "READY", "LOADING", "UNLOADING" or "UNAVAILABLE"."""

    name: str
    version: str
    state: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class SharedMemoryStatus:
    """A registered region."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchStatistics:
    """Executions of one batch size."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


@dataclass(frozen=True, kw_only=True)
class ModelStatistics:
    """What a version of a model has done since it was loaded.

    Attributes:
        name: of the model.
        version: of the model.
        last_inference: milliseconds since the epoch; 0 for never.
        inference_count: inferences: rows of a batch, or requests of a model that takes one at a time.
        execution_count: runs of the compiled program.
        success: answered requests, from arrival to answer.
        fail: failed requests by reason ("REJECTED", "CANCELED", "BACKEND", "OTHER").
        queue: time that requests waited.
        compute_input: checking, joining and padding.
        compute_infer: running.
        compute_output: cutting apart.
        batches: by batch size.
        pending: requests in the queue now.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    success: Duration
    fail: dict[str, Duration]
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    batches: tuple[BatchStatistics, ...]
    pending: int

    @property
    def failed(self) -> Duration:
        """Failed requests, whatever the reason."""
        return Duration(sum(d.count for d in self.fail.values()), sum(d.ns for d in self.fail.values()))
