"""The model repository: a folder `<name>/<version>/` of artefacts, loaded and unloaded while the server runs."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from serving.artifact import Artifact
from serving.batching import Scheduler
from serving.errors import ArtifactError, InvalidInput, ModelNotFound, ModelNotReady, ServingError
from serving.manifest import versions_in
from serving.runner import Runner
from serving.statistics import StatisticsRecorder
from serving.types import IndexEntry, RequestedOutput, TensorSpec

log = logging.getLogger(__name__)

Control = Literal["none", "explicit", "poll"]
Report = Callable[[str, str, int, int], None]
"""Hears (model, version, buckets done, buckets in all) while a model warms up."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")  # no file has a longer name


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """One version that takes requests."""

    artifact: Artifact
    scheduler: Scheduler
    statistics: StatisticsRecorder

    @cached_property
    def outputs(self) -> dict[str, TensorSpec]:
        """What it gives, by name."""
        return {spec.name: spec for spec in self.artifact.manifest.outputs}

    @cached_property
    def everything(self) -> list[tuple[TensorSpec, RequestedOutput]]:
        """All outputs, for callers that name none."""
        return [(spec, RequestedOutput(name)) for name, spec in self.outputs.items()]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a model is run.

    Attributes:
        instances: executions at the same time.
        queue: most requests that wait.
    """

    instances: int = 1
    queue: int = 256

    def __post_init__(self) -> None:
        if self.instances < 1 or self.queue < 1:
            raise InvalidInput(
                f"instances = {self.instances}, queue = {self.queue}: at least 1 of each is allowed"
            )


class Repository:
    """The models of a folder.

    Args:
        root: the folder.
        control: "none" loads everything at the start, "explicit" only what is asked for, "poll" also looks for
            changes every `poll_seconds`.
        limits: of every model.
        report: hears of warm-ups.
        poll_seconds: between two looks.
        drain_seconds: an old version gets to answer what it has when a new one has taken its place.

    Raises:
        ArtifactError: when the folder is none, or holds no models and is not controlled explicitly.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        control: Control = "none",
        limits: Limits | None = None,
        report: Report = lambda name, version, done, total: None,
        poll_seconds: float = 5.0,
        drain_seconds: float = 30.0,
    ) -> None:
        self.root, self.control, self.limits = Path(root), control, limits or Limits()
        self._report, self._drain_seconds = report, drain_seconds
        self._models: dict[str, dict[str, LoadedModel]] = {}
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._changing = threading.RLock()
        self._stopped = threading.Event()
        self.is_started = False
        if control not in get_args(Control):
            raise InvalidInput(f"control {control!r}; allowed are {get_args(Control)}")
        if not self.root.is_dir():
            raise ArtifactError(
                f"{self.root} is no folder; a model repository holds <name>/<version>/manifest.json"
            )
        if control == "poll":
            poller = threading.Thread(
                target=self._poll, args=(poll_seconds,), name="poll-models", daemon=True
            )
            poller.start()

    def start(self) -> None:
        """Load what is to be loaded at the start.

        Raises:
            ArtifactError: a model cannot be loaded, or there is none.
        """
        if self.control != "explicit":
            names = self.names()
            if not names:
                raise ArtifactError(
                    f"{self.root} holds no models: <name>/<version>/manifest.json is looked for"
                )
            for name in names:
                self.load(name)
        self.is_started = True

    def names(self) -> list[str]:
        """Models in the folder."""
        return sorted(
            path.name for path in self.root.iterdir() if NAME.fullmatch(path.name) and versions_in(path)
        )

    def get(self, name: str, version: str = "") -> LoadedModel:
        """A loaded version; the newest if none is named.

        Raises:
            ModelNotFound: neither loaded nor in the folder.
            ModelNotReady: in the folder, but not loaded.
        """
        versions = self._models.get(name)
        if versions:
            chosen = version or max(versions, key=int)
            if chosen in versions:
                return versions[chosen]
        self._missing(name, version)
        raise ModelNotReady(f"model {name!r}{_of(version)} is not loaded")

    def _missing(self, name: str, version: str) -> None:
        """Raise if the model does not exist."""
        on_disk = self._on_disk(name)
        if not on_disk:
            known = ", ".join(sorted({*self.names(), *self._models})) or "none"
            raise ModelNotFound(f"there is no model {name!r}; known are: {known}")
        if version and version not in {*on_disk, *self._models.get(name, {})}:
            raise ModelNotFound(f"model {name!r} has no version {version!r}; it has {', '.join(on_disk)}")

    def _on_disk(self, name: str) -> list[str]:
        return versions_in(self.root / name) if NAME.fullmatch(name) else []

    def versions(self, name: str) -> tuple[str, ...]:
        """Loaded versions of a model."""
        return tuple(sorted(self._models.get(name, {}), key=int))

    def loaded(self) -> list[LoadedModel]:
        """Everything that takes requests."""
        return [model for versions in list(self._models.values()) for model in list(versions.values())]

    def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Load all versions of a model, or load again what has changed; requests go to the old one until then.

        Args:
            name: of the model.
            parameters: "config": JSON of a Triton ModelConfig, of which `instance_group` and
                `dynamic_batching.default_queue_policy.max_queue_size` are taken.

        Raises:
            ModelNotFound: it is not in the folder.
            ArtifactError: it cannot be loaded; what was loaded before stays.
            InvalidInput: other parameters.
        """
        limits = _limits(parameters or {}, self.limits)
        with self._changing:
            on_disk = self._on_disk(name)
            if not on_disk:
                self._missing(name, "")
            for version in on_disk:
                self._load_version(name, version, limits, forced=bool(parameters))
            for version in set(self._models.get(name, {})) - set(on_disk):
                self._unload_version(name, version)

    def _load_version(self, name: str, version: str, limits: Limits, *, forced: bool) -> None:
        before = self._models.get(name, {}).get(version)
        try:
            artifact = Artifact(self.root / name / version)
            if (artifact.manifest.name, artifact.manifest.version) != (name, version):
                raise ArtifactError(
                    f"{artifact.path} holds model {artifact.manifest.name!r}, version {artifact.manifest.version!r}"
                )
            if before is not None and before.artifact.checksum == artifact.checksum and not forced:
                return
            if before is None:
                self._states[name, version] = ("LOADING", "")
            model = self._warm(artifact, limits)
        except ServingError as error:
            if before is None:
                self._states[name, version] = ("UNAVAILABLE", str(error))
            raise
        self._models[name] = {**self._models.get(name, {}), version: model}
        self._states[name, version] = ("READY", "")
        if before is not None:
            before.scheduler.close(self._drain_seconds)

    def _warm(self, artifact: Artifact, limits: Limits) -> LoadedModel:
        manifest = artifact.manifest
        try:
            runner = Runner(artifact)
            runner.warm(lambda done, total: self._report(manifest.name, manifest.version, done, total))
        except ServingError:
            raise
        except Exception as error:
            raise ArtifactError(f"{artifact.path} does not run: {error}") from error
        statistics = StatisticsRecorder()
        scheduler = Scheduler(runner, instances=limits.instances, queue=limits.queue, statistics=statistics)
        return LoadedModel(artifact=artifact, scheduler=scheduler, statistics=statistics)

    def unload(self, name: str) -> None:
        """Unload all versions of a model once they have answered what they have.

        Raises:
            ModelNotFound: it is neither loaded nor in the folder.
        """
        with self._changing:
            if name not in self._models:
                self._missing(name, "")
            for version in self.versions(name):
                self._unload_version(name, version)

    def _unload_version(self, name: str, version: str) -> None:
        model = self._models[name][version]
        self._states[name, version] = ("UNLOADING", "")
        self._models[name] = {
            number: kept for number, kept in self._models[name].items() if number != version
        }
        model.scheduler.close(self._drain_seconds)
        self._states[name, version] = ("UNAVAILABLE", "unloaded")

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Every version that is loaded or in the folder."""
        found = {(name, version) for name in self.names() for version in self._on_disk(name)} | set(
            self._states
        )
        entries = [
            IndexEntry(name=name, version=version, state=state, reason=reason)
            for name, version in sorted(found)
            for state, reason in [self._states.get((name, version), ("UNAVAILABLE", "not loaded"))]
        ]
        return [entry for entry in entries if entry.state == "READY" or not ready_only]

    def close(self, timeout: float) -> bool:
        """Answer what is queued and stop; whether all was answered in time."""
        self._stopped.set()
        deadline = time.monotonic() + timeout
        answered = True
        for model in self.loaded():
            answered &= model.scheduler.close(max(0.0, deadline - time.monotonic()))
        return answered

    def _poll(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            if not self.is_started:
                continue
            for name in {*self.names(), *self._models}:
                try:
                    if self._on_disk(name):
                        self.load(name)
                    else:
                        self.unload(name)
                except ServingError as error:
                    log.warning("model %s stays as it is: %s", name, error)


def _of(version: str) -> str:
    return f", version {version!r}," if version else ""


def _limits(parameters: Mapping[str, Any], default: Limits) -> Limits:
    unknown = sorted(set(parameters) - {"config"})
    if unknown:
        raise InvalidInput(f"load parameter {unknown[0]!r}; allowed is 'config'")
    if "config" not in parameters:
        return default
    try:
        config = json.loads(parameters["config"])
        groups = config.get("instance_group", [])
        policy = config.get("dynamic_batching", {}).get("default_queue_policy", {})
        instances = sum(int(group.get("count", 1)) for group in groups) or default.instances
        return Limits(instances=instances, queue=int(policy.get("max_queue_size", default.queue)))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"load parameter 'config' is not the JSON of a ModelConfig: {error}") from error
