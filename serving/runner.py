"""Run a model: check a request, join and pad, execute, cut apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from serving.artifact import Artifact
from serving.errors import InferenceFailed, InputTooLarge, InvalidInput
from serving.executables import Compiled, compiled
from serving.manifest import Bucket
from serving.types import TensorSpec, name_of

Inputs = Mapping[str, np.ndarray]
Sizes = dict[str, int]

KEPT_SIZES = 4096
"""Sizes whose bucket is remembered."""


class Run(NamedTuple):
    """One execution.

    Attributes:
        outputs: of every request.
        input_ns: time for joining and padding.
        infer_ns: time in the compiled program.
        output_ns: time for cutting apart.
        bucket: number of the smallest bucket that holds the sizes.
    """

    outputs: list[dict[str, np.ndarray]]
    input_ns: int
    infer_ns: int
    output_ns: int
    bucket: int = 0


class Runner:
    """A loaded model on one device.

    Args:
        artifact: of the model.
        device: that runs it; JAX's first by default.
    """

    def __init__(self, artifact: Artifact, device: jax.Device | None = None) -> None:
        self.artifact, self.manifest = artifact, artifact.manifest
        self.device = device or jax.devices()[0]
        self._weights = jax.device_put(artifact.weights(), self.device)
        self._buckets = sorted(self.manifest.buckets, key=_volume)
        self._programs: dict[int, Compiled] = {}
        self._numbers: dict[tuple[int, ...], int | None] = {}
        self.batch_axis = self.manifest.axes[0] if self.manifest.max_batch_size else None
        self._specs = {spec.name: spec for spec in self.manifest.inputs}

    def warm(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Compile, or fetch, every bucket, and run the smallest once; `report` hears (done, total)."""
        for number, bucket in enumerate(self._buckets):
            self._programs[number] = compiled(self.artifact, bucket, self._weights, self.device)
            if number == 0:
                self._run_empty(bucket)
            report(number + 1, len(self._buckets))

    def _run_empty(self, bucket: Bucket) -> None:
        """Find out at load, not at the first request, that a program does not run."""
        empty = self._arguments([], [], dict.fromkeys(bucket.sizes, 0), bucket)
        jax.block_until_ready(self._programs[0](self._weights, empty))

    def check(self, inputs: Inputs) -> Sizes:
        """Check a request and measure it.

        Returns:
            the length of every free axis.

        Raises:
            InvalidInput: names the input, what was given and what is allowed.
        """
        if inputs.keys() != self._specs.keys():
            raise InvalidInput(self._wrong_names(inputs))
        sizes: Sizes = {}
        for name, spec in self._specs.items():
            _check_array(spec, inputs[name], sizes)
        for name, spec in self._specs.items():
            _check_values(spec, inputs[name], sizes)
        self.bucket_of(sizes)
        return sizes

    def _wrong_names(self, inputs: Inputs) -> str:
        missing, unknown = (
            sorted(self._specs.keys() - inputs.keys()),
            sorted(inputs.keys() - self._specs.keys()),
        )
        parts = [f"missing input {missing}"] * bool(missing) + [f"unknown input {unknown}"] * bool(unknown)
        return f"model {self.manifest.name!r}: {' and '.join(parts)}; the inputs are {list(self._specs)}"

    def bucket_of(self, sizes: Sizes) -> int:
        """Number of the smallest bucket that holds the sizes.

        Raises:
            InputTooLarge: when none does.
        """
        number = self._number(sizes)
        if number is None:
            raise InputTooLarge(
                f"model {self.manifest.name!r}: sizes {sizes} are given, "
                f"the largest bucket holds {self._buckets[-1].sizes}"
            )
        return number

    def _number(self, sizes: Sizes) -> int | None:
        """Number of the smallest bucket that holds the sizes; found once for sizes that come again."""
        key = tuple(sizes.values())
        found = self._numbers.get(key, -1)
        if found == -1:
            if len(self._numbers) >= KEPT_SIZES:
                self._numbers.clear()
            fitting = (number for number, bucket in enumerate(self._buckets) if _fits(sizes, bucket))
            found = self._numbers[key] = next(fitting, None)
        return found

    def joined(self, first: Sizes, second: Sizes) -> Sizes | None:
        """The sizes of two requests together; `None` if they cannot run together."""
        if not self.manifest.batched:
            return None
        total = {axis: first[axis] + second[axis] for axis in first}
        return None if self._number(total) is None else total

    def run(self, requests: Sequence[Inputs], sizes: Sequence[Sizes]) -> Run:
        """Run checked requests as one execution.

        Raises:
            InputTooLarge: when the program says that no bucket holds what arises inside it.
            InferenceFailed: when it fails.
        """
        total = sizes[0]
        if len(sizes) > 1:
            total = {axis: sum(size[axis] for size in sizes) for axis in total}
        number = smallest = self.bucket_of(total)
        while True:
            started = time.perf_counter_ns()
            arguments = self._arguments(requests, sizes, total, self._buckets[number])
            padded = time.perf_counter_ns()
            outputs = self._execute(number, arguments)
            done = time.perf_counter_ns()
            if self.manifest.overflow is None or not outputs.pop(self.manifest.overflow):
                break
            if number + 1 == len(self._buckets):
                raise InputTooLarge(
                    f"model {self.manifest.name!r}: the input of sizes {total} needs larger inner arrays than those of "
                    f"the largest bucket, {self._buckets[-1].sizes}: export it with a larger one"
                )
            number += 1
        is_whole = len(sizes) == 1 and total == self._buckets[number].sizes and not self.manifest.counts
        parts = [outputs] if is_whole else self._parts(outputs, sizes)
        return Run(parts, padded - started, done - padded, time.perf_counter_ns() - done, smallest)

    def _execute(self, number: int, arguments: Inputs) -> dict[str, np.ndarray]:
        if number not in self._programs:
            self._programs[number] = compiled(
                self.artifact, self._buckets[number], self._weights, self.device
            )
        try:
            outputs = self._programs[number](self._weights, arguments)
            return {name: np.asarray(array) for name, array in outputs.items()}
        except Exception as error:
            raise InferenceFailed(f"model {self.manifest.name!r} failed: {error}") from error

    def _arguments(
        self, requests: Sequence[Inputs], sizes: Sequence[Sizes], total: Sizes, bucket: Bucket
    ) -> Inputs:
        if len(requests) == 1 and total == bucket.sizes and not self.manifest.masks:
            return requests[0]
        arguments = {
            name: _joined(spec, [request[name] for request in requests], sizes, bucket.sizes)
            for name, spec in self._specs.items()
        }
        for axis, argument in self.manifest.masks.items():
            arguments[argument] = np.arange(bucket.sizes[axis]) < total[axis]
        return arguments

    def _parts(self, outputs: dict[str, np.ndarray], sizes: Sequence[Sizes]) -> list[dict[str, np.ndarray]]:
        """The outputs of every request, without padding."""
        counts = {axis: int(outputs.pop(name)) for axis, name in self.manifest.counts.items()}
        specs = self.manifest.outputs
        if not self.manifest.batched:
            lengths = sizes[0] | counts
            return [{spec.name: outputs[spec.name][_cut(spec, lengths)] for spec in specs}]
        starts = dict.fromkeys(sizes[0], 0)
        parts = []
        for size in sizes:
            part = {}
            for spec in specs:
                axis = str(spec.shape[0])
                part[spec.name] = outputs[spec.name][starts[axis] : starts[axis] + size[axis]]
            parts.append(part)
            starts = {axis: start + size[axis] for axis, start in starts.items()}
        return parts


