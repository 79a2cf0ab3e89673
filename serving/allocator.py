"""jemalloc under XLA: on a CPU it is worth 1.3x and more, since every call allocates its results anew."""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path

GUARD = "RECON_ALLOCATOR"
FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)


def find_jemalloc() -> str | None:
    """Path of the library, if it is installed."""
    for folder in FOLDERS:
        path = Path(folder) / "libjemalloc.so.2"
        if path.exists():
            return str(path)
    return ctypes.util.find_library("jemalloc")


def use_jemalloc() -> str:
    """Start this process again under jemalloc, once; says what is used."""
    loaded = os.environ.get("LD_PRELOAD", "")
    if "jemalloc" in loaded:
        return "allocator: jemalloc"
    library = find_jemalloc()
    if library is None:
        return "allocator: the C library's; installing libjemalloc2 makes XLA on a CPU up to 1.3x faster"
    if GUARD in os.environ:
        return f"allocator: the C library's; {library} could not be loaded"
    os.environ[GUARD] = "1"
    os.environ["LD_PRELOAD"] = f"{library} {loaded}".strip()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very program
