"""gRPC calls that go wrong, stay open, come from elsewhere or are given up."""

import asyncio
import contextlib
import logging
import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.errors import Cancelled, DeadlineExceeded, Overloaded
from tests.serving import planes
from tests.serving.planes import FRONTS, expected, rows

SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def request_of(n=1, **fields):
    request = service_pb2.ModelInferRequest(model_name="mlp", **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[n, 8])
    request.raw_input_contents.append(rows(n).tobytes())
    return request


@contextlib.contextmanager
def stub_of(port, host="127.0.0.1"):
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{host}:{port}", options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def stub(server):
    with stub_of(server.port) as stub:
        yield stub


def trailer_of(error):
    return dict(error.trailing_metadata())


def test_a_full_queue_says_when_to_try_again(server, stub):
    server.errors.append(Overloaded("the queue is full", 0.25))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_of())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = trailer_of(caught.value)
    assert (trailer["retry-after-ms"], trailer["grpc-retry-pushback-ms"]) == ("250", "250")
    assert trailer["error-class"] == "Overloaded"


def test_an_unexpected_error_is_told_logged_and_over(server, stub, caplog):
    server.errors.append(KeyError("boom"))
    with caplog.at_level(logging.ERROR, "serving.grpc_calls"), pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_of())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "unexpected KeyError" in caught.value.details()
    assert "KeyError: 'boom'" in caplog.text
    assert stub.ModelInfer(request_of()).raw_output_contents


def test_an_unexpected_error_does_not_end_a_stream(server, stub):
    server.errors.append(KeyError("boom"))
    answers = list(stub.ModelStreamInfer(iter([request_of(id="1"), request_of(id="2")]), timeout=20))
    assert ["KeyError" in answer.error_message for answer in answers] == [True, False]
    assert [answer.infer_response.id for answer in answers] == ["1", "2"]
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers)


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f52d"])
def test_errors_fit_into_a_trailer(stub, letter):
    """Longer ones reach the client as RESOURCE_EXHAUSTED, whatever they were."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=letter * 100_000))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"no model '{letter}" in caught.value.details()
    assert "known are: graph, identity, mlp, positive" in caught.value.details()


def test_open_streams_and_watches_leave_the_threads_to_others(repository, front):
    end = threading.Event()

    def idle():
        yield request_of()
        end.wait(20)

    plane = planes.Plane(repository)
    served = FRONTS[front](plane, port=0, threads=1, streams=2, watches=2)
    port = served.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub, health = (
                service_pb2_grpc.GRPCInferenceServiceStub(channel),
                health_pb2_grpc.HealthStub(channel),
            )
            calls = [stub.ModelStreamInfer(idle()) for _ in range(2)]
            calls += [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
            for call in calls:
                next(call)
            assert stub.ModelInfer(request_of(), timeout=10).raw_output_contents
            for more in (stub.ModelStreamInfer(idle()), health.Watch(health_pb2.HealthCheckRequest())):
                with pytest.raises(grpc.RpcError, match=r"2 (streams|watches) are open already") as caught:
                    next(more)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in calls:
                call.cancel()
            end.set()
            assert answers_again(lambda: stub.ModelStreamInfer(iter([request_of()]), timeout=10))
    finally:
        end.set()
        served.stop()


def answers_again(start):
    """Whether a refused call is taken once those before it have ended."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            return next(start())
        except grpc.RpcError:
            time.sleep(0.05)
    return None


def test_watches_follow_the_readiness(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server._draining = True
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=10)
        assert next(unknown).status == SERVICE_UNKNOWN
        unknown.cancel()


def test_deadlines_and_cancelling_reach_the_dataplane(server, front):
    """The client's error comes from its own clock; what counts is what the server made of it."""
    found = []
    name = "infer" if front == "grpcio" else "enqueue"
    inner = getattr(server, name)

    def infer(request, *end):
        found.append(request)
        return inner(request, *end)

    setattr(server, name, infer)
    with stub_of(server.port) as stub:
        for arguments, least, most in (({"timeout": 30}, 20, 30.1), ({}, None, None)):
            stub.ModelInfer(request_of(), **arguments)
            deadline = found[-1].deadline
            left = None if deadline is None else deadline - time.monotonic()
            assert (left is None) if least is None else least < left <= most
        request = request_of()
        request.parameters["timeout"].int64_param = 5_000_000
        stub.ModelInfer(request, timeout=30)
        assert 0 < found[-1].deadline - time.monotonic() <= 5
        server.gate.clear()
        call = stub.ModelInfer.future(request_of())
        while len(found) < 4:
            time.sleep(0.01)
        assert found[-1].is_wanted()
        call.cancel()
        until = time.monotonic() + 10
        while found[-1].is_wanted() and time.monotonic() < until:
            time.sleep(0.01)
        assert not found[-1].is_wanted()
        server.gate.set()


