"""The HTTP front, driven by NVIDIA's client and by plain requests."""

import gzip
import json
import zlib

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, shared_memory

from serving.http_coding import accepted_coding
from serving.http_server import HEADER_LENGTH
from tests.serving.http_calls import call, serving, tensors
from tests.serving.planes import expected, rows


@pytest.fixture(scope="module")
def address(dataplane):
    with serving(dataplane) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(name, array, datatype="FP32", *, binary=True):
    found = triton.InferInput(name, array.shape, datatype)
    found.set_data_from_numpy(array, binary_data=binary)
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


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
    ],
)
@pytest.mark.parametrize("space", [b"", b"\n "])
def test_compressed_json(address, coding, compress, space):
    body = compress(space + json.dumps(tensors()).encode())
    status, _, content = call(address, "POST", "/v2/models/mlp/infer", body, {"Content-Encoding": coding})
    assert (status, json.loads(content)["outputs"][0]["data"]) == (200, [0.0] * 3)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("", None),
        ("br", None),
        ("deflate, GZIP", "gzip"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("gzip; q=0.0", None),
    ],
)
def test_answers_are_compressed_as_asked(address, header, coding):
    assert accepted_coding(header) == coding
    headers = {} if header is None else {"Accept-Encoding": header}
    _, found, _ = call(address, "POST", "/v2/models/mlp/infer", tensors(), headers)
    assert found.get("Content-Encoding") == coding


def test_large_json_both_ways(address):
    body = {"inputs": [{"name": "x", "shape": [16, 8], "datatype": "FP32", "data": rows(16).tolist()}]}
    text = json.dumps(body).encode().ljust(10**6)
    status, _, content = call(address, "POST", "/v2/models/mlp/infer", text)
    assert status == 200
    found = json.loads(content)["outputs"][0]["data"]
    np.testing.assert_allclose(np.array(found).reshape(16, 3), expected(rows(16)), rtol=1e-5, atol=1e-5)


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


BAD = [
    (b"{", {}, 400, "no JSON"),
    (b"[1]", {}, 400, "a JSON list"),
    ({}, {}, 400, "'inputs' is None"),
    ({"inputs": [3]}, {}, 400, "'inputs' holds 3"),
    ({**tensors(), "inputs": [tensors()["inputs"][0]] * 2}, {}, 400, "input 'x' is given twice"),
    ({**tensors(), "id": {"a": 1}}, {}, 400, "'id' is {'a': 1}"),
    ({**tensors(), "parameters": {"timeout": "5"}}, {}, 400, "'timeout' is '5'"),
    ({**tensors(), "parameters": {"timeout": -5}}, {}, 400, "'timeout' is -5"),
    ({**tensors(), "parameters": {"binary_data_output": "yes"}}, {}, 400, "'binary_data_output' is 'yes'"),
    (
        {**tensors(), "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]},
        {},
        400,
        "'binary_data'",
    ),
    ({**tensors(), "outputs": [{"name": "logits"}] * 2}, {}, 400, "output 'logits' is asked for twice"),
    (tensors(data=[1e39] * 8), {}, 400, "goes beyond"),
    (b"[" * 100_000, {}, 400, "no JSON"),
    (
        json.dumps(tensors()).encode() + b"\0\0",
        {HEADER_LENGTH: str(len(json.dumps(tensors())))},
        400,
        "2 bytes behind",
    ),
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
    (tensors(), {HEADER_LENGTH: "9" * 5000}, 400, HEADER_LENGTH),
    (gzip.compress(b"{}", mtime=0)[:-3], {"Content-Encoding": "gzip"}, 400, "cut short"),
    (
        gzip.compress(b"{}", mtime=0) + b"x",
        {"Content-Encoding": "gzip"},
        400,
        "1 bytes behind the gzip stream",
    ),
    (b"no gzip at all", {"Content-Encoding": "gzip"}, 400, "the body is none"),
    (b"", {"Content-Encoding": "deflate"}, 400, "cut short"),
    (b"x", {"Content-Encoding": "br"}, 400, "'br'; gzip, deflate and identity are allowed"),
    # A body that is compressed twice is decompressed once.
    (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), {"Content-Encoding": "gzip"}, 400, "no JSON"),
]


@pytest.mark.parametrize(("body", "headers", "status", "text"), BAD, ids=range(len(BAD)))
def test_wrong_requests_say_what_is_allowed(address, body, headers, status, text):
    found, _, content = call(address, "POST", "/v2/models/mlp/infer", body, headers)
    assert found == status
    assert text in json.loads(content)["error"]
    assert call(address, "GET", "/v2/health/ready")[0] == 200


MANAGEMENT = [
    ("/v2/repository/index", {"ready": "no"}, "'ready' is 'no'"),
    ("/v2/repository/models/mlp/load", {"parameters": [1]}, "'parameters' is [1]"),
    ("/v2/repository/models/mlp/load", {"parameters": {"speed": 1}}, "'speed'"),
    ("/v2/repository/models/mlp/unload", {"parameters": {"speed": 1}}, "'speed'"),
    (
        "/v2/repository/models/mlp/unload",
        {"parameters": {"unload_dependents": 1}},
        "'unload_dependents' is 1",
    ),
    ("/v2/systemsharedmemory/region/a/register", {"key": "/a", "byte_size": True}, "'byte_size' is True"),
    ("/v2/systemsharedmemory/region/a/register", {"key": "/a", "byte_size": -1}, "byte_size -1"),
    ("/v2/systemsharedmemory/region/a/register", {"byte_size": 1}, "'key' is None"),
]


@pytest.mark.parametrize(("path", "body", "text"), MANAGEMENT)
def test_wrong_orders_change_nothing(address, path, body, text):
    status, _, content = call(address, "POST", path, body)
    assert status == 400
    assert text in json.loads(content)["error"]
    assert call(address, "GET", "/v2/models/mlp/ready")[0] == 200


def test_unknown_things_are_not_found(address):
    assert call(address, "GET", "/v2/models/none/trace/setting")[0] == 404
    status, headers, content = call(address, "GET", "/v2/models/mlp/infer")
    assert (status, headers["Allow"]) == (405, "POST")
    assert "GET /v2/models/mlp/infer" in json.loads(content)["error"]
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
