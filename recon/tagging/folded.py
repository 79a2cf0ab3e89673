"""DeepAK8 and ParticleNet for inference: batch normalisation folded into the matrices, ParticleNet one jet at a time.

Each network becomes a tree of weights and a pure function. On a CPU ParticleNet's edges of one jet stay in the cache;
those of 64 jets would be 64 MiB an array. The probabilities are those of the network in evaluation mode to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn.blocks import each_item
from recon.nn.edgeconv import EdgeConv, split_kernel
from recon.nn.folding import fold_norm, norm_affine, plain
from recon.nn.neighbors import nearest_neighbors
from recon.tagging.deepak8 import DeepAK8, Tower, Unit
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig, point_columns
from recon.types import Jets

Weights = dict[str, Any]


class Folded(NamedTuple):
    """A network for inference.

    Attributes:
        weights: tree of arrays.
        logits: pure function of the weights and jets.
        features: the same as far as the classifier, see `DeepAK8.features` and `ParticleNet.features`.
    """

    weights: Weights
    logits: Callable[[Weights, Jets], Float32[Array, "j k"]]
    features: Callable[[Weights, Jets], Float32[Array, "j f"]]


def fold(network: nnx.Module) -> Folded:
    """The fast form of a trained network.

    Args:
        network: DeepAK8 or ParticleNet.

    Raises:
        ConfigError: another network.
    """
    if isinstance(network, DeepAK8):
        logits = partial(deepak8_logits, slope=network.config.slope)
        return Folded(fold_deepak8(network), logits, deepak8_features)
    if isinstance(network, ParticleNet):
        logits = partial(particle_net_logits, config=network.config)
        return Folded(
            fold_particle_net(network), logits, partial(particle_net_features, config=network.config)
        )
    raise ConfigError(f"{type(network).__name__} has no form for inference; DeepAK8 and ParticleNet have one")


def fold_deepak8(network: DeepAK8) -> Weights:
    """Weights of `deepak8_logits`."""
    return {
        "candidates": _fold_tower(network.candidates),
        "vertices": _fold_tower(network.vertices),
        "dense": [plain(layer) for layer in (*network.dense, network.output)],
    }


def _affine(norm: nnx.BatchNorm) -> Weights:
    return dict(zip(("scale", "shift"), norm_affine(norm), strict=True))


def _fold_tower(tower: Tower) -> Weights:
    # The first normalisation cannot move into the stem: the stem pads with zeros behind it.
    folded = {
        "norm": _affine(tower.norm),
        "stem": plain(tower.stem),
        "units": [_fold_unit(unit) for unit in tower.units],
    }
    return folded if tower.last_norm is None else folded | {"last": _affine(tower.last_norm)}


def _fold_unit(unit: Unit) -> Weights:
    (first, second), norms = unit.convolutions, unit.norms
    if unit.preactivation:
        folded = {"norm": _affine(norms[0]), "first": fold_norm(first, norms[1]), "second": plain(second)}
    else:
        folded = {"first": fold_norm(first, norms[0]), "second": fold_norm(second, norms[1])}
    if unit.shortcut is not None:
        norm = unit.shortcut_norm
        folded["around"] = plain(unit.shortcut) if norm is None else fold_norm(unit.shortcut, norm)
    return folded


def deepak8_logits(weights: Weights, jets: Jets, slope: float = 0.0) -> Float32[Array, "j k"]:
    """Logits of DeepAK8.

    Args:
        weights: of `fold_deepak8`.
        jets: with the capacities of the network.
        slope: `DeepAK8Config.slope`.
    """
    return _dense(
        weights["dense"], deepak8_features(weights, jets), partial(jax.nn.leaky_relu, negative_slope=slope)
    )


def deepak8_features(weights: Weights, jets: Jets) -> Float32[Array, "j f"]:
    """What both towers of DeepAK8 found."""
    parts = [
        _tower(weights["candidates"], jnp.where(jets.candidate_valid[..., None], jets.candidates, 0)),
        _tower(weights["vertices"], jnp.where(jets.vertex_valid[..., None], jets.vertices, 0)),
    ]
    return jnp.concatenate(parts, -1)


def _dense(layers: list[Weights], hidden: Array, activate: Callable[[Array], Array]) -> Array:
    for layer in layers[:-1]:
        hidden = activate(hidden @ layer["kernel"] + layer["bias"])
    return hidden @ layers[-1]["kernel"] + layers[-1]["bias"]


def _convolve(layer: Weights, x: Array, stride: int = 1) -> Array:
    kernel = layer["kernel"]
    half = len(kernel) // 2
    result = jax.lax.conv_general_dilated(
        x, kernel, (stride,), ((half, half),), dimension_numbers=("NWC", "WIO", "NWC")
    )
    return result + layer["bias"] if "bias" in layer else result


def _scaled(norm: Weights, x: Array) -> Array:
    return x * norm["scale"] + norm["shift"]


def _tower(weights: Weights, x: Array) -> Array:
    x = _convolve(weights["stem"], _scaled(weights["norm"], x))
    for number, unit in enumerate(weights["units"]):
        # The first unit of every stage but the first halves the length; it has a convolution in its way around.
        stride = 2 if number and "around" in unit else 1
        x = _preactivated(unit, x, stride) if "norm" in unit else _postactivated(unit, x, stride)
    if "last" in weights:
        x = jax.nn.relu(_scaled(weights["last"], x))
    return x.mean(1)


def _preactivated(unit: Weights, x: Array, stride: int) -> Array:
    active = jax.nn.relu(_scaled(unit["norm"], x))
    inner = _convolve(unit["second"], jax.nn.relu(_convolve(unit["first"], active, stride)))
    return inner + (_convolve(unit["around"], active, stride) if "around" in unit else x)


def _postactivated(unit: Weights, x: Array, stride: int) -> Array:
    inner = _convolve(unit["second"], jax.nn.relu(_convolve(unit["first"], x, stride)))
    return jax.nn.relu(inner + (_convolve(unit["around"], x, stride) if "around" in unit else x))


def fold_particle_net(network: ParticleNet) -> Weights:
    """Weights of `particle_net_logits`."""
    folded: Weights = {
        "norm": _affine(network.norm),
        "blocks": [_fold_block(block) for block in network.blocks],
        "dense": [plain(layer) for layer in (*network.dense, network.output)],
    }
    if network.fusion is not None and network.fusion_norm is not None:
        folded["fusion"] = fold_norm(network.fusion, network.fusion_norm)
    for name in ("candidates", "vertices"):
        if (embedding := getattr(network, name)) is not None:
            folded[name] = fold_norm(embedding.layer, embedding.layer_norm, embedding.norm)
    return folded


def _fold_block(block: EdgeConv) -> Weights:
    layers = [fold_norm(layer, norm) for layer, norm in zip(block.layers, block.norms, strict=True)]
    own, other = split_kernel(layers[0]["kernel"])
    folded = {"own": own, "other": other, "bias": layers[0]["bias"], "layers": layers[1:]}
    if block.shortcut is not None and block.shortcut_norm is not None:
        folded["around"] = fold_norm(block.shortcut, block.shortcut_norm)
    return folded


def particle_net_logits(weights: Weights, jets: Jets, config: ParticleNetConfig) -> Float32[Array, "j k"]:
    """Logits of ParticleNet.

    Args:
        weights: of `fold_particle_net`.
        jets: with any capacities.
        config: of the network.
    """
    return _each_jet(_jet_logits, weights, jets, config)


def particle_net_features(weights: Weights, jets: Jets, config: ParticleNetConfig) -> Float32[Array, "j f"]:
    """Means over the particles of jets."""
    return _each_jet(_jet_features, weights, jets, config)


def _each_jet(
    function: Callable[..., Array], weights: Weights, jets: Jets, config: ParticleNetConfig
) -> Array:
    parts = [point_columns(jets.candidates, jets.candidate_valid, config.features, config.coordinates)]
    valid, features = jets.candidate_valid, parts[0][1]
    if config.vertex_features:
        parts.append(
            point_columns(jets.vertices, jets.vertex_valid, config.vertex_features, config.vertex_coordinates)
        )
        embedded = [
            _activated(weights[name], part[1])
            for name, part in zip(("candidates", "vertices"), parts, strict=True)
        ]
        features = jnp.concatenate(embedded, 1)
        valid = jnp.concatenate([jets.candidate_valid, jets.vertex_valid], 1)
    points = jnp.concatenate([part[0] for part in parts], 1)
    neighbors = tuple(k for k, _ in config.blocks)
    return each_item(partial(function, neighbors=neighbors), weights, (points, features, valid))


def _activated(layer: Weights, x: Array) -> Array:
    return jax.nn.relu(x @ layer["kernel"] + layer["bias"])


def _jet_logits(weights: Weights, jet: tuple[Array, Array, Array], neighbors: tuple[int, ...]) -> Array:
    return _dense(weights["dense"], _jet_features(weights, jet, neighbors), jax.nn.relu)


def _jet_features(weights: Weights, jet: tuple[Array, Array, Array], neighbors: tuple[int, ...]) -> Array:
    points, features, valid = jet
    mask = valid[:, None]
    features = jnp.where(mask, _scaled(weights["norm"], features), 0)
    outputs = []
    for block, k in zip(weights["blocks"], neighbors, strict=True):
        features = jnp.where(mask, _block(block, features, nearest_neighbors(points, valid, k)), 0)
        points = features
        outputs.append(features)
    if "fusion" in weights:
        features = jnp.where(mask, _activated(weights["fusion"], jnp.concatenate(outputs, -1)), 0)
    return features.sum(0) / jnp.maximum(valid.sum(), 1)


def _block(block: Weights, features: Array, rows: Array) -> Array:
    own = features @ block["own"] + block["bias"]
    # Two axes only: XLA's matrix product is slower with three.
    edges = jax.nn.relu(own[:, None] + (features @ block["other"])[rows]).reshape(-1, own.shape[-1])
    for layer in block["layers"]:
        edges = _activated(layer, edges)
    around = features @ block["around"]["kernel"] + block["around"]["bias"] if "around" in block else features
    return jax.nn.relu(around + edges.reshape(*rows.shape, -1).mean(1))
