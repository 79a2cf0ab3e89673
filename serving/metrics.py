"""Prometheus metrics under Triton's names, so that dashboards and autoscalers made for it work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

import psutil
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric

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
            # Not a CounterMetricFamily: it would put "_total" behind Triton's name.
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


class MetricsFront:
    """Serves /metrics.

    Args:
        dataplane: whose numbers.
        host: address to listen on.
        port: 0 for any free one.
    """

    def __init__(self, dataplane: Dataplane, *, host: str = "127.0.0.1", port: int = 8002) -> None:
        self._host, self._port = host, port
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(TritonCollector(dataplane))
        self._server: WSGIServer | None = None

    def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ServingError: the address cannot be had.
        """
        try:
            self._server, self._thread = start_http_server(self._port, self._host, self._registry)
        except OSError as error:
            raise ServingError(
                f"metrics cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from error
        return int(self._server.server_port)

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
