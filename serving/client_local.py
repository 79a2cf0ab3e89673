"""The embedded server: the dataplane in the caller's own process."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from serving.client_check import Description, check_same
from serving.errors import ArtifactError
from serving.futures import mapped
from serving.manifest import MANIFEST_FILE, from_json, versions_in
from serving.retry import Arrays
from serving.types import InferRequest, InferResponse, ModelMetadata

if TYPE_CHECKING:
    from serving.dataplane import Dataplane

CLOSE_SECONDS = 10.0


class LocalEndpoint:
    """Answers from a model repository, loaded and compiled at the first use.

    Args:
        root: the repository.
        model: name of the model.
        version: of the model; empty for the newest.
        timeout: seconds a try may wait in the queue.
        checksum: of the artefact to take, whatever its version.
        is_fallback: whether servers are asked first.

    Raises:
        ArtifactError: the repository has no such artefact.
    """

    is_verified = True

    def __init__(
        self,
        root: Path,
        *,
        model: str,
        version: str = "",
        timeout: float | None = None,
        checksum: str = "",
        is_fallback: bool = False,
    ) -> None:
        self.name = f"local:{root}"
        self.is_fallback = is_fallback
        self._root, self._model, self._timeout = root, model, timeout
        self._version, self.description = _find(root, model, version, checksum)
        self._dataplane: Dataplane | None = None
        self._loading = threading.Lock()

    @property
    def version(self) -> str:
        """The version that answers."""
        return self._version

    def load(self) -> Dataplane:
        """The dataplane, with the model loaded and warm."""
        if self._dataplane is not None:
            return self._dataplane
        with self._loading:
            if self._dataplane is None:
                # JAX takes a second to import: a session whose servers answer never needs it.
                from serving.dataplane import Dataplane  # noqa: PLC0415
                from serving.repository import Repository  # noqa: PLC0415

                repository = Repository(self._root, control="explicit")
                repository.start()
                repository.load(self._model)
                dataplane = Dataplane(repository)
                checksum = dataplane.model_config(self._model, self._version)["parameters"]["checksum"]
                found = Description(
                    metadata=dataplane.model_metadata(self._model, self._version),
                    checksum=checksum["string_value"],
                )
                check_same(self.description, found, self.name)
                self._dataplane = dataplane
            return self._dataplane

    def verify(self) -> None:
        """Nothing to do: loading verifies."""

    def infer(self, request: InferRequest) -> Arrays:
        """Answer on this thread."""
        return self.load().infer(self._own(request)).arrays()

    def start(self, request: InferRequest) -> Future[Arrays]:
        """Answer later."""
        return mapped(self.load().submit(self._own(request)), InferResponse.arrays)

    def _own(self, request: InferRequest) -> InferRequest:
        request.deadline = None if self._timeout is None else time.monotonic() + self._timeout
        return request

    def close(self) -> None:
        """Answer what is queued and stop."""
        if self._dataplane is not None:
            self._dataplane.drain(CLOSE_SECONDS)


def _find(root: Path, model: str, version: str, checksum: str) -> tuple[str, Description]:
    """(version, description) of the newest artefact that fits, from its manifest alone."""
    folder = root / model
    on_disk = [number for number in versions_in(folder)[::-1] if (folder / number / MANIFEST_FILE).is_file()]
    versions = [number for number in on_disk if version in {"", number}]
    if not versions:
        wanted = f"version {version!r} of " if version else ""
        raise ArtifactError(f"{root} has no {wanted}model {model!r}; it has the versions {on_disk}")
    found = {}
    for number in versions:
        file = folder / number / MANIFEST_FILE
        content = file.read_bytes()
        found[number] = hashlib.sha256(content).hexdigest()
        if checksum in {"", found[number]}:
            manifest = from_json(content.decode(errors="replace"), str(file))
            metadata = ModelMetadata(
                name=model, versions=(number,), platform="", inputs=manifest.inputs, outputs=manifest.outputs
            )
            return number, Description(metadata=metadata, checksum=found[number])
    raise ArtifactError(
        f"{root}: no version of model {model!r} has the checksum {checksum}; there are {found}: "
        "the fallback must be the artefact that the servers serve"
    )
