"""Optimiser and learning-rate schedule from one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import optax  # type: ignore[import-untyped]
from optax import contrib

from recon.errors import ConfigError

Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adamw", "muon"]

UNDECAYED_PARAMETERS = frozenset({"bias", "scale"})
"""Names that weight decay leaves alone whatever their rank: scanned layers stack biases into matrices."""
ORTHOGONAL_LEAST = 16
"""Rows and columns that a matrix needs for Muon: of a narrower one, the last of a classifier say, little is left."""
_MUON_RMS = 0.2
"""Size of an update of Muon in units of the learning rate, about that of AdamW: one learning rate serves both."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW or Muon with linear warm-up, clipping of the global gradient norm and an optional average of the weights.

    Attributes:
        optimizer: "adamw", or "muon" (K. Jordan et al., 2024): updates of the kernels of linear layers are made
            orthogonal, so that no direction of a matrix is learned sooner than the others; AdamW with Nesterov's
            momentum for all else.
        learning_rate: the peak, reached after `warmup_steps`.
        warmup_steps: linear rise; step 0 already takes `learning_rate / warmup_steps`.
        total_steps: where the cosine ends; a run stopped earlier and resumed keeps its place on it.
        weight_decay: decoupled (arXiv:1711.05101), on matrices only, not on biases and scales; with Muon on its own.
        clip_norm: largest global norm of the gradient; 0 switches clipping off.
        schedule: "cosine" falls to `final_fraction * learning_rate`, "constant" stays at the peak.
        final_fraction: see `schedule`.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps no average.
    """

    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    total_steps: int = 10_000
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    schedule: Schedule = "cosine"
    final_fraction: float = 0.01
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(self.total_steps > 0, "total_steps", self.total_steps, "above 0")
        _require(
            0 <= self.warmup_steps < self.total_steps,
            "warmup_steps",
            self.warmup_steps,
            f"from 0 to below total_steps = {self.total_steps}",
        )
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or above")
        _require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "0 (off) or above")
        _require(
            self.schedule in get_args(Schedule), "schedule", self.schedule, f"one of {get_args(Schedule)}"
        )
        _require(
            self.optimizer in get_args(Optimizer),
            "optimizer",
            self.optimizer,
            f"one of {get_args(Optimizer)}",
        )
        _require(0 <= self.final_fraction <= 1, "final_fraction", self.final_fraction, "from 0 to 1")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "from 0 to below 1")


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"OptimConfig.{name} is {value!r}; allowed: {allowed}")


def make_schedule(config: OptimConfig) -> optax.Schedule:
    """Learning rate as a function of the number of updates already made."""
    peak = config.learning_rate
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(
            peak, config.total_steps - config.warmup_steps, alpha=config.final_fraction
        )
    else:
        after = optax.constant_schedule(peak)
    if config.warmup_steps == 0:
        return after
    # Starting at 0 would spend the first batch on an update of nothing.
    warmup = optax.linear_schedule(peak / config.warmup_steps, peak, config.warmup_steps - 1)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def decayed_parameters(params: Any) -> Any:
    """Tree of bool: true for the parameters that weight decay applies to."""

    def decays(path: tuple[Any, ...], leaf: Any) -> bool:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return leaf.ndim >= 2 and name not in UNDECAYED_PARAMETERS

    return jax.tree_util.tree_map_with_path(decays, params)


def orthogonal_parameters(params: Any) -> Any:
    """Tree of how Muon sees a parameter as a matrix; `None` for those that are AdamW's."""

    def dimensions(path: tuple[Any, ...], leaf: Any) -> contrib.MuonDimensionNumbers | None:
        kernel = jax.tree_util.keystr(path[-1:], simple=True) == "kernel"
        wide = leaf.ndim == 2 and min(leaf.shape) >= ORTHOGONAL_LEAST
        return contrib.MuonDimensionNumbers() if kernel and wide else None

    return jax.tree_util.tree_map_with_path(dimensions, params)


def make_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Clipping, then AdamW or Muon on the schedule of `config`."""
    schedule, decay = make_schedule(config), config.weight_decay
    mask = decayed_parameters if decay else None
    if config.optimizer == "muon":
        rule = contrib.muon(
            schedule,
            weight_decay=decay,
            weight_decay_mask=mask,
            muon_weight_dimension_numbers=orthogonal_parameters,
            consistent_rms=_MUON_RMS,
        )
    else:
        rule = optax.adamw(schedule, weight_decay=decay, mask=mask)
    if config.clip_norm == 0:
        return rule
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
