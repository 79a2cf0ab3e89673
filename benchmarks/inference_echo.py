"""The floor of a gRPC server of grpcio in Python: it answers with bytes made beforehand, and looks at nothing."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from inference_models import CLASSES, LARGE, MEDIUM, WIDTH

from serving.protocol.codec import build_response
from serving.protocol.messages import SERVICE
from serving.types import InferResponse, OutputTensor


def answer(width: int) -> bytes:
    """An answer of one row."""
    data = np.ones((1, width), np.float32)
    output = OutputTensor(name="OUTPUT0", datatype="FP32", shape=data.shape, data=data)
    return build_response(InferResponse(model="echo", version="1", outputs=[output]))


def main(port: int, threads: int = 16) -> None:
    """Serve until killed."""
    widths = {b"identity": WIDTH, b"identity_medium": MEDIUM, b"identity_large": LARGE, b"mlp": CLASSES}
    answers = {name: answer(width) for name, width in widths.items()}

    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        # The model's name is the first field: a tag, its length, itself.
        return answers[request[2 : 2 + request[1]]]

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(threads), options=options)
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]))
