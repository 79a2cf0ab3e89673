"""The gRPC front of asyncio does as that of grpcio does: the same bytes to both, the same answers from both."""

import random

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2

from serving.protocol.messages import SERVICE, methods
from tests.serving.planes import FRONTS, rows

SENT = ("error-class", "retry-after-ms", "grpc-retry-pushback-ms")


@pytest.fixture(scope="module")
def channels(dataplane):
    """A channel to either front, of the same dataplane."""
    fronts = [kind(dataplane, port=0, threads=4) for kind in FRONTS.values()]
    found = [grpc.insecure_channel(f"127.0.0.1:{front.start()}") for front in fronts]
    yield found
    for channel, front in zip(found, fronts, strict=True):
        channel.close()
        front.stop()


def outcome(channel, path, data, **arguments):
    """All that a caller can see of a call."""
    try:
        answer, call = channel.unary_unary(path).with_call(data, timeout=20, **arguments)
    except grpc.RpcError as error:
        trailers = {key: value for key, value in error.trailing_metadata() if key in SENT}
        return error.code().name, error.details(), trailers
    return answer, sorted(key for key, _ in call.trailing_metadata() or ())


def streamed(channel, path, messages):
    try:
        return [bytes(answer) for answer in channel.stream_stream(path)(iter(messages), timeout=20)]
    except grpc.RpcError as error:
        return error.code().name, error.details()


def infer(model="mlp", n=1, name="x", shape=None, datatype="FP32", **fields):
    request = service_pb2.ModelInferRequest(model_name=model, **fields)
    request.inputs.add(name=name, datatype=datatype, shape=shape or [n, 8])
    request.raw_input_contents.append(rows(n).tobytes())
    return request


def with_parameter(**values):
    request = infer()
    for name, value in values.items():
        request.parameters[name].int64_param = value
    return request


REQUESTS = {
    "answered": infer(n=3, id="seven"),
    "the largest": infer(n=16),
    "too large": infer(n=17),
    "unknown model": infer("none"),
    "unknown version": infer(model_version="9"),
    "unknown input": infer(name="y"),
    "wrong shape": infer(shape=[2, 8]),
    "negative": infer(shape=[-1, 8]),
    "endless": infer(shape=[2**31, 2**31]),
    "wrong type": infer(datatype="FP64"),
    "no type": infer(datatype="FP33"),
    "not UTF-8 in an id": infer(id="é" * 50),
    "a long error": infer("x" * 5000),
    "timeout": with_parameter(timeout=1),
    "timeout below 0": with_parameter(timeout=-1),
    "priority": with_parameter(priority=1),
    "priority below 0": with_parameter(priority=-1),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_inferences(channels, name):
    data = REQUESTS[name].SerializeToString()
    ours, theirs = (outcome(channel, f"/{SERVICE}/ModelInfer", data) for channel in reversed(channels))
    assert ours == theirs


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(channels, coding):
    data = infer(n=16, id="x" * 5000).SerializeToString()
    ours, theirs = (
        outcome(channel, f"/{SERVICE}/ModelInfer", data, compression=coding) for channel in reversed(channels)
    )
    assert ours == theirs
    assert isinstance(ours[0], bytes)


@pytest.mark.parametrize("name", sorted(set(methods()) - {"ModelStatistics", "ModelStreamInfer"}))
@pytest.mark.parametrize("data", [b"", b"\n\x03mlp", b"\n\x04none", b"\xff", b"\n\xff"])
def test_methods(channels, name, data):
    ours, theirs = (outcome(channel, f"/{SERVICE}/{name}", data) for channel in reversed(channels))
    if isinstance(theirs[1], str) and theirs[1].startswith("Exception deserializing"):
        # grpcio has no other word for it than INTERNAL.
        assert ours[0] == "INVALID_ARGUMENT"
        return
    if name == "RepositoryIndex":
        assert len(ours[0]) == len(theirs[0])
        return
    assert ours == theirs


@pytest.mark.parametrize("service", ["", SERVICE, "other"])
def test_health(channels, service):
    data = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    ours, theirs = (outcome(c, "/grpc.health.v1.Health/Check", data) for c in reversed(channels))
    assert ours == theirs


@pytest.mark.parametrize("path", [f"/{SERVICE}/Nothing", "/other.Service/ModelInfer", "/", "/x"])
def test_unknown_methods(channels, path):
    ours, theirs = (outcome(channel, path, b"") for channel in reversed(channels))
    assert ours[0] == theirs[0] == "UNIMPLEMENTED"


def test_streams(channels):
    messages = [request.SerializeToString() for request in REQUESTS.values()] + [b"\xff\xff"]
    ours, theirs = (
        streamed(channel, f"/{SERVICE}/ModelStreamInfer", messages) for channel in reversed(channels)
    )
    assert ours == theirs
    assert len(ours) == len(messages)
    assert [streamed(channel, f"/{SERVICE}/ModelStreamInfer", []) for channel in channels] == [[], []]


def mutated(generator, data):
    out = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        kind, at = generator.randrange(4), generator.randrange(len(out))
        if kind == 0:
            out[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del out[at : at + generator.randint(1, 8)]
        elif kind == 2:
            out[at:at] = generator.randbytes(generator.randint(1, 8))
        else:
            out[at] = generator.choice((0, 127, 128, 255))
        out = out or bytearray(b"\0")
    return bytes(out)


def test_mutated_requests(channels):
    """From a request with everything in it; both fronts must agree about each, and go on."""
    generator = random.Random(3)
    request = with_parameter(priority=2)
    request.id = "id"
    request.outputs.add(name="logits")
    data = request.SerializeToString()
    codes = set()
    for _ in range(600):
        given = mutated(generator, data)
        ours, theirs = (outcome(channel, f"/{SERVICE}/ModelInfer", given) for channel in reversed(channels))
        assert ours == theirs, given
        codes.add(ours[0] if isinstance(ours[0], str) else "OK")
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= codes
