"""The dataplane: everything that a server can be asked, once; the transports convert to and from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from serving.batching import Scheduler
from serving.errors import ArtifactError, InvalidInput, ModelNotReady, ServingError
from serving.futures import mapped
from serving.pending import Outputs, Pending
from serving.repository import LoadedModel, Repository
from serving.settings import Settings
from serving.shared_memory import SharedMemory
from serving.types import (
    CHECKSUM,
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelStatistics,
    OutputTensor,
    RequestedOutput,
    ServerMetadata,
    TensorSpec,
    name_of,
)

SERVER_NAME = "recon-serving"
PLATFORM = "jax_stablehlo"
EXTENSIONS = (
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "statistics",
    "system_shared_memory",
    "binary_tensor_data",
    "schedule_policy",
    "trace",
    "logging",
)


_Wanted = tuple[TensorSpec, RequestedOutput]


class Dataplane:
    """Answers for the models of a repository; every method raises a `ServingError` where it cannot.

    Args:
        repository: whose models are served.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.shared_memory = SharedMemory()
        self.settings = Settings()
        self._draining = False

    def live(self) -> bool:
        """Whether the server runs."""
        return True

    def ready(self) -> bool:
        """Whether it takes requests: what had to be loaded is loaded, and it is not shutting down."""
        return self.repository.is_started and not self._draining

    def server_metadata(self) -> ServerMetadata:
        """Name, version and extensions of the protocol."""
        return ServerMetadata(name=SERVER_NAME, version=_version(), extensions=EXTENSIONS)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model takes requests.

        Raises:
            ModelNotFound: there is no such model.
        """
        try:
            self.repository.get(name, version)
        except ModelNotReady:
            return False
        return self.ready()

    def model_metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Inputs and outputs of a model."""
        manifest = self.repository.get(name, version).artifact.manifest
        return ModelMetadata(
            name=name,
            versions=self.repository.versions(name),
            platform=PLATFORM,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
        )

    def model_config(self, name: str, version: str = "") -> dict[str, Any]:
        """Triton's ModelConfig as JSON; the parameter "checksum" is the sha256 of the artefact's manifest."""
        model = self.repository.get(name, version)
        manifest, checksum = model.artifact.manifest, model.artifact.checksum
        largest = manifest.max_batch_size
        kind = "KIND_CPU" if jax.default_backend() == "cpu" else "KIND_GPU"
        config: dict[str, Any] = {
            "name": name,
            "platform": PLATFORM,
            "backend": "xla",
            "version_policy": {"all": {}},
            "max_batch_size": largest,
            "input": [_config_tensor(spec, largest) for spec in manifest.inputs],
            "output": [_config_tensor(spec, largest) for spec in manifest.outputs],
            "instance_group": [{"name": f"{name}_0", "kind": kind, "count": model.scheduler.instances}],
            "parameters": {"checksum": {"string_value": checksum}},
            # Where CMSSW's client looks for it.
            "model_repository_agents": {
                "agents": [{"name": "checksum", "parameters": {"manifest.json": checksum}}]
            },
        }
        if largest:
            sizes = sorted(bucket.sizes[manifest.axes[0]] for bucket in manifest.buckets)
            policy = {"max_queue_size": model.scheduler.limit}
            config["dynamic_batching"] = {"preferred_batch_size": sizes, "default_queue_policy": policy}
        return config

    def statistics(self, name: str = "", version: str = "") -> list[ModelStatistics]:
        """What models have done; of all if none is named."""
        models = self.repository.loaded()
        if name:
            chosen = [version] if version else self.repository.versions(name)
            models = [self.repository.get(name, number) for number in chosen] or [self.repository.get(name)]
        return [
            model.statistics.snapshot(manifest.name, manifest.version, model.scheduler.pending)
            for model in models
            for manifest in [model.artifact.manifest]
        ]

    def infer(self, request: InferRequest) -> InferResponse:
        """Answer a request on the calling thread."""
        model, wanted = self._prepare(request)
        outputs = model.scheduler.infer(request.inputs, request.priority, request.deadline, request.is_wanted)
        return self._response(request, model, wanted, outputs)

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        """Answer a request later; cancelling the future takes the request out of its queue."""
        model, wanted = self._prepare(request)
        inner = model.scheduler.submit(request.inputs, request.priority, request.deadline)
        return mapped(inner, lambda outputs: self._response(request, model, wanted, outputs))

    def enqueue(
        self, request: InferRequest, end: Callable[[InferResponse | Exception], None]
    ) -> tuple[Scheduler, Pending]:
        """Queue a request of an event loop; see `Scheduler.enqueue` and `Scheduler.kick`.

        Args:
            request: to be answered.
            end: called with the answer or its error, on any thread.
        """
        model, wanted = self._prepare(request)

        def finish(outputs: Outputs, error: Exception | None) -> None:
            try:
                answer = error or self._response(request, model, wanted, outputs)
            except Exception as wrong:  # such as a region that is gone
                answer = wrong
            end(answer)

        pending = model.scheduler.enqueue(
            request.inputs, finish, request.priority, request.deadline, request.is_wanted
        )
        return model.scheduler, pending

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Models in the repository."""
        return self.repository.index(ready_only=ready_only)

    def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Load a model, or load it again if it has changed."""
        self.repository.load(name, parameters)

    def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        """Unload a model; no model depends on another here, so `unload_dependents` changes nothing."""
        self.repository.unload(name)

    def drain(self, timeout: float) -> bool:
        """Say "not ready", refuse new requests, answer those that are here; whether all were answered in time."""
        self._draining = True
        deadline = time.monotonic() + timeout
        answered = self.repository.close(timeout)
        self.shared_memory.unregister("")
        return answered and time.monotonic() <= deadline

    def _prepare(self, request: InferRequest) -> tuple[LoadedModel, Sequence[_Wanted]]:
        if self._draining:
            raise ModelNotReady("the server is shutting down")
        if request.priority < 0:
            raise InvalidInput(f"parameter 'priority' is {request.priority}; 0 (default) or more is allowed")
        model = self.repository.get(request.model, request.version)
        expected = request.parameters.get(CHECKSUM)
        if expected is not None and expected != model.artifact.checksum:
            # A session cannot see that a server was replaced between two of its calls.
            raise ArtifactError(
                f"model {request.model!r} has the checksum {model.artifact.checksum}; the caller expects {expected!r}"
            )
        if not request.outputs:
            return model, model.all_outputs
        specs = model.outputs
        unknown = [output.name for output in request.outputs if output.name not in specs]
        if unknown:
            raise InvalidInput(
                f"model {request.model!r} has no output {unknown[0]!r}; the outputs are {list(specs)}"
            )
        return model, [(specs[output.name], output) for output in request.outputs]

    def _response(
        self,
        request: InferRequest,
        model: LoadedModel,
        wanted: Sequence[_Wanted],
        outputs: Outputs,
    ) -> InferResponse:
        manifest = model.artifact.manifest
        tensors = [self._tensor(spec, asked, outputs[spec.name]) for spec, asked in wanted]
        return InferResponse(model=manifest.name, version=manifest.version, id=request.id, outputs=tensors)

    def _tensor(self, spec: TensorSpec, asked: RequestedOutput, array: np.ndarray) -> OutputTensor:
        if array.dtype != spec.dtype:
            raise ServingError(
                f"output {spec.name!r} is {name_of(array.dtype)}, the manifest says {spec.datatype}"
            )
        if asked.region is None:
            data = np.ascontiguousarray(array)
            return OutputTensor(name=spec.name, datatype=spec.datatype, shape=array.shape, data=data)
        self.shared_memory.place(asked.region, array)
        return OutputTensor(name=spec.name, datatype=spec.datatype, shape=array.shape, region=asked.region)


def _config_tensor(spec: TensorSpec, max_batch_size: int) -> dict[str, Any]:
    """Triton leaves the batch axis out where a model has one."""
    kind = {"BF16": "TYPE_BF16"}.get(spec.datatype, f"TYPE_{spec.datatype}")
    return {"name": spec.name, "data_type": kind, "dims": list(spec.dims[1 if max_batch_size else 0 :])}


def _version() -> str:
    try:
        return version("recon-hep")
    except PackageNotFoundError:
        return "unknown"
