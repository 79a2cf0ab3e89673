"""The two models of the serving benchmark, for this project's server and for Triton's Python backend."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]

WIDTH, HIDDEN, CLASSES = 100, 256, 10
MEDIUM, LARGE = 100 << 10, 4 << 20
"""Numbers of 400 KiB and 16 MiB."""
LADDER = (1, 2, 4, 8, 16, 32, 64)

TRITON_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 64
input [{{ name: "INPUT0" data_type: TYPE_FP32 dims: [ {width} ] }}]
output [{{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {outputs} ] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
{batching}
"""

TRITON_MODEL = """import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.program = None
        if args["model_name"].startswith("mlp"):
            import jax
            import jax.numpy as jnp

            w = {k: jnp.asarray(v) for k, v in np.load(args["model_repository"] + "/weights.npz").items()}
            self.program = jax.jit(
                lambda x: jnp.maximum(jnp.maximum(x @ w["0"], 0) @ w["1"], 0) @ w["2"]
            )
            for n in (1, 2, 4, 8, 16, 32, 64):
                self.program(np.zeros((n, w["0"].shape[0]), np.float32)).block_until_ready()

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(r, "INPUT0").as_numpy() for r in requests]
        if self.program is None:
            outputs = inputs
        else:
            x = np.concatenate(inputs)
            n = 1 << (len(x) - 1).bit_length()
            y = np.asarray(self.program(np.pad(x, ((0, n - len(x)), (0, 0)))))
            outputs, at = [], 0
            for x in inputs:
                outputs.append(y[at : at + len(x)])
                at += len(x)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.ascontiguousarray(y))]) for y in outputs]
"""


def weights() -> dict[str, np.ndarray]:
    """Of the perceptron."""
    rng = np.random.default_rng(0)
    sizes = (WIDTH, HIDDEN, HIDDEN, CLASSES)
    return {
        str(n): rng.normal(0, 0.1, size=(sizes[n], sizes[n + 1])).astype(np.float32)
        for n in range(len(sizes) - 1)
    }


def write_artefacts(folder: Path) -> None:
    """The models for `recon serve`."""
    import jax.numpy as jnp

    from recon.export import Signature, Tensor, export_model

    def identity(weights: Arrays, inputs: Arrays) -> Arrays:
        return {"OUTPUT0": inputs["INPUT0"]}

    def mlp(w: Arrays, inputs: Arrays) -> Arrays:
        hidden = jnp.maximum(jnp.maximum(inputs["INPUT0"] @ w["0"], 0) @ w["1"], 0)
        return {"OUTPUT0": hidden @ w["2"]}

    for name, program, arrays, width, outputs in (
        ("identity", identity, {}, WIDTH, WIDTH),
        ("identity_medium", identity, {}, MEDIUM, MEDIUM),
        ("identity_large", identity, {}, LARGE, LARGE),
        ("mlp", mlp, weights(), WIDTH, CLASSES),
    ):
        signature = Signature(
            inputs=(Tensor(name="INPUT0", datatype="FP32", shape=("batch", width)),),
            outputs=(Tensor(name="OUTPUT0", datatype="FP32", shape=("batch", outputs)),),
            buckets=tuple({"batch": n} for n in (LADDER if width == WIDTH else (1,))),
            batched=True,
        )
        export_model(folder, program, arrays, signature, name=name)


def write_triton(folder: Path) -> None:
    """The models for Triton; `mlp` batches dynamically, `identity` does not."""
    for name, width, outputs in (
        ("identity", WIDTH, WIDTH),
        ("identity_medium", MEDIUM, MEDIUM),
        ("identity_large", LARGE, LARGE),
        ("mlp", WIDTH, CLASSES),
    ):
        target = folder / name / "1"
        target.mkdir(parents=True)
        batching = "dynamic_batching { }" if name == "mlp" else ""
        (folder / name / "config.pbtxt").write_text(
            TRITON_CONFIG.format(name=name, width=width, outputs=outputs, batching=batching)
        )
        (target / "model.py").write_text(TRITON_MODEL)
        np.savez(folder / name / "weights.npz", **weights())


def triton_command(environment: Path, models: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """How to start the server in the nvidia-pytriton wheel of a virtual environment: (command, variables)."""
    site = next((environment / "lib").glob("python3*")) / "site-packages"
    root = site / "pytriton" / "tritonserver"
    stub = root / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    target = root / "backends" / "python" / "triton_python_backend_stub"
    if not target.exists() or target.stat().st_size != stub.stat().st_size:
        shutil.copy2(stub, target)
    command = [
        str(root / "bin" / "tritonserver"), f"--model-repository={models}",
        f"--backend-directory={root / 'backends'}", f"--grpc-port={port}", "--allow-http=false",
        "--allow-metrics=false",
    ]  # fmt: skip
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(root / "external_libs"), str(root / "lib")]
    variables = {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PYTHONPATH": str(site),
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "HOME": str(Path.home()),
        "JAX_PLATFORMS": "cpu",
    }
    return command, variables


if __name__ == "__main__":
    write_artefacts(Path(sys.argv[1]))
