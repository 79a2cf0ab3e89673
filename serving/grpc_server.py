"""The gRPC front: `inference.GRPCInferenceService`, health and reflection on grpcio's threaded server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.dataplane import Dataplane
from serving.errors import ServingError, Unauthenticated
from serving.grpc_handlers import Handlers
from serving.grpc_services import OPEN, SERVICES, WATCH_SECONDS, check, descriptors, health_of
from serving.grpc_threads import BoundedCalls, Context, CountedThreads, LongCalls, abort, guarded
from serving.protocol.messages import SERVICE, message, methods
from serving.security import TlsFiles, check_token

REFUSALS = 256
"""Calls that may be in the course of being refused."""


class GrpcFront:
    """Serves a dataplane over gRPC.

    Args:
        dataplane: that answers.
        host: address to listen on.
        port: 0 for any free one.
        threads: calls at the same time.
        waiting: calls that may wait for a thread; the rest is refused, with a hint when to come back.
        streams: of ModelStreamInfer at the same time; each has a thread of its own.
        watches: of the health service at the same time, likewise.
        tls: certificates; `None` serves plain text.
        token: that callers must send; `None` for none.
        max_message_bytes: longest request.
        max_metadata_bytes: longest headers of a request.

    Raises:
        ServingError: from `start`, when the address cannot be had.
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
    ) -> None:
        self._address = f"[{host}]" if ":" in host else host
        self._port, self._tls = port, tls
        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", max_metadata_bytes),
            # Without it, what lies between this limit and 16 KiB is refused by chance.
            ("grpc.absolute_max_metadata_size", max_metadata_bytes),
            ("grpc.so_reuseport", 0),
        ]
        self._streams, self._watches = LongCalls(streams, "streams"), LongCalls(watches, "watches")
        interceptors: list[grpc.ServerInterceptor] = [_TokenInterceptor(token)] if token is not None else []
        pool = CountedThreads(threads)
        self._server = grpc.server(
            pool,
            options=options,
            interceptors=interceptors,
            # Beyond even the refusals: grpcio then says no itself.
            maximum_concurrent_rpcs=threads + waiting + streams + watches + REFUSALS,
        )
        self._calls = BoundedCalls(_service(Handlers(dataplane), self._streams), pool, waiting)
        self._server.add_generic_rpc_handlers((self._calls,))
        health_pb2_grpc.add_HealthServicer_to_server(_Health(dataplane, self._watches), self._server)
        reflection.enable_server_reflection(SERVICES, self._server, descriptors())

    def start(self) -> int:
        """Listen; returns the port."""
        address = f"{self._address}:{self._port}"
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError as error:
            raise ServingError(f"gRPC cannot listen on {address}: {error}") from error
        self._server.start()
        return port

    def stop(self, grace: float = 0.0) -> None:
        """Take no more calls, let those that run finish for `grace` seconds."""
        self._server.stop(grace).wait()
        self._calls.close()
        self._streams.close()
        self._watches.close()


def _service(handlers: Handlers, streams: LongCalls) -> grpc.GenericRpcHandler:
    """ModelInfer and its stream on bytes, everything else on messages."""
    table: dict[str, grpc.RpcMethodHandler] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(guarded(handlers.infer)),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(streams.run(handlers.stream)),
    }
    for name, method in methods().items():
        if name not in table:
            table[name] = grpc.unary_unary_rpc_method_handler(
                guarded(getattr(handlers, name)),
                request_deserializer=message(method.input_type.name).FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
    return grpc.method_handlers_generic_handler(SERVICE, table)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    authority = tls.client_authority.read_bytes() if tls.client_authority else None
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


class _Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1 with a thread for every watch."""

    def __init__(self, dataplane: Dataplane, watches: LongCalls) -> None:
        self._dataplane = dataplane
        self.Check = guarded(lambda request, context: check(dataplane, request.service))
        self.Watch = watches.run(self._watch)

    def _watch(self, request: Any, context: Context) -> Iterator[Any]:
        """The state whenever it changes."""
        last = None
        while context.is_active():
            status = health_of(self._dataplane, request.service)
            if status != last:
                last = status
                yield status
            time.sleep(WATCH_SECONDS)


class _TokenInterceptor(grpc.ServerInterceptor):
    """Refuses calls without the token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Let a call through, or answer UNAUTHENTICATED in its place."""
        handler = continuation(handler_call_details)
        if handler_call_details.method.startswith(OPEN) or handler is None:
            return handler
        header = dict(handler_call_details.invocation_metadata).get("authorization")
        try:
            check_token(self._token, header if isinstance(header, str) else None)
        except Unauthenticated as error:
            return _refusing(handler, error)
        return handler


def _refusing(handler: grpc.RpcMethodHandler, error: ServingError) -> grpc.RpcMethodHandler:
    def refuse(request: Any, context: Context) -> Any:
        abort(error, context)

    if handler.response_streaming:
        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return kind(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)
