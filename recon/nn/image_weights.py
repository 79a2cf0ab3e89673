"""Where weights of networks for images lie in the files of others: torchvision, timm, Keras, EfficientNet-PyTorch.

A layout is a list of entries: a place in our network, the arrays of the file it is made of, and how. The names in
a file say which layout it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from recon.nn.backbones import ImageConfig, ImageScale
from recon.nn.efficientnet import EfficientNetConfig
from recon.nn.resnet import ResNetConfig
from recon.nn.vgg import POOLED, VGGConfig

TORCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
KERAS_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
KERAS_EPSILON = 1.001e-5
IMAGENET = ImageScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = ImageScale((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, reverse=True)
CENTRED = ImageScale((127 / 255,) * 3, (128 / 255,) * 3)
HALVED = ImageScale((0.5,) * 3, (0.5,) * 3)


class Entry(NamedTuple):
    """How one array of ours is made.

    Attributes:
        place: in an `ImageNetwork`.
        sources: names in the file.
        make: of the arrays of these names.
    """

    place: str
    sources: tuple[str, ...]
    make: Callable[..., np.ndarray]


class Layout(NamedTuple):
    """How a family of files names its arrays.

    Attributes:
        name: for messages.
        entries: of a network.
        scale: of the images that such networks are trained with.
        changes: settings of the network that differ from the preset's.
    """

    name: str
    entries: Callable[[Any], Iterator[Entry]]
    scale: ImageScale
    changes: Mapping[str, Any] = {}


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _kernel(array: np.ndarray) -> np.ndarray:
    """(outputs, inputs, h, w) -> (h, w, inputs, outputs); also that of one channel each."""
    return array.transpose(2, 3, 1, 0)


def _transposed(array: np.ndarray) -> np.ndarray:
    return array.T


def _torch_conv(place: str, source: str, bias: bool = False) -> Iterator[Entry]:
    yield Entry(f"{place}/kernel", (f"{source}.weight",), _kernel)
    if bias:
        yield Entry(f"{place}/bias", (f"{source}.bias",), _same)


def _torch_norm(place: str, source: str) -> Iterator[Entry]:
    for ours, theirs in TORCH_NORM.items():
        yield Entry(f"{place}/{ours}", (f"{source}.{theirs}",), _same)


def _torch_dense(place: str, source: str, kernel: Callable[..., np.ndarray] = _transposed) -> Iterator[Entry]:
    yield Entry(f"{place}/kernel", (f"{source}.weight",), kernel)
    yield Entry(f"{place}/bias", (f"{source}.bias",), _same)


def _torch_resnet(config: ResNetConfig) -> Iterator[Entry]:
    """Names of torchvision, and of timm, which has the plain ResNets from there."""
    yield from _torch_conv("featurizer/stem", "conv1")
    yield from _torch_norm("featurizer/norm", "bn1")
    for number, (stage, block, has_shortcut) in enumerate(_resnet_blocks(config)):
        place, source = f"featurizer/blocks/{number}", f"layer{stage + 1}.{block}"
        for layer in range(3 if config.bottleneck else 2):
            yield from _torch_conv(f"{place}/convolutions/{layer}", f"{source}.conv{layer + 1}")
            yield from _torch_norm(f"{place}/norms/{layer}", f"{source}.bn{layer + 1}")
        if has_shortcut:
            yield from _torch_conv(f"{place}/shortcut/layers/0", f"{source}.downsample.0")
            yield from _torch_norm(f"{place}/shortcut/layers/1", f"{source}.downsample.1")
    yield from _torch_dense("classifier", "fc")


def _resnet_blocks(config: ResNetConfig) -> Iterator[tuple[int, int, bool]]:
    """Stage, number in it, and whether the way around has a convolution, of every block."""
    for stage, count in enumerate(config.stages):
        for block in range(count):
            yield stage, block, block == 0 and (stage > 0 or config.bottleneck)


def _keras_resnet(config: ResNetConfig, classifier: str = "predictions") -> Iterator[Entry]:
    yield from _keras_layer("featurizer/stem", "featurizer/norm", "conv1")
    for number, (stage, block, has_shortcut) in enumerate(_resnet_blocks(config)):
        place, source = f"featurizer/blocks/{number}", f"conv{stage + 2}_block{block + 1}"
        for layer in range(3 if config.bottleneck else 2):
            yield from _keras_layer(
                f"{place}/convolutions/{layer}", f"{place}/norms/{layer}", f"{source}_{layer + 1}"
            )
        if has_shortcut:
            yield from _keras_layer(f"{place}/shortcut/layers/0", f"{place}/shortcut/layers/1", f"{source}_0")
    for part in ("kernel", "bias"):
        yield Entry(f"classifier/{part}", (f"{classifier}/{part}",), _same)


def _keras_layer(place: str, norm: str, source: str) -> Iterator[Entry]:
    """A convolution with a bias, which the normalisation behind it takes over."""
    yield Entry(f"{place}/kernel", (f"{source}_conv/kernel",), _same)
    for ours, theirs in KERAS_NORM.items():
        if ours == "mean":
            sources = (f"{source}_bn/{theirs}", f"{source}_conv/bias")
            yield Entry(f"{norm}/{ours}", sources, np.subtract)
        else:
            yield Entry(f"{norm}/{ours}", (f"{source}_bn/{theirs}",), _same)


def _vgg_convolutions(config: VGGConfig) -> Iterator[Entry]:
    number = 0
    for layer in range(sum(config.stages)):
        yield from _torch_conv(f"featurizer/convolutions/{layer}", f"features.{number}", bias=True)
        if config.norm:
            yield from _torch_norm(f"featurizer/norms/{layer}", f"features.{number + 1}")
        # Convolution, normalisation, activation and pooling are numbered alike.
        number += 2 + config.norm + (layer in config.last)


def _torchvision_vgg(config: VGGConfig) -> Iterator[Entry]:
    channels = config.widths[-1]

    def pixels_last(array: np.ndarray) -> np.ndarray:
        """PyTorch flattens (channel, row, column), we (row, column, channel)."""
        if array.shape[-1] != channels * POOLED**2:
            return array.T
        shaped = array.reshape(-1, channels, POOLED, POOLED)
        return _kernel(shaped).reshape(-1, len(array))

    yield from _vgg_convolutions(config)
    yield from _torch_dense("featurizer/dense/0", "classifier.0", pixels_last)
    yield from _torch_dense("featurizer/dense/1", "classifier.3")
    yield from _torch_dense("classifier", "classifier.6")


def _timm_vgg(config: VGGConfig) -> Iterator[Entry]:
    def window(array: np.ndarray) -> np.ndarray:
        return _kernel(array).reshape(-1, len(array))

    yield from _vgg_convolutions(config)
    yield from _torch_dense("featurizer/dense/0", "pre_logits.fc1", window)
    yield from _torch_dense("featurizer/dense/1", "pre_logits.fc2", window)
    yield from _torch_dense("classifier", "head.fc")


def _efficientnet_pytorch(config: EfficientNetConfig) -> Iterator[Entry]:
    yield from _torch_conv("featurizer/stem", "_conv_stem")
    yield from _torch_norm("featurizer/stem_norm", "_bn0")
    names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    for number, (_, shape) in enumerate(config.blocks()):
        place, source = f"featurizer/blocks/{number}", f"_blocks.{number}"
        for layer, (conv, norm) in enumerate(names[shape.expansion == 1 :]):
            yield from _torch_conv(f"{place}/convolutions/{layer}", f"{source}.{conv}")
            yield from _torch_norm(f"{place}/norms/{layer}", f"{source}.{norm}")
    yield from _torch_conv("featurizer/head", "_conv_head")
    yield from _torch_norm("featurizer/head_norm", "_bn1")
    yield from _torch_dense("classifier", "_fc")


def _timm_efficientnet(config: EfficientNetConfig) -> Iterator[Entry]:
    """Those called `tf_efficientnet_lite0`: the others of this shape pad their images differently."""
    yield from _torch_conv("featurizer/stem", "conv_stem")
    yield from _torch_norm("featurizer/stem_norm", "bn1")
    number = 0
    for stage, shape in enumerate(config.stages):
        names = ("conv_pw", "conv_dw", "conv_pwl") if shape.expansion > 1 else ("conv_dw", "conv_pw")
        for block in range(shape.blocks):
            place, source = f"featurizer/blocks/{number}", f"blocks.{stage}.{block}"
            for layer, conv in enumerate(names):
                yield from _torch_conv(f"{place}/convolutions/{layer}", f"{source}.{conv}")
                yield from _torch_norm(f"{place}/norms/{layer}", f"{source}.bn{layer + 1}")
            number += 1
    yield from _torch_conv("featurizer/head", "conv_head")
    yield from _torch_norm("featurizer/head_norm", "bn2")
    yield from _torch_dense("classifier", "classifier")


def _keras_probabilities(config: ResNetConfig) -> Iterator[Entry]:
    """The file of 2019 has another name for the last layer than the network."""
    return _keras_resnet(config, "probs")


_KERAS = {"first_stride": True, "epsilon": KERAS_EPSILON}
LAYOUTS: dict[type, tuple[Layout, ...]] = {
    ResNetConfig: (
        Layout("torchvision", _torch_resnet, IMAGENET),
        Layout("Keras", _keras_resnet, CAFFE, _KERAS),
        Layout("Keras", _keras_probabilities, CAFFE, _KERAS),
    ),
    VGGConfig: (
        Layout("torchvision", _torchvision_vgg, IMAGENET),
        Layout("timm", _timm_vgg, IMAGENET),
    ),
    EfficientNetConfig: (
        Layout("EfficientNet-PyTorch", _efficientnet_pytorch, CENTRED),
        Layout("timm", _timm_efficientnet, HALVED),
    ),
}
"""By the family of the network."""


def layout_of(names: Mapping[str, Any], config: ImageConfig) -> Layout:
    """The layout of which a file has the most names."""

    def known(layout: Layout) -> int:
        return sum(name in names for entry in layout.entries(config) for name in entry.sources)

    return max(LAYOUTS[type(config)], key=known)
