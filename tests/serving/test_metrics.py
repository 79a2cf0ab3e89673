"""/metrics under Triton's names."""

import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import InvalidInput, ServingError
from serving.metrics import CONTENT_TYPE, MetricsFront, exposition
from serving.types import InferRequest


@pytest.fixture(scope="module")
def port(dataplane):
    front = MetricsFront(dataplane, port=0)
    yield front.start()
    front.stop()


def text_of(port, path="/metrics"):
    # What Prometheus sends: it would rather have OpenMetrics, where Triton's counters are not allowed.
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        return answer.read().decode()


@pytest.fixture(scope="module")
def scrape(port):
    def read():
        lines = text_of(port).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    return read


def test_counters_follow_requests(dataplane, scrape):
    before = scrape()
    dataplane.infer(InferRequest(model="mlp", inputs={"x": np.zeros((3, 8), np.float32)}))
    with pytest.raises(InvalidInput):
        dataplane.infer(InferRequest(model="mlp", inputs={}))
    after = scrape()
    labels = '{model="mlp",version="1"}'

    def grown(name):
        return after[name] - before[name]

    assert grown(f"nv_inference_request_success{labels}") == 1
    assert grown(f"nv_inference_count{labels}") == 3
    assert grown(f"nv_inference_exec_count{labels}") == 1
    assert grown('nv_inference_request_failure{model="mlp",reason="OTHER",version="1"}') == 1
    assert grown(f"nv_inference_compute_infer_duration_us{labels}") > 0
    assert grown(f"nv_inference_queue_duration_us{labels}") > 0
    assert after[f"nv_inference_pending_request_count{labels}"] == 0


def test_names_are_those_of_triton(scrape):
    names = {name.partition("{")[0] for name in scrape()}
    assert {
        "nv_inference_compute_input_duration_us",
        "nv_inference_compute_output_duration_us",
        "nv_inference_request_duration_us",
        "nv_cpu_utilization",
        "nv_cpu_memory_total_bytes",
    } <= names
    assert not any(name.endswith("_total") for name in names)


def test_every_metric_has_its_type(port):
    text = text_of(port)
    types = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE "))
    # Every sample is of a metric that was announced under the very same name.
    assert set(types) == {line.partition("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    assert types["nv_inference_exec_count"] == "counter"
    assert types["nv_inference_queue_duration_us"] == "counter"
    assert types["nv_inference_pending_request_count"] == "gauge"
    families = list(text_string_to_metric_families(text))
    assert len(families) == len(types)


def test_labels_are_escaped():
    metric = Metric("a_count", "Number", "counter")
    labels = {"model": 'a"b\\c\nd', "version": "1"}
    metric.add_sample("a_count", labels, 3)
    (family,) = text_string_to_metric_families(exposition([metric]))
    assert [(sample.labels, sample.value) for sample in family.samples] == [(labels, 3)]


def test_there_is_nothing_else(port):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        text_of(port, "/")
    assert "nv_inference_count" in text_of(port, "/metrics?a=b")


@pytest.mark.parametrize("wrong", [70_000, None])
def test_a_port_that_cannot_be_had(dataplane, port, wrong):
    front = MetricsFront(dataplane, port=wrong or port)
    with pytest.raises(ServingError, match="metrics cannot listen"):
        front.start()
    front.stop()
