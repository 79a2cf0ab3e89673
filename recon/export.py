"""Models as artefacts: a program without its source, weights beside it, and a manifest that says how to call it.

An artefact is the folder `<name>/<version>/` with `manifest.json`, StableHLO programs as written by `jax.export`, one
each for cpu, cuda and tpu, and `weights.safetensors`. A program is a function of two flat dicts of arrays,
`program(weights, inputs) -> outputs`. Servers know a model only as its artefact.

A single program for all three would branch on the platform inside, around every product and scatter; XLA then fuses
them otherwise than where it compiles the same function itself, and the last bits differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors.numpy import save_file

from recon.errors import ConfigError

FORMAT = "recon-artifact-2"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names that servers look for; a name is also a folder."""
PLATFORMS = ("cpu", "cuda", "tpu")
DATATYPES = {"FP32": np.float32, "INT32": np.int32, "BOOL": np.bool_, "UINT8": np.uint8}
SOURCE_LINES = "jax_traceback_in_locations_limit"
PACKAGES = ("recon-hep", "jax", "jaxlib", "flax", "numpy")

Arrays = dict[str, Any]
Program = Callable[[Arrays, Arrays], Arrays]
Sizes = Mapping[str, int]
Report = Callable[[int, int], None]
"""Hears (programs written, programs in all)."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        name: as clients write it.
        datatype: KServe's name: "FP32", "INT32", "BOOL" or "UINT8".
        shape: lengths; a string names an axis of free length.
        index_of: the values are rows of this axis, and shift when requests are joined.
        finite: NaN and infinities are refused.
        is_sorted: values that fall are refused.
        limits: smallest and largest value that is allowed.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    index_of: str | None = None
    finite: bool = False
    is_sorted: bool = False
    limits: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.datatype not in DATATYPES:
            raise ConfigError(
                f"tensor {self.name!r}: datatype {self.datatype!r}; allowed are {', '.join(DATATYPES)}"
            )


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a model is called.

    Attributes:
        inputs: what clients send; padding is 0, for an index the last row of its axis.
        outputs: what clients get, without padding.
        buckets: padded lengths of every free axis, from small to large.
        batched: requests may be joined; every input and output then has one free axis, its first.
        masks: axis -> argument of the program that is true for rows that are not padding.
        counts: output axis -> scalar output of the program that is its length.
        overflow: scalar output of the program: the bucket was too small inside.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    buckets: tuple[Sizes, ...]
    batched: bool
    masks: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    overflow: str | None = None

    def __post_init__(self) -> None:
        if not self.buckets:
            raise ConfigError("Signature.buckets is empty: at least one size is needed")
        axes = {n for tensor in self.inputs for n in tensor.shape if isinstance(n, str)}
        for bucket in self.buckets:
            if set(bucket) != axes or min(bucket.values(), default=1) < 1:
                raise ConfigError(
                    f"bucket {dict(bucket)}: a length of 1 or more for each of {sorted(axes)} is needed"
                )
        self._check_arguments(axes)
        for tensor in (*self.inputs, *self.outputs) if self.batched else ():
            if [axis for axis, n in enumerate(tensor.shape) if isinstance(n, str)] != [0]:
                raise ConfigError(
                    f"tensor {tensor.name!r} has shape {tensor.shape}: where requests are joined the first axis is "
                    "free, and no other"
                )

    def _check_arguments(self, axes: set[str]) -> None:
        """Masks belong to axes of the inputs and have names of their own; every length of an output is known."""
        names = [tensor.name for tensor in self.inputs] + list(self.masks.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"inputs and masks: {', '.join(twice)} is named twice")
        if unknown := sorted(set(self.masks) - axes):
            raise ConfigError(f"masks of the axes {unknown}; the inputs have {sorted(axes)}")
        for tensor in self.outputs:
            free = {n for n in tensor.shape if isinstance(n, str)}
            if unknown := sorted(free - axes - set(self.counts)):
                raise ConfigError(
                    f"output {tensor.name!r} has the axes {unknown}; known are {sorted(axes)} of the inputs and "
                    f"{sorted(self.counts)} of the counts"
                )


def quiet(done: int, total: int) -> None:
    """Report nothing."""


def export_model(
    directory: Path,
    program: Program | Callable[[Sizes], Program],
    weights: Mapping[str, np.ndarray],
    signature: Signature,
    *,
    name: str,
    version: str = "1",
    by_bucket: bool = False,
    description: str = "",
    config: Mapping[str, Any] | None = None,
    features: Sequence[Mapping[str, Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write an artefact.

    Args:
        directory: the model repository.
        program: `program(weights, inputs) -> outputs`; with `by_bucket` a function from a bucket to that.
        weights: flat dict; arguments of the program, not part of it.
        signature: how it is called.
        name: of the model.
        version: a positive whole number.
        by_bucket: trace once a bucket, for programs whose inner lengths depend on the size; otherwise the sizes of the
            program are symbols, and one trace serves all.
        description: one line.
        config: settings of the model.
        features: its feature table.
        provenance: where the weights come from.
        overwrite: replace an artefact of this name and version.
        report: hears (programs written, programs in all).

    Returns:
        The folder `directory/name/version`.

    Raises:
        ConfigError: a bad name or version, the artefact exists, or the program's outputs are not the signature's.
    """
    target = _target(directory, name, version, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Next to the target but not a version: a server that looks meanwhile sees all of it or nothing.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
        folder = Path(temporary) / "artefact"
        folder.mkdir()
        arrays = {key: np.ascontiguousarray(array) for key, array in weights.items()}
        buckets = _write_programs(folder, program, arrays, signature, by_bucket, report)
        if arrays:
            save_file(arrays, folder / "weights.safetensors")
        content = {
            "format": FORMAT,
            "name": name,
            "version": version,
            "description": description,
            "inputs": [asdict(tensor) for tensor in signature.inputs],
            "outputs": [asdict(tensor) for tensor in signature.outputs],
            "batched": signature.batched,
            "masks": dict(signature.masks),
            "counts": dict(signature.counts),
            "overflow": signature.overflow,
            "buckets": buckets,
            "config": dict(config or {}),
            "features": [dict(feature) for feature in features] if features is not None else None,
            "versions": {package: package_version(package) for package in PACKAGES},
            "provenance": dict(provenance or {}),
            "files": {path.name: _entry(path) for path in sorted(folder.iterdir())},
        }
        (folder / "manifest.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        _replace(target, folder, Path(temporary) / "old")
    return target


def _target(directory: Path, name: str, version: str, *, overwrite: bool) -> Path:
    """The folder of an artefact that may be written."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"name {name!r}; letters, digits, _, - and . are allowed, no - or . in front")
    if not re.fullmatch("[1-9][0-9]*", version):
        raise ConfigError(f"version {version!r}; a whole number of 1 or more is allowed")
    target = directory / name / version
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; choose another version, or say that it may be overwritten")
    return target


def _replace(target: Path, folder: Path, aside: Path) -> None:
    """Put a folder in the place of another, which comes back if that fails."""
    if target.exists():
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise


def _write_programs(
    folder: Path,
    program: Any,
    weights: Mapping[str, np.ndarray],
    signature: Signature,
    by_bucket: bool,
    report: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    buckets = []
    if not by_bucket:
        axes = list(signature.buckets[0])
        symbols = dict(zip(axes, export.symbolic_shape(", ".join(axes)), strict=True)) if axes else {}
        files = _write_platforms(folder, "program", program, weights, signature, symbols)
        report(1, 1)
        return [{"sizes": dict(sizes), "programs": files} for sizes in signature.buckets]
    for number, sizes in enumerate(signature.buckets):
        stem = "-".join(f"{axis}{length}" for axis, length in sizes.items())
        files = _write_platforms(folder, stem, program(sizes), weights, signature, sizes)
        buckets.append({"sizes": dict(sizes), "programs": files})
        report(number + 1, len(signature.buckets))
    return buckets


def _write_platforms(
    folder: Path,
    stem: str,
    program: Program,
    weights: Mapping[str, np.ndarray],
    signature: Signature,
    lengths: Mapping[str, Any],
) -> dict[str, str]:
    """Write the program for padded inputs of these lengths, numbers or symbols; platform -> file."""
    # One jitted function: it is traced once, and lowered for every platform.
    function = jax.jit(program)
    files = {platform: f"{stem}.{platform}.stablehlo" for platform in PLATFORMS}
    for platform, file in files.items():
        (folder / file).write_bytes(_lowered(function, weights, signature, lengths, platform))
    return files


def _lowered(
    function: Any,
    weights: Mapping[str, np.ndarray],
    signature: Signature,
    lengths: Mapping[str, Any],
    platform: str,
) -> bytearray:
    """The serialised program of one platform."""
    inputs = {
        tensor.name: jax.ShapeDtypeStruct(
            tuple(lengths[n] if isinstance(n, str) else n for n in tensor.shape), DATATYPES[tensor.datatype]
        )
        for tensor in signature.inputs
    }
    for axis, argument in signature.masks.items():
        inputs[argument] = jax.ShapeDtypeStruct((lengths[axis],), np.bool_)
    shapes = {key: jax.ShapeDtypeStruct(array.shape, array.dtype) for key, array in weights.items()}
    with _without_source_lines():
        traced = export.export(function, platforms=[platform])(shapes, inputs)
    _check_outputs(jax.tree.unflatten(traced.out_tree, traced.out_avals), signature, lengths)
    return traced.serialize()


@contextmanager
def _without_source_lines() -> Iterator[None]:
    """Trace without file names: they differ between machines, and the same model must give the same bytes."""
    before = getattr(jax.config, SOURCE_LINES)
    jax.config.update(SOURCE_LINES, 0)
    try:
        yield
    finally:
        jax.config.update(SOURCE_LINES, before)


def _check_outputs(given: Mapping[str, Any], signature: Signature, lengths: Mapping[str, Any]) -> None:
    """Refuse here what a server could only find out with the first request."""
    scalars = dict.fromkeys(signature.counts.values(), "INT32")
    scalars |= {signature.overflow: "BOOL"} if signature.overflow else {}
    extra = tuple(Tensor(name=name, datatype=datatype, shape=()) for name, datatype in scalars.items())
    wanted = {tensor.name: tensor for tensor in (*signature.outputs, *extra)}
    if given.keys() != wanted.keys():
        raise ConfigError(f"the program returns {sorted(given)}; the signature says {sorted(wanted)}")
    for name, tensor in wanted.items():
        # Lengths that the program counts itself are whatever it has room for.
        shape = [str(lengths.get(n, "any") if isinstance(n, str) else n) for n in tensor.shape]
        found = [str(length) for length in given[name].shape]
        fits = len(shape) == len(found) and all(a in ("any", b) for a, b in zip(shape, found, strict=True))
        if not fits or given[name].dtype != DATATYPES[tensor.datatype]:
            raise ConfigError(
                f"output {name!r} of the program is {given[name].dtype}[{', '.join(found)}]; "
                f"the signature says {tensor.datatype}[{', '.join(shape)}]"
            )


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
