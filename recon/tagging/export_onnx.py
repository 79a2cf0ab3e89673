"""DeepAK8 and ParticleNet as ONNX files with a free number of jets, from their folded weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ConfigError
from recon.io.weights_onnx import OnnxWriter
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.folded import Weights, fold_deepak8, fold_particle_net
from recon.tagging.models import TaggingModel
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig

FAR, FARTHER = np.float32(1e30), np.float32(2e30)
"""Added to distances from padding and from a particle to itself: they are neighbours where nothing else is left."""

Shape = Sequence[int | str]


def write_onnx(path: Path, model: TaggingModel) -> None:
    """Write a tagger that takes `candidates` and gives `scores`, with one free axis: the jets.

    DeepAK8 also takes `vertices`, both padded with zeros; ParticleNet takes `candidate_valid`, and `vertices` with
    `vertex_valid` if it has them.

    Args:
        path: of the file.
        model: whose network is a DeepAK8 or a ParticleNet.

    Raises:
        ConfigError: the model is another network, or the package `onnx` is not installed.
    """
    network, writer = model.network, OnnxWriter()
    if isinstance(network, DeepAK8):
        weights = fold_deepak8(network)
        inputs = _deepak8(writer, weights, network, model.capacities)
    elif isinstance(network, ParticleNet):
        weights = fold_particle_net(network)
        inputs = _particle_net(writer, weights, network.config, model.capacities)
    else:
        raise ConfigError(f"{type(network).__name__} has no ONNX form; DeepAK8 and ParticleNet have one")
    labels = ", ".join(model.labels)
    writer.save(
        path, inputs, {"scores": ("batch", network.config.classes)}, f"recon {model.kind}; classes: {labels}"
    )


def _deepak8(
    writer: OnnxWriter, weights: Weights, network: DeepAK8, capacities: tuple[int, int]
) -> dict[str, tuple[str, Shape]]:
    config = network.config
    towers = [_tower(writer, weights[name], name) for name in ("candidates", "vertices")]
    hidden = writer.add("Concat", *towers, axis=1)
    activation = ("LeakyRelu", {"alpha": config.slope}) if config.slope else ("Relu", {})
    _classify(writer, weights["dense"], hidden, activation)
    return {
        "candidates": ("float", ("batch", capacities[0], config.candidates)),
        "vertices": ("float", ("batch", capacities[1], config.vertices)),
    }


def _classify(writer: OnnxWriter, layers: list[Weights], hidden: str, activation: tuple[str, Any]) -> None:
    for layer in layers[:-1]:
        hidden = writer.add(activation[0], _gemm(writer, layer, hidden), **activation[1])
    writer.add("Softmax", _gemm(writer, layers[-1], hidden), axis=1, name="scores")


def _gemm(writer: OnnxWriter, layer: Weights, x: str) -> str:
    return writer.add("Gemm", x, writer.array(layer["kernel"]), writer.array(layer["bias"]))


def _tower(writer: OnnxWriter, weights: Weights, name: str) -> str:
    """ONNX convolves channels first."""
    x = writer.add("Transpose", name, perm=[0, 2, 1])
    x = _convolve(writer, weights["stem"], _scaled(writer, weights["norm"], x))
    for number, unit in enumerate(weights["units"]):
        stride = 2 if number and "around" in unit else 1
        active = x
        if "norm" in unit:
            active = writer.add("Relu", _scaled(writer, unit["norm"], x))
        inner = writer.add("Relu", _convolve(writer, unit["first"], active, stride))
        inner = _convolve(writer, unit["second"], inner)
        around = _convolve(writer, unit["around"], active, stride) if "around" in unit else x
        x = writer.add("Add", inner, around)
        if "norm" not in unit:
            x = writer.add("Relu", x)
    if "last" in weights:
        x = writer.add("Relu", _scaled(writer, weights["last"], x))
    return writer.add("ReduceMean", x, axes=[2], keepdims=0)


def _scaled(writer: OnnxWriter, norm: Weights, x: str) -> str:
    """Scale and shift of the channels, which come before the length here."""
    product = writer.add("Mul", x, writer.array(norm["scale"][:, None]))
    return writer.add("Add", product, writer.array(norm["shift"][:, None]))


def _convolve(writer: OnnxWriter, layer: Weights, x: str, stride: int = 1) -> str:
    kernel = layer["kernel"]
    half = len(kernel) // 2
    given = [x, writer.array(kernel.transpose(2, 1, 0))]
    given += [writer.array(layer["bias"])] if "bias" in layer else []
    return writer.add("Conv", *given, strides=[stride], pads=[half, half])


def _particle_net(
    writer: OnnxWriter, weights: Weights, config: ParticleNetConfig, capacities: tuple[int, int]
) -> dict[str, tuple[str, Shape]]:
    columns = max(config.features, *(column + 1 for column in config.coordinates))
    inputs: dict[str, tuple[str, Shape]] = {
        "candidates": ("float", ("batch", capacities[0], columns)),
        "candidate_valid": ("bool", ("batch", capacities[0])),
    }
    points, features, mask = _columns(
        writer, "candidates", "candidate_valid", config.features, config.coordinates
    )
    n = capacities[0]
    if config.vertex_features:
        columns = max(config.vertex_features, *(column + 1 for column in config.vertex_coordinates))
        inputs |= {
            "vertices": ("float", ("batch", capacities[1], columns)),
            "vertex_valid": ("bool", ("batch", capacities[1])),
        }
        other = _columns(
            writer, "vertices", "vertex_valid", config.vertex_features, config.vertex_coordinates
        )
        features, embedded = (
            writer.add("Relu", _dense(writer, weights[name], x))
            for name, x in (("candidates", features), ("vertices", other[1]))
        )
        pairs = ((points, other[0]), (features, embedded), (mask, other[2]))
        points, features, mask = (writer.add("Concat", *pair, axis=1) for pair in pairs)
        n += capacities[1]
    features = _cloud(writer, weights, config, points, features, mask, n)
    count = writer.add("ReduceSum", mask, writer.array(np.array([1])), keepdims=0)
    total = writer.add("ReduceSum", features, writer.array(np.array([1])), keepdims=0)
    mean = writer.add("Div", total, writer.add("Max", count, writer.array(np.float32(1))))
    _classify(writer, weights["dense"], mean, ("Relu", {}))
    return inputs


def _columns(
    writer: OnnxWriter, name: str, valid: str, features: int, coordinates: tuple[int, int]
) -> tuple[str, str, str]:
    """Coordinates, features and the mask as numbers; padding is 0 whatever it holds."""
    mask = writer.add("Unsqueeze", writer.add("Cast", valid, to=1), writer.array(np.array([2])))
    keep = writer.add("Unsqueeze", valid, writer.array(np.array([2])))
    clean = writer.add("Where", keep, name, writer.array(np.float32(0)))
    points = writer.add("Gather", clean, writer.array(np.array(coordinates)), axis=2)
    return points, writer.add("Gather", clean, writer.array(np.arange(features)), axis=2), mask


def _dense(writer: OnnxWriter, layer: Weights, x: str) -> str:
    return writer.add(
        "Add", writer.add("MatMul", x, writer.array(layer["kernel"])), writer.array(layer["bias"])
    )


def _cloud(
    writer: OnnxWriter,
    weights: Weights,
    config: ParticleNetConfig,
    points: str,
    features: str,
    mask: str,
    n: int,
) -> str:
    """The edge convolutions, and the fusion of their outputs if there is one."""
    norm = {name: writer.array(array) for name, array in weights["norm"].items()}
    scaled = writer.add("Add", writer.add("Mul", features, norm["scale"]), norm["shift"])
    features = writer.add("Mul", scaled, mask)
    # Row of the first particle of every jet, when all particles of all jets are one list.
    batch = writer.add("Gather", writer.add("Shape", mask), writer.array(np.array(0)), axis=0)
    jets = writer.add("Range", writer.array(np.array(0)), batch, writer.array(np.array(1)))
    first = writer.add("Mul", jets, writer.array(np.array(n)))
    first = writer.add("Reshape", first, writer.array(np.array([-1, 1, 1])))
    outputs = []
    for block, (k, _) in zip(weights["blocks"], config.blocks, strict=True):
        rows = writer.add("Add", _neighbors(writer, points, mask, n, k), first)
        features = writer.add("Mul", _block(writer, block, features, rows, n), mask)
        points = features
        outputs.append(features)
    if "fusion" in weights:
        joined = writer.add("Concat", *outputs, axis=2)
        features = writer.add("Mul", writer.add("Relu", _dense(writer, weights["fusion"], joined)), mask)
    return features


def _neighbors(writer: OnnxWriter, points: str, mask: str, n: int, k: int) -> str:
    """Rows of the k nearest within each jet."""
    square = writer.add(
        "ReduceSum", writer.add("Mul", points, points), writer.array(np.array([2])), keepdims=1
    )
    across = writer.add("Transpose", square, perm=[0, 2, 1])
    product = writer.add("MatMul", points, writer.add("Transpose", points, perm=[0, 2, 1]))
    twice = writer.add("Mul", product, writer.array(np.float32(2)))
    distance = writer.add("Sub", writer.add("Add", square, across), twice)
    distance = writer.add("Max", distance, writer.array(np.float32(0)))
    missing = writer.add("Sub", writer.array(np.float32(1)), writer.add("Transpose", mask, perm=[0, 2, 1]))
    distance = writer.add("Add", distance, writer.add("Mul", missing, writer.array(FAR)))
    distance = writer.add("Add", distance, writer.array(FARTHER * np.eye(n, dtype=np.float32)))
    count = writer.array(np.array([k]))
    # The first output is the distances.
    return writer.add("TopK", distance, count, axis=2, largest=0, sorted=1, place=1)


def _block(writer: OnnxWriter, block: Weights, features: str, rows: str, n: int) -> str:
    own = _dense(writer, {"kernel": block["own"], "bias": block["bias"]}, features)
    own = writer.add("Unsqueeze", own, writer.array(np.array([2])))
    other = writer.add("MatMul", features, writer.array(block["other"]))
    width = block["other"].shape[1]
    listed = writer.add("Reshape", other, writer.array(np.array([-1, width])))
    edges = writer.add("Relu", writer.add("Add", own, writer.add("Gather", listed, rows, axis=0)))
    for layer in block["layers"]:
        edges = writer.add("Relu", _dense(writer, layer, edges))
    mean = writer.add("ReduceMean", edges, axes=[2], keepdims=0)
    around = _dense(writer, block["around"], features) if "around" in block else features
    return writer.add("Relu", writer.add("Add", around, mean))
