"""An artefact on disk: read it, check it, and get its program and weights; no source of the model is needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from jax import export
from safetensors.numpy import load_file

from serving.errors import ArtifactError
from serving.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest, from_json

CHUNK = 1 << 20


class Artifact:
    """One version of a model on disk.

    Args:
        path: the directory `<name>/<version>`.

    Raises:
        ArtifactError: when the manifest is missing or unreadable, or a file is not the one that the manifest names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path / MANIFEST_FILE
        try:
            text = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path} is no artefact: {file.name}: {error.strerror}") from error
        self.checksum = hashlib.sha256(text).hexdigest()
        self.manifest: Manifest = from_json(text.decode(errors="replace"), str(file))
        for name in self.manifest.files:
            self._verify(name)

    def _verify(self, name: str) -> None:
        entry, file = self.manifest.files[name], self._file(name)
        if not file.is_file():
            raise ArtifactError(f"{self.path}: {name} is missing")
        if file.stat().st_size != entry.bytes:
            raise ArtifactError(f"{file} has {file.stat().st_size} bytes, its manifest says {entry.bytes}")
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != entry.sha256:
            raise ArtifactError(f"{file} is not the file that its manifest was written for (sha256 differs)")

    def _file(self, name: str) -> Path:
        if Path(name).name != name:
            raise ArtifactError(f"{self.path}: the manifest names {name!r}; a plain file name is allowed")
        return self.path / name

    def program(self, name: str) -> export.Exported:
        """The program of a file.

        Raises:
            ArtifactError: when it cannot be read by this version of JAX.
        """
        try:
            return export.deserialize(bytearray(self._file(name).read_bytes()))
        except Exception as error:
            raise ArtifactError(f"{self._file(name)} cannot be read: {error}") from error

    def weights(self) -> dict[str, np.ndarray]:
        """The arrays of `weights.safetensors`; none if the model has no weights."""
        if WEIGHTS_FILE not in self.manifest.files:
            return {}
        arrays: dict[str, np.ndarray] = load_file(self._file(WEIGHTS_FILE))
        return arrays
