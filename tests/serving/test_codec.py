"""The tensor codec against protobuf's own classes, and against ten thousand broken messages."""

import random
import re
import time
import tracemalloc

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import model_config_pb2, service_pb2

from serving.errors import InvalidInput
from serving.protocol.codec import build_request, build_response, parse_request, parse_response
from serving.protocol.messages import POOL, message
from serving.shared_memory import SharedMemory
from serving.types import DATATYPES, NAMES, InferRequest, InferResponse, OutputTensor, Region, RequestedOutput

MEMORY = SharedMemory()

KINDS = [dtype for name, dtype in DATATYPES.items() if name not in {"BF16"}]
ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))
)


def parse(data):
    return parse_request(data, lambda: MEMORY)


def triton_request(inputs, **texts):
    request = service_pb2.ModelInferRequest(**texts)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=NAMES[array.dtype], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


@pytest.mark.parametrize("module", [service_pb2, model_config_pb2])
def test_messages_are_those_of_the_protocol(module):
    """Names, numbers, types and labels of every field, as NVIDIA's client has them."""

    def fields(descriptor):
        found = descriptor_pb2.DescriptorProto()
        descriptor.CopyToProto(found)
        return {(f.name, f.number, f.type, f.label, f.type_name) for f in found.field}

    for name, theirs in module.DESCRIPTOR.message_types_by_name.items():
        assert fields(POOL.FindMessageTypeByName(f"inference.{name}")) == fields(theirs), name


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9), ARRAYS, max_size=3), st.text(max_size=9))
def test_requests_of_protobuf_are_read(inputs, text):
    found = parse(triton_request(inputs, model_name=text, id=text).SerializeToString())
    assert (found.model, found.id) == (text, text)
    assert list(found.inputs) == list(inputs)
    for name, array in inputs.items():
        assert found.inputs[name].dtype == array.dtype
        assert found.inputs[name].shape == array.shape
        assert found.inputs[name].tobytes() == array.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9), ARRAYS, max_size=3))
def test_requests_are_read_by_protobuf(inputs):
    request = InferRequest(
        model="m", version="2", id="i", inputs=inputs, priority=3,
        outputs=(RequestedOutput("a"), RequestedOutput("b", Region("r", 8, 4))),
    )  # fmt: skip
    theirs = service_pb2.ModelInferRequest.FromString(build_request(request))
    assert list(theirs.raw_input_contents) == [array.tobytes() for array in inputs.values()]
    assert [(t.name, t.datatype, tuple(t.shape)) for t in theirs.inputs] == [
        (name, NAMES[array.dtype], array.shape) for name, array in inputs.items()
    ]
    assert theirs.parameters["priority"].uint64_param == 3
    assert theirs.outputs[1].parameters["shared_memory_offset"].int64_param == 4
    assert parse(build_request(request)).priority == 3


def test_answers_go_both_ways():
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    response = InferResponse(
        model="m", version="1", id="i", parameters={"final": True},
        outputs=[
            OutputTensor(name="a", datatype="FP32", shape=(2, 3), data=data),
            OutputTensor(name="b", datatype="INT32", shape=(4,), region=Region("r", 16)),
        ],
    )  # fmt: skip
    encoded = build_response(response)
    theirs = service_pb2.ModelInferResponse.FromString(encoded)
    # One entry an output, empty where it lies in shared memory: C++ clients index them.
    assert list(theirs.raw_output_contents) == [data.tobytes(), b""]
    assert theirs.parameters["final"].bool_param
    ours = parse_response(encoded)
    assert (ours.model, ours.version, ours.id) == ("m", "1", "i")
    np.testing.assert_array_equal(ours.arrays()["a"], data)
    assert ours.outputs[1].region == Region("r", 16)


def test_raw_inputs_are_views_of_the_message():
    data = triton_request({"x": np.arange(1000, dtype=np.float32)}).SerializeToString()
    found = parse(data).inputs["x"]
    assert not found.flags.owndata
    assert not found.flags.writeable


@pytest.mark.parametrize(
    ("datatype", "field"),
    [("BOOL", "bool_contents"), ("INT8", "int_contents"), ("INT64", "int64_contents"), ("UINT16", "uint_contents"),
     ("UINT64", "uint64_contents"), ("FP32", "fp32_contents"), ("FP64", "fp64_contents")],
)  # fmt: skip
def test_typed_contents(datatype, field):
    request = service_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[2])
    getattr(tensor.contents, field).extend([1, 0])
    found = parse(request.SerializeToString()).inputs["x"]
    assert found.dtype == DATATYPES[datatype]
    assert found.tolist() == [1, 0]


def request_with(raw=None, **tensor):
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(**{"name": "x", "datatype": "FP32", "shape": [2], **tensor})
    for entry in raw if raw is not None else [b"\0" * 8]:
        request.raw_input_contents.append(entry)
    return request.SerializeToString()


