"""What the commands of all tasks share: options, the console, progress bars."""

from __future__ import annotations

import json as json_format
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import OmitArgPrefixes, arg

from recon.errors import ConfigError

Output = Annotated[Path, arg(aliases=["-o"])]
Json = Annotated[Path | None, arg(help="write the result here as JSON")]
Report = Callable[[str, int, int], None]
SECONDS_BETWEEN_LINES = 10.0
# Brackets in a path are no markup, and a path that is cut at the width of the screen cannot be copied.
console = Console(highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A progress bar for every stage of a command; yields a function of (stage, done, total).

    Where nobody can see a bar move (a file, a log) there is a line now and then.
    """
    if not console.is_terminal:
        yield _progress_lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield report


def _progress_lines() -> Report:
    last = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{stage}: {done} of {total}")

    return report


def write_json(path: Path | None, tree: Any) -> None:
    """Write a result where `--json` asks for it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_format.dumps(tree, indent=2, sort_keys=True, default=str) + "\n")


def is_csv(path: Path) -> bool:
    """Whether a path names CSV files, compressed or not."""
    return ".csv" in path.suffixes


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Let a server do the work.

    Attributes:
        server: let a server do it: grpc://HOST:PORT, more of them after commas for when it fails, or local:FOLDER for
            an exported model in this process.
        fallback: local:FOLDER with the same exported model, for when every server fails.
        streams: requests on their way to the server at once.
        token_file: holds the bearer token of the server, which every user of the host could read on the command line;
            the variable RECON_TOKEN does too.
        timeout: seconds that the server may take for a request, before it is tried again.
    """

    server: str | None = None
    fallback: str | None = None
    streams: int = 4
    token_file: Path | None = None
    timeout: float = 60.0

    def settings(self) -> dict[str, Any]:
        """What `recon.engines.connect` is told beside the address.

        Raises:
            ConfigError: settings of a server without one.
        """
        if self.server is None and (self.fallback is not None or self.token_file is not None):
            raise ConfigError("--fallback and --token-file go with --server")
        token = (
            os.environ.get("RECON_TOKEN") if self.token_file is None else self.token_file.read_text().strip()
        )
        optional = {"fallback": self.fallback, "token": token}
        return {"timeout": self.timeout} | {name: x for name, x in optional.items() if x is not None}


Remote = OmitArgPrefixes[ServerOptions]
HERE = ServerOptions()
"""No server: this process does the work."""
