"""Formulas of weaver's data configurations, evaluated on columns.

They are Python expressions with `np`, `ak` and `math`. A configuration is data that travels between people, so only
arithmetic is let through: no other names, no functions that read or write files, no attributes of anything else.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np

from recon.errors import ConfigError, DataError

_NUMPY = {
    *(name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)),
    *("abs", "all", "any", "argmax", "argmin", "clip", "concatenate", "count_nonzero", "cumsum", "digitize"),
    *(
        "float32",
        "float64",
        "full_like",
        "int32",
        "int64",
        "isin",
        "max",
        "mean",
        "min",
        "nan_to_num",
        "ones_like",
    ),
    *("prod", "round", "searchsorted", "stack", "std", "sum", "where", "zeros_like", "pi", "e", "inf", "nan"),
    *("newaxis", "bool_"),
}
_AWKWARD = {
    *(
        "all",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "concatenate",
        "count",
        "count_nonzero",
        "drop_none",
        "fill_none",
    ),
    *("firsts", "flatten", "full_like", "local_index", "mask", "max", "mean", "min", "nan_to_num", "num"),
    *(
        "ones_like",
        "pad_none",
        "prod",
        "singletons",
        "sort",
        "std",
        "sum",
        "to_numpy",
        "unflatten",
        "values_astype",
    ),
    *("where", "zeros_like"),
}
_MATH = {name for name in dir(math) if not name.startswith("_")}
_METHODS = {"all", "any", "argmax", "argmin", "astype", "max", "mean", "min", "sum"}
_MODULES: Mapping[str, tuple[Any, set[str]]] = {
    "np": (np, _NUMPY),
    "numpy": (np, _NUMPY),
    "ak": (ak, _AWKWARD),
    "awkward": (ak, _AWKWARD),
    "math": (math, _MATH),
}

_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.IfExp),
    *(ast.Name, ast.Load, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Constant),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def _clip(values: Any, low: Any, high: Any) -> Any:
    return ak.where(values < low, low, ak.where(values > high, high, values))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "_clip": _clip,
    "_concat": lambda arrays, axis=0: ak.concatenate(arrays, axis=axis),
    "_batch_argsort": ak.argsort,
    "_batch_gather": lambda array, indices: array[indices],
    "abs": abs,
    "len": len,
    "max": max,
    "min": min,
}
"""Functions of weaver itself that formulas call by their bare name."""


def variables(formula: str, where: str) -> set[str]:
    """Names of the columns that a formula reads.

    Raises:
        ConfigError: something that is not allowed in a formula.
    """
    known = {*_MODULES, *_FUNCTIONS}
    tree = _parsed(formula, where)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - known


def evaluate(formula: str, columns: Mapping[str, Any], where: str) -> Any:
    """Evaluate a formula.

    Args:
        formula: as in the configuration.
        columns: awkward or NumPy arrays by name.
        where: opens every message.

    Raises:
        ConfigError: something that is not allowed in a formula.
        DataError: the formula fails on these columns.
    """
    code = compile(_parsed(formula, where), "<formula>", "eval")
    names = {name: module for name, (module, _) in _MODULES.items()} | dict(_FUNCTIONS)
    try:
        with np.errstate(all="ignore"):
            # Checked above: nothing but arithmetic on the columns.
            return eval(code, {"__builtins__": {}}, {**names, **columns})  # noqa: S307
    except Exception as problem:
        raise DataError(f"{where}: {formula!r} fails: {type(problem).__name__}: {problem}") from problem


def _parsed(formula: str, where: str) -> ast.Expression:
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except SyntaxError as problem:
        raise ConfigError(f"{where}: {formula!r} is no expression: {problem.msg}") from problem
    for node in ast.walk(tree):
        _check(node, formula, where)
    return tree


def _check(node: ast.AST, formula: str, where: str) -> None:
    if not isinstance(node, _NODES):
        raise ConfigError(f"{where}: {formula!r} contains {type(node).__name__}; allowed is arithmetic")
    if isinstance(node, ast.Name) and node.id.startswith("__"):
        raise ConfigError(f"{where}: {formula!r} uses {node.id!r}, which is not allowed")
    if isinstance(node, ast.Attribute):
        base = node.value.id if isinstance(node.value, ast.Name) else ""
        allowed = _MODULES[base][1] if base in _MODULES else _METHODS
        if node.attr not in allowed:
            of = f"of {base}" if base in _MODULES else "of a column"
            raise ConfigError(f"{where}: {formula!r} uses {node.attr!r} {of}, which is not allowed")
    if isinstance(node, ast.Call):
        function = node.func
        named = isinstance(function, ast.Name) and function.id in _FUNCTIONS
        if not named and not isinstance(function, ast.Attribute):
            raise ConfigError(
                f"{where}: {formula!r} calls something else than np, ak, math or a column's method"
            )
