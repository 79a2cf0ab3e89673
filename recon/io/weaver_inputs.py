"""Inputs of networks by weaver's data configurations: selection, new variables, standardisation, padding.

The meaning is that of weaver-core 0.5 (`weaver/utils/data`): a variable without a centre is left as it is; with one it
is `(x - centre) * scale`, clipped; NaN becomes 0; lists are cut at the length, padded with a constant or repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
from jaxtyping import Float32, Int32

from recon.errors import ConfigError, DataError
from recon.features import ABSURD
from recon.io.jets_layout import require
from recon.io.weaver import AUTO, Input, Variable, WeaverConfig
from recon.io.weaver_expressions import evaluate, variables
from recon.types import NOISE, Jets


class WeaverBatch(NamedTuple):
    """Jets as the configuration's network reads them.

    Attributes:
        inputs: by name, [j, variables, length].
        label: of every jet: row of the simple labels, or the first custom one; `NOISE` where none is set.
        observers: by name.
        truncated: by input, how many jets had more values than the length.
        replaced: values that were NaN or, without a clip, infinite; they are 0.
    """

    inputs: Mapping[str, Float32[np.ndarray, "j v l"]]
    label: Int32[np.ndarray, " j"]
    observers: Mapping[str, np.ndarray]
    truncated: Mapping[str, int]
    replaced: int


def select_jets(config: WeaverConfig, table: Any, *, test: bool = False) -> Any:
    """Make the new variables and keep the jets of the selection.

    Args:
        config: the configuration.
        table: awkward array of records with the branches that it reads.
        test: for evaluation.

    Returns:
        An awkward array of records.

    Raises:
        DataError: a branch is missing (named, with near spellings), or a formula fails.
    """
    wanted = config.columns(test=test)
    require(wanted, table.fields, f"{config.path}")
    columns = {name: table[name] for name in table.fields}
    selection = config.test_selection if test else config.selection
    needed = {variable.name for one in config.inputs for variable in one.variables}
    needed |= (variables(selection, config.path) if selection else set()) | set(config.observers)
    needed |= config.label_columns()
    for name in sorted(needed):
        _make(name, config, columns, ())
    made = ak.Array({name: columns[name] for name in columns if name in needed | set(wanted)})
    if not selection:
        return made
    where = f"{config.path}, selection {selection!r}"
    return made[_one_each(evaluate(selection, columns, where), len(made), where).astype(bool)]


def _one_each(values: Any, jets: int, where: str) -> np.ndarray:
    """What a formula gives, if it is one number a jet."""
    try:
        numbers = ak.to_numpy(values, allow_missing=False)
    except ValueError as problem:
        raise DataError(
            f"{where}: one number a jet is needed; it has lists of them or none: {problem}"
        ) from problem
    if numbers.shape != (jets,):
        raise DataError(
            f"{where}: one number a jet is needed; it has the shape {numbers.shape} for {jets} jets"
        )
    return np.asarray(numbers)


def _make(name: str, config: WeaverConfig, columns: dict[str, Any], chain: tuple[str, ...]) -> None:
    """Compute a new variable after those that it needs."""
    # weaver leaves a branch alone that has the name of a new variable.
    if name in columns or name not in config.new_variables:
        return
    if name in chain:
        raise ConfigError(f"{config.path}: new variables depend on each other: {' -> '.join((*chain, name))}")
    formula, where = config.new_variables[name], f"{config.path}, {name}"
    for other in sorted(variables(formula, where)):
        _make(other, config, columns, (*chain, name))
    columns[name] = evaluate(formula, columns, where)


def standardise(config: WeaverConfig, table: Any) -> WeaverConfig:
    """Set the centre and scale of variables marked "auto": the median, and one over the wider 34 % quantile.

    Args:
        config: the configuration.
        table: of `select_jets`.

    Returns:
        The configuration to use on all further data.

    Raises:
        DataError: there is no value of a variable, or most are infinite.
    """

    def fitted(variable: Variable) -> Variable:
        if variable.center != AUTO:
            return variable
        values = np.nan_to_num(ak.to_numpy(ak.flatten(table[variable.name], axis=None)))
        low, center, high = np.percentile(values, [16, 50, 84]) if values.size else (np.nan,) * 3
        spread = max(high - center, center - low)
        if not spread <= ABSURD:
            raise DataError(
                f"{config.path}: {variable.name} cannot be standardised: its {values.size} values have the 16, 50 and "
                f"84 % quantiles {low:g}, {center:g} and {high:g}"
            )
        return replace(variable, center=float(center), scale=float(1 / spread) if spread > 0 else 1.0)

    return replace(
        config,
        inputs=tuple(replace(one, variables=tuple(map(fitted, one.variables))) for one in config.inputs),
    )


def load_inputs(config: WeaverConfig, table: Any, *, test: bool = False) -> WeaverBatch:
    """Standardise and pad.

    Args:
        config: without "auto" left; see `standardise`.
        table: of `select_jets`.
        test: hand the observers through.

    Returns:
        What the network reads.

    Raises:
        ConfigError: a variable is not standardised yet.
        DataError: a jet with two labels, variables of one input that differ in length.
    """
    inputs, truncated, replaced = {}, {}, 0
    for one in config.inputs:
        inputs[one.name], truncated[one.name], bad = _padded(one, table, config.path)
        replaced += bad
    observers = {name: ak.to_numpy(table[name]) for name in config.observers} if test else {}
    return WeaverBatch(inputs, _label(config, table), observers, truncated, replaced)


def _padded(one: Input, table: Any, where: str) -> tuple[Float32[np.ndarray, "j v l"], int, int]:
    n_jets, replaced = len(table), 0
    out = np.empty((n_jets, len(one.variables), one.length), np.float32)
    counts = first = place = None
    for row, variable in enumerate(one.variables):
        column = table[variable.name]
        own = np.asarray(ak.num(column), np.int64) if column.ndim == 2 else np.ones(n_jets, np.int64)
        if counts is None:
            counts, first = own, np.cumsum(own) - own
            step = np.arange(one.length)
            within = step % np.maximum(counts, 1)[:, None] if one.pad_mode == "wrap" else step[None]
            there = (counts > 0)[:, None] if one.pad_mode == "wrap" else step < counts[:, None]
            place = np.where(there, first[:, None] + within, -1)
        elif not np.array_equal(own, counts):
            raise DataError(
                f"{where}: {variable.name} has another length than the other variables of {one.name!r}"
            )
        flat = np.asarray(ak.flatten(column, axis=None), np.float32)
        values, bad = _standard(variable, flat, where)
        replaced += bad
        padding = variable.pad_value if one.pad_mode == "constant" else 0.0
        # The last value is what padding, at place -1, takes.
        out[:, row] = np.append(values, np.float32(padding))[place]
    return out, int((counts > one.length).sum()) if counts is not None else 0, replaced


def _standard(variable: Variable, flat: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    if variable.center == AUTO:
        raise ConfigError(
            f"{where}: {variable.name} is to be standardised automatically; call standardise() first"
        )
    if variable.center is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            flat = (flat - np.float32(variable.center)) * np.float32(variable.scale)
        flat = np.clip(flat, np.float32(variable.low), np.float32(variable.high))
    bad = ~np.isfinite(flat)
    return np.where(bad, np.float32(0), flat), int(bad.sum())


def _label(config: WeaverConfig, table: Any) -> Int32[np.ndarray, " j"]:
    if not config.labels:
        return np.full(len(table), NOISE, np.int32)
    if isinstance(config.labels, Mapping):
        name, formula = next(iter(config.labels.items()))
        where = f"{config.path}, label {name}"
        values = evaluate(formula, {key: table[key] for key in table.fields}, where)
        return _one_each(values, len(table), where).astype(np.int32)
    flags = np.stack([np.asarray(table[name]) for name in config.labels], axis=1).astype(np.int64)
    twice = np.flatnonzero(flags.sum(axis=1) > 1)
    if twice.size:
        names = [name for name, on in zip(config.labels, flags[twice[0]], strict=True) if on]
        raise DataError(f"{config.path}: jet {twice[0]} has {len(names)} labels: {', '.join(names)}")
    return np.where(flags.any(axis=1), flags.argmax(axis=1), NOISE).astype(np.int32)


def weaver_jets(
    batch: WeaverBatch,
    candidates: str = "pf_features",
    candidate_mask: str = "pf_mask",
    vertices: str | None = "sv_features",
    vertex_mask: str = "sv_mask",
) -> Jets:
    """Bring a batch into the form of our own networks.

    Args:
        batch: of `load_inputs`.
        candidates: name of the input with the candidates' features.
        candidate_mask: name of their mask.
        vertices: the same for secondary vertices; there are none if the configuration has no such input.
        vertex_mask: name of their mask.

    Returns:
        The jets; features of padding are 0.

    Raises:
        ConfigError: the configuration has no such input.
    """
    require_inputs((candidates, candidate_mask), batch.inputs)
    values, valid = _features(batch.inputs, candidates, candidate_mask)
    if vertices is not None and vertices in batch.inputs:
        require_inputs((vertex_mask,), batch.inputs)
        return Jets(values, valid, *_features(batch.inputs, vertices, vertex_mask), batch.label)
    n_jets = len(batch.label)
    return Jets(values, valid, np.zeros((n_jets, 1, 0), np.float32), np.zeros((n_jets, 1), bool), batch.label)


def require_inputs(names: Iterable[str], inputs: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` for an input that a configuration does not have."""
    if missing := [name for name in names if name not in inputs]:
        raise ConfigError(f"the data configuration has no input {missing}; it has {list(inputs)}")


def _features(inputs: Mapping[str, np.ndarray], name: str, mask: str) -> tuple[np.ndarray, np.ndarray]:
    valid = inputs[mask][:, 0] != 0
    return np.where(valid[..., None], inputs[name].transpose(0, 2, 1), np.float32(0)), valid
