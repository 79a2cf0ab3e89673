"""The HTTP front: the KServe v2 REST protocol with Triton's extensions, on aiohttp in a thread of its own."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

from aiohttp import web

from serving.dataplane import Dataplane
from serving.errors import InvalidInput, Overloaded, PermissionDenied, ServingError, Unimplemented, status_of
from serving.http_codec import build_infer, parse_infer, parse_json
from serving.security import TlsFiles, check_token, is_loopback
from serving.shared_memory import SharedMemory
from serving.types import Duration, ModelStatistics, TensorSpec

HEADER_LENGTH = "Inference-Header-Content-Length"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
        routes = Routes(dataplane, max_body_bytes)
        self._app = web.Application(client_max_size=max_body_bytes, middlewares=[_guard(token)])
        routes.add_to(self._app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._runner = web.AppRunner(
            self._app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )

    def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ServingError: the address cannot be had.
        """
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> int:
        await self._runner.setup()
        ssl = self._tls.context() if self._tls else None
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=ssl)
        try:
            await site.start()
        except OSError as error:
            raise ServingError(
                f"HTTP cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from error
        port: int = self._runner.addresses[0][1]
        return port

    def stop(self) -> None:
        """Take no more calls; those that run get a second to finish."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _guard(token: str | None) -> Any:
    """Check tokens, and turn errors into status codes."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith("/v2/health/"):
                check_token(token, request.headers.get("Authorization"))
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            known = isinstance(error, ServingError)
            text = str(error) if known else f"unexpected {type(error).__name__}: {error}"
            answer = _error(status_of(error).http, text)
            if isinstance(error, Overloaded):
                answer.headers["Retry-After"] = str(max(1, round(error.retry_after)))
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
        body = await self._body(request)
        length = request.headers.get(HEADER_LENGTH)
        if length is not None and not length.isdecimal():
            raise InvalidInput(f"{HEADER_LENGTH} is {length!r}; a whole number is allowed")
        given = int(length) if length is not None else None
        call, binary = parse_infer(*_model(request), body, given, partial(self._memory, request))
        timeout = call.parameters.get("timeout")
        if isinstance(timeout, int) and timeout > 0:
            call.deadline = time.monotonic() + timeout / 1e6
        response = await asyncio.wrap_future(self.dataplane.submit(call))
        content, head = build_infer(response, binary)
        headers = {} if head is None else {HEADER_LENGTH: str(head)}
        kind = "application/json" if head is None else "application/octet-stream"
        answer = web.Response(body=content, headers=headers, content_type=kind)
        accepted = request.headers.get("Accept-Encoding", "")
        chosen = next((name for name in ("gzip", "deflate") if name in accepted), None)
        if chosen:
            answer.enable_compression(web.ContentCoding(chosen))
        return answer

    async def _body(self, request: web.Request) -> bytes:
        """The body, decompressed."""
        body = await request.read()
        coding = request.headers.get("Content-Encoding", "identity")
        if coding == "identity":
            return body
        if coding not in {"gzip", "deflate"}:
            raise InvalidInput(f"Content-Encoding is {coding!r}; gzip, deflate and identity are allowed")
        # aiohttp decompresses what it knows, and leaves the header as it was.
        if body[:1] == b"{":
            return body
        try:
            return self._decompress(body, coding)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(f"the body is no {coding}: {error}") from error

    def _decompress(self, body: bytes, coding: str) -> bytes:
        content = gzip.decompress(body) if coding == "gzip" else zlib.decompress(body)
        if len(content) > self._limit:
            raise InvalidInput(f"the body has {len(content)} bytes; {self._limit} are allowed")
        return content

    def _memory(self, request: web.Request) -> SharedMemory:
        """The registered regions, for callers on this host."""
        if not is_loopback(request.remote or ""):
            raise PermissionDenied(
                f"shared memory is for callers on this host; the call came from {request.remote}"
            )
        return self.dataplane.shared_memory

    async def _json(self, request: web.Request) -> dict[str, Any]:
        body = await request.read()
        return parse_json(body) if body else {}

    async def index(self, request: web.Request) -> web.Response:
        """Models in the repository."""
        ready = bool((await self._json(request)).get("ready"))
        return web.json_response([asdict(entry) for entry in self.dataplane.index(ready_only=ready)])

    async def load(self, request: web.Request) -> web.Response:
        """Load a model."""
        parameters = (await self._json(request)).get("parameters", {})
        await self._slowly(self.dataplane.load, request.match_info["model"], parameters)
        return web.Response()

    async def unload(self, request: web.Request) -> web.Response:
        """Unload a model."""
        await self._slowly(self.dataplane.unload, request.match_info["model"])
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
        key, size, offset = content.get("key"), content.get("byte_size"), content.get("offset", 0)
        if not (isinstance(key, str) and isinstance(size, int) and isinstance(offset, int)):
            raise InvalidInput(
                f"key {key!r}, byte_size {size!r}, offset {offset!r}; a text and two numbers are allowed"
            )
        memory.register(region, key, size, offset)
        return web.Response()

    async def cuda_memory(self, request: web.Request) -> web.Response:
        """Not offered; there are no regions."""
        if request.path.endswith("/register"):
            raise Unimplemented("CUDA shared memory is not offered; system shared memory is")
        return web.json_response([])

    async def trace(self, request: web.Request) -> web.Response:
        """Trace settings."""
        changes = await self._json(request) if request.method == "POST" else {}
        as_lists = {
            name: value if isinstance(value, list) else [str(value)] for name, value in changes.items()
        }
        settings = self.dataplane.settings.trace(as_lists)
        return web.json_response(
            {name: value if name == "trace_level" else value[0] for name, value in settings.items()}
        )

    async def logging(self, request: web.Request) -> web.Response:
        """Log settings."""
        changes = await self._json(request) if request.method == "POST" else {}
        return web.json_response(self.dataplane.settings.log(changes))


def _model(request: web.Request) -> tuple[str, str]:
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.dims)}


def _statistics(found: ModelStatistics) -> dict[str, Any]:
    fail = Duration(sum(d.count for d in found.fail.values()), sum(d.ns for d in found.fail.values()))
    phases = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": found.name,
        "version": found.version,
        "last_inference": found.last_inference,
        "inference_count": found.inference_count,
        "execution_count": found.execution_count,
        "inference_stats": {phase: asdict(getattr(found, phase)) for phase in phases}
        | {"fail": asdict(fail)},
        "batch_stats": [asdict(batch) for batch in found.batches],
    }
