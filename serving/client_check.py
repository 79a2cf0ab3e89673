"""What a client compares before it sends anything: inputs with the model, and artefacts with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.errors import ArtifactError, InvalidInput
from serving.types import ModelMetadata, TensorSpec, name_of


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a place says about a model.

    Attributes:
        metadata: inputs and outputs.
        checksum: sha256 of the artefact's manifest; empty if the server does not tell.
    """

    metadata: ModelMetadata
    checksum: str


def check_same(expected: Description, found: Description, where: str) -> None:
    """Refuse a place that serves something else than the session was opened with.

    Raises:
        ArtifactError: names the place and both checksums, or the tensors that differ.
    """
    if expected.checksum != found.checksum:
        raise ArtifactError(
            f"{where}: model {found.metadata.name!r} has the checksum {found.checksum or 'unknown'}; "
            f"the session uses {expected.checksum or 'unknown'}: every place must serve the same artefact"
        )
    for kind in ("inputs", "outputs"):
        ours, theirs = (_signature(getattr(each.metadata, kind)) for each in (expected, found))
        if ours != theirs:
            raise ArtifactError(
                f"{where}: model {found.metadata.name!r} has the {kind} {theirs}, expected are {ours}"
            )


def _signature(specs: tuple[TensorSpec, ...]) -> list[tuple[str, str, tuple[int, ...]]]:
    return sorted((spec.name, spec.datatype, spec.dims) for spec in specs)


def check_outputs(metadata: ModelMetadata, outputs: tuple[str, ...]) -> None:
    """Refuse outputs that the model does not have.

    Raises:
        InvalidInput: names the first one.
    """
    known = [spec.name for spec in metadata.outputs]
    for name in outputs:
        if name not in known:
            raise InvalidInput(f"model {metadata.name!r} has no output {name!r}; the outputs are {known}")


def check_inputs(metadata: ModelMetadata, inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse inputs that the model cannot take, before they are sent.

    Raises:
        InvalidInput: names the input, what was given and what is allowed.
    """
    specs = metadata.inputs
    if len(inputs) != len(specs):
        raise InvalidInput(_wrong_names(metadata, inputs))
    lengths: dict[str, int] = {}
    for spec in specs:
        if spec.name not in inputs:
            raise InvalidInput(_wrong_names(metadata, inputs))
        _check_array(spec, inputs[spec.name], lengths)


def _wrong_names(metadata: ModelMetadata, inputs: Mapping[str, np.ndarray]) -> str:
    names = [spec.name for spec in metadata.inputs]
    return f"model {metadata.name!r} was given the inputs {list(inputs)}; allowed are {names}"


def _check_array(spec: TensorSpec, array: np.ndarray, lengths: dict[str, int]) -> None:
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"input {spec.name!r} is a {type(array).__name__}; a NumPy array is allowed")
    if array.dtype != spec.dtype:
        given = name_of(array.dtype)
        raise InvalidInput(f"input {spec.name!r} has the datatype {given}; {spec.datatype} is allowed")
    shape = array.shape
    fits = len(shape) == len(spec.shape)
    for allowed, length in zip(spec.shape, shape, strict=False):
        if (lengths.setdefault(allowed, length) if isinstance(allowed, str) else allowed) != length:
            fits = False
            break
    if not fits:
        axes = [lengths.get(n, -1) if isinstance(n, str) else n for n in spec.shape]
        raise InvalidInput(f"input {spec.name!r} has the shape {list(array.shape)}; {axes} is allowed")
