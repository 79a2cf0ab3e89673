"""Which tensors of a call go through shared memory, and where their segments are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from serving.client_memory import Segment, SegmentPool
from serving.errors import InferenceFailed, InvalidInput, PermissionDenied, Unimplemented
from serving.retry import Arrays
from serving.types import (
    DATATYPES,
    InferRequest,
    InferResponse,
    OutputTensor,
    Region,
    RequestedOutput,
)

log = logging.getLogger(__name__)

SharedMemoryUse = Literal["auto"] | bool

LARGE_BYTES = 1 << 20
"""From here on "auto" takes shared memory."""
KNOWN_SIZES = 256
"""Shapes of requests whose outputs are remembered."""

_Key = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)
class Lease:
    """The shared memory of one call.

    Attributes:
        request: with regions for the large outputs.
        inputs: where the large inputs lie.
        segments: in use, by name.
        ended: whether they were given back or dropped.
    """

    request: InferRequest
    inputs: dict[str, Region] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    ended: bool = False


class Regions:
    """Shared memory between a session and one server.

    How large an output becomes is known from earlier answers to requests of the same shapes; before there was one it
    comes in the message.

    Args:
        pool: of segments.
        use: "auto" for large tensors only.
        where: named in messages.
    """

    def __init__(self, pool: SegmentPool, use: SharedMemoryUse, where: str) -> None:
        self._pool, self._where, self._required = pool, where, use is True
        self._least = 1 if use is True else LARGE_BYTES
        self._enabled = True
        self._sizes: dict[_Key, dict[str, int]] = {}
        self._leased = 0
        self._idle = threading.Condition()

    def lease(self, request: InferRequest, outputs: tuple[str, ...]) -> Lease | None:
        """Copy the large inputs to shared memory; `None` if nothing of the call belongs there.

        Args:
            request: of the call.
            outputs: that are wanted.

        Raises:
            ServingError: the server does not answer; or it takes no shared memory, and that was asked for.
        """
        if not self._enabled:
            return None
        large = [name for name, array in request.inputs.items() if array.nbytes >= self._least]
        known = self._sizes.get(_key(request), {})
        sizes = {name: known[name] for name in outputs if known.get(name, 0) >= self._least}
        if not large and not sizes:
            return None
        lease = Lease(request)
        with self._idle:
            self._leased += 1
        try:
            for name in large:
                segment = self._segment(lease, request.inputs[name].nbytes)
                lease.inputs[name] = segment.write(request.inputs[name])
            wanted = [
                RequestedOutput(name, Region(segment.name, segment.size) if segment is not None else None)
                for name in outputs
                for segment in [self._segment(lease, sizes[name]) if name in sizes else None]
            ]
        except (InvalidInput, PermissionDenied, Unimplemented, OSError) as error:
            self._disable(lease, error)
            return None
        except BaseException:
            self.drop(lease)
            raise
        lease.request = replace(request, outputs=tuple(wanted))
        return lease

    def _segment(self, lease: Lease, size: int) -> Segment:
        segment = self._pool.take(size)
        lease.segments[segment.name] = segment
        return segment

    def _disable(self, lease: Lease, error: Exception) -> None:
        """Send everything in the messages from now on."""
        self.drop(lease)
        if self._required:
            raise error
        self._enabled = False
        log.warning("%s: goes on without shared memory: %s", self._where, error)

    def outputs(self, response: InferResponse, request: InferRequest, lease: Lease | None) -> Arrays:
        """The arrays of an answer, those in shared memory copied; gives the lease back."""
        try:
            arrays = {output.name: _array(output, lease) for output in response.outputs}
        except BaseException:
            if lease is not None:
                self.drop(lease)
            raise
        self._learn(request, arrays)
        if lease is not None:
            self._end(lease, self._pool.give_back)
        return arrays

    def _learn(self, request: InferRequest, arrays: Arrays) -> None:
        large = {name: array.nbytes for name, array in arrays.items() if array.nbytes >= self._least}
        if not large:
            return
        key = _key(request)
        known = self._sizes.get(key, {})
        if all(known.get(name, 0) >= size for name, size in large.items()):
            return
        if len(self._sizes) >= KNOWN_SIZES and key not in self._sizes:
            self._sizes.clear()
        # Another thread may have learned something else meanwhile: then it is learned again.
        self._sizes[key] = {**known, **{name: max(size, known.get(name, 0)) for name, size in large.items()}}

    def drop(self, lease: Lease) -> None:
        """Let the segments of a call go that brought no answer: the server may still write to them."""
        self._end(lease, self._pool.drop)

    def _end(self, lease: Lease, part: Callable[[Segment], None]) -> None:
        """Once a lease, by the thread that its call ends on."""
        if lease.ended:
            return
        lease.ended = True
        for segment in lease.segments.values():
            part(segment)
        with self._idle:
            self._leased -= 1
            self._idle.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every call has let its segments go; false if that took too long."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._leased, timeout)

    def clear(self) -> None:
        """Let all free segments go."""
        self._pool.clear()


def _key(request: InferRequest) -> _Key:
    return tuple((name, array.shape) for name, array in request.inputs.items())


def _array(output: OutputTensor, lease: Lease | None) -> np.ndarray:
    if output.data is not None:
        return output.data
    name = output.region.name if output.region is not None else ""
    if lease is None or name not in lease.segments:
        raise InferenceFailed(
            f"output {output.name!r} lies in shared memory {name!r}, which this call has not"
        )
    return lease.segments[name].read(DATATYPES[output.datatype], output.shape)
