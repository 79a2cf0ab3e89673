"""System shared memory: regions that a client on this host made, as arrays without a copy."""

from __future__ import annotations

import mmap
import os
import re
import threading
from math import prod
from typing import Any, NamedTuple

import numpy as np

from serving.errors import InvalidInput
from serving.types import Region, SharedMemoryStatus

FOLDER = "/dev/shm"  # noqa: S108 - where POSIX shared memory lives on Linux
KEY = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class _Mapped(NamedTuple):
    status: SharedMemoryStatus
    memory: mmap.mmap


class SharedMemory:
    """The registered regions of a server; safe for threads.

    A mapping lives until it is unregistered and the last array that looks into it is gone.

    A client that cuts its segment short is refused before the memory is touched: touching it would end the process.
    One that does so while its own request runs can still do that, which is one reason why only this host may use it.
    """

    def __init__(self) -> None:
        self._regions: dict[str, _Mapped] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        """Make a region known.

        Args:
            name: that requests use.
            key: of `shm_open`, with or without its slash.
            byte_size: length of the region.
            offset: of the region in the segment.

        Raises:
            InvalidInput: the name is taken, the segment does not exist or is too short.
        """
        if not name:
            raise InvalidInput("shared memory: the region's name is empty")
        if not KEY.fullmatch(key):
            raise InvalidInput(
                f"shared memory {name!r}: key {key!r}; a name of letters, digits, _ . - is allowed"
            )
        if byte_size < 1 or offset < 0:
            raise InvalidInput(
                f"shared memory {name!r}: byte_size {byte_size}, offset {offset}; at least 1 and 0 are allowed"
            )
        mapped = _Mapped(
            SharedMemoryStatus(name=name, key=key, offset=offset, byte_size=byte_size),
            _map(name, key, offset + byte_size),
        )
        with self._lock:
            if name in self._regions:
                raise InvalidInput(f"shared memory {name!r} is registered already; unregister it first")
            self._regions[name] = mapped

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all for an empty name; one that is not known is no error, as in Triton."""
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def status(self, name: str = "") -> list[SharedMemoryStatus]:
        """The registered regions, or one of them.

        Raises:
            InvalidInput: the named one is not registered.
        """
        if name:
            return [self._get(name).status]
        with self._lock:
            return [mapped.status for mapped in self._regions.values()]

    def view(self, region: Region, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """A tensor in shared memory, without a copy and read only.

        Raises:
            InvalidInput: it does not lie within the region, or its place has another length than its shape says.
        """
        needed = prod(shape) * dtype.itemsize
        if region.byte_size != needed:
            raise InvalidInput(
                f"shared memory {region.name!r}: byte_size {region.byte_size} for shape {list(shape)}; "
                f"{needed} is allowed"
            )
        array = np.frombuffer(*self._place(region, dtype, needed)).reshape(shape)
        array.flags.writeable = False
        return array

    def place(self, region: Region, array: np.ndarray) -> None:
        """Write a tensor.

        Raises:
            InvalidInput: it does not fit, or its place does not lie within the region.
        """
        if array.nbytes > region.byte_size:
            raise InvalidInput(
                f"shared memory {region.name!r}: an output of {array.nbytes} bytes does not fit into "
                f"byte_size {region.byte_size}"
            )
        target = np.frombuffer(*self._place(region, array.dtype, array.nbytes)).reshape(array.shape)
        np.copyto(target, array)

    def _place(
        self, region: Region, dtype: np.dtype[Any], needed: int
    ) -> tuple[mmap.mmap, np.dtype[Any], int, int]:
        """Arguments of `np.frombuffer`."""
        mapped = self._get(region.name)
        end = mapped.status.byte_size
        if region.offset < 0 or region.byte_size < 0 or region.offset + region.byte_size > end:
            raise InvalidInput(
                f"shared memory {region.name!r}: offset {region.offset} and byte_size {region.byte_size} leave the "
                f"region of {end} bytes"
            )
        length, start = mapped.memory.size(), mapped.status.offset + region.offset
        if start + needed > length:
            raise InvalidInput(
                f"shared memory {region.name!r}: segment {mapped.status.key!r} has shrunk to {length} bytes; "
                f"{start + needed} are needed"
            )
        return mapped.memory, dtype, needed // dtype.itemsize, start

    def _get(self, name: str) -> _Mapped:
        with self._lock:
            if name not in self._regions:
                raise InvalidInput(f"shared memory {name!r} is not registered")
            return self._regions[name]


def _map(name: str, key: str, needed: int) -> mmap.mmap:
    path = f"{FOLDER}/{key.removeprefix('/')}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(
            f"shared memory {name!r}: key {key!r} cannot be opened: {error.strerror}"
        ) from error
    try:
        size = os.fstat(descriptor).st_size
        if size < needed:
            raise InvalidInput(
                f"shared memory {name!r}: segment {key!r} has {size} bytes, {needed} are asked for"
            )
        return mmap.mmap(descriptor, needed)
    finally:
        os.close(descriptor)
