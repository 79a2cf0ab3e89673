"""Feature table: which columns a network reads and how they are scaled, as data beside the weights.

Every feature is `clip((transform(column) - mean) / scale)` in float32, the same in NumPy and when compiled; what is
not a number, infinite or absurd is replaced before, where the feature says by what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Shaped

from recon.errors import ConfigError, DataError
from recon.types import Array

Transform = Literal["none", "log1p", "arcsinh"]

ABSURD = 1e32
"""Larger magnitudes count as infinite (CMSSW, RecoBTag/FeatureTools, catch_infs)."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a network.

    Attributes:
        column: name of the quantity, in that quantity's unit.
        transform: "log1p" (for x > -1) and "arcsinh" (any sign) compress long tails.
        mean: subtracted after the transform, in the transformed unit.
        scale: divides the difference, in the transformed unit.
        clip: largest magnitude of the result, in units of `scale`; `None` for no limit.
        limits: lowest and highest result, where they are not of one magnitude; instead of `clip`.
        replace: stands in for NaN and for magnitudes above `ABSURD`, infinity included, before the transform; `None`
            to leave them.
    """

    column: str
    transform: Transform = "none"
    mean: float = 0.0
    scale: float = 1.0
    clip: float | None = None
    limits: tuple[float, float] | None = None
    replace: float | None = None

    def __post_init__(self) -> None:
        if self.transform not in get_args(Transform):
            raise ConfigError(
                f"feature {self.column!r}: transform {self.transform!r}; allowed: {get_args(Transform)}"
            )
        if not (np.isfinite(self.mean) and np.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(
                f"feature {self.column!r}: mean {self.mean}, scale {self.scale}; finite and scale above 0"
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(
                f"feature {self.column!r}: clip {self.clip}; allowed: above 0, or None for no limit"
            )
        if self.limits is not None and (self.clip is not None or not self.limits[0] < self.limits[1]):
            raise ConfigError(
                f"feature {self.column!r}: limits {self.limits}, clip {self.clip}; the lower limit must come first, "
                "and there can be limits or a clip, not both"
            )


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """The inputs of a network in their order.

    Attributes:
        features: at least one; the same column may be used twice, with two transforms.
    """

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("a feature table needs at least one feature")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, one a feature."""
        return tuple(feature.column for feature in self.features)


def apply_features(
    table: FeatureTable,
    columns: Mapping[str, Shaped[Array, "*n"]],
    valid: Bool[Array, "*n"] | None = None,
) -> Float32[Array, "*n f"]:
    """Select and scale.

    Args:
        table: what to compute.
        columns: at least those the table names, all of one shape: all NumPy or all JAX.
        valid: rows that are not padding; the others become 0 whatever they hold.

    Returns:
        features along a new last axis, NumPy or JAX as given.

    Raises:
        DataError: when a column is missing.
    """
    missing = [name for name in table.columns if name not in columns]
    if missing:
        raise DataError(f"the feature table needs the columns {missing}; given are {sorted(columns)}")
    selected = [columns[name] for name in table.columns]
    numpy = np if all(isinstance(column, np.ndarray) for column in selected) else jnp
    if valid is not None:
        # Before the transform, not after: a NaN in padding would otherwise reach the gradient.
        selected = [numpy.where(valid, column, numpy.zeros_like(column)) for column in selected]
    scaled = [
        _scale(feature, column, numpy) for feature, column in zip(table.features, selected, strict=True)
    ]
    stacked = numpy.stack(scaled, axis=-1)
    return stacked if valid is None else numpy.where(valid[..., None], stacked, numpy.float32(0))


def _transformed(transform: Transform, column: Any, numpy: ModuleType) -> Any:
    values = numpy.asarray(column, dtype=numpy.float32)
    if transform == "log1p":
        return numpy.log1p(values)
    if transform == "arcsinh":
        return numpy.arcsinh(values)
    return values


def _scale(feature: Feature, column: Any, numpy: ModuleType) -> Any:
    transformed = _transformed(feature.transform, _replaced(feature, column, numpy), numpy)
    # Constants in float32 on both sides: NumPy would round a Python float at another place than XLA.
    scaled = (transformed - numpy.float32(feature.mean)) / numpy.float32(feature.scale)
    low, high = feature.limits or (-(feature.clip or np.inf), feature.clip or np.inf)
    if feature.limits is None and feature.clip is None:
        return scaled
    return numpy.clip(scaled, numpy.float32(low), numpy.float32(high))


def _replaced(feature: Feature, column: Any, numpy: ModuleType) -> Any:
    if feature.replace is None:
        return column
    values = numpy.asarray(column, dtype=numpy.float32)
    # A comparison with NaN is false.
    good = numpy.abs(values) <= numpy.float32(ABSURD)
    return numpy.where(good, values, numpy.float32(feature.replace))


def fit_features(
    features: Sequence[Feature],
    columns: Mapping[str, Shaped[np.ndarray, "*n"]],
    valid: Bool[np.ndarray, "*n"] | None = None,
) -> FeatureTable:
    """Set mean and scale of every feature to the mean and the standard deviation of a sample.

    Args:
        features: their own mean and scale are replaced; a column that is constant keeps a scale of 1.
        columns: the sample, on the host.
        valid: rows that count.

    Returns:
        the table to be used on all further data.

    Raises:
        DataError: when a column is missing, empty or not finite after its transform; names column and row.
    """
    table = FeatureTable(features=tuple(features))
    missing = [name for name in table.columns if name not in columns]
    if missing:
        raise DataError(f"the feature table needs the columns {missing}; given are {sorted(columns)}")
    fitted = []
    for feature in features:
        column = np.asarray(columns[feature.column], np.float32)
        mask = np.ones(column.shape, bool) if valid is None else valid
        mean, deviation = _moments(feature, column, mask)
        fitted.append(replace(feature, mean=mean, scale=deviation))
    return FeatureTable(features=tuple(fitted))


def _moments(feature: Feature, column: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    if not mask.any():
        raise DataError(f"column {feature.column!r} has no valid row to take mean and deviation from")
    with np.errstate(invalid="ignore", divide="ignore"):
        values = _transformed(feature.transform, column, np).astype(np.float64)
    bad = np.flatnonzero(mask & ~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"column {feature.column!r}, row {bad[0]}: {column.flat[bad[0]]} is not finite after "
            f"transform {feature.transform!r}; {bad.size} such rows"
        )
    deviation = float(values[mask].std())
    return float(values[mask].mean()), deviation if deviation > 0 else 1.0


def features_to_json(table: FeatureTable) -> list[dict[str, Any]]:
    """The table as JSON-serialisable data."""
    return [asdict(feature) for feature in table.features]


def features_from_json(data: Sequence[Mapping[str, Any]]) -> FeatureTable:
    """The table back from `features_to_json`.

    Raises:
        ConfigError: when an entry has an unknown or a missing field.
    """
    try:
        return FeatureTable(features=tuple(Feature(**_entry(entry)) for entry in data))
    except TypeError as error:
        raise ConfigError(f"not a feature table: {error}") from error


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    limits = entry.get("limits")
    return {**entry, **({"limits": tuple(limits)} if limits is not None else {})}
