"""NNX modules as programs of a flat dict of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from recon.export import Signature, Tensor, export_model
from recon.io.weights import flatten_state
from recon.nn.backbones import Backbone, check_images
from recon.nn.image_inference import fold_featurizer

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


def featurizer_program(
    featurizer: nnx.Module, *, bfloat16: bool = False
) -> tuple[dict[str, np.ndarray], Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]:
    """Weights and program of `image` to `features` in the fast form of every platform.

    Args:
        featurizer: of an `ImageNetwork`.
        bfloat16: it computes in it, and its weights take half the room.
    """
    folded = fold_featurizer(featurizer, bfloat16=bfloat16)
    weights, tree_of = flat_function(folded.weights)

    def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return {"features": folded.features(tree_of(weights), inputs["image"])}

    return weights, program


def export_backbone(
    directory: Path,
    backbone: Backbone,
    *,
    name: str | None = None,
    image: int = 224,
    version: str = "1",
    batches: tuple[int, ...] = BATCHES,
    bfloat16: bool = False,
    overwrite: bool = False,
) -> list[Path]:
    """Write `<name>_featurizer`, image to features, and `<name>_classifier`, features to logits.

    Args:
        directory: the model repository.
        backbone: the network and where its weights come from.
        name: of the artefacts; that of the backbone by default.
        image: height and width, pixels.
        version: of both artefacts.
        batches: buckets.
        bfloat16: the featurizer computes in it, and its weights take half the room.
        overwrite: replace artefacts of the same names and version.

    Raises:
        ConfigError: the image is too small for the network, or an artefact exists.
    """
    network, config = backbone.network, backbone.network.config
    check_images((1, image, image, config.channels), config.channels)
    shapes = {
        "image": (image, image, config.channels),
        "features": (config.features,),
        "logits": (config.classes,),
    }
    parts = (
        ("featurizer", featurizer_program(network.featurizer, bfloat16=bfloat16), "image", "features"),
        ("classifier", module_program(network.classifier, "features", "logits"), "features", "logits"),
    )
    written = []
    for part, (weights, program), given, result in parts:
        signature = Signature(
            inputs=(Tensor(name=given, datatype="FP32", shape=("batch", *shapes[given]), finite=True),),
            outputs=(Tensor(name=result, datatype="FP32", shape=("batch", *shapes[result])),),
            buckets=tuple({"batch": batch} for batch in batches),
            batched=True,
        )
        folder = export_model(
            directory,
            program,
            weights,
            signature,
            name=f"{name or backbone.name}_{part}",
            version=version,
            description=f"{backbone.name}, {part}",
            config={"network": backbone.name, "scale": backbone.scale._asdict()},
            provenance=backbone.provenance,
            overwrite=overwrite,
        )
        written.append(folder)
    return written
