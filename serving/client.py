"""The client: a model as `acquire` and `produce`, wherever it runs."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Self, get_args

import numpy as np

from serving.client_call import Call, Handle
from serving.client_check import check_inputs, check_outputs
from serving.client_grpc import ClientTls, Compression, Connection
from serving.client_open import open_places
from serving.client_regions import SharedMemoryUse
from serving.errors import InvalidInput, ServingError
from serving.retry import Arrays, Counters, Counts, Course, Health, Policy
from serving.types import InferRequest, ModelMetadata, RequestedOutput

log = logging.getLogger(__name__)

Mode = Literal["sync", "async", "pseudo-async"]
THREADS = 64
"""Pseudo-asynchronous calls, and calls that are tried again, at the same time; more of them wait their turn."""


class InferenceSession:
    """One model, embedded or behind servers; a context manager, safe for threads.

    The newest version is pinned when the session opens, so that its answers never come from two versions. Inputs must
    not be changed between `acquire` and the answer: a call that is tried again sends them again.

    Args:
        url: "local:FOLDER" for a model repository in this process, or "grpc://HOST:PORT" with more servers after
            commas, asked in this order.
        model: name of the model.
        version: of the model; empty for the newest.
        mode: "sync" evaluates in `acquire`; "async" lets grpcio (or the embedded queue) answer; "pseudo-async" has a
            thread wait.
        outputs: names of the outputs that are wanted; empty for all.
        timeout: seconds that one try may take; `None` waits for ever.
        tries: on one server, before the next is asked.
        fallback: "local:FOLDER" that is asked when every server failed; it must hold the very same artefact.
        token: bearer token.
        tls: certificates; `True` for those of the system.
        compression: of requests: "gzip" or "deflate".
        shared_memory: "auto" uses it for tensors of 1 MB and more and servers on this host.
        priority: 1 is the most urgent; 0 is the server's default.

    Raises:
        InvalidInput: a setting that is not allowed.
        ServerUnreachable: no server answered, and there is no fallback.
        ArtifactError: servers or the fallback hold different artefacts.

    Example:
        >>> with InferenceSession("local:models", model="mlp") as session:  # doctest: +SKIP
        ...     handle = session.acquire({"x": x})
        ...     logits = session.produce(handle)["logits"]
    """

    def __init__(
        self,
        url: str = "local:models",
        *,
        model: str,
        version: str = "",
        mode: Mode = "sync",
        outputs: Sequence[str] = (),
        timeout: float | None = 10.0,
        tries: int = 3,
        fallback: str | None = None,
        token: str | None = None,
        tls: ClientTls | bool = False,
        compression: Compression | None = None,
        shared_memory: SharedMemoryUse = "auto",
        priority: int = 0,
    ) -> None:
        if mode not in get_args(Mode):
            raise InvalidInput(f"mode = {mode!r}; allowed are {get_args(Mode)}")
        if tries < 1 or priority < 0:
            raise InvalidInput(f"tries = {tries}, priority = {priority}; at least 1 and 0 are allowed")
        self.mode: str = mode
        self.model, self._priority = model, priority
        self._outputs = tuple(RequestedOutput(name) for name in outputs)
        connection = Connection(
            timeout=timeout,
            token=token,
            tls=(ClientTls() if tls is True else tls) or None,
            compression=compression,
            shared_memory=shared_memory,
        )
        self._counters = Counters()
        self._policy = Policy(tries=tries)
        self._ids = itertools.count(1)
        self._calls: set[Call] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="inference-session")
        endpoints, self._description = open_places(url, fallback, model, version, connection)
        self._health = Health(endpoints)
        try:
            check_outputs(self.metadata, tuple(outputs))
        except InvalidInput:
            self.close()
            raise

    @property
    def metadata(self) -> ModelMetadata:
        """What the model takes and gives."""
        return self._description.metadata

    @property
    def version(self) -> str:
        """The version that answers."""
        return self.metadata.versions[0]

    @property
    def counters(self) -> Counts:
        """What the session did so far."""
        return self._counters.snapshot()

    def acquire(self, inputs: Mapping[str, np.ndarray]) -> Handle:
        """Start a call; in mode "sync" also end it.

        Args:
            inputs: arrays by name, of exactly the model's datatypes and shapes.

        Raises:
            InvalidInput: names the input, what was given and what is allowed. Whatever fails later, `produce` raises.
        """
        call = self._call(inputs)
        with self._lock:
            if self._closed:
                raise ServingError("the session is closed")
            self._calls.add(call)
        call.future.add_done_callback(lambda _: self._ended(call))
        if self.mode == "sync":
            call.run()
        elif self.mode == "async":
            call.launch()
        else:
            self.in_thread(call.run)
        return Handle(call)

    def produce(self, handle: Handle) -> Arrays:
        """Wait for the answer of a call; once a call.

        Raises:
            ServingError: of the class that the server raised; or the handle is not one of this session's, or was
                produced before.
        """
        if not handle.belongs_to(self):
            raise ServingError("the handle is another session's")
        return handle.take()

    def infer(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """`acquire` and `produce`."""
        if self.mode != "sync":
            return self.produce(self.acquire(inputs))
        # The shortest way: nobody else can wait for this call.
        call = self._call(inputs)
        try:
            return call.evaluate()
        except BaseException:
            self._counters.add("failures")
            raise

    def _call(self, inputs: Mapping[str, np.ndarray]) -> Call:
        check_inputs(self.metadata, inputs)
        request = InferRequest(
            model=self.model,
            version=self.version,
            id=str(next(self._ids)),
            inputs=dict(inputs),
            outputs=self._outputs,
            priority=self._priority,
        )
        if self._closed:
            raise ServingError("the session is closed")
        self._counters.add("calls")
        return Call(self, request, Course(self._health, self._policy, self._counters))

    def in_thread(self, work: Callable[[], None]) -> None:
        """Run something on one of the session's threads; for its calls."""
        try:
            self._threads.submit(work)
        except RuntimeError as error:
            raise ServingError("the session is closed") from error

    def count(self, name: str) -> None:
        """Add one to a counter; for its calls."""
        self._counters.add(name)

    def _ended(self, call: Call) -> None:
        with self._lock:
            self._calls.discard(call)
        if call.future.cancelled():
            self._counters.add("cancelled")

    def close(self) -> None:
        """Cancel what is on its way and hang up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            left = list(self._calls)
        if left:
            log.warning("the session on model %s is closed with %d calls on their way", self.model, len(left))
        for call in left:
            call.cancel()
        self._threads.shutdown()
        for endpoint in self._health.endpoints:
            endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def engine(url: str, *, model: str, **settings: object) -> InferenceSession:
    """An `InferenceSession` in mode "async", as the entry points `recon.engines` promise it.

    Args:
        url: see `InferenceSession`.
        model: name of the model.
        settings: further arguments of `InferenceSession`.
    """
    return InferenceSession(url, model=model, **{"mode": "async", **settings})  # type: ignore[arg-type]
