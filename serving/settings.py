"""Trace and log settings of the protocol."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from serving.errors import InvalidInput, Unimplemented

LOG_DEFAULTS: dict[str, bool | int | str] = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
TRACE: dict[str, list[str]] = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}


class Settings:
    """What clients may set at run time; safe for threads."""

    def __init__(self) -> None:
        self._log = dict(LOG_DEFAULTS)
        self._lock = threading.Lock()

    def log(self, changes: Mapping[str, Any]) -> dict[str, bool | int | str]:
        """Change log settings and return all.

        Raises:
            InvalidInput: an unknown setting or a value of another type.
            Unimplemented: another file or format: the log goes to standard error.
        """
        with self._lock:
            for name, value in changes.items():
                if name not in LOG_DEFAULTS:
                    raise InvalidInput(f"log setting {name!r}; allowed are {', '.join(LOG_DEFAULTS)}")
                if type(value) is not type(LOG_DEFAULTS[name]):
                    kind = type(LOG_DEFAULTS[name]).__name__
                    raise InvalidInput(
                        f"log setting {name!r} is {value!r}; a value of type {kind} is allowed"
                    )
                if name in {"log_file", "log_format"} and value != LOG_DEFAULTS[name]:
                    raise Unimplemented(f"log setting {name!r}: only {LOG_DEFAULTS[name]!r} is offered")
            self._log |= changes
            logging.getLogger("serving").setLevel(self._level())
            return dict(self._log)

    def _level(self) -> int:
        if self._log["log_verbose_level"]:
            return logging.DEBUG
        levels = (("log_info", logging.INFO), ("log_warning", logging.WARNING), ("log_error", logging.ERROR))
        return next((level for name, level in levels if self._log[name]), logging.CRITICAL)

    def trace(self, changes: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """The trace settings; requests are not traced, so none can be changed.

        Raises:
            InvalidInput: an unknown setting.
            Unimplemented: a change.
        """
        for name, value in changes.items():
            if name not in TRACE:
                raise InvalidInput(f"trace setting {name!r}; allowed are {', '.join(TRACE)}")
            if value and list(value) != TRACE[name]:
                raise Unimplemented(f"trace setting {name!r}: tracing is not offered, it stays {TRACE[name]}")
        return {name: list(value) for name, value in TRACE.items()}
