"""State dictionaries of weaver: ParticleNet and the Particle Transformer, as trained on JetClass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

from recon.errors import DataError
from recon.io.foreign_weights import TORCH_NORM, Filler, find
from recon.io.weights_pt import read_state_dict
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig
from recon.tagging.particle_transformer import ParticleTransformer, ParticleTransformerConfig

NEIGHBORS = 16
"""Of the blocks of ParticleNet on JetClass; a state dictionary does not say."""


def _state(path: Path) -> dict[str, np.ndarray]:
    """Arrays by weaver's names, without the wrapper's prefix and the counters of batches."""
    arrays = {name.removeprefix("mod."): array for name, array in read_state_dict(path).items()}
    return {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}


def _norm(filler: Filler, place: str, arrays: Mapping[str, np.ndarray], name: str, path: Path) -> None:
    for theirs, ours in TORCH_NORM.items():
        # Layer normalisation has no statistics.
        if theirs.startswith("running") and f"{name}.{theirs}" not in arrays:
            continue
        filler.put(f"{place}/{ours}", find(arrays, f"{name}.{theirs}", path), f"{name}.{theirs}")


def _matrix(filler: Filler, place: str, arrays: Mapping[str, np.ndarray], name: str, path: Path) -> None:
    """A dense layer, or a convolution of one neighbour, which is the same."""
    kernel = find(arrays, f"{name}.weight", path)
    filler.put(f"{place}/kernel", kernel.reshape(kernel.shape[:2]).T, f"{name}.weight")
    if f"{name}.bias" in arrays:
        filler.put(f"{place}/bias", arrays[f"{name}.bias"], f"{name}.bias")


def _count(arrays: Mapping[str, np.ndarray], pattern: str, path: Path) -> int:
    """How many modules of a list there are."""
    found = {int(match[1]) for name in arrays if (match := re.match(pattern, name))}
    if found != set(range(len(found))) or not found:
        raise DataError(f"{path} has the modules {sorted(found)} of {pattern!r}; a list from 0 is needed")
    return len(found)


def load_particle_net(
    path: Path, *, coordinates: tuple[int, int] | None = None, k: int = NEIGHBORS
) -> ParticleNet:
    """ParticleNet with the weights of a file of weaver.

    Args:
        path: ".pt" of `weaver.nn.model.ParticleNet`, without fusion or with it.
        coordinates: columns of eta and phi; the last two features by default, as in JetClass.
        k: number of neighbours, which the file does not hold.

    Raises:
        DataError: the file cannot be read, or an array is missing, left over or of another shape.
    """
    arrays = _state(path)
    features = len(find(arrays, "bn_fts.weight", path))
    blocks = []
    for block in range(_count(arrays, r"edge_convs\.(\d+)\.", path)):
        layers = _count(arrays, rf"edge_convs\.{block}\.convs\.(\d+)\.", path)
        names = [f"edge_convs.{block}.convs.{layer}.weight" for layer in range(layers)]
        blocks.append((k, tuple(len(find(arrays, name, path)) for name in names)))
    dense = _count(arrays, r"fc\.(\d+)\.", path) - 1
    config = ParticleNetConfig(
        features=features,
        coordinates=coordinates or (features - 2, features - 1),
        classes=len(find(arrays, f"fc.{dense}.weight", path)),
        blocks=tuple(blocks),
        dense=tuple(len(find(arrays, f"fc.{layer}.0.weight", path)) for layer in range(dense)),
        fusion="fusion_block.0.weight" in arrays,
    )
    filler = Filler(ParticleNet(config, rngs=nnx.Rngs(0)), path)
    _norm(filler, "norm", arrays, "bn_fts", path)
    for block, (_, outputs) in enumerate(config.blocks):
        name, place = f"edge_convs.{block}", f"blocks/{block}"
        for layer in range(len(outputs)):
            _matrix(filler, f"{place}/layers/{layer}", arrays, f"{name}.convs.{layer}", path)
            _norm(filler, f"{place}/norms/{layer}", arrays, f"{name}.bns.{layer}", path)
        if f"{name}.sc.weight" in arrays:
            _matrix(filler, f"{place}/shortcut", arrays, f"{name}.sc", path)
            _norm(filler, f"{place}/shortcut_norm", arrays, f"{name}.sc_bn", path)
    if config.fusion:
        _matrix(filler, "fusion", arrays, "fusion_block.0", path)
        _norm(filler, "fusion_norm", arrays, "fusion_block.1", path)
    for layer in range(dense):
        _matrix(filler, f"dense/{layer}", arrays, f"fc.{layer}.0", path)
    _matrix(filler, "output", arrays, f"fc.{dense}", path)
    return filler.finish(arrays)


def load_particle_transformer(
    path: Path, *, vectors: tuple[int, int, int, int] | None = None
) -> ParticleTransformer:
    """Particle Transformer with the weights of a file of weaver.

    Args:
        path: ".pt" of `weaver.nn.model.ParticleTransformer`, version 1.
        vectors: columns of px, py, pz and E; the four behind the features by default.

    Raises:
        DataError: the file cannot be read, or an array is missing, left over or of another shape.
    """
    # PyTorch before 2.0 wrote "in_proj_weight".
    arrays = {re.sub(r"in_proj_(weight|bias)$", r"in_proj.\1", name): a for name, a in _state(path).items()}
    features = len(find(arrays, "embed.input_bn.weight", path))
    width, heads = len(find(arrays, "norm.weight", path)), len(find(arrays, "blocks.0.c_attn", path))
    embedding = _outputs_of_thirds(arrays, "embed.embed", width, path)
    # Behind a first normalisation the layers of the pairs are a convolution, a normalisation and an activation each.
    pairs = _outputs_of_thirds(arrays, "pair_embed.embed", heads, path)
    config = ParticleTransformerConfig(
        features=features,
        vectors=vectors or (features, features + 1, features + 2, features + 3),
        classes=len(find(arrays, "fc.0.weight", path)),
        embedding=tuple(embedding),
        pairs=tuple(pairs[:-1]),
        heads=heads,
        layers=_count(arrays, r"blocks\.(\d+)\.", path),
        class_layers=_count(arrays, r"cls_blocks\.(\d+)\.", path),
    )
    filler = Filler(ParticleTransformer(config, rngs=nnx.Rngs(0)), path)
    _norm(filler, "norm", arrays, "embed.input_bn", path)
    for layer in range(len(embedding)):
        _norm(filler, f"embedding_norms/{layer}", arrays, f"embed.embed.{3 * layer}", path)
        _matrix(filler, f"embedding/{layer}", arrays, f"embed.embed.{3 * layer + 1}", path)
    _norm(filler, "pair_norm", arrays, "pair_embed.embed.0", path)
    for layer in range(len(pairs)):
        _matrix(filler, f"pairs/{layer}", arrays, f"pair_embed.embed.{3 * layer + 1}", path)
        _norm(filler, f"pair_norms/{layer}", arrays, f"pair_embed.embed.{3 * layer + 2}", path)
    for ours, theirs, count in (
        ("blocks", "blocks", config.layers),
        ("class_blocks", "cls_blocks", config.class_layers),
    ):
        for number in range(count):
            _block(filler, f"{ours}/{number}", arrays, f"{theirs}.{number}", path)
    filler.put("class_token", find(arrays, "cls_token", path), "cls_token")
    _norm(filler, "last_norm", arrays, "norm", path)
    _matrix(filler, "output", arrays, "fc.0", path)
    return filler.finish(arrays)


def _outputs_of_thirds(arrays: Mapping[str, np.ndarray], prefix: str, last: int, path: Path) -> list[int]:
    """Outputs of the layers of a chain whose matrix is every third module, from module 1."""
    outputs = [len(find(arrays, f"{prefix}.1.weight", path))]
    while outputs[-1] != last or f"{prefix}.{3 * len(outputs) + 1}.weight" in arrays:
        outputs.append(len(find(arrays, f"{prefix}.{3 * len(outputs) + 1}.weight", path)))
    return outputs


def _block(filler: Filler, place: str, arrays: Mapping[str, np.ndarray], name: str, path: Path) -> None:
    for ours, theirs in (
        ("attention_norm", "pre_attn_norm"),
        ("attended_norm", "post_attn_norm"),
        ("dense_norm", "pre_fc_norm"),
        ("hidden_norm", "post_fc_norm"),
    ):
        _norm(filler, f"{place}/{ours}", arrays, f"{name}.{theirs}", path)
    for ours, theirs in (
        ("project", "attn.in_proj"),
        ("merge", "attn.out_proj"),
        ("dense/0", "fc1"),
        ("dense/1", "fc2"),
    ):
        _matrix(filler, f"{place}/{ours}", arrays, f"{name}.{theirs}", path)
    filler.put(f"{place}/head_scale", find(arrays, f"{name}.c_attn", path), f"{name}.c_attn")
    filler.put(f"{place}/residual_scale", find(arrays, f"{name}.w_resid", path), f"{name}.w_resid")
