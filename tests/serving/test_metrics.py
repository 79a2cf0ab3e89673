"""/metrics under Triton's names."""

import urllib.request

import numpy as np
import pytest

from serving.errors import InvalidInput
from serving.metrics import MetricsFront
from serving.types import InferRequest


@pytest.fixture(scope="module")
def scrape(dataplane):
    front = MetricsFront(dataplane, port=0)
    port = front.start()

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    yield read
    front.stop()


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
