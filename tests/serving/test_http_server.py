"""The HTTP front, driven by NVIDIA's client and by plain requests."""

import gzip
import http.client
import json

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, shared_memory

from serving.errors import ServingError
from serving.http_server import HEADER_LENGTH, HttpFront
from tests.serving import artifacts


@pytest.fixture(scope="module")
def address(dataplane):
    front = HttpFront(dataplane, port=0)
    yield f"127.0.0.1:{front.start()}"
    front.stop()


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def expected(x):
    weights = artifacts.mlp_weights()
    return np.tanh(x @ weights["first"]) @ weights["second"]


def tensor(name, array, datatype="FP32", *, binary=True):
    found = triton.InferInput(name, array.shape, datatype)
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def call(address, method, path, body=None, headers=None):
    """(status, headers, body) of a plain request."""
    connection = http.client.HTTPConnection(address, timeout=20)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    connection.request(method, path, data, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.get_server_metadata()["name"] == "recon-serving"
    assert client.get_model_metadata("mlp")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    assert client.get_model_config("mlp")["max_batch_size"] == 16
    assert {entry["name"] for entry in client.get_model_repository_index()} >= {"mlp", "graph"}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_answers_equal_numpy(client, binary_in, binary_out):
    x = rows(3)
    outputs = [triton.InferRequestedOutput("logits", binary_data=binary_out)]
    answer = client.infer("mlp", [tensor("x", x, binary=binary_in)], outputs=outputs, request_id="7")
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(x), rtol=1e-5, atol=1e-5)
    assert answer.get_response()["id"] == "7"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_both_ways(client, coding):
    x = rows(16)
    answer = client.infer(
        "mlp", [tensor("x", x)], request_compression_algorithm=coding, response_compression_algorithm=coding
    )
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(x), rtol=1e-5, atol=1e-5)


def test_plain_json(address):
    x = rows(2)
    body = {"inputs": [{"name": "x", "shape": [2, 8], "datatype": "FP32", "data": x.tolist()}]}
    status, headers, content = call(address, "POST", "/v2/models/mlp/versions/1/infer", body)
    assert status == 200
    assert HEADER_LENGTH not in headers
    found = json.loads(content)["outputs"][0]
    np.testing.assert_allclose(
        np.array(found["data"]).reshape(found["shape"]), expected(x), rtol=1e-5, atol=1e-5
    )


def test_system_shared_memory(client):
    x = rows(2)
    handle = shared_memory.create_shared_memory_region("http-in", "/recon-test-http", x.nbytes)
    try:
        shared_memory.set_shared_memory_region(handle, [x])
        client.register_system_shared_memory("http-in", "/recon-test-http", x.nbytes)
        assert client.get_system_shared_memory_status()[0]["name"] == "http-in"
        given = triton.InferInput("x", [2, 8], "FP32")
        given.set_shared_memory("http-in", x.nbytes)
        found = client.infer("mlp", [given]).as_numpy("logits")
        np.testing.assert_allclose(found, expected(x), rtol=1e-5, atol=1e-5)
        client.unregister_system_shared_memory("http-in")
        with pytest.raises(InferenceServerException, match="'http-in' is not registered"):
            client.infer("mlp", [given])
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def test_repository_and_statistics(client):
    before = client.get_inference_statistics("graph")["model_stats"][0]
    client.unload_model("graph")
    assert not client.is_model_ready("graph")
    client.load_model("graph")
    assert client.is_model_ready("graph")
    after = client.get_inference_statistics("graph")["model_stats"][0]
    assert after["inference_count"] == 0 <= before["inference_count"]


def tensors(**changes):
    entry = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.0] * 8}
    return {"inputs": [{**entry, **changes}]}


BAD = [
    (b"{", {}, 400, "no JSON"),
    (b"[1]", {}, 400, "a JSON list"),
    ({}, {}, 400, "'inputs' is None"),
    ({"inputs": [3]}, {}, 400, "'inputs' holds 3"),
    (tensors(shape=[1, -8]), {}, 400, "lengths of 0 or more"),
    (tensors(shape=[2**31, 2**31]), {}, 400, "bytes; 2147483647 are allowed"),
    (tensors(datatype="FP33"), {}, 400, "datatype 'FP33'"),
    (tensors(datatype="BYTES"), {}, 400, "datatype 'BYTES'"),
    (tensors(data=["a"] * 8), {}, 400, "other things than numbers"),
    (tensors(data=[[1.0], [1.0, 2.0]]), {}, 400, "cannot be read"),
    (tensors(data=[1.0]), {}, 400, "1 values in 'data'; 8 are allowed"),
    (tensors(data=[float("nan")] * 8), {}, 400, "not finite"),
    (tensors(parameters={"binary_data_size": 32}), {}, 400, "0 bytes are left"),
    (tensors(parameters={"binary_data_size": 31}), {}, 400, "binary_data_size 31; 32 is allowed"),
    (tensors(parameters={"shared_memory_region": "no", "shared_memory_byte_size": 32}), {}, 400, "'no'"),
    ({**tensors(), "outputs": [{"name": "other"}]}, {}, 400, "no output 'other'"),
    ({**tensors(), "parameters": {"priority": -1}}, {}, 400, "'priority' is -1"),
    (tensors(), {HEADER_LENGTH: "100000"}, 400, HEADER_LENGTH),
    (tensors(), {HEADER_LENGTH: "x"}, 400, HEADER_LENGTH),
    (gzip.compress(b"{}", mtime=0)[:-3], {"Content-Encoding": "gzip"}, 400, ""),
]


@pytest.mark.parametrize(("body", "headers", "status", "text"), BAD, ids=range(len(BAD)))
def test_wrong_requests_say_what_is_allowed(address, body, headers, status, text):
    found, _, content = call(address, "POST", "/v2/models/mlp/infer", body, headers)
    assert found == status
    assert text in json.loads(content)["error"]
    assert call(address, "GET", "/v2/health/ready")[0] == 200


def test_unknown_things_are_not_found(address):
    assert call(address, "GET", "/v2/models/none")[0] == 404
    assert call(address, "GET", "/v2/models/mlp/versions/9")[0] == 404
    assert call(address, "GET", "/v3")[0] == 404
    assert call(address, "POST", "/v2/cudasharedmemory/region/x/register", {})[0] == 501
    assert json.loads(call(address, "GET", "/v2/cudasharedmemory/status")[2]) == []


def test_log_and_trace_settings(address):
    status, _, content = call(address, "POST", "/v2/logging", {"log_verbose_level": 1})
    assert (status, json.loads(content)["log_verbose_level"]) == (200, 1)
    assert call(address, "POST", "/v2/logging", {"log_verbose_level": 0})[0] == 200
    assert call(address, "POST", "/v2/logging", {"log_colour": 1})[0] == 400
    assert json.loads(call(address, "GET", "/v2/trace/setting")[2])["trace_level"] == ["OFF"]
    assert call(address, "POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]})[0] == 501


def test_a_token_is_asked_for(dataplane):
    front = HttpFront(dataplane, port=0, token="secret")
    address = f"127.0.0.1:{front.start()}"
    try:
        assert call(address, "GET", "/v2")[0] == 401
        assert call(address, "GET", "/v2", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert call(address, "GET", "/v2", headers={"Authorization": "Bearer secret"})[0] == 200
        assert call(address, "GET", "/v2/health/ready")[0] == 200
    finally:
        front.stop()


def test_a_port_in_use_is_an_error(dataplane, address):
    front = HttpFront(dataplane, port=int(address.rpartition(":")[2]))
    with pytest.raises(ServingError, match="cannot listen"):
        front.start()
    front.stop()
