"""Networks for images as two artefacts each: `<name>_featurizer`, image to features, and `<name>_classifier`.

One featurizer on an accelerator serves the classifiers of several tasks: a classifier is small, and trained anew for
every one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from recon.errors import ConfigError
from recon.export import Signature, Tensor, export_model
from recon.nn.export import module_program
from recon.nn.patch_network import PatchNetworkConfig
from recon.tagging.backbone_network import BackboneConfig
from recon.tagging.cvn import NeutrinoModel
from recon.tagging.jet_image_network import JetImageNetwork
from recon.tagging.models import TaggingModel

BATCHES = (1, 8, 64)
"""Padded numbers of images."""


def export_parts(
    directory: Path,
    model: TaggingModel | NeutrinoModel,
    shape: PatchNetworkConfig | BackboneConfig,
    *,
    name: str,
    description: str,
    version: str = "1",
    batches: Sequence[int] = BATCHES,
    overwrite: bool = False,
) -> list[Path]:
    """Write a featurizer, `image` to `features`, and a classifier, `features` to `scores`, which are probabilities.

    Args:
        directory: the model repository.
        model: whose network has the modules `featurizer` and `classifier`.
        shape: of the network: what its images and features are.
        name: of the artefacts, before `_featurizer` and `_classifier`.
        description: of the network.
        version: of both artefacts.
        batches: padded numbers of images.
        overwrite: replace artefacts of these names and version.

    Returns:
        Both folders, the featurizer's first.

    Raises:
        ConfigError: an artefact exists.
    """
    weights, classify = module_program(model.network.classifier, "features", "logits")

    def probabilities(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return {"scores": jax.nn.softmax(classify(weights, inputs)["logits"])}

    parts: Mapping[str, tuple[Any, Any, Tensor, Tensor]] = {
        "featurizer": (
            *module_program(model.network.featurizer, "image", "features"),
            Tensor(name="image", datatype="FP32", shape=("batch", *shape.image, shape.views), finite=True),
            Tensor(name="features", datatype="FP32", shape=("batch", shape.features)),
        ),
        "classifier": (
            weights,
            probabilities,
            Tensor(name="features", datatype="FP32", shape=("batch", shape.features), finite=True),
            Tensor(name="scores", datatype="FP32", shape=("batch", len(model.labels))),
        ),
    }
    return [
        export_model(
            directory,
            # The room that a featurizer has inside depends on the number of images.
            (lambda sizes, program=program: program) if part == "featurizer" else program,
            arrays,
            Signature(
                inputs=(given,),
                outputs=(result,),
                buckets=tuple({"batch": batch} for batch in batches),
                batched=True,
            ),
            name=f"{name}_{part}",
            by_bucket=part == "featurizer",
            version=version,
            description=f"{description}: {part}",
            config={"labels": list(model.labels)},
            provenance={"card": model.card},
            overwrite=overwrite,
        )
        for part, (arrays, program, given, result) in parts.items()
    ]


def export_jet_images(
    directory: Path,
    model: TaggingModel,
    *,
    name: str = "jet-image",
    version: str = "1",
    batches: Sequence[int] = BATCHES,
    overwrite: bool = False,
) -> list[Path]:
    """Write `<name>_featurizer`, images of jets to features, and `<name>_classifier`, features to probabilities.

    Args:
        directory: the model repository.
        model: of kind "jet-image" or "jet-backbone".
        name: of the artefacts.
        version: of both artefacts.
        batches: padded numbers of jets.
        overwrite: replace artefacts of these names and version.

    Returns:
        Both folders, the featurizer's first.

    Raises:
        ConfigError: the model is another network, or an artefact exists.
    """
    if not isinstance(model.network, JetImageNetwork):
        raise ConfigError(f"export_jet_images was given a {type(model.network).__name__}")
    shape = model.network.config.network
    return export_parts(
        directory,
        model,
        shape,
        name=name,
        description=f"AK8 jets by images of {shape.image[0]} pixels a side",
        version=version,
        batches=batches,
        overwrite=overwrite,
    )
