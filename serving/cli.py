"""`recon serve`: a folder of models behind gRPC and HTTP."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from serving.allocator import use_jemalloc
from serving.errors import Cancelled, InvalidInput, ServingError
from serving.security import TlsFiles

if TYPE_CHECKING:
    from serving.dataplane import Dataplane
    from serving.grpc_async import AsyncGrpcFront
    from serving.grpc_server import GrpcFront

USER_ERROR = 2
LAST_PORT = 65535
ANSWER_SECONDS = 5.0
"""What answers that are ready get to leave the server once all requests are done."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to serve.

    Attributes:
        models: folder of the models, `<name>/<version>/manifest.json`.
        host: address to listen on; the default is this host alone.
        grpc: port; 0 for any free one, -1 for none.
        http: port; 0 for any free one, -1 for none.
        metrics: port; 0 for any free one, -1 for none.
        grpc_front: "grpcio" is the reference, "asyncio" costs several times less a call.
        threads: gRPC calls at the same time; with "asyncio" those that take time, such as large ones.
        xla_threads: threads of one execution on a CPU; 0 takes all cores.
        instances: executions of a model at the same time.
        queue: requests of a model that may wait, and calls that may wait for a thread; more are refused.
        control: "none" loads all models at the start, "explicit" those that clients ask for, "poll" follows the folder.
        tls_certificate: PEM file.
        tls_key: PEM file.
        tls_client_authority: PEM file; callers then need a certificate signed by it.
        token_file: holds the token that callers must send; the variable RECON_TOKEN does too.
        max_message_bytes: longest request.
        drain_seconds: on SIGTERM requests get this long to finish.
    """

    models: Path
    host: str = "127.0.0.1"
    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002
    grpc_front: Literal["grpcio", "asyncio"] = "grpcio"
    threads: int = 16
    xla_threads: int = 1
    instances: int = 1
    queue: int = 256
    control: Literal["none", "explicit", "poll"] = "none"
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_authority: Path | None = None
    token_file: Path | None = None
    max_message_bytes: int = 2**31 - 1
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("grpc", "http", "metrics"):
            port = getattr(self, name)
            if not -1 <= port <= LAST_PORT:
                raise InvalidInput(
                    f"--{name} {port}; 1 to {LAST_PORT}, 0 (any free one) or -1 (none) are allowed"
                )
        for name, least in (
            ("threads", 1),
            ("xla_threads", 0),
            ("max_message_bytes", 1),
            ("drain_seconds", 0),
        ):
            value = getattr(self, name)
            if not value >= least:
                raise InvalidInput(f"--{name.replace('_', '-')} {value}; {least} or more is allowed")


def serve(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: of the command line, without `recon serve`.

    Returns:
        0 after SIGTERM or SIGINT, 2 after an error of the user's.
    """
    import tyro  # noqa: PLC0415 - heavy imports come after the allocator is chosen

    errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    try:
        options = tyro.cli(Options, prog="recon serve", args=arguments)
    except InvalidInput as error:
        errors.print(f"error: {error}", style="bold red")
        return USER_ERROR
    errors.print(use_jemalloc(arguments), style="dim")
    if options.xla_threads:
        # XLA reads it when JAX is imported, which is below.
        flags = f"--xla_cpu_multi_thread_eigen={str(options.xla_threads > 1).lower()}"
        own = f"{flags} intra_op_parallelism_threads={options.xla_threads}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {own}".strip()
    try:
        _serve(options, errors)
    except (ServingError, OSError) as error:
        is_file = isinstance(error, OSError) and error.filename is not None
        text = f"{error.strerror}: {error.filename}" if is_file else str(error)  # type: ignore[union-attr]
        errors.print(f"error: {' '.join(text.split())}", style="bold red")
        return USER_ERROR
    return 0


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; afterwards they do what they did before."""
    stopped = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _serve(options: Options, console: Console) -> None:
    from serving.dataplane import Dataplane  # noqa: PLC0415
    from serving.repository import Limits, Repository  # noqa: PLC0415

    columns = (TextColumn("[cyan]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _stop_signals() as stopped, Progress(*columns, console=console) as progress:
        tasks: dict[str, int] = {}

        def report(name: str, version: str, done: int, total: int) -> None:
            if stopped.is_set():
                raise Cancelled("the server was told to stop while models were loading")
            label = f"{name} {version}"
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total)
            progress.update(tasks[label], completed=done)  # type: ignore[arg-type]

        limits = Limits(instances=options.instances, queue=options.queue)
        repository = Repository(options.models, control=options.control, limits=limits, report=report)
        dataplane = Dataplane(repository)
        with ExitStack() as fronts:
            ports = _start_fronts(options, dataplane, fronts)
            try:
                repository.start()
            except Cancelled as error:
                # A stop is no failure, whatever was not ready yet.
                console.print(str(error), style="yellow")
                repository.close(options.drain_seconds)
                return
            progress.stop()
            _say_ready(options, ports, len(repository.loaded()))
            stopped.wait()
            console.print("stopping: no new requests, finishing those that are here", style="yellow")
            if not dataplane.drain(options.drain_seconds):
                console.print("some requests were not answered in time", style="bold red")


def _start_fronts(options: Options, dataplane: Dataplane, fronts: ExitStack) -> dict[str, int]:
    """Start what was asked for; the fronts stop when the stack is left."""
    from serving.http_server import HttpFront  # noqa: PLC0415
    from serving.metrics import MetricsFront  # noqa: PLC0415

    tls, token = _tls(options), _token(options)
    ports = {}
    if options.grpc >= 0:
        grpc = _grpc_front(options.grpc_front)(
            dataplane,
            host=options.host,
            port=options.grpc,
            threads=options.threads,
            waiting=options.queue,
            tls=tls,
            token=token,
            max_message_bytes=options.max_message_bytes,
        )
        ports["grpc"] = grpc.start()
        fronts.callback(grpc.stop, 1.0)
    if options.http >= 0:
        http = HttpFront(
            dataplane,
            host=options.host,
            port=options.http,
            tls=tls,
            token=token,
            max_body_bytes=options.max_message_bytes,
        )
        ports["http"] = http.start()
        fronts.callback(http.stop, ANSWER_SECONDS)
    if options.metrics >= 0:
        metrics = MetricsFront(dataplane, host=options.host, port=options.metrics)
        ports["metrics"] = metrics.start()
        fronts.callback(metrics.stop)
    return ports


def _grpc_front(name: str) -> type[GrpcFront | AsyncGrpcFront]:
    """The class of a front; the other one need not be imported."""
    if name == "asyncio":
        from serving.grpc_async import AsyncGrpcFront  # noqa: PLC0415

        return AsyncGrpcFront
    from serving.grpc_server import GrpcFront  # noqa: PLC0415

    return GrpcFront


def _tls(options: Options) -> TlsFiles | None:
    if options.tls_certificate is None and options.tls_key is None:
        if options.tls_client_authority is not None:
            raise InvalidInput("--tls-client-authority needs --tls-certificate and --tls-key")
        return None
    if options.tls_certificate is None or options.tls_key is None:
        raise InvalidInput("--tls-certificate and --tls-key are needed together")
    return TlsFiles(
        certificate=options.tls_certificate,
        key=options.tls_key,
        client_authority=options.tls_client_authority,
    )


def _token(options: Options) -> str | None:
    """The token; never on the command line, where every user of the host can read it."""
    if options.token_file is not None:
        where, token = str(options.token_file), options.token_file.read_text()
    elif "RECON_TOKEN" in os.environ:
        where, token = "RECON_TOKEN", os.environ["RECON_TOKEN"]
    else:
        return None
    if not token.strip():
        raise InvalidInput(f"{where} is empty; a token is needed, or neither --token-file nor RECON_TOKEN")
    return token.strip()


def _say_ready(options: Options, ports: dict[str, int], models: int) -> None:
    """One line on standard output, for people and for whoever started the server."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    places = "  ".join(f"{front} {host}:{port}" for front, port in ports.items())
    sys.stdout.write(f"ready: {models} models  {places}\n")
    sys.stdout.flush()
