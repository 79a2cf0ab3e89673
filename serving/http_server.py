"""The HTTP front: the KServe v2 REST protocol with Triton's extensions, on aiohttp in a thread of its own."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from serving.dataplane import Dataplane
from serving.errors import InvalidInput, Overloaded, PermissionDenied, ServingError, Unimplemented, status_of
from serving.http_codec import build_infer, parse_infer, parse_json, take
from serving.http_coding import IDENTITY, accepted_coding, coding_of, decompress, length_of, too_long
from serving.security import TlsFiles, check_token, is_loopback
from serving.shared_memory import SharedMemory
from serving.types import ModelStatistics, TensorSpec

HEADER_LENGTH = "Inference-Header-Content-Length"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Result = TypeVar("Result")

SHUTDOWN_SECONDS = 1.0
INLINE_BYTES = 1 << 16
"""Longer JSON is read, written and compressed off the event loop: others would wait for milliseconds and more."""


class HttpFront:
    """Serves a dataplane over HTTP.

    Args:
        dataplane: that answers.
        host: address to listen on.
        port: 0 for any free one.
        tls: certificates; `None` serves plain text.
        token: that callers must send; `None` for none.
        max_body_bytes: longest request, also after decompression.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        tls: TlsFiles | None = None,
        token: str | None = None,
        max_body_bytes: int = 2**31 - 1,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._routes = Routes(dataplane, max_body_bytes)
        self._app = web.Application(
            client_max_size=max_body_bytes, middlewares=[_guard(token, max_body_bytes)]
        )
        self._routes.add_to(self._app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ServingError: the address cannot be had.
        """
        self._thread.start()
        try:
            return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.stop(0.0)
            raise

    async def _start(self) -> int:
        await self._runner.setup()
        ssl = self._tls.context() if self._tls else None
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=ssl)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServingError(f"HTTP cannot listen on {self._host}:{self._port}: {reason}") from error
        port: int = self._runner.addresses[0][1]
        return port

    def stop(self, grace: float = 1.0) -> None:
        """Take no more calls.

        Args:
            grace: seconds that calls which run, and answers on their way, get to finish.
        """
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._stop(grace), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._routes.close()

    async def _stop(self, grace: float) -> None:
        for site in list(self._runner.sites):
            await site.stop()
        if self._runner.server is not None:
            # Ends connections without a call at once, others after their answer.
            self._runner.server.pre_shutdown()
            await self._runner.server.shutdown(grace)
        await self._runner.cleanup()
        await self._loop.shutdown_default_executor()


def _guard(token: str | None, max_body_bytes: int) -> Any:
    """Check tokens, and turn errors into status codes."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith("/v2/health/"):
                check_token(token, request.headers.get("Authorization"))
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _error(413, str(too_long(max_body_bytes).text))
        except web.HTTPException as error:
            answer = _error(error.status, f"{request.method} {request.path}: {error.reason}")
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer
        except asyncio.CancelledError:
            raise
        except Exception as error:
            known = isinstance(error, ServingError)
            text = str(error) if known else f"unexpected {type(error).__name__}: {error}"
            answer = _error(status_of(error).http, text)
            if isinstance(error, Overloaded):
                answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
            return answer

    return guard


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


class Routes:
    """One method a resource."""

    def __init__(self, dataplane: Dataplane, max_body_bytes: int) -> None:
        self.dataplane, self._limit = dataplane, max_body_bytes
        # Loading compiles for seconds: not on the event loop.
        self._slow = ThreadPoolExecutor(2, thread_name_prefix="http-slow")

    def close(self) -> None:
        """Start no more of what is slow."""
        self._slow.shutdown(wait=False, cancel_futures=True)

    def add_to(self, app: web.Application) -> None:
        """Register everything."""
        get, post = app.router.add_get, app.router.add_post
        get("/v2", self.metadata)
        get("/v2/health/live", self.live)
        get("/v2/health/ready", self.ready)
        get("/v2/models/stats", self.statistics)
        for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            get(base, self.model_metadata)
            get(f"{base}/ready", self.model_ready)
            get(f"{base}/config", self.config)
            get(f"{base}/stats", self.statistics)
            post(f"{base}/infer", self.infer)
        get("/v2/models/{model}/trace/setting", self.trace)
        post("/v2/models/{model}/trace/setting", self.trace)
        post("/v2/repository/index", self.index)
        post("/v2/repository/models/{model}/load", self.load)
        post("/v2/repository/models/{model}/unload", self.unload)
        for kind in ("systemsharedmemory", "cudasharedmemory"):
            handler = self.system_memory if kind == "systemsharedmemory" else self.cuda_memory
            get(f"/v2/{kind}/status", handler)
            post(f"/v2/{kind}/unregister", handler)
            get(f"/v2/{kind}/region/{{region}}/status", handler)
            post(f"/v2/{kind}/region/{{region}}/register", handler)
            post(f"/v2/{kind}/region/{{region}}/unregister", handler)
        for method in (get, post):
            method("/v2/trace/setting", self.trace)
            method("/v2/logging", self.logging)

    async def metadata(self, request: web.Request) -> web.Response:
        """Who answers."""
        return web.json_response(asdict(self.dataplane.server_metadata()))

    async def live(self, request: web.Request) -> web.Response:
        """200 while the server runs."""
        return web.Response(status=200 if self.dataplane.live() else 400)

    async def ready(self, request: web.Request) -> web.Response:
        """200 while it takes requests."""
        return web.Response(status=200 if self.dataplane.ready() else 400)

    async def model_ready(self, request: web.Request) -> web.Response:
        """200 while a model takes requests."""
        return web.Response(status=200 if self.dataplane.model_ready(*_model(request)) else 400)

    async def model_metadata(self, request: web.Request) -> web.Response:
        """What a model takes and gives."""
        found = self.dataplane.model_metadata(*_model(request))
        content = {
            "name": found.name,
            "versions": found.versions,
            "platform": found.platform,
            "inputs": [_tensor(spec) for spec in found.inputs],
            "outputs": [_tensor(spec) for spec in found.outputs],
        }
        return web.json_response(content)

    async def config(self, request: web.Request) -> web.Response:
        """Triton's ModelConfig."""
        return web.json_response(self.dataplane.model_config(*_model(request)))

    async def statistics(self, request: web.Request) -> web.Response:
        """What models have done."""
        found = self.dataplane.statistics(*_model(request))
        return web.json_response({"model_stats": [_statistics(entry) for entry in found]})

    async def infer(self, request: web.Request) -> web.Response:
        """An inference; cancelled when the caller goes away."""
        arrived = time.monotonic()
        body = await self._body(request)
        length = length_of(request.headers.get(HEADER_LENGTH), HEADER_LENGTH)
        read = partial(parse_infer, *_model(request), body, length, partial(self._memory, request))
        call, binary = await _calculate(read, len(body) if length is None else length)
        timeout = take(call.parameters, "timeout", int, "the request's parameters", 0)
        if timeout < 0:
            raise InvalidInput(f"parameter 'timeout' is {timeout}; 0 (none) or more microseconds are allowed")
        call.deadline = arrived + timeout / 1e6 if timeout else None
        response = await asyncio.wrap_future(self.dataplane.submit(call))
        size = sum(output.data.nbytes for output in response.outputs if output.data is not None)
        content, head = await _calculate(partial(build_infer, response, binary), size)
        headers = {} if head is None else {HEADER_LENGTH: str(head)}
        kind = "application/json" if head is None else "application/octet-stream"
        answer = web.Response(
            body=content, headers=headers, content_type=kind, zlib_executor_size=INLINE_BYTES
        )
        if coding := accepted_coding(request.headers.get("Accept-Encoding")):
            answer.enable_compression(web.ContentCoding(coding))
        return answer

    async def _body(self, request: web.Request) -> bytes:
        """The body, decompressed."""
        coding = coding_of(request.headers.get("Content-Encoding"))
        body = await request.read()
        if coding == IDENTITY:
            return body
        # However short it is: it may hold a thousand times as much.
        return await asyncio.to_thread(decompress, body, coding, self._limit)

    def _memory(self, request: web.Request) -> SharedMemory:
        """The registered regions, for callers on this host."""
        if not is_loopback(request.remote or ""):
            raise PermissionDenied(
                f"shared memory is for callers on this host; the call came from {request.remote}"
            )
        return self.dataplane.shared_memory

    async def _json(self, request: web.Request) -> dict[str, Any]:
        body = await self._body(request)
        return parse_json(body) if body else {}

    async def _parameters(self, request: web.Request) -> dict[str, Any]:
        parameters: dict[str, Any] = take(await self._json(request), "parameters", dict, "the request", {})
        return parameters

    async def index(self, request: web.Request) -> web.Response:
        """Models in the repository."""
        ready = take(await self._json(request), "ready", bool, "the request", False)
        return web.json_response([asdict(entry) for entry in self.dataplane.index(ready_only=ready)])

    async def load(self, request: web.Request) -> web.Response:
        """Load a model."""
        parameters = await self._parameters(request)
        await self._slowly(self.dataplane.load, request.match_info["model"], parameters)
        return web.Response()

    async def unload(self, request: web.Request) -> web.Response:
        """Unload a model."""
        parameters = await self._parameters(request)
        unknown = sorted(set(parameters) - {"unload_dependents"})
        if unknown:
            raise InvalidInput(f"unload parameter {unknown[0]!r}; allowed is 'unload_dependents'")
        dependents = take(parameters, "unload_dependents", bool, "the request's parameters", False)
        unload = partial(self.dataplane.unload, unload_dependents=dependents)
        await self._slowly(unload, request.match_info["model"])
        return web.Response()

    async def _slowly(self, function: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._slow, function, *arguments)

    async def system_memory(self, request: web.Request) -> web.Response:
        """Status, registration and its end."""
        memory, region = self._memory(request), request.match_info.get("region", "")
        if request.path.endswith("/status"):
            return web.json_response([asdict(entry) for entry in memory.status(region)])
        if request.path.endswith("/unregister"):
            memory.unregister(region)
            return web.Response()
        content = await self._json(request)
        what = f"shared memory {region!r}"
        key, size = take(content, "key", str, what), take(content, "byte_size", int, what)
        memory.register(region, key, size, take(content, "offset", int, what, 0))
        return web.Response()

    async def cuda_memory(self, request: web.Request) -> web.Response:
        """Not offered; there are no regions."""
        if request.path.endswith("/register"):
            raise Unimplemented("CUDA shared memory is not offered; system shared memory is")
        if request.path.endswith("/unregister"):
            return web.Response()
        return web.json_response([])

    async def trace(self, request: web.Request) -> web.Response:
        """Trace settings."""
        if "model" in request.match_info:
            self.dataplane.repository.get(*_model(request))
        changes = await self._json(request) if request.method == "POST" else {}
        settings = self.dataplane.settings.trace(_as_lists(changes))
        return web.json_response(
            {name: value if name == "trace_level" else value[0] for name, value in settings.items()}
        )

    async def logging(self, request: web.Request) -> web.Response:
        """Log settings."""
        changes = await self._json(request) if request.method == "POST" else {}
        return web.json_response(self.dataplane.settings.log(changes))


async def _calculate(function: Callable[[], Result], size: int) -> Result:
    """Call a function, on another thread if it has many bytes to work on."""
    return await asyncio.to_thread(function) if size > INLINE_BYTES else function()


def _as_lists(changes: Mapping[str, Any]) -> dict[str, list[str]]:
    """Trace settings as the dataplane takes them; null, which asks for the default, is an empty list."""
    return {
        name: value if isinstance(value, list) else [] if value is None else [str(value)]
        for name, value in changes.items()
    }


def _model(request: web.Request) -> tuple[str, str]:
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.dims)}


def _statistics(found: ModelStatistics) -> dict[str, Any]:
    phases = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": found.name,
        "version": found.version,
        "last_inference": found.last_inference,
        "inference_count": found.inference_count,
        "execution_count": found.execution_count,
        "inference_stats": {phase: asdict(getattr(found, phase)) for phase in phases}
        | {"fail": asdict(found.failed)},
        "batch_stats": [asdict(batch) for batch in found.batches],
    }
