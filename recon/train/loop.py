"""The training loop: batches by step number, exact resume, a time budget, evaluation and logs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax

from recon.errors import ConfigError, ReconError
from recon.train.checkpoint import Checkpointer, record_config
from recon.train.log import ProgressBar, RunLog
from recon.train.state import Batch, StepFn, TrainState

Batches = Callable[[int], Batch]
"""Number of updates made -> batch of the next one; the same answer every time, or a resumed run differs."""

Evaluate = Callable[[TrainState], Mapping[str, float]]
Callback = Callable[[int, TrainState, Mapping[str, float]], None]
"""(step, state, latest metrics), whenever metrics reach the log; not to be kept, the state is donated."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and what to write where.

    Attributes:
        total_steps: of the run, over all its resumed parts.
        directory: of the run: `config.json`, `metrics.csv`, `evaluation.csv`, `checkpoints/`.
        eval_every: steps between evaluations, each followed by a checkpoint; 0 evaluates at the end only.
        checkpoint_every: steps between checkpoints.
        log_every: steps between looks at the metrics; in between the device is never waited for.
        keep: how many of the newest checkpoints stay.
        best_metric: evaluation metric whose best checkpoint stays as well.
        best_mode: whether the best is the largest or the smallest.
        patience: evaluations in a row without a better `best_metric` after which the run ends; 0 for never.
        max_seconds: wall time after which this part of the run stops with a checkpoint; `None` for no limit.
        prefetch: batches made ahead, each in a thread of its own; 0 makes them in the loop.
        progress: draw a progress bar.
        tensorboard: write TensorBoard events.
    """

    total_steps: int
    directory: Path
    eval_every: int = 0
    checkpoint_every: int = 1000
    log_every: int = 20
    keep: int = 3
    best_metric: str | None = None
    best_mode: Literal["max", "min"] = "max"
    patience: int = 0
    max_seconds: float | None = None
    prefetch: int = 0
    progress: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, least in {
            "total_steps": 1,
            "eval_every": 0,
            "checkpoint_every": 1,
            "log_every": 1,
            "keep": 1,
            "patience": 0,
            "prefetch": 0,
        }.items():
            if getattr(self, name) < least:
                raise ConfigError(f"LoopConfig.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.patience and self.best_metric is None:
            raise ConfigError(
                "LoopConfig.patience needs a best_metric: without it nothing is better or worse"
            )

    def stops(self, history: Sequence[Mapping[str, float | int]]) -> bool:
        """Whether the evaluations so far end the run before its last step."""
        if not self.patience or self.best_metric is None:
            return False
        sign = 1.0 if self.best_mode == "max" else -1.0
        values = [sign * row[self.best_metric] for row in history]
        # What is not a number is never better.
        ranks = [-math.inf if math.isnan(value) else value for value in values]
        return bool(ranks) and len(ranks) - 1 - ranks.index(max(ranks)) >= self.patience


def fit(
    state: TrainState,
    step_fn: StepFn,
    batches: Batches,
    config: LoopConfig,
    *,
    evaluate: Evaluate | None = None,
    callbacks: Sequence[Callback] = (),
    run_config: Mapping[str, Any] | None = None,
    batch_name: Callable[[int], str] = "batch {}".format,
) -> TrainState:
    """Train, going on from the newest checkpoint in the directory if there is one.

    A run that was killed and started again ends with bitwise the parameters and log files of one that was
    not, as long as `batches`, `evaluate` and the machine are the same.

    Args:
        state: from `create_state`; its buffers are consumed.
        step_fn: from `make_train_step`.
        batches: batch of each step.
        config: of the loop; may change from one part of a run to the next.
        evaluate: metrics of a state, at `eval_every` and at the last step.
        callbacks: called with the newest metrics.
        run_config: JSON kept as `config.json`; a resumed run must bring the same.
        batch_name: what error messages call the batch of a step (a file, an event).

    Returns:
        the state after `total_steps`, or earlier when `max_seconds` ran out or patience did.

    Raises:
        ReconError: when loss or gradient is not finite; names step and batch. Checkpoints are from before.
        ConfigError: when the directory belongs to a run of other settings or of another model.
    """
    deadline = math.inf if config.max_seconds is None else time.monotonic() + config.max_seconds
    record_config(config.directory, run_config or {})
    with Checkpointer(
        config.directory, keep=config.keep, best_metric=config.best_metric, best_mode=config.best_mode
    ) as checkpointer:
        restored = checkpointer.restore(state)
        history = restored.history if restored else []
        state = restored.state if restored else state
        start = int(state.step)
        with (
            closing(RunLog(config.directory, resume_step=start, tensorboard=config.tensorboard)) as log,
            ProgressBar(config.total_steps, done=start, enabled=config.progress) as bar,
        ):
            run = _Run(
                config=config,
                checkpointer=checkpointer,
                log=log,
                bar=bar,
                history=history,
                evaluate=evaluate,
                callbacks=callbacks,
                batch_name=batch_name,
                flushed=(start, time.monotonic()),
            )
            return run.train(state, step_fn, batches, deadline)


@dataclass(kw_only=True)
class _Run:
    """One part of a run, between a start or resume and the next stop."""

    config: LoopConfig
    checkpointer: Checkpointer
    log: RunLog
    bar: ProgressBar
    history: list[dict[str, float | int]]
    evaluate: Evaluate | None
    callbacks: Sequence[Callback]
    batch_name: Callable[[int], str]
    flushed: tuple[int, float]
    pending: list[tuple[int, dict[str, jax.Array]]] = field(default_factory=list)

    def train(self, state: TrainState, step_fn: StepFn, batches: Batches, deadline: float) -> TrainState:
        if self.config.stops(self.history):
            return state
        for step, batch in _numbered(batches, int(state.step), self.config):
            state, metrics = step_fn(state, batch)
            self.pending.append((step, metrics))
            # The device may lag two steps behind, no more: every step ahead holds a batch in its memory.
            jax.block_until_ready(self.pending[-3:-2])
            if step % self.config.log_every == 0:
                self._flush(state)
            out_of_time = time.monotonic() > deadline
            if out_of_time or self._due(step):
                self._checkpoint(step, state)
            if out_of_time or (self._evaluation_due(step) and self.config.stops(self.history)):
                break
        return state

    def _due(self, step: int) -> bool:
        return step % self.config.checkpoint_every == 0 or self._evaluation_due(step)

    def _evaluation_due(self, step: int) -> bool:
        every = self.config.eval_every or self.config.total_steps
        return step == self.config.total_steps or step % every == 0

    def _checkpoint(self, step: int, state: TrainState) -> None:
        """Everything up to `step` is checked, logged and on disk before the checkpoint that relies on it."""
        self._flush(state)
        metrics = None
        if self.evaluate is not None and self._evaluation_due(step):
            metrics = {name: float(value) for name, value in self.evaluate(state).items()}
            self.history.append({"step": step, **metrics})
            self.log.evaluation(step, metrics)
        self.log.flush()
        self.checkpointer.save(state, position={"next_batch": step}, history=self.history, metrics=metrics)

    def _flush(self, state: TrainState) -> None:
        """Fetch the metrics since the last time, log them, refuse what is not finite, call back."""
        if not self.pending:
            return
        rows = [
            (step, {name: float(value) for name, value in metrics.items()})
            for step, metrics in jax.device_get(self.pending)
        ]
        self.pending = []
        self.log.training(rows)
        for step, metrics in rows:
            self._check_finite(step, metrics)
        step, metrics = rows[-1]
        before, now = self.flushed, time.monotonic()
        self.flushed = (step, now)
        self.bar.update(step, metrics["loss"], (step - before[0]) / max(now - before[1], 1e-9))
        for callback in self.callbacks:
            callback(step, state, metrics)

    def _check_finite(self, step: int, metrics: Mapping[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise ReconError(
                    f"{name} is {metrics[name]} at step {step}, {self.batch_name(step - 1)}; "
                    "it must be finite: lower the learning rate or look at that batch. "
                    f"Checkpoints from before it are in {self.checkpointer.directory}"
                )


def _numbered(batches: Batches, start: int, config: LoopConfig) -> Iterator[tuple[int, Batch]]:
    """(step that the batch leads to, batch) up to the last step, made ahead in threads if asked for."""
    if config.prefetch == 0:
        for made in range(start, config.total_steps):
            yield made + 1, batches(made)
        return
    with ThreadPoolExecutor(config.prefetch) as pool:
        ahead: deque[Future[Batch]] = deque()
        try:
            for made in range(start, config.total_steps):
                while len(ahead) < config.prefetch and made + len(ahead) < config.total_steps:
                    ahead.append(pool.submit(batches, made + len(ahead)))
                yield made + 1, ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
