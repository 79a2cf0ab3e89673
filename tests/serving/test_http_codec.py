"""Numbers of JSON as arrays."""

import json

import pytest

from serving.errors import InvalidInput
from serving.http_codec import parse_infer


@pytest.mark.parametrize(
    ("datatype", "data", "found"),
    [
        ("UINT64", [2**64 - 1, 1], [2**64 - 1, 1]),
        ("INT64", [2**53 + 1, 2.0], [2**53 + 1, 2]),
        ("BOOL", [True, 0], [True, False]),
        ("FP16", [1e5, 0.0], "goes beyond -65504.0 to 65504.0"),
        ("FP32", [float("inf"), 16777217], [float("inf"), 16777216]),
        ("BOOL", [2, 0], "goes beyond 0 to 1"),
        ("BOOL", [0.5, 0], "true, false, 1 and 0"),
        ("INT8", [1, 128], "goes beyond -128 to 127"),
        ("INT8", [1, 1.5], "whole numbers"),
        ("INT8", [1, float("nan")], "whole numbers"),
        ("UINT8", [-1, 1], "goes beyond 0 to 255"),
        ("UINT64", [2**64, 1], "64 bits"),
        ("FP64", [None, 1], "other things than numbers"),
        ("FP64", ["1", "2"], "other things than numbers"),
        ("FP64", [[1.0, 2.0]], "nested as [1, 2]"),
    ],
)
def test_numbers_arrive_as_they_are_or_not_at_all(datatype, data, found):
    entry = {"name": "x", "shape": [2], "datatype": datatype, "data": data}
    body = json.dumps({"inputs": [entry]}).encode()
    if isinstance(found, list):
        request, _ = parse_infer("any", "", body, None, lambda: None)
        assert request.inputs["x"].tolist() == found
    else:
        with pytest.raises(InvalidInput, match="input 'x'") as caught:
            parse_infer("any", "", body, None, lambda: None)
        assert found in str(caught.value)
