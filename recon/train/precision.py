"""Mixed precision: a network computes in bfloat16 where that is fast, its parameters and statistics stay float32."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

Precision = Literal["auto", "float32", "bfloat16"]
"""`auto` is bfloat16 on accelerators and float32 on a CPU, where bfloat16 is slower."""


def uses_bfloat16(precision: Precision) -> bool:
    """Whether a setting means bfloat16 on the device at hand."""
    return precision == "bfloat16" or (precision == "auto" and jax.default_backend() != "cpu")


def set_compute_precision(network: nnx.Module, precision: Precision) -> None:
    """Let the layers of a network compute in a precision, in place.

    Flax's layers convert parameters and inputs as they go; gradients reach the parameters in float32, and batch
    normalisation takes its means in float32 in either case.

    Args:
        network: of Flax's layers; what it computes beside them is in the precision of its operands.
        precision: "float32" undoes what "bfloat16" did.
    """
    # None is Flax's word for the precision of the parameters.
    dtype = jnp.bfloat16 if uses_bfloat16(precision) else None
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.Linear | nnx.Conv | nnx.BatchNorm | nnx.LayerNorm | nnx.Embed):
            module.dtype = dtype
