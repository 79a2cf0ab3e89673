"""CMS's ONNX files of DeepAK8 and DeepDoubleB; `import_particle_net` has ParticleNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flax import nnx

from recon.errors import DataError
from recon.io.foreign_weights import Filler, find
from recon.io.weights_onnx import read_onnx
from recon.tagging.deepak8 import DECORRELATED, NOMINAL, DeepAK8
from recon.tagging.deepdoubleb import DeepDoubleB, DeepDoubleBConfig

Arrays = Mapping[str, np.ndarray]


def load_deepak8(path: Path) -> DeepAK8:
    """DeepAK8 with CMS's weights, the nominal or the mass-decorrelated one, whichever the file holds.

    Args:
        path: "resnet.onnx".

    Raises:
        DataError: the file cannot be read, or an array is missing or of another shape.
        ConfigError: the package `onnx` is not installed.
    """
    arrays = read_onnx(path).arrays
    if decorrelated := any(name.startswith("jnet0_") for name in arrays):
        # Gluon numbers what the network's own exporter names.
        arrays = {name.removeprefix("jnet0_"): array for name, array in arrays.items()}
    names, base = (_Gluon, DECORRELATED) if decorrelated else (_Symbol, NOMINAL)
    sizes = [len(find(arrays, f"{tower}{names.INPUT}_gamma", path)) for tower in ("pfcand", "sv")]
    classes = len(find(arrays, f"{names.dense(len(base.dense), last=True)}_bias", path))
    config = replace(base, candidates=sizes[0], vertices=sizes[1], classes=classes)
    filler = Filler(DeepAK8(config, rngs=nnx.Rngs(0)), path)
    for place, tower, stages in (
        ("candidates", "pfcand", config.candidate_stages),
        ("vertices", "sv", config.vertex_stages),
    ):
        _tower(filler, place, arrays, tower, names, stages, path)
    for layer in range(len(config.dense)):
        _dense(filler, f"dense/{layer}", arrays, names.dense(layer, last=False), path)
    _dense(filler, "output", arrays, names.dense(len(config.dense), last=True), path)
    return filler.finish()


class _Symbol:
    """Names in the nominal file."""

    INPUT = "_bn_data"
    STATISTICS = ("moving_mean", "moving_var")
    LAST: str | None = "_bn1"

    @staticmethod
    def unit(stage: int, number: int) -> dict[str, str]:
        """Place in a unit -> name in the file."""
        name = f"_stage{stage + 1}_unit{number + 1}_"
        names = {"norms/0": "bn1", "norms/1": "bn2", "convolutions/0": "conv1", "convolutions/1": "conv2"}
        return {
            place: name + part
            for place, part in (names | {"shortcut": "sc"} if not number else names).items()
        }

    @staticmethod
    def dense(layer: int, *, last: bool) -> str:
        return "fc_out" if last else f"fc{layer + 1}_fc"


class _Gluon:
    """Names in the mass-decorrelated file."""

    INPUT = "_batchnorm0"
    STATISTICS = ("running_mean", "running_var")
    LAST: str | None = None

    @staticmethod
    def unit(stage: int, number: int) -> dict[str, str]:
        """Place in a unit -> name in the file."""
        name = f"_stage{stage + 1}_basicblock{number}_"
        names = {f"{kind}/{n}": f"{name}{part}{n}" for kind, part in (("norms", "batchnorm"), ("convolutions", "conv"))
                 for n in (0, 1)}  # fmt: skip
        first = {"shortcut": f"{name}conv2", "shortcut_norm": f"{name}batchnorm2"}
        return names if number else names | first

    @staticmethod
    def dense(layer: int, *, last: bool) -> str:
        del last
        return f"densenetdropout0_dense{layer}"


def _tower(
    filler: Filler,
    place: str,
    arrays: Arrays,
    tower: str,
    names: type[_Symbol] | type[_Gluon],
    stages: Sequence[tuple[int, int]],
    path: Path,
) -> None:
    _norm(filler, f"{place}/norm", arrays, tower + names.INPUT, names.STATISTICS, path)
    _convolution(filler, f"{place}/stem", arrays, f"{tower}_conv0", path)
    unit = 0
    for stage, (_, count) in enumerate(stages):
        for number in range(count):
            for part, name in names.unit(stage, number).items():
                inside = f"{place}/units/{unit}/{part}"
                if "norm" in part:
                    _norm(filler, inside, arrays, tower + name, names.STATISTICS, path)
                else:
                    _convolution(filler, inside, arrays, tower + name, path)
            unit += 1
    if names.LAST:
        _norm(filler, f"{place}/last_norm", arrays, tower + names.LAST, names.STATISTICS, path)


def _norm(
    filler: Filler, place: str, arrays: Arrays, name: str, statistics: Sequence[str], path: Path
) -> None:
    for theirs, ours in zip(("gamma", "beta", *statistics), ("scale", "bias", "mean", "var"), strict=True):
        filler.put(f"{place}/{ours}", find(arrays, f"{name}_{theirs}", path), f"{name}_{theirs}")


def _convolution(filler: Filler, place: str, arrays: Arrays, name: str, path: Path) -> None:
    """CMS convolves images one pixel wide: outputs, inputs, length, 1."""
    weights = find(arrays, f"{name}_weight", path)
    if weights.ndim != 4 or weights.shape[3] != 1:
        raise DataError(
            f"{path}: {name}_weight has shape {weights.shape}; (outputs, inputs, length, 1) is needed"
        )
    filler.put(f"{place}/kernel", weights[..., 0].transpose(2, 1, 0), f"{name}_weight")


def _dense(filler: Filler, place: str, arrays: Arrays, name: str, path: Path) -> None:
    filler.put(f"{place}/kernel", find(arrays, f"{name}_weight", path).T, f"{name}_weight")
    filler.put(f"{place}/bias", find(arrays, f"{name}_bias", path), f"{name}_bias")


def load_deepdoubleb(path: Path) -> DeepDoubleB:
    """DeepDoubleB with CMS's weights.

    Args:
        path: "DDB.onnx" of 94X.

    Raises:
        DataError: the file cannot be read, or an array is missing or of another shape.
        ConfigError: the package `onnx` is not installed.
    """
    network = read_onnx(path)
    nodes = {node.name: node.inputs for node in network.nodes}

    def array(node: str, place: int) -> np.ndarray:
        if node not in nodes or len(nodes[node]) <= place:
            raise DataError(f"{path} has no node {node!r} with {place + 1} inputs; it is no DeepDoubleB")
        return find(network.arrays, nodes[node][place], path)

    # The kernel of a dense layer is the second input of its product; the sum behind it has the bias.
    bias = {node.inputs[0]: node.inputs[1] for node in network.nodes if node.operator == "Add"}
    outputs = {node.name: node.outputs[0] for node in network.nodes}
    config = DeepDoubleBConfig(
        jet=len(array("db_input_batchnorm", 1)),
        candidates=len(array("cpf_input_batchnorm", 1)),
        vertices=len(array("sv_input_batchnorm", 1)),
        hidden=len(array("cpf_conv1", 1)),
        units=array("cpf_gru", 2).shape[-1],
        dense=array("fc1_relu", 1).shape[1],
        classes=array("ID_pred", 1).shape[1],
    )
    filler = Filler(DeepDoubleB(config, rngs=nnx.Rngs(0)), path)
    for ours, theirs in (("", "db"), ("candidates/", "cpf"), ("vertices/", "sv")):
        for number, name in enumerate(("scale", "bias", "mean", "var")):
            node = f"{theirs}_input_batchnorm"
            filler.put(f"{ours}norm/{name}", array(node, number + 1), f"{node}, {name}")
    for ours, theirs in (("candidates", "cpf"), ("vertices", "sv")):
        for number in range(2):
            node = f"{theirs}_conv{number + 1}"
            filler.put(f"{ours}/layers/{number}/kernel", array(node, 1)[..., 0].T, node)
        _recurrent(
            filler, f"{ours}/recurrent", [array(f"{theirs}_gru", n) for n in (1, 2, 3)], f"{theirs}_gru"
        )
    for ours, theirs in (("dense", "fc1_relu"), ("output", "ID_pred")):
        filler.put(f"{ours}/kernel", array(theirs, 1), theirs)
        filler.put(
            f"{ours}/bias", find(network.arrays, bias.get(outputs[theirs], ""), path), f"bias of {theirs}"
        )
    return filler.finish()


def _recurrent(filler: Filler, place: str, arrays: Sequence[np.ndarray], name: str) -> None:
    """ONNX stacks update, reset and candidate, as we do, but along the outputs of matrices that stand upright."""
    kernel, recurrent, bias = (array[0] for array in arrays)
    filler.put(f"{place}/kernel", kernel.T, f"{name}, W")
    filler.put(f"{place}/recurrent", recurrent.T, f"{name}, R")
    half = len(bias) // 2
    filler.put(f"{place}/bias", bias[:half], f"{name}, B")
    filler.put(f"{place}/recurrent_bias", bias[half:], f"{name}, B")
