"""Checkpoints of a run: state, position in the data, configuration, evaluations (the only importer of orbax).

A run's directory holds `config.json` and `checkpoints/<step>/`. Orbax writes a step under another name and
renames it when it is complete, so whatever lies under a step's own name is whole, also after `kill -9`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file
from recon.io.weights import flatten_state, unflatten_state
from recon.train.state import TrainState

# Orbax logs some forty lines a checkpoint at INFO; warnings still come through.
logging.getLogger("absl").setLevel(logging.WARNING)

Json = Mapping[str, Any]
Which = int | Literal["latest", "best"]


class Checkpoint(NamedTuple):
    """What a checkpoint gives back.

    Attributes:
        state: of the run.
        position: of the data iterator, as it was given to `Checkpointer.save`.
        history: evaluation rows so far, each with its "step".
    """

    state: TrainState
    position: dict[str, Any]
    history: list[dict[str, float | int]]


class Checkpointer:
    """Writes and reads the checkpoints below one directory; a context manager, as writing goes on behind.

    Args:
        directory: of the run; made if absent.
        keep: how many of the newest checkpoints stay.
        best_metric: evaluation metric whose best checkpoint stays as well.
        best_mode: whether the best is the largest or the smallest.
        asynchronous: write in the background; an error then surfaces at the next call.
        read_only: for looking at a run, also one that is going on in another process.

    Raises:
        DataError: when a directory to be read holds no run.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 3,
        best_metric: str | None = None,
        best_mode: Literal["max", "min"] = "max",
        asynchronous: bool = True,
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ConfigError(f"keep is {keep}; at least 1 checkpoint must stay for a run to resume")
        self.directory = Path(directory).absolute()
        if read_only and not (self.directory / "checkpoints").is_dir():
            raise DataError(f"{self.directory} is no training run: it has no folder 'checkpoints'")
        self._read_only = read_only
        self._best_metric = best_metric
        self._worst = -math.inf if best_mode == "max" else math.inf
        self._manager = ocp.CheckpointManager(
            self.directory / "checkpoints",
            # Named handlers let a new process read the shapes before it restores.
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "record": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._preservation(keep, best_mode),
                best_fn=self._quality if best_metric else None,
                best_mode=best_mode,
                # What a killed process left half written; a reader must not touch what another is writing.
                # (Orbax's own read_only warns at every opening, though nothing is wrong.)
                cleanup_tmp_directories=not read_only,
                enable_async_checkpointing=asynchronous,
            ),
        )

    def _quality(self, metrics: Json) -> float:
        value = float(metrics.get(self._best_metric or "", self._worst))
        return self._worst if math.isnan(value) else value

    def _preservation(self, keep: int, best_mode: str) -> Any:
        latest = checkpoint_managers.LatestN(keep)
        if self._best_metric is None:
            return latest
        best = checkpoint_managers.BestN(get_metric_fn=self._quality, reverse=best_mode == "min", n=1)
        return checkpoint_managers.AnyPreservationPolicy([latest, best])

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being written and let go of the directory."""
        self._manager.close()

    def wait(self) -> None:
        """Return once everything saved so far is complete on disk."""
        self._manager.wait_until_finished()

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint by `best_metric`; `None` when no checkpoint was evaluated."""
        if self._best_metric is None:
            return None
        step = self._manager.best_step()
        if step is None or self._best_metric not in (self._manager.metrics(step) or {}):
            return None
        return int(step)

    def save(
        self,
        state: TrainState,
        *,
        position: Json | None = None,
        history: Sequence[Json] = (),
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Save at the state's own step.

        Args:
            state: its arrays are copied before the call returns.
            position: of the data iterator, JSON.
            history: evaluation rows so far, JSON.
            metrics: evaluation of this very state, if there was one.

        Returns:
            False when a checkpoint of this step exists already.
        """
        if self._read_only:
            raise ConfigError(f"{self.directory} was opened with read_only=True; open it again to save")
        step = int(state.step)
        if step in self._manager.all_steps():
            return False
        record = {"position": dict(position or {}), "history": [dict(row) for row in history]}
        return bool(
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    # Host copies: the next update overwrites the donated buffers while orbax still writes.
                    state=ocp.args.StandardSave(flatten_state(state)),
                    record=ocp.args.JsonSave(record),
                ),
                metrics=dict(metrics or {}) if self._best_metric else None,
            )
        )

    def restore(self, like: TrainState, step: Which = "latest") -> Checkpoint | None:
        """Read a checkpoint.

        Args:
            like: a state of the same model and optimiser, `create_state(...)`; it gives structure and types.
            step: which one.

        Returns:
            None when `step` is "latest" and there is no checkpoint yet.

        Raises:
            DataError: when the checkpoint asked for is absent or cannot be read.
            ConfigError: when it belongs to another model or optimiser; the message names the arrays.
        """
        chosen = self._choose(step)
        if chosen is None:
            return None
        path = self.directory / "checkpoints" / str(chosen)
        try:
            stored = self._manager.restore(
                chosen,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()),
            )
        except Exception as error:  # orbax, tensorstore and json raise dozens of types for a damaged one
            raise DataError(
                f"the checkpoint {path} cannot be read ({error}); delete it to use an older one"
            ) from error
        try:
            state = unflatten_state(like, stored["state"])
        except ConfigError as error:
            raise ConfigError(f"the checkpoint {path} is of another model or optimiser: {error}") from error
        return Checkpoint(state, stored["record"]["position"], stored["record"]["history"])

    def _choose(self, step: Which) -> int | None:
        if step == "latest":
            return self.steps[-1] if self.steps else None
        chosen = self.best_step if step == "best" else step
        if chosen not in self.steps:
            raise DataError(f"{self.directory} has no checkpoint {step!r}; complete are {self.steps}")
        return chosen


def record_config(directory: Path, config: Json) -> None:
    """Write `config.json` for a new run; for an old one check that it goes on with what it began with.

    Args:
        directory: of the run; made if absent.
        config: JSON-serialisable: whatever decides the result of the run.

    Raises:
        ConfigError: when the directory holds a run of another configuration; the message names the settings.
        DataError: when the `config.json` there is not JSON.
    """
    path = Path(directory) / "config.json"
    given = json.loads(json.dumps(config))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(given, indent=2, sort_keys=True) + "\n").encode())
        return
    stored = read_config(directory)
    differing = sorted(key for key in stored | given if stored.get(key) != given.get(key))
    if differing:
        changes = "; ".join(
            f"{key}: stored {stored.get(key)!r}, given {given.get(key)!r}" for key in differing
        )
        raise ConfigError(f"{path} belongs to a run with other settings: {changes}; use another directory")


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration a run was started with.

    Raises:
        DataError: when `config.json` is absent or no JSON object.
    """
    path = Path(directory) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} holds a {type(config).__name__}, a JSON object is needed")
    return config
