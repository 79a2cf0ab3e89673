"""ParticleNet from ONNX as weaver exports it: CMS's taggers and those of JetClass.

The exporter merges convolutions with the normalisation behind them and then numbers their arrays anew, so that
names say nothing: layers are told by order and by the rank of their kernels, blocks by their searches for neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flax import nnx

from recon.errors import DataError
from recon.io.foreign_weights import Filler, find
from recon.io.weights_onnx import OnnxNetwork, OnnxNode, read_onnx
from recon.tagging.particle_net import EMBEDDING, ParticleNet, ParticleNetConfig

EPSILON = 1e-5
"""Of the normalisation in PyTorch."""


@dataclass
class _Layer:
    """A convolution or a dense layer with what follows from the nodes around it.

    Attributes:
        name: of the kernel in the file.
        kernel: (inputs, outputs).
        bias: of the outputs; `None` without one.
        norm: scale, bias, mean and variance behind it; `None` where they are merged.
        of_edges: whether it acts on pairs of particles.
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray | None = None
    norm: list[np.ndarray] | None = None
    of_edges: bool = False


@dataclass
class _Layers:
    """The layers of a file in order.

    Attributes:
        norms: of inputs, which follow no convolution.
        front: layers before the first search for neighbours.
        blocks: layers of every block, and its number of neighbours.
        dense: the layers behind the mean over the particles.
    """

    norms: list[list[np.ndarray]] = field(default_factory=list)
    front: list[_Layer] = field(default_factory=list)
    blocks: list[tuple[int, list[_Layer]]] = field(default_factory=list)
    dense: list[_Layer] = field(default_factory=list)


def load_particle_net(
    path: Path,
    *,
    coordinates: tuple[int, int] | None = None,
    vertex_coordinates: tuple[int, int] | None = None,
) -> ParticleNet:
    """ParticleNet with the weights of an ONNX file.

    Args:
        path: of a file of `weaver.nn.model.ParticleNet` or `ParticleNetTagger`.
        coordinates: columns of eta and phi of candidates; for a network without vertices the last two features by
            default, as in JetClass, with vertices the two columns behind the features.
        vertex_coordinates: the same for vertices; the two columns behind their features by default.

    Raises:
        DataError: the file cannot be read, or its layers are not those of a ParticleNet.
        ConfigError: the package `onnx` is not installed.
    """
    layers = _layers(read_onnx(path))
    config = _config(layers, path, coordinates, vertex_coordinates)
    filler = Filler(ParticleNet(config, rngs=nnx.Rngs(0)), path)
    norms = iter(layers.norms)
    for place, layer in zip(("candidates", "vertices"), layers.front, strict=False):
        _put_norm(filler, f"{place}/norm", next(norms), layer.name)
        _put_layer(filler, f"{place}/layer", f"{place}/layer_norm", layer)
    _put_norm(filler, "norm", next(norms), "normalisation of the features")
    for number, (_, block) in enumerate(layers.blocks):
        of_edges = [layer for layer in block if layer.of_edges]
        for index, layer in enumerate(of_edges):
            _put_layer(filler, f"blocks/{number}/layers/{index}", f"blocks/{number}/norms/{index}", layer)
        around = [layer for layer in block if not layer.of_edges]
        for layer in around[:1] if _has_shortcut(config, number) else []:
            _put_layer(filler, f"blocks/{number}/shortcut", f"blocks/{number}/shortcut_norm", layer)
    if config.fusion:
        _put_layer(filler, "fusion", "fusion_norm", layers.blocks[-1][1][-1])
    places = [f"dense/{number}" for number in range(len(config.dense))]
    for place, layer in zip([*places, "output"], layers.dense, strict=True):
        filler.put(f"{place}/kernel", layer.kernel, layer.name)
        filler.put(f"{place}/bias", layer.bias, f"bias of {layer.name}")
    return filler.finish()


