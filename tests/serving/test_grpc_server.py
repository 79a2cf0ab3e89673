"""The gRPC front, driven by NVIDIA's client and by raw grpcio."""

import subprocess
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, shared_memory

from serving.errors import ServingError
from serving.protocol.messages import SERVICE, methods
from serving.security import TlsFiles
from tests.serving import artifacts
from tests.serving.planes import FRONTS


@pytest.fixture(scope="module")
def address(dataplane, front):
    served = FRONTS[front](dataplane, port=0, threads=16)
    yield f"127.0.0.1:{served.start()}"
    served.stop()


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(name, array, datatype="FP32"):
    found = triton.InferInput(name, array.shape, datatype)
    found.set_data_from_numpy(array)
    return found


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


def expected(x):
    weights = artifacts.mlp_weights()
    return np.tanh(x @ weights["first"]) @ weights["second"]


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.get_server_metadata().name == "recon-serving"
    found = client.get_model_metadata("mlp")
    assert [(i.name, i.datatype, list(i.shape)) for i in found.inputs] == [("x", "FP32", [-1, 8])]
    config = client.get_model_config("mlp").config
    assert config.max_batch_size == 16
    assert list(config.input[0].dims) == [8]
    assert len(config.parameters["checksum"].string_value) == 64


@pytest.mark.parametrize("n", [1, 3, 4, 16])
def test_answers_equal_numpy(client, n):
    x = rows(n, n)
    answer = client.infer("mlp", [tensor("x", x)], request_id="seven")
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(x), rtol=1e-5, atol=1e-5)
    assert answer.get_response().id == "seven"


def test_typed_contents(address):
    request = service_pb2.ModelInferRequest(model_name="mlp")
    x = rows(2)
    request.inputs.add(name="x", datatype="FP32", shape=[2, 8]).contents.fp32_contents.extend(x.ravel())
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )  # fmt: skip
        answer = call(request)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(2, 3)
    np.testing.assert_allclose(found, expected(x), rtol=1e-5, atol=1e-5)


def test_asynchronous_requests_are_joined_and_kept_apart(client):
    answers = {}

    def keep(number):
        def done(result, error):
            answers[number] = (result, error)

        return done

    inputs = [rows(1 + number % 3, number) for number in range(40)]
    for number, x in enumerate(inputs):
        client.async_infer("mlp", [tensor("x", x)], keep(number))
    until = time.monotonic() + 20
    while len(answers) < len(inputs) and time.monotonic() < until:
        time.sleep(0.01)
    for number, x in enumerate(inputs):
        result, error = answers[number]
        assert error is None, str(error)
        np.testing.assert_allclose(result.as_numpy("logits"), expected(x), rtol=1e-5, atol=1e-5)


def test_stream_answers_in_order_and_survives_an_error(client):
    answers = []
    client.start_stream(lambda result, error: answers.append((result, error)))
    client.async_stream_infer("mlp", [tensor("x", rows(2))], request_id="1")
    client.async_stream_infer("mlp", [tensor("x", rows(2)[:, :5])], request_id="2")
    client.async_stream_infer("mlp", [tensor("x", rows(1))], request_id="3")
    client.stop_stream()
    assert len(answers) == 3
    assert answers[0][0].get_response().id == "1"
    assert "shape [2, 5]" in str(answers[1][1])
    np.testing.assert_allclose(answers[2][0].as_numpy("logits"), expected(rows(1)), rtol=1e-5, atol=1e-5)


def test_system_shared_memory_both_ways(client):
    x = rows(4)
    handles = {
        "in": shared_memory.create_shared_memory_region("in", "/recon-test-in", x.nbytes),
        "out": shared_memory.create_shared_memory_region("out", "/recon-test-out", 4 * 3 * 4),
    }
    try:
        shared_memory.set_shared_memory_region(handles["in"], [x])
        client.register_system_shared_memory("in", "/recon-test-in", x.nbytes)
        client.register_system_shared_memory("out", "/recon-test-out", 48)
        assert set(client.get_system_shared_memory_status().regions) == {"in", "out"}
        given = triton.InferInput("x", [4, 8], "FP32")
        given.set_shared_memory("in", x.nbytes)
        wanted = triton.InferRequestedOutput("logits")
        wanted.set_shared_memory("out", 48)
        answer = client.infer("mlp", [given], outputs=[wanted])
        # C++ clients index the raw contents for every output.
        assert list(answer.get_response().raw_output_contents) == [b""]
        found = shared_memory.get_contents_as_numpy(handles["out"], np.float32, [4, 3])
        np.testing.assert_allclose(found, expected(x), rtol=1e-5, atol=1e-5)
        given.set_shared_memory("in", x.nbytes, offset=4)
        with pytest.raises(InferenceServerException, match="offset 4"):
            client.infer("mlp", [given])
    finally:
        client.unregister_system_shared_memory()
        for handle in handles.values():
            shared_memory.destroy_shared_memory_region(handle)
    assert not client.get_system_shared_memory_status().regions


def test_statistics_grow(client):
    before = client.get_inference_statistics("mlp").model_stats[0]
    client.infer("mlp", [tensor("x", rows(3))])
    after = client.get_inference_statistics("mlp").model_stats[0]
    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.queue.count - before.inference_stats.queue.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert 3 in {batch.batch_size for batch in after.batch_stats}


