"""Files that are whole or absent: written beside the target, flushed to the disk, then renamed over it."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a kill at any moment leaves the old file or the new one.

    Args:
        path: its directory must exist.
        content: of the whole file.
    """
    # The process id keeps two writers from sharing a temporary file; the leading dot keeps it out of globs.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