BAD = [
    (request_with(raw=[b"\0" * 7]), "7 bytes in raw_input_contents; 8 are allowed"),
    (request_with(raw=[b"\0" * 8] * 2), "2 entries; 1 are allowed"),
    (request_with(raw=[]), "0 values in fp32_contents; 2 are allowed"),
    (request_with(shape=[-1]), "lengths of 0 or more"),
    (request_with(shape=[2**40, 2**40]), "bytes; 2147483647 are allowed"),
    (request_with(shape=[2**31]), "bytes; 2147483647 are allowed"),
    (request_with(datatype="FP7"), "datatype 'FP7'"),
    (request_with(datatype="BYTES"), "compiled models take numbers"),
    (request_with(shape=[0, 2**62], raw=[b""]), "bytes; 2147483647 are allowed"),
    (request_with(shape=[0, 2**62], raw=[]), "bytes; 2147483647 are allowed"),
    (request_with(shape=[1] * 65, raw=[b"\0" * 4]), "65 axes; 64 are allowed"),
    (request_with(datatype="BOOL", raw=[b"\1\7"]), "byte 7; 0 and 1 are allowed"),
    (request_with(contents={"fp32_contents": [1, 2]}), "typed contents beside raw_input_contents"),
    (request_with(contents={"int_contents": [1, 2]}, raw=[]), "int_contents; fp32_contents is allowed"),
    (request_with(datatype="INT8", contents={"int_contents": [1, 128]}, raw=[]), "does not fit into INT8"),
    (request_with(datatype="FP16", raw=[]), "raw_input_contents only"),
    (request_with()[:-3], "cut off inside field 7"),
    (b"\xff" * 40, "no protobuf"),
    (b"\x0b", "no protobuf"),
    (b"\x38\x01", "wire type"),
    (b"\x0a\x02\xff\xfe", "no UTF-8"),
]


@pytest.mark.parametrize(("data", "text"), BAD, ids=[text for _, text in BAD])
def test_broken_requests_name_the_field(data, text):
    with pytest.raises(InvalidInput, match=re.escape(text)):
        parse(data)


def test_an_input_given_twice_is_refused():
    x = np.zeros(2, np.float32)
    request = triton_request({"x": x})
    request.inputs.add(name="x", datatype="FP32", shape=[2])
    request.raw_input_contents.append(x.tobytes())
    with pytest.raises(InvalidInput, match="given twice"):
        parse(request.SerializeToString())


def test_typed_contents_are_not_kept():
    """Every request has other ones: a cache of them would only grow."""
    request = service_pb2.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype="INT64", shape=[50_000])
    tensor.contents.int64_contents.extend(range(50_000))
    tracemalloc.start()
    try:
        for number in range(20):
            tensor.contents.int64_contents[0] = number
            assert parse(request.SerializeToString()).inputs["x"][0] == number
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000


def test_parameters_go_both_ways():
    given = {"yes": True, "n": -3, "large": 2**64 - 1, "half": 0.5, "text": "é"}
    request = InferRequest(model="m", priority=2, parameters=given)
    assert parse(build_request(request)).parameters == {**given, "priority": 2}
    expected = {**given, "priority": 2, "artifact_checksum": "ab"}
    for _ in range(2):
        found = parse(build_request(request, checksum="ab")).parameters
        assert found == expected
        # What one request does to its parameters is not seen by the next.
        found.clear()
    response = InferResponse(model="m", version="1", parameters=given)
    assert parse_response(build_response(response)).parameters == given


@pytest.mark.parametrize("value", [[1], None, 2**64, -(2**63) - 1])
def test_parameters_that_the_protocol_lacks_are_refused(value):
    with pytest.raises(InvalidInput, match=r"parameter 'k' is .*allowed"):
        build_request(InferRequest(model="m", parameters={"k": value}))


def test_typed_answers_of_other_servers_are_read():
    response = service_pb2.ModelInferResponse(model_name="m")
    for name, values in (("a", [1, 2]), ("b", [3])):
        tensor = response.outputs.add(name=name, datatype="FP32", shape=[len(values)])
        tensor.contents.fp32_contents.extend(values)
    found = parse_response(response.SerializeToString()).arrays()
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1, 2], "b": [3]}


def test_a_region_that_the_answer_does_not_repeat_is_the_one_asked_for():
    response = service_pb2.ModelInferResponse(model_name="m")
    for name in ("far", "near", "empty"):
        response.outputs.add(name=name, datatype="FP32", shape=[0 if name == "empty" else 1])
        response.raw_output_contents.append(b"\0" * 4 if name == "near" else b"")
    asked = [RequestedOutput("far", Region("r", 4)), RequestedOutput("near"), RequestedOutput("empty")]
    far, near, empty = parse_response(response.SerializeToString(), asked).outputs
    assert far.region == Region("r", 4)
    assert far.data is None
    assert near.data.tolist() == [0]
    assert empty.data.shape == (0,)
    with pytest.raises(InvalidInput, match="output 'far' has 0 bytes in raw_output_contents; 4 are allowed"):
        parse_response(response.SerializeToString())


def mutated(data, rng):
    """A message with a few bytes changed, dropped, doubled or cut off."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 8)]
            case 3:
                del data[at:]
        if not data:
            return b"\0"
    return bytes(data)


def test_ten_thousand_mutations_raise_nothing_else():
    rng = random.Random(11)
    typed = service_pb2.ModelInferRequest(model_name="mlp")
    typed.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    typed.parameters["priority"].int64_param = 2
    seeds = [triton_request({"x": np.ones((2, 8), np.float32), "y": np.arange(3)}, model_name="mlp"), typed]
    seeds = [seed.SerializeToString() for seed in seeds]
    refused = 0
    started = time.monotonic()
    for _ in range(10_000):
        try:
            parse(mutated(rng.choice(seeds), rng))
        except InvalidInput:
            refused += 1
    assert 1000 < refused < 10_000
    assert time.monotonic() - started < 60


def test_names_of_messages():
    assert message("ModelInferRequest").DESCRIPTOR.full_name == "inference.ModelInferRequest"
