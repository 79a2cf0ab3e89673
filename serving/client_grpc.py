"""A server behind gRPC: thin calls of raw bytes, errors as the classes that the server raised."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import grpc

from serving.client_check import Description, check_same
from serving.client_memory import SegmentPool
from serving.client_regions import Lease, Regions, SharedMemoryUse
from serving.errors import CLASS_HEADER, InferenceFailed, InvalidInput, ServingError, error_of
from serving.protocol.codec import build_request, parse_response
from serving.protocol.messages import SERVICE, message
from serving.retry import Arrays
from serving.security import is_loopback
from serving.types import InferRequest, ModelMetadata, Region, TensorSpec

log = logging.getLogger(__name__)

Compression = Literal["gzip", "deflate"]
_COMPRESSION = {
    None: grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
WATCH_SECONDS = 5.0
"""How long the end of the watch on a channel is waited for."""
UNREGISTER_SECONDS = 5.0
PUSHBACK = "grpc-retry-pushback-ms"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found within a second, not within grpc's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Connections are the session's own: closing it closes them.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, kw_only=True)
class ClientTls:
    """PEM files of a client.

    Attributes:
        authority: certificates that the server's must be signed by; `None` for those of the system.
        certificate: of the client, where the server asks for one.
        key: of that certificate.
        server_name: in the server's certificate, where it differs from the address.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("TLS: certificate and key belong together; give both or neither")
        for file in (self.authority, self.certificate, self.key):
            if file is not None and not file.is_file():
                raise InvalidInput(f"TLS: {file} is no file")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a session talks to its servers.

    Attributes:
        timeout: seconds that one try may take; `None` waits for ever.
        token: sent as bearer token.
        tls: certificates; `None` for plain text.
        compression: of requests.
        shared_memory: "auto" uses it for large tensors and servers on this host, `True` for all tensors.
    """

    timeout: float | None = None
    token: str | None = None
    tls: ClientTls | None = None
    compression: Compression | None = None
    shared_memory: SharedMemoryUse = "auto"

    def __post_init__(self) -> None:
        if self.timeout is not None and self.timeout <= 0:
            raise InvalidInput(f"timeout = {self.timeout}; more than 0 seconds, or None, is allowed")
        if self.compression not in _COMPRESSION:
            allowed = (None, *get_args(Compression))
            raise InvalidInput(f"compression = {self.compression!r}; allowed are {allowed}")
        if self.shared_memory not in ("auto", True, False):
            raise InvalidInput(f"shared_memory = {self.shared_memory!r}; allowed are 'auto', True and False")


class _Prepared(NamedTuple):
    """A request as bytes, and the shared memory that it speaks of."""

    payload: bytes
    lease: Lease | None


class GrpcEndpoint:
    """A server.

    Args:
        target: "host:port".
        model: name of the model.
        connection: how to talk.
    """

    is_fallback = False

    def __init__(self, target: str, *, model: str, connection: Connection) -> None:
        self.name = f"grpc://{target}"
        self.is_verified = self._was_ready = False
        self.expected: Description | None = None
        self._model, self._connection = model, connection
        self._metadata = (("authorization", f"Bearer {connection.token}"),) if connection.token else None
        local = target.startswith("unix:") or is_loopback(target.rpartition(":")[0].strip("[]"))
        if connection.shared_memory is True and not local:
            raise InvalidInput(
                f"{self.name}: shared_memory = True; a server on this host (127.0.0.1) is allowed"
            )
        if connection.token and connection.tls is None and not local:
            log.warning("%s: the token is sent in plain text; use tls", self.name)
        self._channel = _channel(target, connection)
        # No serializer: the bytes of the codec are what goes over the wire.
        self._infer: Any = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._lock = threading.Lock()
        self._forgetting: set[Any] = set()
        # A server that was away may be another one: its artefact is compared again before the next call.
        self._channel.subscribe(self._changed)
        self._regions: Regions | None = None
        if connection.shared_memory and local:
            pool = SegmentPool(self._register, self._unregister)
            self._regions = Regions(pool, connection.shared_memory, self.name)

    def _changed(self, state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            self._was_ready = True
        elif self._was_ready:
            self._was_ready = self.is_verified = False

    def describe(self, version: str) -> Description:
        """What the server says about the model.

        Raises:
            ServingError: it does not answer, or has no such model.
        """
        about = {"name": self._model, "version": version}
        found = self._ask("ModelMetadata", **about)
        newest = version or max(found.versions, key=lambda number: int(number) if number.isdecimal() else -1)
        config = self._ask("ModelConfig", name=self._model, version=newest).config
        # Looking a key up in a map of messages would add it.
        checksum = config.parameters["checksum"].string_value if "checksum" in config.parameters else ""
        metadata = ModelMetadata(
            name=self._model,
            versions=(newest,),
            platform=found.platform,
            inputs=tuple(map(_spec, found.inputs)),
            outputs=tuple(map(_spec, found.outputs)),
        )
        return Description(metadata=metadata, checksum=checksum)

    def verify(self) -> None:
        """Compare what is served with what the session was opened with."""
        if self.expected is not None:
            check_same(self.expected, self.describe(self.expected.metadata.versions[0]), self.name)
        self.is_verified = True

    def infer(self, request: InferRequest) -> Arrays:
        """Answer on this thread."""
        prepared = self._prepare(request)
        try:
            return self._finish(self._call(prepared.payload), request, prepared.lease)
        except ServingError as error:
            if not self._is_memory(error, prepared.lease):
                raise
        return self._finish(self._call(self._message(request)), request, None)

    def _call(self, payload: bytes) -> bytes:
        try:
            answer: bytes = self._infer(payload, timeout=self._connection.timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error, self.name) from None
        return answer

    def start(self, request: InferRequest) -> Future[Arrays]:
        """Answer later, on a thread of grpcio's."""
        outer: Future[Arrays] = Future()
        self._start(request, self._prepare(request), outer)
        return outer

    def _start(self, request: InferRequest, prepared: _Prepared, outer: Future[Arrays]) -> None:
        timeout = self._connection.timeout
        call = self._infer.future(prepared.payload, timeout=timeout, metadata=self._metadata)

        def finish(done: Any) -> None:
            # Nothing may escape from here: grpcio would log it, and the caller wait for ever.
            try:
                self._settle(done, request, prepared.lease, outer)
            except BaseException as error:
                if outer.set_running_or_notify_cancel():
                    outer.set_exception(error)

        outer.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        call.add_done_callback(finish)

    def _settle(self, done: Any, request: InferRequest, lease: Lease | None, outer: Future[Arrays]) -> None:
        """Give an answer to who waits for it, or raise."""
        try:
            outputs = self._landed(done, request, lease)
        except ServingError as error:
            if not self._is_memory(error, lease):
                raise
            self._start(request, _Prepared(self._message(request), None), outer)
            return
        if outer.set_running_or_notify_cancel():
            outer.set_result(outputs)

    def _landed(self, done: Any, request: InferRequest, lease: Lease | None) -> Arrays:
        if done.code() is not grpc.StatusCode.OK:
            raise _error(done, self.name)
        return self._finish(done.result(), request, lease)

    def _prepare(self, request: InferRequest) -> _Prepared:
        lease = self._regions.lease(request, self._outputs(request)) if self._regions is not None else None
        if lease is None:
            return _Prepared(self._message(request), None)
        return _Prepared(self._message(lease.request, lease.inputs), lease)

    def _message(self, request: InferRequest, regions: Mapping[str, Region] | None = None) -> bytes:
        return build_request(request, regions, self.expected.checksum if self.expected else "")

    def _outputs(self, request: InferRequest) -> tuple[str, ...]:
        if request.outputs:
            return tuple(output.name for output in request.outputs)
        return tuple(spec.name for spec in self.expected.metadata.outputs) if self.expected else ()

    def _finish(self, answer: bytes, request: InferRequest, lease: Lease | None) -> Arrays:
        """The arrays of an answer."""
        try:
            response = parse_response(answer, lease.request.outputs if lease is not None else ())
        except InvalidInput as error:
            raise InferenceFailed(f"{self.name}: the answer cannot be read: {error}") from error
        if self._regions is None:
            return response.arrays()
        return self._regions.outputs(response, request, lease)

    def _is_memory(self, error: ServingError, lease: Lease | None) -> bool:
        """After a failure: lets the shared memory go, and says whether it may be to blame.

        A server that was started anew does not know the regions, an output may have become larger: the request is
        then sent with everything in the message.
        """
        if lease is None or self._regions is None:
            return False
        self._regions.drop(lease)
        if not isinstance(error, InvalidInput):
            return False
        log.info("%s: shared memory was refused, sending the tensors themselves: %s", self.name, error)
        self._regions.clear()
        return True

    def _register(self, name: str, size: int) -> None:
        self._ask("SystemSharedMemoryRegister", name=name, key=f"/{name}", byte_size=size)

    def _unregister(self, name: str) -> None:
        """Without waiting: this runs where calls end, on a thread of grpcio's."""
        method = "SystemSharedMemoryUnregister"
        call = self._method(method).future(
            message(f"{method}Request")(name=name), timeout=UNREGISTER_SECONDS, metadata=self._metadata
        )
        with self._lock:
            self._forgetting.add(call)
        call.add_done_callback(self._forgotten)

    def _forgotten(self, call: Any) -> None:
        with self._lock:
            self._forgetting.discard(call)
        if call.code() is not grpc.StatusCode.OK:
            log.info("%s: shared memory could not be unregistered: %s", self.name, call.details())

    def _method(self, method: str) -> Any:
        return self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message(f"{method}Response").FromString,
        )

    def _ask(self, method: str, **fields: Any) -> Any:
        """Any RPC but ModelInfer, on messages."""
        request, timeout = message(f"{method}Request")(**fields), self._connection.timeout
        try:
            return self._method(method)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error, self.name) from None

    def close(self) -> None:
        """Unregister the shared memory and hang up."""
        if self._regions is not None:
            # Calls that were cancelled end on grpcio's threads.
            if not self._regions.wait_idle(UNREGISTER_SECONDS):
                log.warning("%s: closed while calls still use shared memory", self.name)
            self._regions.clear()
        with self._lock:
            last = list(self._forgetting)
        for call in last:
            # Its failure has been logged; the time is bounded by the call's own.
            call.exception()
        self._end_watch()
        self._channel.close()

    def _end_watch(self) -> None:
        """Have grpcio's watching thread end; it looks up five times a second, and fails on a closed channel."""
        self._channel.unsubscribe(self._changed)
        watch = getattr(self._channel, "_connectivity_state", None)
        until = time.monotonic() + WATCH_SECONDS
        while getattr(watch, "polling", False) and time.monotonic() < until:
            time.sleep(0.01)


