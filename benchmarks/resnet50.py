"""ResNet-50 on one core: recon beside onnxruntime and PyTorch, same weights, same images, same logits.

    python benchmarks/resnet50.py --torch FOLDER --json resnet50.json

FOLDER is where PyTorch lies (pip install --target FOLDER torch); it is not needed elsewhere. The peers get the network
as their exporters write it, batch normalisation folded into the convolutions, which is the best for them. Every
measurement is a process of its own, pinned to one core with one thread; the programs take turns, the least CPU time of
a process counts, and ratios are formed within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

OURS = ("recon", "recon, plain convolutions", "recon, not folded", "recon, bfloat16")
TORCH = ("torch eager", "torch channels_last", "torch frozen", "torch compiled", "torch bfloat16")
PEER = "onnxruntime"
TOLERANCE = dict.fromkeys(("recon, bfloat16", "torch bfloat16"), 0.1)
"""Largest difference of logits, in units of the largest logit; 1e-4 for the others."""
Program = Callable[[], np.ndarray]


def images_of(batch: int) -> np.ndarray:
    """Noise, channels last."""
    return np.random.default_rng(batch).normal(size=(batch, 224, 224, 3)).astype(np.float32)


def network() -> Any:
    """ResNet-50 with random weights and statistics that normalisation has after training."""
    from recon.io.weights import model_arrays, set_model_arrays
    from recon.nn.backbones import random_backbone

    module, rng = random_backbone("resnet50").network, np.random.default_rng(0)
    arrays = model_arrays(module)
    for name, array in arrays.items():
        if name.endswith(("scale", "var")):
            arrays[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        elif not name.endswith("kernel"):
            arrays[name] = rng.normal(0, 0.1, array.shape).astype(np.float32)
    return set_model_arrays(module, arrays)


def folded_layers() -> tuple[
    list[tuple[np.ndarray, np.ndarray, int]], list[int], tuple[np.ndarray, np.ndarray]
]:
    """Kernels (PyTorch's order of axes), biases and strides; layers of every block; the classifier."""
    from recon.nn.image_inference import fold_featurizer

    module = network()
    config, weights = module.config, fold_featurizer(module.featurizer).weights
    layers, counts = [(weights["stem"], 2)], []
    for block, stride in zip(weights["blocks"], config.block_strides(), strict=True):
        layers += list(zip(block["layers"], config.strides(stride), strict=True))
        layers += [(block["around"], stride)] if "around" in block else []
        counts.append(len(block["layers"]) + ("around" in block))
    arrays = [
        (np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1)), layer["bias"], stride)
        for layer, stride in layers
    ]
    last = module.classifier
    return arrays, counts, (np.asarray(last.kernel[...]), np.asarray(last.bias[...]))


def recon_program(form: str, batch: int) -> Program:
    """Logits by one of our forms."""
    import jax
    from flax import nnx

    from recon.nn.image_inference import fold_featurizer, on_accelerator

    module, images = network(), images_of(batch)
    if form == OURS[2]:
        definition, state = nnx.split(module)
        program = jax.jit(lambda state, images: nnx.merge(definition, state)(images))
        return lambda: np.asarray(program(state, images))
    folded = fold_featurizer(module.featurizer, bfloat16=form == OURS[3])
    features = folded.features
    if form == OURS[1]:

        def features(weights: Any, images: Any) -> Any:
            return on_accelerator(folded.features.args[0], weights, images)

    weights = jax.device_put((folded.weights, (module.classifier.kernel[...], module.classifier.bias[...])))
    program = jax.jit(lambda weights, images: features(weights[0], images) @ weights[1][0] + weights[1][1])
    return lambda: np.asarray(program(weights, images))


def write_onnx(path: Path) -> None:
    """The network as a graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    layers, counts, (kernel, bias) = folded_layers()
    nodes, arrays, names = [], [], iter(range(1000))

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{next(names)}"
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def array(value: np.ndarray) -> str:
        name = f"a{len(arrays)}"
        arrays.append(numpy_helper.from_array(value, name))
        return name

    def convolve(x: str, layer: tuple[np.ndarray, np.ndarray, int]) -> str:
        size = layer[0].shape[-1]
        return add(
            "Conv", [x, array(layer[0]), array(layer[1])], kernel_shape=[size, size],
            strides=[layer[2]] * 2, pads=[size // 2] * 4,
        )  # fmt: skip

    remaining = iter(layers)
    x = add("Relu", [convolve("images", next(remaining))])
    x = add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for count in counts:
        y, around = x, x
        for number in range(3):
            y = convolve(y, next(remaining))
            y = add("Relu", [y]) if number < 2 else y
        if count == 4:
            around = convolve(x, next(remaining))
        x = add("Relu", [add("Add", [y, around])])
    x = add("Flatten", [add("GlobalAveragePool", [x])])
    nodes.append(helper.make_node("Gemm", [x, array(kernel), array(bias)], ["logits"]))
    shapes = {"images": ["batch", 3, 224, 224], "logits": ["batch", 1000]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    graph = helper.make_graph(nodes, "resnet50", [values["images"]], [values["logits"]], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def channels_first(batch: int) -> np.ndarray:
    """The same images in the order of axes of the peers."""
    return np.ascontiguousarray(images_of(batch).transpose(0, 3, 1, 2))


def onnxruntime_program(path: Path, batch: int) -> Program:
    """Logits by onnxruntime, one thread, all optimisations of graphs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    images = channels_first(batch)
    return lambda: session.run(None, {"images": images})[0]


