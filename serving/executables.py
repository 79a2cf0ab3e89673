"""Programs compiled for this machine, kept in the user's cache.

A serialised executable can run code when it is read: it never travels in an artefact, and the cache is a folder that
nobody but the user can write to. What does not match, or cannot be read, is compiled again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import platform as machine
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable

from serving.artifact import Artifact
from serving.errors import ArtifactError
from serving.manifest import Bucket

log = logging.getLogger(__name__)

COMPILE_OPTIONS = (
    "jax_disable_most_optimizations",
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
)
"""Settings of JAX that the compiler hears of."""

Arrays = Mapping[str, Any]
Compiled = Callable[[Arrays, Arrays], dict[str, jax.Array]]


def cache_directory() -> Path:
    """`$RECON_EXECUTABLES`, or `recon/executables` in the user's cache."""
    given = os.environ.get("RECON_EXECUTABLES")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recon" / "executables"


def compiled(artifact: Artifact, bucket: Bucket, weights: Arrays, device: jax.Device) -> Compiled:
    """The program of a bucket, from the cache or compiled and kept.

    Args:
        artifact: holds the program.
        bucket: gives the lengths of the inputs.
        weights: only shapes and types are used.
        device: that will run it.
    """
    file = cache_directory() / f"{_key(artifact, bucket, device)}.xla"
    found = _read(file)
    if found is not None:
        return found
    program = _compile(artifact, bucket, weights, device)
    _write(file, program)
    return program


def input_shapes(artifact: Artifact, bucket: Bucket) -> dict[str, jax.ShapeDtypeStruct]:
    """The padded inputs of a bucket, masks included."""
    manifest = artifact.manifest
    shapes = {
        spec.name: jax.ShapeDtypeStruct(spec.padded(bucket.sizes), spec.dtype) for spec in manifest.inputs
    }
    masks = {
        argument: jax.ShapeDtypeStruct((bucket.sizes[axis],), np.dtype(bool))
        for axis, argument in manifest.masks.items()
    }
    return shapes | masks


def program_file(artifact: Artifact, bucket: Bucket, device: jax.Device) -> str:
    """The file of a bucket's program for a device.

    Raises:
        ArtifactError: the artefact has none for this platform.
    """
    # JAX calls both makes of GPU "gpu"; programs are written for one of them.
    platform = device.platform
    if platform == "gpu":
        platform = "rocm" if "rocm" in device.client.platform_version.lower() else "cuda"
    file = bucket.programs.get(platform)
    if file is None:
        raise ArtifactError(
            f"{artifact.path}: no program for {platform}, the platform of {device.device_kind}; "
            f"there are {', '.join(sorted(bucket.programs))}"
        )
    return file


def _compile(artifact: Artifact, bucket: Bucket, weights: Arrays, device: jax.Device) -> Compiled:
    sharding = jax.sharding.SingleDeviceSharding(device)
    program = artifact.program(program_file(artifact, bucket, device))
    function = jax.jit(program.call, in_shardings=sharding, out_shardings=sharding)
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in weights.items()}
    result: Compiled = function.lower(shapes, input_shapes(artifact, bucket)).compile()
    return result


def _key(artifact: Artifact, bucket: Bucket, device: jax.Device) -> str:
    """Everything that an executable depends on."""
    facts = {
        "program": artifact.manifest.files[program_file(artifact, bucket, device)].sha256,
        "manifest": artifact.checksum,
        "sizes": bucket.sizes,
        "jaxlib": jaxlib.__version__,
        "jax": jax.__version__,
        "device": f"{device.platform} {device.device_kind} {device.id}",
        "processor": _processor(),
        "flags": os.environ.get("XLA_FLAGS", ""),
        "options": {name: str(getattr(jax.config, name, None)) for name in COMPILE_OPTIONS},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _processor() -> str:
    """The features of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{machine.machine()} {machine.processor()}"


def _is_private(path: Path) -> bool:
    """Whether only this user can have written the path."""
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(file: Path) -> Compiled | None:
    try:
        if not (_is_private(file.parent) and _is_private(file)):
            log.warning("%s is not this user's alone: its programs are not used", file.parent)
            return None
        found: Compiled = serialize_executable.deserialize_and_load(*pickle.loads(file.read_bytes()))  # noqa: S301
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with it, it can be compiled again
        log.warning("%s cannot be used (%s): compiling again", file, error)
        return None
    return found


def _write(file: Path, program: Any) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = pickle.dumps(serialize_executable.serialize(program))
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as temporary:
            temporary.write(content)
        Path(temporary.name).replace(file)
    except Exception as error:  # a server without a cache still serves
        log.warning("the compiled program is not kept: %s", error)
