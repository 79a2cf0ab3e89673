"""`manifest.json`: everything about an artefact but its program and its weights.

An artefact is a directory `<name>/<version>/` with `manifest.json`, programs (StableHLO as written by `jax.export`, for
every platform) and `weights.safetensors`. A program is a function of two flat dicts,
`program(weights, inputs) -> outputs`; `inputs` holds the tensors of the signature, and a bool mask for every axis
that has one, all padded to the lengths of a bucket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import ArtifactError
from serving.types import DATATYPES, TensorSpec

FORMAT = "recon-artifact-2"
MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One size of a program's padded arrays.

    Attributes:
        sizes: length of every free axis of the inputs.
        programs: platform (cpu, cuda, rocm, tpu) -> file of the program that takes this size; many buckets may share
            one of symbolic sizes, and many platforms one that was written for all of them.
    """

    sizes: dict[str, int]
    programs: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the artefact."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        name: of the model.
        version: a positive integer as text.
        description: one line.
        inputs: tensors that clients send. Padding is 0, for an index the last row of its axis.
        outputs: tensors that clients get: free axes of the inputs are cut back, those in `counts` to that number.
        batched: whether requests may be joined along their free axes; every output then has such an axis first.
        masks: axis -> argument of the program that is true for rows that are not padding.
        counts: output axis -> scalar integer output of the program that tells its length; not sent to clients.
        overflow: scalar bool output of the program: the bucket was too small inside, the next one is tried.
        buckets: from small to large.
        config: settings of the model.
        features: feature table of the model, if it has one.
        versions: of the packages that exported it.
        provenance: where the weights come from.
        files: every other file of the artefact.
        format: of this file.
    """

    name: str
    version: str
    description: str = ""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    masks: dict[str, str] = field(default_factory=dict)
    counts: dict[str, str] = field(default_factory=dict)
    overflow: str | None = None
    buckets: tuple[Bucket, ...]
    config: dict[str, Any] = field(default_factory=dict)
    features: list[dict[str, Any]] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    format: str = FORMAT

    @property
    def axes(self) -> tuple[str, ...]:
        """Free axes of the inputs, in the order of their appearance."""
        found = (length for spec in self.inputs for length in spec.shape if isinstance(length, str))
        return tuple(dict.fromkeys(found))

    @property
    def max_batch_size(self) -> int:
        """Largest batch in Triton's sense: 0 unless the first axis of every tensor is the one free axis."""
        specs = (*self.inputs, *self.outputs)
        free = {length for spec in specs for length in spec.shape if isinstance(length, str)}
        leads = all(spec.shape and isinstance(spec.shape[0], str) for spec in specs)
        if not (self.batched and len(free) == 1 and leads):
            return 0
        return max(bucket.sizes[self.axes[0]] for bucket in self.buckets)


def versions_in(folder: Path) -> list[str]:
    """Versions of a model in its folder, from old to new; none if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        (path.name for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()), key=int
    )


def to_json(manifest: Manifest) -> str:
    """The text of `manifest.json`."""
    return json.dumps(asdict(manifest), indent=2) + "\n"


def from_json(text: str, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: of the file.
        where: named in errors.

    Raises:
        ArtifactError: when it is not one of this format, naming what is wrong.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            given = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise ArtifactError(f"{where}: format {given!r}; this version reads {FORMAT!r}")
        manifest = Manifest(
            **{
                **content,
                "inputs": _specs(content["inputs"]),
                "outputs": _specs(content["outputs"]),
                "buckets": tuple(Bucket(**bucket) for bucket in content["buckets"]),
                "files": {name: FileEntry(**entry) for name, entry in content["files"].items()},
            }
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{where} is not a manifest: {type(error).__name__}: {error}") from error
    _check(manifest, where)
    return manifest


def _specs(entries: list[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            **{
                **entry,
                "shape": tuple(entry["shape"]),
                "limits": tuple(entry["limits"]) if entry.get("limits") else None,
            }
        )
        for entry in entries
    )


def _check(manifest: Manifest, where: str) -> None:
    """What a program could not be run without."""
    unknown = [
        spec.datatype for spec in (*manifest.inputs, *manifest.outputs) if spec.datatype not in DATATYPES
    ]
    if unknown:
        raise ArtifactError(f"{where}: datatype {unknown[0]!r}; known are {', '.join(DATATYPES)}")
    if not manifest.buckets:
        raise ArtifactError(f"{where}: no buckets; at least one is needed")
    axes = set(manifest.axes)
    for bucket in manifest.buckets:
        if set(bucket.sizes) != axes:
            raise ArtifactError(
                f"{where}: a bucket sizes the axes {sorted(bucket.sizes)}, the inputs {sorted(axes)}"
            )
        if wrong := {axis: size for axis, size in bucket.sizes.items() if type(size) is not int or size < 1}:
            raise ArtifactError(
                f"{where}: a bucket has the sizes {wrong}; whole numbers of 1 or more are allowed"
            )
        if missing := sorted(set(bucket.programs.values()) - set(manifest.files)):
            raise ArtifactError(
                f"{where}: a bucket names the program {missing[0]!r}, which is not among the files"
            )
