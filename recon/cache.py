"""What is kept between runs: generated collisions and compiled programs."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path


def cache_directory() -> Path:
    """Directory of the cache: `$RECON_CACHE`, else `$XDG_CACHE_HOME/recon`, else `~/.cache/recon`."""
    explicit = os.environ.get("RECON_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recon"


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs, so that the next run of a command starts within seconds.

    They go to `programs` in `cache_directory()`, into a folder for this kind of processor: a home directory may be
    shared by machines of which one cannot run the code of another. Nothing is changed where
    `JAX_COMPILATION_CACHE_DIR` is set, since the user then decides, or where JAX has been imported, which reads its
    settings then.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or "jax" in sys.modules:
        return
    directory = cache_directory() / "programs" / _processor()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    # On some processors XLA prints, for every program it finds, that tuning hints are no features of the machine.
    # JAX itself sets 1, which child processes inherit.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def _processor() -> str:
    """A name for processors that run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
