"""What a run tells about itself: CSV files that survive a kill, a progress bar, TensorBoard if installed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recon.errors import ConfigError, DataError
from recon.io.atomic import replace_file


class CsvLog:
    """A CSV file, one row a step, that a resumed run continues without a gap or a repeated step.

    Rows after `resume_step` and a last line torn by a kill are cut off at opening: the run makes them again.

    Args:
        path: of the file; its directory is made if absent.
        resume_step: the last step that counts as done; 0 starts over.
    """

    def __init__(self, path: Path, *, resume_step: int = 0) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._columns: list[str] | None = None
        if self.path.exists():
            self._columns = _cut_after(self.path, resume_step)
        self._file = self.path.open("a", newline="")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row.

        Raises:
            ConfigError: when the metrics are not those of the rows before.
        """
        if self._columns is None:
            self._columns = ["step", *metrics]
            csv.writer(self._file, lineterminator="\n").writerow(self._columns)
        if set(metrics) != set(self._columns[1:]):
            raise ConfigError(
                f"{self.path} has the columns {self._columns[1:]}, step {step} brings {sorted(metrics)}; "
                "every step must report the same metrics"
            )
        # repr keeps every digit, so that a resumed and an uninterrupted run can be compared exactly.
        values = [repr(float(metrics[column])) for column in self._columns[1:]]
        csv.writer(self._file, lineterminator="\n").writerow([step, *values])

    def flush(self) -> None:
        """Put all rows on the disk: before a checkpoint, as a kill would lose the rows it counts as done."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()


def _cut_after(path: Path, last_step: int) -> list[str] | None:
    """Keep the header and the whole rows up to `last_step`; returns the columns, `None` without rows."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines[1:] if line.endswith("\n") and _step_of(line, path) <= last_step]
    header = lines[:1] if kept else []
    replace_file(path, "".join([*header, *kept]).encode())
    return next(csv.reader(header)) if header else None


def _step_of(line: str, path: Path) -> int:
    try:
        return int(line.split(",", 1)[0])
    except ValueError as error:
        raise DataError(
            f"{path} is no metrics file of this package: row {line.strip()!r} has no step"
        ) from error


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Columns of a metrics file, "step" first, for curves.

    Raises:
        DataError: when the file is absent, empty or has a row of another length.
    """
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise DataError(f"the metrics file {path} cannot be read: {error}") from error
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        raise DataError(f"the metrics file {path} is empty")
    columns = rows[0]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns):
            raise DataError(f"{path}, row {number}: {len(row)} values for {len(columns)} columns {columns}")
    return {name: [float(row[column]) for row in rows[1:]] for column, name in enumerate(columns)}


class ProgressBar:
    """Loss, steps a second and time left on the terminal; silent when not `enabled`.

    Args:
        total_steps: of the run.
        done: steps made before a resume.
        enabled: draw at all.
    """

    def __init__(self, total_steps: int, *, done: int = 0, enabled: bool = True) -> None:
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            disable=not enabled,
        )
        self._task = self._progress.add_task("train", total=total_steps, completed=done, loss="", rate="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, step: int, loss: float, rate: float) -> None:
        """Move the bar.

        Args:
            step: steps done.
            loss: of that step.
            rate: steps a second.
        """
        self._progress.update(self._task, completed=step, loss=f"loss {loss:.4g}", rate=f"{rate:.2f} steps/s")


def tensorboard_writer(directory: Path, resume_step: int) -> Any:
    """A tensorboardX `SummaryWriter`; TensorBoard hides what an earlier process wrote after `resume_step`.

    Raises:
        ConfigError: when tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415  optional
    except ImportError as error:
        raise ConfigError("TensorBoard logging was asked for; pip install tensorboardX") from error
    return SummaryWriter(str(directory), purge_step=resume_step + 1)


class RunLog:
    """All outlets of one run below its directory: `metrics.csv`, `evaluation.csv`, `tensorboard/`.

    Args:
        directory: of the run.
        resume_step: the last step already done.
        tensorboard: write TensorBoard events too.
    """

    def __init__(self, directory: Path, *, resume_step: int = 0, tensorboard: bool = False) -> None:
        # First, as it may refuse: no open file is left behind.
        self._writer = tensorboard_writer(directory / "tensorboard", resume_step) if tensorboard else None
        self._training = CsvLog(directory / "metrics.csv", resume_step=resume_step)
        self._evaluation = CsvLog(directory / "evaluation.csv", resume_step=resume_step)

    def training(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log the metrics of steps."""
        for step, metrics in rows:
            self._training.write(step, metrics)
            self._to_tensorboard("train", step, metrics)

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one evaluation."""
        self._evaluation.write(step, metrics)
        self._to_tensorboard("evaluation", step, metrics)

    def _to_tensorboard(self, group: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def flush(self) -> None:
        """Put everything logged so far on the disk."""
        self._training.flush()
        self._evaluation.flush()

    def close(self) -> None:
        """Flush and close all files."""
        self._training.close()
        self._evaluation.close()
        if self._writer is not None:
            self._writer.close()
