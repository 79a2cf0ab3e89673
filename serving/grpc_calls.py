"""What every gRPC call has, whatever it asks and whatever serves it: its caller, its deadline and its end."""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from serving.errors import CLASS_HEADER, InvalidInput, Overloaded, ServingError, status_of
from serving.security import is_loopback

FOREVER = 1e8
"""Seconds beyond which a deadline is none."""

LONGEST_TEXT = 600
"""Characters of an error. Each may take twelve bytes of a trailer, and clients take 8 KiB of trailers."""

log = logging.getLogger(__name__)


class Context(Protocol):
    """A call, as far as its handler needs to know it; grpcio's own contexts are such."""

    def peer(self) -> str:
        """The caller's address, such as "ipv4:127.0.0.1:5000"."""

    def time_remaining(self) -> float | None:
        """Seconds until its deadline; `None`, or more than any clock can hold, for none."""

    def is_active(self) -> bool:
        """Whether the caller still wants the answer."""


class Ending(NamedTuple):
    """How a failed call ends.

    Attributes:
        code: name of a `grpc.StatusCode`.
        text: for people.
        trailers: what else is sent.
    """

    code: str
    text: str
    trailers: tuple[tuple[str, str], ...] = ()


def ending_of(error: Exception) -> Ending:
    """The end that an error gives to a call."""
    trailers = [(CLASS_HEADER, type(error).__name__)] if isinstance(error, ServingError) else []
    if isinstance(error, Overloaded):
        pause = str(max(1, round(1000 * error.retry_after)))
        # The first is what gRPC's own retries read, the second what people look for.
        trailers += [("grpc-retry-pushback-ms", pause), ("retry-after-ms", pause)]
    return Ending(status_of(error).grpc, text_of(error), tuple(trailers))


def too_many(limit: int, what: str) -> Overloaded:
    """The error of a call that stays open, where enough of them are."""
    return Overloaded(f"{limit} {what} are open already, no more are allowed")


def text_of(error: Exception) -> str:
    """What the caller is told of an error; one that nobody raised on purpose is logged."""
    text = str(error)
    if not isinstance(error, ServingError):
        log.error("unexpected error in a gRPC call", exc_info=error)
        text = f"unexpected {type(error).__name__}: {error}"
    if len(text) <= LONGEST_TEXT:
        return text
    # What was given comes first and what is allowed last.
    half = LONGEST_TEXT // 2 - 3
    return f"{text[:half]} ... {text[-half:]}"


def deadline_of(context: Context, timeout: Any) -> float | None:
    """When a call is over, on the clock of `time.monotonic`.

    Args:
        context: with the deadline that the caller's gRPC library sent.
        timeout: the parameter "timeout", microseconds; `None` or 0 for none, as over HTTP.

    Raises:
        InvalidInput: it is no whole number of 0 or more.
    """
    left = context.time_remaining()
    # Without a deadline grpcio gives a time that no clock can hold.
    seconds = FOREVER if left is None else left
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
            raise InvalidInput(
                f"parameter 'timeout' is {timeout!r}; a whole number of microseconds is allowed"
            )
        seconds = min(seconds, timeout / 1e6) if timeout else seconds
    return time.monotonic() + seconds if seconds < FOREVER else None


def is_local(context: Context) -> bool:
    """Whether the caller is on this host."""
    kind, _, address = unquote(context.peer()).partition(":")
    return kind == "unix" or is_loopback(address.rpartition(":")[0].strip("[]"))
