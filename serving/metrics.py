"""Prometheus metrics under Triton's names, so that dashboards and autoscalers made for it work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from serving.dataplane import Dataplane
from serving.errors import ServingError
from serving.types import ModelStatistics

Read = Callable[[ModelStatistics], float]

COUNTERS: tuple[tuple[str, str, Read], ...] = (
    ("nv_inference_request_success", "Number of successful inference requests", lambda s: s.success.count),
    (
        "nv_inference_count",
        "Number of inferences performed (a batch of n counts n)",
        lambda s: s.inference_count,
    ),
    ("nv_inference_exec_count", "Number of model executions performed", lambda s: s.execution_count),
    (
        "nv_inference_request_duration_us",
        "Cumulative request duration in microseconds",
        lambda s: s.success.ns / 1e3,
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative queue duration in microseconds",
        lambda s: s.queue.ns / 1e3,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds",
        lambda s: s.compute_input.ns / 1e3,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds",
        lambda s: s.compute_infer.ns / 1e3,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative compute output duration in microseconds",
        lambda s: s.compute_output.ns / 1e3,
    ),
)
REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")


class TritonCollector:
    """Reads the statistics of a dataplane whenever it is scraped."""

    def __init__(self, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        psutil.cpu_percent()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        found = self._dataplane.statistics()
        for name, text, read in COUNTERS:
            metric = Metric(name, text, "counter")
            for entry in found:
                metric.add_sample(name, {"model": entry.name, "version": entry.version}, read(entry))
            yield metric
        failures = Metric("nv_inference_request_failure", "Number of failed inference requests", "counter")
        pending = Metric("nv_inference_pending_request_count", "Number of requests that wait", "gauge")
        for entry in found:
            labels = {"model": entry.name, "version": entry.version}
            for reason in REASONS:
                count = entry.fail[reason].count if reason in entry.fail else 0
                failures.add_sample(failures.name, {**labels, "reason": reason}, count)
            pending.add_sample(pending.name, labels, entry.pending)
        yield failures
        yield pending
        yield from _machine()


def _machine() -> Iterator[Metric]:
    memory = psutil.virtual_memory()
    gauges = (
        ("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", psutil.cpu_percent() / 100),
        ("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory.total),
        ("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", memory.used),
    )
    for name, text, value in gauges:
        metric = Metric(name, text, "gauge")
        metric.add_sample(name, {}, value)
        yield metric


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"


def exposition(metrics: Iterable[Metric]) -> str:
    """Prometheus' text format.

    prometheus-client's own writer calls every counter NAME_total in its TYPE line, and offers OpenMetrics, where a
    counter must be called so: Triton's names would be without a type in one and not allowed in the other.
    """
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.documentation}", f"# TYPE {metric.name} {metric.type}"]
        lines += [
            f"{sample.name}{_labels(sample)} {floatToGoString(sample.value)}" for sample in metric.samples
        ]
    return "\n".join([*lines, ""])


def _labels(sample: Sample) -> str:
    escapes = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
    pairs = ",".join(f'{key}="{value.translate(escapes)}"' for key, value in sorted(sample.labels.items()))
    return f"{{{pairs}}}" if pairs else ""


class _Handler(BaseHTTPRequestHandler):
    """Answers a scrape."""

    registry: CollectorRegistry
    timeout = 30.0

    def do_GET(self) -> None:
        """All metrics."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, f"only {PATH} is here")
            return
        content = exposition(self.registry.collect()).encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Scrapes are not worth a line."""


class MetricsFront:
    """Serves /metrics.

    Args:
        dataplane: whose numbers.
        host: address to listen on.
        port: 0 for any free one.
    """

    def __init__(self, dataplane: Dataplane, *, host: str = "127.0.0.1", port: int = 8002) -> None:
        self._host, self._port = host, port
        registry = CollectorRegistry(auto_describe=False)
        registry.register(TritonCollector(dataplane))
        self._handler = type("Handler", (_Handler,), {"registry": registry})
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ServingError: the address cannot be had.
        """
        try:
            # Without the port: getaddrinfo would take 70000 for another one.
            (family, *_, address), *_ = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
            self._server = kind((address[0], self._port), self._handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServingError(f"metrics cannot listen on {self._host}:{self._port}: {reason}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
