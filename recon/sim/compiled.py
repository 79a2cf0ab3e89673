"""Loops over single particles, compiled by numba (of the `sim` extra): XLA has no good form for particle showers."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from recon.cache import cache_directory
from recon.sim import import_extra


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; what was compiled is kept in the cache.

    Arguments are scalars, arrays and named tuples of arrays; other compiled functions may be called. No check of
    shapes at run time is compiled in.

    Raises:
        ConfigError: numba is missing.
    """
    numba = import_extra("numba")
    before = numba.config.CACHE_DIR
    # Numba notices changes of the function's own file, but not of the functions that it calls: a folder for every
    # state of the sources does.
    numba.config.CACHE_DIR = before or str(cache_directory() / "numba" / _state_of_sources())
    try:
        # Division by zero makes an infinity, as in NumPy: the check costs more than the division.
        return numba.njit(cache=True, error_model="numpy")(inspect.unwrap(function))
    finally:
        numba.config.CACHE_DIR = before


@lru_cache(maxsize=1)
def _state_of_sources() -> str:
    """A name for what this folder's sources of compiled functions are now."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"compiled" in source or b"neutrino" in source:
            digest.update(os.fsencode(path.name) + source)
    return digest.hexdigest()[:16]
