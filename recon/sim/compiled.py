"""Loops over single particles, compiled by numba (of the `sim` extra): XLA has no good form for particle showers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from recon.sim import import_extra


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call; what was compiled is kept beside the source.

    Arguments are scalars, arrays and named tuples of arrays; other compiled functions may be called. No check of
    shapes at run time is compiled in.

    Raises:
        ConfigError: numba is missing.
    """
    numba = import_extra("numba")
    # Division by zero makes an infinity, as in NumPy: the check costs more than the division.
    return numba.njit(cache=True, error_model="numpy")(inspect.unwrap(function))