def test_repository_control(client):
    states = {
        model["name"]: model["state"] for model in client.get_model_repository_index(as_json=True)["models"]
    }
    assert states == dict.fromkeys(("graph", "identity", "mlp", "positive"), "READY")
    client.unload_model("identity")
    assert not client.is_model_ready("identity")
    with pytest.raises(InferenceServerException, match="not loaded") as caught:
        client.infer("identity", [tensor("INPUT0", np.zeros((1, 4), np.float32))])
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("identity")
    assert client.is_model_ready("identity")


def test_every_method_answers(address):
    """Nothing of the service is missing; an empty request gets an answer or a status that is not a failure."""
    assert len(methods()) == 20
    allowed = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
    with grpc.insecure_channel(address) as channel:
        for name, method in methods().items():
            if method.client_streaming:
                assert len(list(channel.stream_stream(f"/{SERVICE}/{name}")(iter([b""])))) == 1
                continue
            call = channel.unary_unary(f"/{SERVICE}/{name}").future(b"")
            error = call.exception()
            assert error is None or call.code() in allowed, name
            # What grpcio itself says of a method that nobody registered.
            assert error is None or "Method not found" not in call.details()


@pytest.mark.parametrize(
    ("model", "version", "inputs", "status", "text"),
    [
        ("none", "", [("x", (1, 8), "FP32")], "NOT_FOUND", "known are: graph, identity, mlp, positive"),
        ("mlp", "7", [("x", (1, 8), "FP32")], "NOT_FOUND", "version '7'"),
        ("../mlp", "", [("x", (1, 8), "FP32")], "NOT_FOUND", "no model '../mlp'"),
        (
            "mlp",
            "",
            [("y", (1, 8), "FP32")],
            "INVALID_ARGUMENT",
            "missing input ['x'] and unknown input ['y']",
        ),
        (
            "mlp",
            "",
            [("x", (1, 7), "FP32")],
            "INVALID_ARGUMENT",
            "'x' has the shape [1, 7]; [-1, 8] is allowed",
        ),
        ("mlp", "", [("x", (8,), "FP32")], "INVALID_ARGUMENT", "'x' has the shape [8]"),
        ("mlp", "", [("x", (1, 8), "FP64")], "INVALID_ARGUMENT", "datatype FP64; FP32 is allowed"),
        ("mlp", "", [("x", (17, 8), "FP32")], "INVALID_ARGUMENT", "largest bucket holds {'batch': 16}"),
        ("mlp", "", [], "INVALID_ARGUMENT", "missing input ['x']"),
    ],
)
def test_wrong_requests_say_what_is_allowed(client, model, version, inputs, status, text):
    dtypes = {"FP32": np.float32, "FP64": np.float64}
    given = [tensor(name, np.zeros(shape, dtypes[kind]), kind) for name, shape, kind in inputs]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, given, model_version=version)
    assert caught.value.status() == f"StatusCode.{status}"
    assert text in caught.value.message()


def test_not_a_number_is_refused_where_the_manifest_forbids_it(client):
    x = rows(2)
    x[1, 3] = np.nan
    with pytest.raises(InferenceServerException, match=r"not finite at \[1, 3\]"):
        client.infer("mlp", [tensor("x", x)])


def test_a_timeout_of_a_microsecond_is_over(client):
    with pytest.raises(InferenceServerException, match="before the model ran") as caught:
        client.infer("mlp", [tensor("x", rows(1))], timeout=1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_timeout_of_0_is_none(client):
    answer = client.infer("mlp", [tensor("x", rows(1))], timeout=0)
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(rows(1)), rtol=1e-5, atol=1e-5)


def test_health_service_and_reflection(address):
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == 1
        assert next(iter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=5))).status == 1
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        assert "ModelInfer" in DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name


def test_a_token_is_asked_for(dataplane, front):
    served = FRONTS[front](dataplane, port=0, threads=4, token="secret")
    address = f"127.0.0.1:{served.start()}"
    try:
        with triton.InferenceServerClient(address) as client:
            for headers in (None, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
                with pytest.raises(InferenceServerException) as caught:
                    client.infer("mlp", [tensor("x", rows(1))], headers=headers)
                assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            client.infer("mlp", [tensor("x", rows(1))], headers={"authorization": "Bearer secret"})
        with grpc.insecure_channel(address) as channel:
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1
    finally:
        served.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_mutual_tls(dataplane, certificates, front):
    certificate, key = certificates / "cert.pem", certificates / "key.pem"
    files = TlsFiles(certificate=certificate, key=key, client_authority=certificate)
    served = FRONTS[front](dataplane, port=0, threads=4, tls=files)
    address = f"localhost:{served.start()}"
    options = {"root_certificates": str(certificate)}
    both = {**options, "private_key": str(key), "certificate_chain": str(certificate)}
    try:
        with triton.InferenceServerClient(address, ssl=True, **both) as client:
            assert client.is_server_live()
        with (
            triton.InferenceServerClient(address, ssl=True, **options) as client,
            pytest.raises(InferenceServerException),
        ):
            client.is_server_live(client_timeout=2)
    finally:
        served.stop()


def test_a_port_in_use_is_an_error(dataplane, address, front):
    served = FRONTS[front](dataplane, port=int(address.rpartition(":")[2]))
    with pytest.raises(ServingError, match="cannot listen"):
        served.start()
