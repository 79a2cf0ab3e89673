"""A server of exported models in a process of its own, for demonstrations: asked over the wire, gone at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import EngineError


@contextmanager
def served_models(models: Path) -> Iterator[str]:
    """Serve a folder of models; yields the address for `recon.engines.connect`.

    Args:
        models: the model repository.

    Raises:
        EngineError: the server does not start.
    """
    command = [sys.executable, "-m", "recon", "serve", "--models", str(models), "--grpc", "0"]
    with subprocess.Popen(  # noqa: S603 - this very package
        [*command, "--http", "-1", "--metrics", "-1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            words = process.stdout.readline().split() if process.stdout else []
            if "grpc" not in words:
                raise EngineError(f"{' '.join(command)} did not start")
            yield f"grpc://{words[words.index('grpc') + 1]}"
        finally:
            process.terminate()
