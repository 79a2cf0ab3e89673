"""The RPCs of `inference.GRPCInferenceService`: convert, ask the dataplane, convert back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from serving.dataplane import Dataplane
from serving.errors import InvalidInput, PermissionDenied, Unimplemented
from serving.grpc_calls import Context, deadline_of, is_local, text_of
from serving.protocol.codec import build_response, parse_request
from serving.protocol.messages import message
from serving.protocol.tensors import parameter_values
from serving.shared_memory import SharedMemory
from serving.types import BatchStatistics, Duration, InferRequest, ModelStatistics, TensorSpec


class Handlers:
    """One method an RPC; each takes (request, context) and returns its answer.

    Args:
        dataplane: that answers.
    """

    def __init__(self, dataplane: Dataplane) -> None:
        self.dataplane = dataplane

    def infer(self, data: bytes, context: Context) -> bytes:
        """ModelInfer on the bytes of its messages."""
        return build_response(self.dataplane.infer(self.request(data, context)))

    def request(self, data: bytes, context: Context) -> InferRequest:
        """What a ModelInferRequest asks for, and until when.

        Args:
            data: the message; inputs are read-only views of it.
            context: of the call.
        """
        request = parse_request(data, lambda: self._memory(context))
        request.deadline = deadline_of(context, request.parameters.get("timeout"))
        request.is_wanted = context.is_active
        return request

    def stream(self, requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
        """ModelStreamInfer: an answer for every request, in their order; an error does not end the stream."""
        for data in requests:
            found: bytes | Exception
            try:
                found = self.infer(data, context)
            except Exception as error:
                found = error
            yield stream_answer(data, found)

    def _memory(self, context: Context) -> SharedMemory:
        """The registered regions, for callers on this host."""
        if not is_local(context):
            raise PermissionDenied(
                f"shared memory is for callers on this host; the call came from {context.peer()}"
            )
        return self.dataplane.shared_memory

    def ServerLive(self, request: Any, context: Context) -> Any:
        return message("ServerLiveResponse")(live=self.dataplane.live())

    def ServerReady(self, request: Any, context: Context) -> Any:
        return message("ServerReadyResponse")(ready=self.dataplane.ready())

    def ModelReady(self, request: Any, context: Context) -> Any:
        return message("ModelReadyResponse")(ready=self.dataplane.model_ready(request.name, request.version))

    def ServerMetadata(self, request: Any, context: Context) -> Any:
        found = self.dataplane.server_metadata()
        return message("ServerMetadataResponse")(
            name=found.name, version=found.version, extensions=found.extensions
        )

    def ModelMetadata(self, request: Any, context: Context) -> Any:
        found = self.dataplane.model_metadata(request.name, request.version)
        return message("ModelMetadataResponse")(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=map(_tensor_metadata, found.inputs),
            outputs=map(_tensor_metadata, found.outputs),
        )

    def ModelConfig(self, request: Any, context: Context) -> Any:
        config = {"config": self.dataplane.model_config(request.name, request.version)}
        return json_format.ParseDict(config, message("ModelConfigResponse")())

    def ModelStatistics(self, request: Any, context: Context) -> Any:
        found = self.dataplane.statistics(request.name, request.version)
        return message("ModelStatisticsResponse")(model_stats=map(_statistics, found))

    def RepositoryIndex(self, request: Any, context: Context) -> Any:
        answer = message("RepositoryIndexResponse")()
        for entry in self.dataplane.index(ready_only=request.ready):
            answer.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
        return answer

    def RepositoryModelLoad(self, request: Any, context: Context) -> Any:
        self._check_repository(request.repository_name)
        self.dataplane.load(request.model_name, parameter_values(request.parameters))
        return message("RepositoryModelLoadResponse")()

    def RepositoryModelUnload(self, request: Any, context: Context) -> Any:
        self._check_repository(request.repository_name)
        values = parameter_values(request.parameters)
        self.dataplane.unload(request.model_name, unload_dependents=bool(values.get("unload_dependents")))
        return message("RepositoryModelUnloadResponse")()

    def _check_repository(self, name: str) -> None:
        if name:
            raise InvalidInput(f"repository_name {name!r}; the server has one repository, leave it empty")

    def SystemSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        answer = message("SystemSharedMemoryStatusResponse")()
        for region in self._memory(context).status(request.name):
            entry = answer.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return answer

    def SystemSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        self._memory(context).register(request.name, request.key, request.byte_size, request.offset)
        return message("SystemSharedMemoryRegisterResponse")()

    def SystemSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        self._memory(context).unregister(request.name)
        return message("SystemSharedMemoryUnregisterResponse")()

    def CudaSharedMemoryStatus(self, request: Any, context: Context) -> Any:
        return message("CudaSharedMemoryStatusResponse")()

    def CudaSharedMemoryRegister(self, request: Any, context: Context) -> Any:
        raise Unimplemented("CUDA shared memory is not offered; system shared memory is")

    def CudaSharedMemoryUnregister(self, request: Any, context: Context) -> Any:
        return message("CudaSharedMemoryUnregisterResponse")()

    def TraceSetting(self, request: Any, context: Context) -> Any:
        self._check_model(request.model_name)
        settings = self.dataplane.settings.trace(
            {name: list(v.value) for name, v in request.settings.items()}
        )
        answer = message("TraceSettingResponse")()
        for name, value in settings.items():
            answer.settings[name].value.extend(value)
        return answer

    def _check_model(self, name: str) -> None:
        if name:
            self.dataplane.repository.get(name)

    def LogSettings(self, request: Any, context: Context) -> Any:
        changes = parameter_values(request.settings)
        answer = message("LogSettingsResponse")()
        for name, value in self.dataplane.settings.log(changes).items():
            kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(answer.settings[name], kind, value)
        return answer


def stream_answer(data: bytes, found: bytes | Exception) -> bytes:
    """A ModelStreamInferResponse.

    Args:
        data: the request.
        found: its ModelInferResponse, or what went wrong.
    """
    answer = message("ModelStreamInferResponse")()
    if isinstance(found, Exception):
        answer.error_message = text_of(found)
        answer.infer_response.id = _id_of(data)
    else:
        answer.infer_response.MergeFromString(found)
    answer.infer_response.parameters["triton_final_response"].bool_param = True
    content: bytes = answer.SerializeToString()
    return content


def _id_of(data: bytes) -> str:
    """The id of a request that failed, so that the caller can tell which."""
    try:
        return str(message("ModelInferRequest").FromString(data).id)
    except DecodeError:
        return ""


def _tensor_metadata(spec: TensorSpec) -> Any:
    return message("ModelMetadataResponse").TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.dims
    )


def _duration(duration: Duration) -> Any:
    return message("StatisticDuration")(count=duration.count, ns=duration.ns)


def _statistics(found: ModelStatistics) -> Any:
    infer = message("InferStatistics")(
        success=_duration(found.success),
        fail=_duration(found.failed),
        queue=_duration(found.queue),
        compute_input=_duration(found.compute_input),
        compute_infer=_duration(found.compute_infer),
        compute_output=_duration(found.compute_output),
    )
    return message("ModelStatistics")(
        name=found.name,
        version=found.version,
        last_inference=found.last_inference,
        inference_count=found.inference_count,
        execution_count=found.execution_count,
        inference_stats=infer,
        batch_stats=map(_batch, found.batches),
    )


def _batch(found: BatchStatistics) -> Any:
    return message("InferBatchStatistics")(
        batch_size=found.batch_size,
        compute_input=_duration(found.compute_input),
        compute_infer=_duration(found.compute_infer),
        compute_output=_duration(found.compute_output),
    )