def _layers(network: OnnxNetwork) -> _Layers:
    """Sort the layers of a file."""
    found, behind = _Layers(), {}
    for node in network.nodes:
        if node.operator == "TopK":
            # The nearest of all is the particle itself.
            found.blocks.append((int(find(network.arrays, node.inputs[1], network.path).item()) - 1, []))
        elif node.operator in ("Conv", "Gemm"):
            layer = _layer(network, node)
            behind[node.outputs[0]] = layer
            place = (
                found.dense
                if node.operator == "Gemm"
                else (found.blocks[-1][1] if found.blocks else found.front)
            )
            place.append(layer)
        elif node.operator == "BatchNormalization":
            norm = [find(network.arrays, name, network.path) for name in node.inputs[1:5]]
            if node.inputs[0] in behind:
                behind[node.inputs[0]].norm = norm
            else:
                found.norms.append(norm)
    return found


def _layer(network: OnnxNetwork, node: OnnxNode) -> _Layer:
    weights = find(network.arrays, node.inputs[1], network.path)
    bias = find(network.arrays, node.inputs[2], network.path) if len(node.inputs) > 2 else None
    if node.operator == "Gemm":
        kernel = weights.T if node.attributes.get("transB") else weights
        return _Layer(node.inputs[1], kernel, bias)
    if any(length != 1 for length in weights.shape[2:]):
        raise DataError(
            f"{network.path}: {node.inputs[1]!r} has shape {weights.shape}; a ParticleNet convolves single particles"
        )
    return _Layer(node.inputs[1], weights.reshape(weights.shape[:2]).T, bias, of_edges=weights.ndim == 4)


def _config(
    layers: _Layers,
    path: Path,
    coordinates: tuple[int, int] | None,
    vertex_coordinates: tuple[int, int] | None,
) -> ParticleNetConfig:
    """The shape of the network, and whether the layers are those of one."""
    edges = [[layer for layer in block if layer.of_edges] for _, block in layers.blocks]
    branches = len(layers.front)
    if not all(edges) or len(layers.dense) < 2 or branches not in (0, 2) or len(layers.norms) != branches + 1:
        raise DataError(
            f"{path} is no ParticleNet: it has {len(layers.blocks)} searches for neighbours, {len(layers.dense)} dense "
            f"layers behind them, {branches} layers and {len(layers.norms)} normalisations in front"
        )
    features = [len(norm[0]) for norm in layers.norms]
    outputs = [tuple(layer.kernel.shape[1] for layer in block) for block in edges]
    last = features[-1] if len(outputs) == 1 else outputs[-2][-1]
    extra = [layer for layer in layers.blocks[-1][1] if not layer.of_edges]
    behind = (features[0], features[0] + 1) if branches else (features[0] - 2, features[0] - 1)
    return ParticleNetConfig(
        features=features[0],
        coordinates=coordinates or behind,
        classes=layers.dense[-1].kernel.shape[1],
        blocks=tuple((k, sizes) for (k, _), sizes in zip(layers.blocks, outputs, strict=True)),
        dense=tuple(layer.kernel.shape[1] for layer in layers.dense[:-1]),
        fusion=len(extra) > int(last != outputs[-1][-1]),
        vertex_features=features[1] if branches else 0,
        vertex_coordinates=(vertex_coordinates or (features[1], features[1] + 1)) if branches else (0, 0),
    )


def _has_shortcut(config: ParticleNetConfig, number: int) -> bool:
    first = EMBEDDING if config.vertex_features else config.features
    inputs = config.blocks[number - 1][1][-1] if number else first
    return inputs != config.blocks[number][1][-1]


def _put_layer(filler: Filler, place: str, norm: str, layer: _Layer) -> None:
    filler.put(f"{place}/kernel", layer.kernel, layer.name)
    if layer.norm is not None:
        _put_norm(filler, norm, layer.norm, layer.name)
    elif layer.bias is not None:
        filler.identity_norm(norm, layer.bias, f"bias of {layer.name}", EPSILON)


def _put_norm(filler: Filler, place: str, norm: list[np.ndarray], source: str) -> None:
    for name, array in zip(("scale", "bias", "mean", "var"), norm, strict=True):
        filler.put(f"{place}/{name}", array, f"normalisation of {source}")
