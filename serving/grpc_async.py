"""The gRPC front on asyncio: HTTP/2 in Python on one event loop, several times cheaper a call than grpcio's threads.

Requests that come in one turn of the loop run as one batch, on the loop itself where that takes less than a
millisecond; their answers leave with one write for each connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from serving.dataplane import Dataplane
from serving.errors import ModelNotReady, ServingError
from serving.grpc_async_calls import Calls, Route
from serving.grpc_calls import Context
from serving.grpc_handlers import Handlers
from serving.grpc_kinds import EachCall, InferCall, StreamCall, UnaryCall, WatchCall
from serving.grpc_services import HEALTH, REFLECTION, SERVICES, check, descriptors
from serving.http2.frames import Code
from serving.http2.limits import Limits
from serving.protocol.messages import SERVICE, message, methods
from serving.protocol.tensors import parse
from serving.security import TlsFiles

QUICK = frozenset(("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"))
"""Methods that take microseconds; all others but ModelInfer have a thread."""

FAREWELL_SECONDS = 0.25
"""Peers get it to hear that they should open no more streams."""

HELD_BYTES = 1 << 30
"""Of requests that are arriving or wait, unless one alone may have more."""

BACKLOG = 1024
"""Connections that wait to be accepted."""


class AsyncGrpcFront:
    """Serves a dataplane over gRPC; see `serving.grpc_server.GrpcFront` for the same on grpcio.

    Args:
        dataplane: that answers.
        host: address to listen on.
        port: 0 for any free one.
        threads: for calls that take time, such as those with large messages, at the same time.
        waiting: calls that may wait for a thread; the rest is refused.
        streams: of ModelStreamInfer at the same time.
        watches: of the health service at the same time.
        tls: certificates; `None` serves plain text.
        token: that callers must send; `None` for none.
        max_message_bytes: longest request, also after decompression.
        max_metadata_bytes: longest headers of a request.
        limits: of one connection; made from the others by default.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        *,
        host: str = "127.0.0.1",
        port: int = 8001,
        threads: int = 16,
        waiting: int = 256,
        streams: int = 64,
        watches: int = 64,
        tls: TlsFiles | None = None,
        token: str | None = None,
        max_message_bytes: int = 2**31 - 1,
        max_metadata_bytes: int = 16_384,
        limits: Limits | None = None,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._loop = _new_loop()
        self._calls = Calls(
            self._loop,
            dataplane,
            _routes(dataplane),
            limits=limits or Limits(header_bytes=max_metadata_bytes),
            threads=threads,
            waiting=waiting,
            open_calls={"streams": streams, "watches": watches},
            token=token,
            max_message_bytes=max_message_bytes,
            max_held_bytes=max(HELD_BYTES, max_message_bytes),
        )
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="grpc-asyncio", daemon=True)

    def _run(self) -> None:
        self._calls.thread = threading.get_ident()
        try:
            self._loop.run_forever()
        finally:
            # Another thread may get the same number.
            self._calls.thread = 0

    def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ServingError: the address cannot be had.
        """
        self._thread.start()
        try:
            return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.stop()
            raise

    async def _start(self) -> int:
        context = self._tls.context() if self._tls else None
        if context is not None:
            context.set_alpn_protocols(["h2"])
        try:
            self._server = await self._loop.create_server(
                self._calls.connection,
                self._host,
                self._port,
                ssl=context,
                ssl_handshake_timeout=self._calls.limits.handshake_seconds if context else None,
                backlog=BACKLOG,
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServingError(f"gRPC cannot listen on {self._host}:{self._port}: {reason}") from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self, grace: float = 0.0) -> None:
        """Take no more calls, let those that run finish for `grace` seconds."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._stop(grace), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._calls.close()

    async def _stop(self, grace: float) -> None:
        if self._server is not None:
            self._server.close()
        calls, end = self._calls, self._loop.time() + grace
        stopping = ModelNotReady("the server is shutting down")
        calls.fail_all(stopping, what=WatchCall.what)
        for connection in list(calls.connections):
            connection.leave()
        await self._gone(self._loop.time() + FAREWELL_SECONDS)
        for connection in list(calls.connections):
            connection.leave_now()
        await self._gone(end)
        calls.fail_all(stopping)
        for connection in list(calls.connections):
            connection.fail(Code.NO_ERROR, "the server stopped")
        # What was written last leaves the buffers of the sockets on its own.
        await asyncio.sleep(0.01)
        for connection in list(calls.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _gone(self, until: float) -> None:
        """Wait for the connections to end."""
        while self._loop.time() < until and any(not c.is_over for c in self._calls.connections):
            await asyncio.sleep(0.005)


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop, that of uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _routes(dataplane: Dataplane) -> dict[bytes, Route]:
    """Everything that can be called, by its path."""
    handlers = Handlers(dataplane)
    table = {
        f"/{SERVICE}/ModelInfer": Route(InferCall, handlers.infer),
        f"/{SERVICE}/ModelStreamInfer": Route(StreamCall, handlers.infer),
        f"/{HEALTH}/Check": Route(
            UnaryCall,
            _on_messages(health_pb2.HealthCheckRequest, lambda r, c: check(dataplane, r.service)),
            True,
        ),
        f"/{HEALTH}/Watch": Route(WatchCall, handlers.infer),
        f"/{REFLECTION}/ServerReflectionInfo": Route(EachCall, _reflection()),
    }
    for name, method in methods().items():
        kind = message(method.input_type.name)
        handler = _on_messages(kind, getattr(handlers, name, None))
        table.setdefault(f"/{SERVICE}/{name}", Route(UnaryCall, handler, name in QUICK))
    return {path.encode(): route for path, route in table.items()}


def _on_messages(kind: Any, handler: Any) -> Callable[[bytes, Context], bytes]:
    """A handler of messages as one of bytes."""

    def call(data: bytes, context: Context) -> bytes:
        content: bytes = handler(parse(kind, data, "the request"), context).SerializeToString()
        return content

    return call


def _reflection() -> Callable[[bytes, Context], bytes]:
    """Grpcio's own answers, a request at a time."""
    servicer = ReflectionServicer(SERVICES, descriptors())

    def one(request: Any, context: Context) -> Any:
        return next(servicer.ServerReflectionInfo(iter([request]), context))

    return _on_messages(reflection_pb2.ServerReflectionRequest, one)