def _fits(sizes: Sizes, bucket: Bucket) -> bool:
    for axis, limit in bucket.sizes.items():  # noqa: SIM110 - a generator costs more than all it compares
        if sizes[axis] > limit:
            return False
    return True


def _volume(bucket: Bucket) -> int:
    return int(np.prod([max(1, size) for size in bucket.sizes.values()], dtype=np.int64))


def _cut(spec: TensorSpec, lengths: Sizes) -> tuple[slice, ...]:
    return tuple(slice(lengths[n]) if isinstance(n, str) else slice(None) for n in spec.shape)


def _blank(spec: TensorSpec, sizes: Sizes) -> np.ndarray:
    """Padding only."""
    return np.full(spec.padded(sizes), sizes[spec.index_of] - 1 if spec.index_of else 0, spec.dtype)


def _joined(
    spec: TensorSpec, arrays: Sequence[np.ndarray], sizes: Sequence[Sizes], bucket: Sizes
) -> np.ndarray:
    """The arrays one after the other, padded; indices count on from one request to the next."""
    padded = _blank(spec, bucket)
    start = shift = 0
    for array, size in zip(arrays, sizes, strict=True):
        if len(arrays) == 1:
            place = tuple(slice(length) for length in array.shape)
        else:
            place = (slice(start, start + len(array)),)
        np.add(array, shift, out=padded[place]) if shift else np.copyto(padded[place], array)
        start += len(array) if array.ndim else 0
        shift += size[spec.index_of] if spec.index_of else 0
    return padded


def _check_array(spec: TensorSpec, array: np.ndarray, sizes: Sizes) -> None:
    """Type and shape; notes the lengths of free axes."""
    if array.dtype != spec.dtype:
        given = name_of(array.dtype)
        raise InvalidInput(f"input {spec.name!r} has the datatype {given}; {spec.datatype} is allowed")
    if len(array.shape) != len(spec.shape):
        raise InvalidInput(
            f"input {spec.name!r} has the shape {list(array.shape)}; {list(spec.dims)} is allowed"
        )
    for length, allowed in zip(array.shape, spec.shape, strict=True):
        if isinstance(allowed, str):
            if sizes.setdefault(allowed, length) != length:
                raise InvalidInput(
                    f"input {spec.name!r} has the shape {list(array.shape)}; its axis {allowed!r} has the length "
                    f"{sizes[allowed]} in another input"
                )
        elif length != allowed:
            raise InvalidInput(
                f"input {spec.name!r} has the shape {list(array.shape)}; {list(spec.dims)} is allowed"
            )


def _check_values(spec: TensorSpec, array: np.ndarray, sizes: Sizes) -> None:
    """Indices within their axis, also because another request's rows lie beyond it; finite numbers where asked for."""
    if spec.index_of and array.size:
        low, high, limit = array.min(), array.max(), sizes[spec.index_of]
        if low < 0 or high >= limit:
            raise InvalidInput(
                f"input {spec.name!r} holds indices from {low} to {high}; 0 to {limit - 1} are allowed "
                f"(axis {spec.index_of!r} has {limit} rows)"
            )
    if spec.limits is not None and array.size:
        low, high = array.min(), array.max()
        if low < spec.limits[0] or high > spec.limits[1]:
            raise InvalidInput(
                f"input {spec.name!r} holds values from {low} to {high}; "
                f"{spec.limits[0]} to {spec.limits[1]} are allowed"
            )
    if spec.is_sorted and (array[1:] < array[:-1]).any():
        row = int(np.argmax(array[1:] < array[:-1])) + 1
        raise InvalidInput(f"input {spec.name!r} falls in row {row}; values that do not fall are allowed")
    if spec.finite and not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise InvalidInput(f"input {spec.name!r} is not finite at {where}; finite numbers are allowed")