def torch_module() -> Any:
    """The folded network in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    layers, counts, (kernel, bias) = folded_layers()

    def convolution(layer: tuple[np.ndarray, np.ndarray, int]) -> Any:
        outputs, inputs, size, _ = layer[0].shape
        module = nn.Conv2d(inputs, outputs, size, layer[2], size // 2)
        module.weight.data, module.bias.data = torch.from_numpy(layer[0]), torch.from_numpy(layer[1])
        return module

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([convolution(layer) for layer in layers])
            self.last = nn.Linear(*kernel.shape)
            self.last.weight.data = torch.from_numpy(kernel.T.copy())
            self.last.bias.data = torch.from_numpy(bias)

        def forward(self, x: Any) -> Any:
            x = functional.max_pool2d(functional.relu(self.layers[0](x)), 3, 2, 1)
            start = 1
            for count in counts:
                block = self.layers[start : start + count]
                around = block[3](x) if count == 4 else x
                y = functional.relu(block[1](functional.relu(block[0](x))))
                x = functional.relu(block[2](y) + around)
                start += count
            return self.last(x.mean((2, 3)))

    return ResNet().eval()


def torch_program(form: str, batch: int) -> Program:
    """Logits by one of PyTorch's forms."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    module, images = torch_module(), torch.from_numpy(channels_first(batch))
    if form != TORCH[0]:
        module, images = (thing.to(memory_format=torch.channels_last) for thing in (module, images))
    if form == TORCH[2]:
        module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, images)))
    if form == TORCH[3]:
        import torch._inductor.config as inductor

        inductor.freezing = True
        module = torch.compile(module)
    if form == TORCH[4]:
        module, images = module.bfloat16(), images.bfloat16()

    def program() -> np.ndarray:
        with torch.no_grad():
            return module(images).float().numpy()

    return program


def measure(options: argparse.Namespace) -> None:
    """Run one form in this process and print its cost; the child of `main`."""
    if options.form == PEER:
        program = onnxruntime_program(options.folder / "resnet50.onnx", options.batch)
    elif options.form in TORCH:
        program = torch_program(options.form, options.batch)
    else:
        program = recon_program(options.form, options.batch)
    for _ in range(2):
        logits = program()
    np.save(options.folder / f"{options.form}-{options.batch}.npy", logits)
    costs = []
    for _ in range(options.repeats):
        before = time.process_time()
        program()
        costs.append(time.process_time() - before)
    print(json.dumps({"milliseconds": 1e3 * min(costs)}))


def child(options: argparse.Namespace, form: str, batch: int, folder: Path) -> float:
    """Least CPU time of one process, ms; NaN for a form that does not run here."""
    words = [
        "--form",
        form,
        "--batch",
        str(batch),
        "--folder",
        str(folder),
        "--repeats",
        str(options.repeats),
    ]
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    # PyTorch brings packages of its own: nobody else is to see them.
    paths += [str(options.torch)] if form in TORCH else []
    variables = {"PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    variables |= {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    core = str(max(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, __file__, *words],
        env=os.environ | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print(f"{form}, batch {batch} does not run: {done.stderr.splitlines()[-1]}", file=sys.stderr)
        return float("nan")
    return float(json.loads(done.stdout.splitlines()[-1])["milliseconds"])


def check_logits(folder: Path, forms: list[str], batch: int) -> None:
    """Stops where a form computes something else."""
    wanted = np.load(folder / f"{PEER}-{batch}.npy")
    for form in forms:
        found = folder / f"{form}-{batch}.npy"
        if not found.is_file():
            continue
        difference = np.abs(np.load(found) - wanted).max() / np.abs(wanted).max()
        if difference > TOLERANCE.get(form, 1e-4):
            raise SystemExit(f"{form}, batch {batch}: logits differ by {difference:.1e}")


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", type=Path, help="folder with PyTorch; without it PyTorch is left out")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5, help="processes a program; they take turns")
    parser.add_argument("--repeats", type=int, default=10, help="measurements a process")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--form", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form:
        measure(options)
        return
    forms = [PEER, *OURS, *(TORCH if options.torch else ())]
    rows = []
    print("| images | form | CPU ms | to onnxruntime: median | quartiles |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_onnx(folder / "resnet50.onnx")
        for batch in options.batches:
            costs: dict[str, list[float]] = {form: [] for form in forms}
            for _ in range(options.rounds):
                for form in forms:
                    costs[form].append(child(options, form, batch, folder))
            check_logits(folder, forms, batch)
            for form in forms:
                ratios = np.divide(costs[form], costs[PEER])
                low, middle, high = np.percentile(ratios, (25, 50, 75))
                rows.append(
                    {
                        "images": batch,
                        "form": form,
                        "milliseconds": costs[form],
                        "median": middle,
                        "quartiles": [low, high],
                    }
                )
                print(
                    f"| {batch} | {form} | {min(costs[form]):.1f} | {middle:.2f} | {low:.2f} to {high:.2f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
