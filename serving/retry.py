"""What follows a failed try: the same server again, another one, the local fallback, or the error."""

from __future__ import annotations

import enum
import logging
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np

from serving.errors import (
    ArtifactError,
    DeadlineExceeded,
    InferenceFailed,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    ServerUnreachable,
    ServingError,
)
from serving.types import InferRequest

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

COOL_SECONDS = 5.0
"""How long a server that failed is passed over while there is another place to ask."""


class Endpoint(Protocol):
    """A place that answers.

    Attributes:
        name: for messages.
        is_fallback: whether it is the local artefact that is asked last.
        is_verified: whether its artefact has been compared with the session's since it last failed.
    """

    name: str
    is_fallback: bool
    is_verified: bool

    def verify(self) -> None:
        """Compare the artefact with the session's; raises a `ServingError` where they differ."""

    def infer(self, request: InferRequest) -> Arrays:
        """Answer on this thread."""
        ...

    def start(self, request: InferRequest) -> Future[Arrays]:
        """Answer later; cancelling the future gives the call up."""
        ...

    def close(self) -> None:
        """Let everything go."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How often and how fast a call is tried again.

    Attributes:
        tries: on one server.
        pause: seconds before the second try; twice as long before each further one, and a random half less.
        longest_pause: a server that asks for a longer one is left for another.
    """

    tries: int = 3
    pause: float = 0.05
    longest_pause: float = 5.0


class Verdict(enum.Enum):
    """What an error means for the call."""

    AGAIN = enum.auto()
    ELSEWHERE = enum.auto()
    FINAL = enum.auto()


def verdict(error: ServingError) -> Verdict:
    """Judge an error; what the request itself is to blame for is final."""
    if isinstance(error, Overloaded):
        return Verdict.AGAIN if error.retry_after >= 0 else Verdict.ELSEWHERE
    if isinstance(error, ServerUnreachable | ModelNotReady):
        return Verdict.AGAIN
    if isinstance(error, DeadlineExceeded | InferenceFailed | ModelNotFound | ArtifactError):
        return Verdict.ELSEWHERE
    return Verdict.FINAL


@dataclass(slots=True)
class Counts:
    """What a session did.

    Attributes:
        calls: that were acquired.
        retries: further tries on the same server.
        failovers: moves to another server.
        fallbacks: moves to the local fallback.
        failures: calls that ended with an error.
        cancelled: calls that were given up.
    """

    calls: int = 0
    retries: int = 0
    failovers: int = 0
    fallbacks: int = 0
    failures: int = 0
    cancelled: int = 0


class Counters:
    """Counts that many threads add to."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys((field.name for field in fields(Counts)), 0)
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += 1

    def snapshot(self) -> Counts:
        """The counts now."""
        with self._lock:
            return Counts(**self._counts)


class Step(NamedTuple):
    """The next try: where, and after how many seconds."""

    endpoint: Endpoint
    pause: float = 0.0


class Health:
    """Which servers failed lately; shared by the calls of a session.

    Args:
        endpoints: in the order of preference, the fallback last.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._cool_until: dict[str, float] = {}

    def order(self) -> tuple[Endpoint, ...]:
        """Where to ask now: servers that failed lately come last, or not at all if there is a fallback."""
        if not self._cool_until:
            return self.endpoints
        now = time.monotonic()
        cool = {name for name, until in list(self._cool_until.items()) if until > now}
        well = [endpoint for endpoint in self.endpoints if endpoint.name not in cool]
        if well and well[-1].is_fallback:
            return tuple(well)
        return (*well, *(endpoint for endpoint in self.endpoints if endpoint.name in cool))

    def failed(self, endpoint: Endpoint) -> None:
        """Pass over a server for a while, and compare its artefact before it is believed again."""
        if not endpoint.is_fallback:
            endpoint.is_verified = False
            self._cool_until[endpoint.name] = time.monotonic() + COOL_SECONDS

    def answered(self, endpoint: Endpoint) -> None:
        """A server is well."""
        if self._cool_until:
            self._cool_until.pop(endpoint.name, None)


class Course:
    """The tries of one call.

    Args:
        health: of the servers.
        policy: how often and how fast.
        counters: hear of every move.
    """

    def __init__(self, health: Health, policy: Policy, counters: Counters) -> None:
        self._health, self._policy, self._counters = health, policy, counters
        self._places = health.order()
        self._at, self._tries = 0, 0

    def first(self) -> Step:
        """Where to begin."""
        self._tries = 1
        endpoint = self._places[0]
        if endpoint.is_fallback and len(self._health.endpoints) > 1:
            # Every server failed a moment ago: the call goes to the fallback without a try there.
            self._counters.add("fallbacks")
        return Step(endpoint)

    def after(self, error: ServingError) -> Step | None:
        """Where to go on after a failed try; `None` if the error is the end."""
        endpoint, judged = self._places[self._at], verdict(error)
        if judged is Verdict.FINAL:
            return None
        pause = self._pause(error)
        if (
            judged is Verdict.AGAIN
            and self._tries < self._policy.tries
            and pause <= self._policy.longest_pause
        ):
            self._tries += 1
            if not isinstance(error, Overloaded):
                endpoint.is_verified = endpoint.is_fallback
            self._counters.add("retries")
            log.info("%s: try %d in %.0f ms: %s", endpoint.name, self._tries, 1000 * pause, error)
            return Step(endpoint, pause)
        if not isinstance(error, Overloaded | InferenceFailed):
            self._health.failed(endpoint)
        return self._move(endpoint, error)

    def _move(self, endpoint: Endpoint, error: ServingError) -> Step | None:
        self._at += 1
        if self._at == len(self._places):
            return None
        self._tries = 1
        following = self._places[self._at]
        self._counters.add("fallbacks" if following.is_fallback else "failovers")
        log.warning("%s failed, going on with %s: %s", endpoint.name, following.name, error)
        return Step(following)

    def _pause(self, error: ServingError) -> float:
        grown = self._policy.pause * 2 ** (self._tries - 1)
        spread = grown * random.uniform(0.5, 1.0)  # noqa: S311 - keeps clients from coming back all at once
        return max(spread, error.retry_after) if isinstance(error, Overloaded) else spread

    def answered(self) -> None:
        """The last try brought an answer."""
        self._health.answered(self._places[self._at])
