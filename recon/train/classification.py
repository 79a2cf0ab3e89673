"""Supervised classification, whatever is classified: loss, schedule, precision, early stopping, best network kept.

A task brings a network, batches by number and, if it wants to, metrics of its own:

    batches = labelled_batches(inputs, label, weight, Sampler(len(label), config.batch, config.seed))
    fitted = fit_classifier(network, batches, config, rows=len(label), evaluate=lambda net: {...})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx
from jaxtyping import Float, Int

from recon.errors import ConfigError
from recon.train.checkpoint import Checkpointer
from recon.train.loop import LoopConfig, fit
from recon.train.optim import OptimConfig, Optimizer
from recon.train.precision import Precision, set_compute_precision, uses_bfloat16
from recon.train.sampling import Sampler, take
from recon.train.state import LossFn, TrainState, create_state, data_mesh, make_train_step, merge_model
from recon.types import Array

Metrics = Mapping[str, float]


class LabelledBatch(NamedTuple):
    """What an update learns from.

    Attributes:
        inputs: of the network, a tree of arrays with a leading axis of b rows.
        label: class of every row; negative where unknown, such a row does not count.
        weight: of every row.
        extra: whatever else the loss of a task reads, a tree of arrays with the same axis.
    """

    inputs: Any
    label: Int[Array, " b"]
    weight: Float[Array, " b"]
    extra: Any = ()


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How to train a classifier.

    Attributes:
        directory: of the run.
        batch: rows of an update, on all devices together.
        epochs: passes over the sample; how long the run is unless `steps` says so.
        steps: updates; 0 leaves it to `epochs`.
        seed: of the order of the rows and of what is random in the network.
        optimizer: see `OptimConfig`.
        learning_rate: the peak.
        warmup: fraction of the run in which the learning rate rises to it; it then falls as a cosine.
        weight_decay: of matrices.
        clip_norm: largest norm of the gradient.
        ema_decay: of the averaged weights, which become the network.
        evaluations: how many, evenly over the run.
        patience: evaluations without a better `best_metric` after which the run ends; 0 for never.
        best_metric: the network with the best one is kept; "loss" is the smallest, all others the largest.
        precision: of the arithmetic.
        checkpoint_every: updates between checkpoints.
        max_seconds: wall time after which to stop with a checkpoint; the same call goes on from there.
        prefetch: batches made ahead in threads.
        progress: draw a progress bar.
        tensorboard: write TensorBoard events too.
    """

    directory: Path
    batch: int = 512
    epochs: float = 10.0
    steps: int = 0
    seed: int = 0
    optimizer: Optimizer = "adamw"
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    evaluations: int = 20
    patience: int = 0
    best_metric: str = "loss"
    precision: Precision = "auto"
    checkpoint_every: int = 200
    max_seconds: float | None = None
    prefetch: int = 2
    progress: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "evaluations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"FitConfig.{name} is {getattr(self, name)}; allowed: 1 or more")
        if self.steps < 0 or (not self.steps and not self.epochs > 0):
            raise ConfigError(
                f"FitConfig.steps is {self.steps} and epochs {self.epochs}; epochs above 0, or steps, are needed"
            )
        if not 0 <= self.warmup < 1 or self.patience < 0:
            raise ConfigError(
                f"FitConfig.warmup is {self.warmup}, patience {self.patience}; allowed: a fraction below 1, 0 or more"
            )

    def total_steps(self, rows: int) -> int:
        """Updates of a run on so many rows."""
        return self.steps or max(math.ceil(self.epochs * rows / self.batch), 1)

    def optim(self, rows: int) -> OptimConfig:
        """Of a run on so many rows."""
        total = self.total_steps(rows)
        return OptimConfig(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            warmup_steps=min(round(self.warmup * total), total - 1),
            total_steps=total,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            ema_decay=self.ema_decay,
        )

    def loop(self, rows: int) -> LoopConfig:
        """Of a run on so many rows."""
        total = self.total_steps(rows)
        return LoopConfig(
            total_steps=total,
            directory=self.directory,
            eval_every=max(total // self.evaluations, 1),
            checkpoint_every=self.checkpoint_every,
            best_metric=self.best_metric,
            best_mode="min" if self.best_metric == "loss" else "max",
            patience=self.patience,
            max_seconds=self.max_seconds,
            prefetch=self.prefetch,
            progress=self.progress,
            tensorboard=self.tensorboard,
        )

    def settings(self) -> dict[str, Any]:
        """What decides the result, as JSON values."""
        tree = asdict(self)
        for name in ("directory", "max_seconds", "prefetch", "progress", "tensorboard", "checkpoint_every"):
            del tree[name]
        return tree | {"precision": "bfloat16" if uses_bfloat16(self.precision) else "float32"}


class Fitted(NamedTuple):
    """A trained network.

    Attributes:
        network: in evaluation mode and float32, as it was at the best evaluation.
        step: updates it had made then.
        steps: updates of the run so far.
        finished: false when the time ran out before the last update.
        history: evaluations, each with its "step".
    """

    network: Any
    step: int
    steps: int
    finished: bool
    history: list[dict[str, float | int]]


def cross_entropy(
    logits: Float[Array, "b k"],
    label: Int[Array, " b"],
    weight: Float[Array, " b"] | None = None,
    class_weight: Float[Array, " k"] | None = None,
) -> Float[Array, ""]:
    """Weighted mean of the cross entropy.

    Args:
        logits: of the classes.
        label: class of every row; negative rows do not count.
        weight: of every row; 1 if not given.
        class_weight: a further factor for the rows of each class.

    Returns:
        0 where nothing counts.
    """
    known = label >= 0
    row = jnp.where(known, label, 0)
    factor = known.astype(jnp.float32) if weight is None else jnp.where(known, weight, 0)
    if class_weight is not None:
        factor = factor * class_weight[row]
    each = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), row)
    return (factor * each).sum() / jnp.maximum(factor.sum(), 1e-12)


