"""Shared memory on the client's side: segments that a server on this host has mapped, used again and again."""

from __future__ import annotations

import mmap
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from serving.shared_memory import FOLDER
from serving.types import Region

LEAST_BYTES = 1 << 16
KEPT_BYTES = 1 << 29
"""Free segments beyond this are given back to the system."""


class Segment:
    """A piece of shared memory.

    Args:
        size: bytes.

    Raises:
        OSError: there is not so much.
    """

    def __init__(self, size: int) -> None:
        self.name, self.size = f"recon-{os.getpid()}-{uuid.uuid4().hex}", size
        self._path = f"{FOLDER}/{self.name}"
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # Without this a full /dev/shm shows as SIGBUS when the memory is first written to.
            os.posix_fallocate(descriptor, 0, size)
            self.memory = mmap.mmap(descriptor, size)
        except BaseException:
            self.unlink()
            raise
        finally:
            os.close(descriptor)

    def unlink(self) -> None:
        """Take the name away; the memory lives until nobody maps it, so a process that is killed leaves none."""
        os.unlink(self._path)  # noqa: PTH108 - beside os.open

    def write(self, array: np.ndarray) -> Region:
        """Copy a tensor to the segment."""
        target: np.ndarray = np.frombuffer(self.memory, array.dtype, array.size).reshape(array.shape)
        np.copyto(target, array)
        return Region(self.name, array.nbytes)

    def read(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Copy a tensor from the segment."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self.memory, dtype, count).reshape(shape).copy()


class SegmentPool:
    """Segments that one server knows; safe for threads.

    Args:
        register: tells the server of a segment: (name, bytes).
        unregister: lets it forget one.
    """

    def __init__(self, register: Callable[[str, int], None], unregister: Callable[[str], None]) -> None:
        self._register, self._unregister = register, unregister
        self._free: dict[int, list[Segment]] = defaultdict(list)
        self._free_bytes = 0
        self._lock = threading.Lock()

    def take(self, needed: int) -> Segment:
        """A segment of at least so many bytes, which the server knows.

        Raises:
            OSError: there is not so much memory.
            ServingError: the server does not take it.
        """
        size = max(LEAST_BYTES, 1 << (needed - 1).bit_length())
        with self._lock:
            if self._free[size]:
                self._free_bytes -= size
                return self._free[size].pop()
        segment = Segment(size)
        try:
            self._register(segment.name, size)
        finally:
            segment.unlink()
        return segment

    def give_back(self, segment: Segment) -> None:
        """Keep a segment for the next call; only after an answer, when the server is done with it."""
        with self._lock:
            if self._free_bytes + segment.size <= KEPT_BYTES:
                self._free[segment.size].append(segment)
                self._free_bytes += segment.size
                return
        self.drop(segment)

    def drop(self, segment: Segment) -> None:
        """Let a segment go; the server may still be writing to it, nobody will look."""
        self._unregister(segment.name)

    def clear(self) -> None:
        """Let all free segments go."""
        with self._lock:
            free = [segment for kept in self._free.values() for segment in kept]
            self._free.clear()
            self._free_bytes = 0
        for segment in free:
            self.drop(segment)
