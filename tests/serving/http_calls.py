"""Plain HTTP requests to a front."""

import contextlib
import http.client
import json

from serving.http_server import HttpFront


@contextlib.contextmanager
def serving(dataplane, **settings):
    """Address of a front of its own."""
    front = HttpFront(dataplane, port=0, **settings)
    try:
        yield f"127.0.0.1:{front.start()}"
    finally:
        front.stop(5.0)


def tensors(**changes):
    entry = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.0] * 8}
    return {"inputs": [{**entry, **changes}]}


def expected(x):
    weights = artifacts.mlp_weights()
    return np.tanh(x @ weights["first"]) @ weights["second"]


def call(address, method, path, body=None, headers=None):
    """(status, headers, body) of a plain request."""
    connection = http.client.HTTPConnection(address, timeout=20)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    connection.request(method, path, data, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found
