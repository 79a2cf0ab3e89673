"""Sizes of networks as papers quote them: parameters, and multiply-adds of one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
from flax import nnx

from recon.errors import ConfigError


def count_parameters(module: nnx.Module, *, statistics: bool = False) -> int:
    """Numbers that training fits.

    Args:
        module: the network.
        statistics: count the running means and variances of batch normalisation too, as a file of weights holds them.
    """
    kinds = (nnx.Param, nnx.BatchStat) if statistics else (nnx.Param,)
    state = nnx.state(module, nnx.Any(*kinds))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.as_pure(state)))


def count_multiply_adds(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiply-adds in the matrix products and convolutions of a function; what is element by element is not counted.

    A padded convolution counts in full. Nothing is computed: the function is only traced.

    Args:
        function: to be called with `arguments`.
        arguments: arrays, or `jax.ShapeDtypeStruct`.

    Raises:
        ConfigError: a loop whose length the program does not know.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    shapes = [variable.aval.shape for variable in equation.invars if hasattr(variable.aval, "shape")]
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return prod(equation.outvars[0].aval.shape) * prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        # A kernel of shape (outputs, inputs of a group, length): every output sums over the last two.
        outputs = shapes[1][parameters["dimension_numbers"].rhs_spec[0]]
        return prod(equation.outvars[0].aval.shape) * prod(shapes[1]) // outputs
    inner = [_count(jaxpr) for jaxpr in _inner(parameters)]
    if name == "while" and any(inner):
        raise ConfigError("the function has a loop of unknown length: multiply-adds cannot be counted")
    if name == "cond":
        return max(inner, default=0)
    return parameters.get("length", 1) * sum(inner) if name == "scan" else sum(inner)


def _inner(parameters: Any) -> Iterator[Any]:
    """The programs inside an equation."""
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