def _channel(target: str, connection: Connection) -> grpc.Channel:
    compression = _COMPRESSION[connection.compression]
    options: list[tuple[str, Any]] = list(_OPTIONS)
    tls = connection.tls
    if tls is None:
        return grpc.insecure_channel(target, options=options, compression=compression)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    read: Callable[[Path | None], bytes | None] = lambda file: file.read_bytes() if file else None  # noqa: E731
    credentials = grpc.ssl_channel_credentials(read(tls.authority), read(tls.key), read(tls.certificate))
    return grpc.secure_channel(target, credentials, options=options, compression=compression)


def _spec(tensor: Any) -> TensorSpec:
    """A tensor of the server's metadata; the protocol does not say which free axes are equal."""
    shape = tuple(f"{tensor.name}.{axis}" if n < 0 else int(n) for axis, n in enumerate(tensor.shape))
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=shape)


def _error(call: Any, where: str) -> ServingError:
    """The error of a call that failed."""
    trailer = dict(call.trailing_metadata() or ())
    kind, pause = trailer.get(CLASS_HEADER), trailer.get(PUSHBACK)
    try:
        seconds = int(pause) / 1000 if pause is not None else 0.0
    except ValueError:
        # As grpc's retry design has it: what cannot be read means "do not try again".
        seconds = -1.0
    text = f"{where}: {call.details()}"
    return error_of(call.code().name, text, kind=kind if isinstance(kind, str) else None, retry_after=seconds)
