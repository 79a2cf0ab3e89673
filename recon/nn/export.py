"""NNX modules as programs of a flat dict of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from recon.errors import ConfigError
from recon.export import Signature, Tensor, export_model
from recon.io.weights import flatten_state
from recon.nn.resnet import PRESETS, ResNet, ResNetConfig

BATCHES = (1, 2, 4, 8, 16)


def flat_function(tree: Any) -> tuple[dict[str, np.ndarray], Callable[[Mapping[str, Any]], Any]]:
    """A tree of arrays as a flat dict, and the function that makes the tree of such a dict again."""
    tree = nnx.as_pure(tree) if isinstance(tree, nnx.State) else tree
    flat, structure = flatten_state(tree), jax.tree.structure(tree)
    # The names are in the order of the leaves.
    names = list(flat)
    return flat, lambda arrays: jax.tree.unflatten(structure, [arrays[name] for name in names])


def module_program(
    module: nnx.Module, argument: str, result: str
) -> tuple[dict[str, np.ndarray], Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]:
    """Weights and program of a module of one input and one output, in evaluation mode."""
    module.eval()
    definition, state = nnx.split(module)
    weights, tree_of = flat_function(state)

    def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return {result: nnx.merge(definition, tree_of(weights), copy=True)(inputs[argument])}

    return weights, program


def export_resnet(
    directory: Path,
    *,
    preset: str = "resnet50",
    name: str | None = None,
    image: int = 224,
    seed: int = 0,
    version: str = "1",
    batches: tuple[int, ...] = BATCHES,
    config: ResNetConfig | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write `<name>_featurizer` and `<name>_classifier` with random weights.

    Args:
        directory: the model repository.
        preset: one of `PRESETS`.
        name: of the artefacts; that of the preset by default.
        image: height and width, pixels.
        seed: of the weights.
        version: of both artefacts.
        batches: buckets.
        config: in place of the preset's.
        overwrite: replace artefacts of the same names and version.

    Raises:
        ConfigError: there is no such preset, or an artefact exists.
    """
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    config = config or PRESETS[preset]
    network = ResNet(config, rngs=nnx.Rngs(seed))
    shapes = {
        "image": (image, image, config.channels),
        "features": (config.features,),
        "logits": (config.classes,),
    }
    parts = (
        ("featurizer", network.featurizer, "image", "features"),
        ("classifier", network.classifier, "features", "logits"),
    )
    written = []
    for part, module, given, result in parts:
        weights, program = module_program(module, given, result)
        signature = Signature(
            inputs=(Tensor(name=given, datatype="FP32", shape=("batch", *shapes[given])),),
            outputs=(Tensor(name=result, datatype="FP32", shape=("batch", *shapes[result])),),
            buckets=tuple({"batch": batch} for batch in batches),
            batched=True,
        )
        folder = export_model(
            directory,
            program,
            weights,
            signature,
            name=f"{name or preset}_{part}",
            version=version,
            description=f"{preset} v1.5, {part}",
            provenance={"weights": "random", "seed": seed},
            overwrite=overwrite,
        )
        written.append(folder)
    return written