def accuracy(
    logits: Float[Array, "b k"], label: Int[Array, " b"], weight: Float[Array, " b"] | None = None
) -> Float[Array, ""]:
    """Weighted fraction of the rows whose largest logit is that of their class; 0 where nothing counts."""
    factor = jnp.where(label >= 0, 1.0 if weight is None else weight, 0)
    return (factor * (logits.argmax(-1) == label)).sum() / jnp.maximum(factor.sum(), 1e-12)


def classification_loss(
    network: Any, batch: LabelledBatch, key: jax.Array
) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Loss of `fit_classifier` where a task brings none: cross entropy, with the accuracy as a metric."""
    del key  # dropout has streams of its own
    logits = network(batch.inputs)
    return cross_entropy(logits, batch.label, batch.weight), {
        "accuracy": accuracy(logits, batch.label, batch.weight)
    }


def labelled_batches(
    inputs: Any,
    label: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"] | None,
    sampler: Sampler,
    extra: Any = (),
    augment: Callable[[LabelledBatch, np.random.Generator], LabelledBatch] | None = None,
) -> Callable[[int], LabelledBatch]:
    """Batches by number from arrays on the host.

    Args:
        inputs: of the network, a tree of arrays of n rows.
        label: classes.
        weight: of the rows; 1 if not given.
        sampler: which rows.
        extra: see `LabelledBatch`.
        augment: changes a batch by chance; the generator is that of the step.
    """
    weights = np.ones(len(label), np.float32) if weight is None else np.asarray(weight, np.float32)
    whole = LabelledBatch(inputs, np.asarray(label, np.int32), weights, extra)

    def batch(step: int) -> LabelledBatch:
        chosen: LabelledBatch = take(whole, sampler(step))
        return chosen if augment is None else augment(chosen, np.random.default_rng((sampler.seed, 1, step)))

    return batch


def fit_classifier(
    network: nnx.Module,
    batches: Callable[[int], LabelledBatch],
    config: FitConfig,
    *,
    rows: int,
    evaluate: Callable[[Any], Metrics],
    loss: LossFn = classification_loss,
    settings: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train on all devices; goes on where an interrupted run of the same settings stopped.

    Args:
        network: with the weights to begin from; not changed.
        batches: batch by number of updates made.
        config: how.
        rows: of the sample, what an epoch is measured by.
        evaluate: metrics of the network with averaged weights in evaluation mode; `config.best_metric` is one.
        loss: of a batch.
        settings: of the task, kept beside those of `config`: a run goes on only with the same.

    Raises:
        ConfigError: the batch does not divide by the number of devices, or the directory has a run of other settings.
    """
    mesh = data_mesh()
    if mesh is not None and config.batch % mesh.size:
        raise ConfigError(f"a batch of {config.batch} does not divide by {mesh.size} devices")
    start = nnx.clone(network)
    start.train()
    set_compute_precision(start, config.precision)
    optim, loop = config.optim(rows), config.loop(rows)
    state = create_state(start, optim, seed=config.seed)
    final = fit(
        state,
        make_train_step(loss, optim, mesh=mesh),
        batches,
        loop,
        evaluate=lambda now: evaluate(evaluated(now)),
        run_config=config.settings() | dict(settings or {}),
    )
    return _best(final, create_state(start, optim, seed=config.seed), loop)


def evaluated(state: TrainState) -> Any:
    """The network of a state as it is used: averaged weights if there are any, float32, no dropout."""
    network = merge_model(state, ema=state.ema_params is not None)
    set_compute_precision(network, "float32")
    network.eval()
    return network


def _best(final: TrainState, like: TrainState, loop: LoopConfig) -> Fitted:
    steps = int(final.step)
    with Checkpointer(
        loop.directory, best_metric=loop.best_metric, best_mode=loop.best_mode, read_only=True
    ) as checkpointer:
        # Out of time before the first evaluation there is no best one yet.
        step = checkpointer.best_step
        best = None if step is None else checkpointer.restore(like, step)
        latest = checkpointer.restore(like)
    history = latest.history if latest else []
    stopped = loop.stops(history)
    network = evaluated(best.state if best else final)
    return Fitted(network, step or steps, steps, stopped or steps >= loop.total_steps, history)


@nnx.jit
def _logits(network: Any, inputs: Any) -> jax.Array:
    return jnp.asarray(network(inputs), jnp.float32)


def predict(network: nnx.Module, inputs: Any, batch: int = 512) -> Float[np.ndarray, "n k"]:
    """Logits of any number of rows, in batches of one size.

    Args:
        network: in evaluation mode.
        inputs: tree of host arrays of n rows, one at least.
        batch: rows at once; the last ones are padded with repetitions of the last row.
    """
    n = len(jax.tree.leaves(inputs)[0])
    size = min(batch, n)
    parts = []
    for begin in range(0, n, size):
        rows = np.minimum(np.arange(begin, begin + size), n - 1)
        parts.append(np.asarray(_logits(network, take(inputs, rows)))[: n - begin])
    return np.concatenate(parts)
