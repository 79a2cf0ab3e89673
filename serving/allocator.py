"""jemalloc under XLA: on a CPU it is worth 1.3x and more, since every call allocates its results anew."""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

GUARD = "RECON_ALLOCATOR"
FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)
MAPS = Path("/proc/self/maps")

SETTINGS = "dirty_decay_ms:-1"
"""Of jemalloc: keep freed memory. By default it gives it back to the system, and a result of 16 MiB then costs five
times its computation and more in page faults, every time anew (benchmarks/README.md)."""


def find_jemalloc() -> str | None:
    """Path of the library, if it is installed."""
    for folder in FOLDERS:
        path = Path(folder) / "libjemalloc.so.2"
        if path.exists():
            return str(path)
    return ctypes.util.find_library("jemalloc")


def is_loaded() -> bool:
    """Whether this process has jemalloc: the loader goes on without a library that it cannot preload."""
    try:
        return "jemalloc" in MAPS.read_text()
    except OSError:
        return "jemalloc" in os.environ.get("LD_PRELOAD", "")


def use_jemalloc(arguments: Sequence[str]) -> str:
    """Start this process again under jemalloc, once; says what is used.

    Args:
        arguments: the command's: a process that was not started with them, which calls the command as a function,
            is not started again.
    """
    if is_loaded():
        return "allocator: jemalloc"
    library = find_jemalloc()
    if library is None:
        return "allocator: the C library's; installing libjemalloc2 makes XLA on a CPU up to 1.3x faster"
    if GUARD in os.environ:
        return f"allocator: the C library's; {library} could not be loaded"
    if not arguments or sys.argv[-len(arguments) :] != list(arguments):
        return f"allocator: the C library's; LD_PRELOAD={library} makes XLA on a CPU up to 1.3x faster"
    os.environ[GUARD] = "1"
    os.environ.setdefault("MALLOC_CONF", SETTINGS)
    os.environ["LD_PRELOAD"] = f"{library} {os.environ.get('LD_PRELOAD', '')}".strip()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very program
