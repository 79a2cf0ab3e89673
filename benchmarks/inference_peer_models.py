"""The two models of the serving benchmark behind pytriton, the SDK of KServe and Ray Serve; MLServer's is beside it.

Runs in a peer's own environment, started by `inference_peers.py`: `inference_peer_models.py PEER PORT WEIGHTS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[np.ndarray], np.ndarray]
LARGEST = 64


def perceptron(path: str) -> Program:
    """The network on rows, padded to powers of two, all of which are compiled before it is given out."""
    import jax
    import jax.numpy as jnp

    w = {name: jnp.asarray(array) for name, array in np.load(path).items()}
    program = jax.jit(lambda x: jnp.maximum(jnp.maximum(x @ w["0"], 0) @ w["1"], 0) @ w["2"])

    def run(x: np.ndarray) -> np.ndarray:
        rows = 1 << (len(x) - 1).bit_length()
        return np.asarray(program(np.pad(x, ((0, rows - len(x)), (0, 0)))))[: len(x)]

    for rows in (1, 2, 4, 8, 16, 32, LARGEST):
        run(np.zeros((rows, w["0"].shape[0]), np.float32))
    return run


def programs(path: str) -> dict[str, Program]:
    """Both models by name."""
    return {"identity": lambda x: x, "mlp": perceptron(path)}


def pytriton(port: int, weights: str) -> None:
    """A decorated function, batched dynamically; its Triton is the one that is measured beside it."""
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    models = programs(weights)

    @batch
    def identity(INPUT0: np.ndarray) -> dict[str, np.ndarray]:
        return {"OUTPUT0": INPUT0}

    @batch
    def mlp(INPUT0: np.ndarray) -> dict[str, np.ndarray]:
        return {"OUTPUT0": models["mlp"](INPUT0)}

    config = TritonConfig(grpc_port=port, http_port=port + 1, allow_metrics=False)
    with Triton(config=config) as triton:
        for function, width in ((identity, 100), (mlp, 10)):
            triton.bind(
                model_name=function.__name__,
                infer_func=function,
                inputs=[Tensor(name="INPUT0", dtype=np.float32, shape=(100,))],
                outputs=[Tensor(name="OUTPUT0", dtype=np.float32, shape=(width,))],
                config=ModelConfig(max_batch_size=LARGEST, batching=True, batcher=DynamicBatcher()),
                strict=False,
            )
        triton.serve()


def kserve(port: int, weights: str) -> None:
    """Two models of the SDK; it joins no requests."""
    sys.argv = sys.argv[:1]  # the SDK reads the command line when it is imported
    from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

    class Served(Model):
        def __init__(self, name: str, program: Program) -> None:
            super().__init__(name)
            self.program, self.ready = program, True

        def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> Any:
            y = self.program(payload.inputs[0].as_numpy())
            output = InferOutput(name="OUTPUT0", shape=list(y.shape), datatype="FP32")
            output.set_data_from_numpy(y)
            return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])

    server = ModelServer(http_port=port + 1, grpc_port=port, enable_latency_logging=False)
    server.start([Served(name, program) for name, program in programs(weights).items()])


def ray(port: int, weights: str) -> None:
    """One replica behind Ray's gRPC ingress; `serve.batch` joins requests. Needs `inference_pb2_grpc` on the path."""
    import time

    import inference_pb2 as pb
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, logging_level="ERROR")
    servicer = "inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=port + 1),
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=[servicer]),
    )

    @serve.deployment(num_replicas=1, max_ongoing_requests=2 * LARGEST, ray_actor_options={"num_cpus": 0.5})
    class Served:
        def __init__(self) -> None:
            self.mlp = perceptron(weights)

        async def ModelInfer(self, request: Any) -> Any:  # noqa: N802 - named after the RPC
            x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
            y = x if request.model_name == "identity" else await self.joined(x)
            answer = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
            answer.outputs.add(name="OUTPUT0", datatype="FP32", shape=y.shape)
            answer.raw_output_contents.append(y.tobytes())
            return answer

        @serve.batch(max_batch_size=LARGEST, batch_wait_timeout_s=0.001)
        async def joined(self, rows: list[np.ndarray]) -> list[np.ndarray]:
            outputs = self.mlp(np.concatenate(rows))
            return [outputs[n : n + 1] for n in range(len(rows))]

    serve.run(Served.bind(), name="benchmark", route_prefix="/")
    while True:
        time.sleep(1)


PEERS = {"pytriton": pytriton, "kserve": kserve, "ray": ray}

if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    peer, at, path = sys.argv[1:]
    PEERS[peer](int(at), path)