@pytest.mark.parametrize("error", [Cancelled("given up"), DeadlineExceeded("too late")])
def test_statuses_come_from_the_table(server, stub, error):
    server.errors.append(error)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_of())
    assert caught.value.code().name == {"Cancelled": "CANCELLED"}.get(
        type(error).__name__, "DEADLINE_EXCEEDED"
    )


def address_of_this_host():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: this asks the routing table.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def test_shared_memory_is_for_this_host(repository, front):
    host = address_of_this_host()
    if host is None or host.startswith("127."):
        pytest.skip("this host has no address but loopback")
    served = FRONTS[front](planes.Plane(repository), host="0.0.0.0", port=0, threads=2)
    port = served.start()
    request = request_of()
    del request.raw_input_contents[:]
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 32
    to_region = request_of()
    wanted = to_region.outputs.add(name="logits").parameters
    wanted["shared_memory_region"].string_param = "r"
    wanted["shared_memory_byte_size"].int64_param = 12
    try:
        with stub_of(port, host) as stub:
            assert stub.ModelInfer(request_of()).raw_output_contents
            for call in (
                lambda: stub.ModelInfer(request),
                lambda: stub.ModelInfer(to_region),
                lambda: stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest()),
                lambda: stub.SystemSharedMemoryRegister(
                    service_pb2.SystemSharedMemoryRegisterRequest(name="r", key="/k", byte_size=4)
                ),
                lambda: stub.SystemSharedMemoryUnregister(service_pb2.SystemSharedMemoryUnregisterRequest()),
            ):
                with pytest.raises(grpc.RpcError, match="callers on this host") as caught:
                    call()
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        # The same server, by loopback.
        with stub_of(port) as stub:
            stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest())
    finally:
        served.stop()


def test_messages_and_headers_have_a_limit(repository, front):
    served = FRONTS[front](
        planes.Plane(repository), port=0, threads=2, max_message_bytes=1000, max_metadata_bytes=2000
    )
    port = served.start()
    try:
        with stub_of(port) as stub:
            # Often: a limit that is not absolute refuses by chance.
            for arguments in [{"request": request_of(id="x" * 2000)}] + [
                {"metadata": (("k", "v" * 2500),)}
            ] * 30:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.ModelInfer(**{"request": request_of(), **arguments})
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert stub.ModelInfer(request_of()).raw_output_contents
    finally:
        served.stop()


def test_tritons_asynchronous_client(server):
    async def ask():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            given = triton_aio.InferInput("x", [3, 8], "FP32")
            given.set_data_from_numpy(rows(3))
            answers = await asyncio.gather(*(client.infer("mlp", [given]) for _ in range(20)))
            return [answer.as_numpy("logits") for answer in answers]

    for found in asyncio.run(ask()):
        np.testing.assert_allclose(found, expected(rows(3)), rtol=1e-5, atol=1e-5)


def test_settings_and_cuda_memory(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert (
            client.update_log_settings({"log_verbose_level": 1}).settings["log_verbose_level"].uint32_param
            == 1
        )
        with pytest.raises(InferenceServerException, match="log setting 'loud'; allowed are"):
            client.update_log_settings({"loud": True})
        assert list(client.get_trace_settings().settings["trace_level"].value) == ["OFF"]
        with pytest.raises(InferenceServerException, match="tracing is not offered") as caught:
            client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
        assert not client.get_cuda_shared_memory_status().regions
        with pytest.raises(InferenceServerException, match="CUDA shared memory is not offered"):
            client.register_cuda_shared_memory("c", b"aGFuZGxl", 0, 8)
    logging.getLogger("serving").setLevel(logging.NOTSET)
