"""A residual network for images that are almost empty, in two parts: featurizer and classifier.

Patches of the image become the cells of a sparse image (`recon.nn.active_cells`); residual blocks work on three
scales, a patch, 2 x 2 and 4 x 4 of them. Only there the views of an event meet: as channels of one small dense image,
or, where a network has attention, because every cell sees all cells of both (`recon.nn.cell_attention`).
Cost goes with what is in the image: of the thousand patches of a pair of maps of 100 x 80 pixels sixty hold anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.nn.active_cells import (
    CHILDREN,
    TAPS,
    ActiveCells,
    active_cells,
    coarser,
    dense_cells,
    gather_children,
    gather_neighbors,
    merging,
    with_zero_row,
)
from recon.nn.cell_attention import CellMeeting

MOMENTUM = 0.98
"""Of the running statistics of batch normalisation: neighbouring batches differ much in how full they are."""
DEVIATIONS = 6.0
"""Of the number of cells of a batch from its mean that its capacity holds."""


@dataclass(frozen=True, kw_only=True)
class PatchNetworkConfig:
    """Shape of a network.

    Attributes:
        image: rows and columns of the image, pixels; multiples of `patch`.
        views: images of one event that are seen together, the channels of the input.
        patch: side of a patch, pixels.
        channels: on every scale.
        blocks: residual blocks on every scale.
        stem: hidden channels between the pixels of a patch and the first scale; 0 for a linear map.
        attention: blocks of attention on the last scale, among the cells of all views; 0 lets the views meet in a
            dense image of `fused` channels instead.
        heads: of the attention.
        fused: channels where the views meet, without attention.
        classes: outputs of the classifier.
        hidden: of the classifier.
        gain: pixels enter as log(1 + gain * pixel) / 3.
        cells: that hold something, of all views of an event, on every scale; the mean.
        spread: a batch of b events has room for cells * (b + spread * sqrt(b)) on every scale. One with more is refused
            in training (its loss is NaN), and computed with all cells otherwise. See `with_measured_cells`.
        dropout: in front of the last layer, in training.
    """

    image: tuple[int, int] = (100, 80)
    views: int = 2
    patch: int = 4
    channels: tuple[int, ...] = (48, 64, 96)
    blocks: tuple[int, ...] = (1, 1, 1)
    stem: int = 0
    attention: int = 0
    heads: int = 2
    fused: int = 96
    classes: int = 5
    hidden: int = 128
    gain: float = 1.0
    cells: tuple[int, ...] = (62, 31, 14)
    spread: float = 4.5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if any(side < 1 or side % self.patch for side in self.image):
            raise ConfigError(f"PatchNetworkConfig.image is {self.image}; allowed: multiples of {self.patch}")
        if not len(self.channels) == len(self.blocks) == len(self.cells) or not self.channels:
            raise ConfigError(
                f"PatchNetworkConfig: channels {self.channels}, blocks {self.blocks}, cells {self.cells}; one of each "
                "a scale"
            )
        if min(*self.channels, *self.cells, self.views, self.fused, self.classes, self.hidden) < 1:
            raise ConfigError(f"{self}: every size must be 1 or more")
        if min(self.stem, self.attention) < 0:
            raise ConfigError(
                f"PatchNetworkConfig: stem {self.stem}, attention {self.attention}; allowed: 0 or more"
            )
        if not self.gain > 0 or not 0 <= self.dropout < 1 or not self.spread >= 0:
            raise ConfigError(
                f"PatchNetworkConfig: gain {self.gain}, dropout {self.dropout}, spread {self.spread}; allowed: above "
                "0, from 0 to below 1, 0 or more"
            )

    def capacity(self, events: int) -> tuple[int, ...]:
        """Cells that a batch of so many events has room for, on every scale."""
        return tuple(math.ceil(cells * (events + self.spread * math.sqrt(events))) for cells in self.cells)

    @property
    def features(self) -> int:
        """Length of the feature vector: means and maxima of the last cells, sums and counts of every view."""
        return 2 * (self.channels[-1] if self.attention else self.fused) + 2 * self.views

    @property
    def places(self) -> int:
        """Cells of the last scale of all views, empty ones too."""
        scale = 2 ** (len(self.channels) - 1)
        return self.views * math.prod(-(-(side // self.patch) // scale) for side in self.image)


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs, *, bias: bool = True) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=nnx.initializers.he_normal(), rngs=rngs)


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, momentum=MOMENTUM, epsilon=1e-5, rngs=rngs)


class SparseConvolution(nnx.Module):
    """3 x 3, on active cells."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.matrix = _linear(TAPS * inputs, outputs, rngs)

    def __call__(self, features: Float32[Array, "t c"], active: ActiveCells) -> Float32[Array, "t k"]:
        """Features in, features out."""
        result: Array = self.matrix(gather_neighbors(features, active.neighbors))
        return result


class Activation(nnx.Module):
    """Batch normalisation over the active cells of the batch, then ReLU."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        self.norm = _norm(channels, rngs)

    def __call__(self, features: Float32[Array, "t c"], active: ActiveCells) -> Float32[Array, "t c"]:
        """Features in, features out; padding has no say in the statistics."""
        # Of no cells at all there is no mean: a batch of empty images is normalised by its padding, which is finite.
        counted = active.valid | ~active.valid.any()
        return jax.nn.relu(self.norm(features, mask=counted[:, None]))


class SparseBlock(nnx.Module):
    """Two convolutions with a way around them (He et al., arXiv:1603.05027, pre-activation)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        self.activations = nnx.List([Activation(channels, rngs=rngs) for _ in range(2)])
        self.convolutions = nnx.List([SparseConvolution(channels, channels, rngs=rngs) for _ in range(2)])

    def __call__(self, features: Float32[Array, "t c"], active: ActiveCells) -> Float32[Array, "t c"]:
        """Features in, features out."""
        inner = features
        for activation, convolution in zip(self.activations, self.convolutions, strict=True):
            inner = convolution(activation(inner, active), active)
        return features + inner


class PatchFeaturizer(nnx.Module):
    """Images to features."""

    def __init__(self, config: PatchNetworkConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        channels = config.channels
        # Pixels, which of them hold anything, and where the patch is.
        inputs = 2 * config.patch**2 + 2
        if config.stem:
            self.pixels = _linear(inputs, config.stem, rngs)
        self.stem = _linear(config.stem or inputs, channels[0], rngs)
        self.scales = nnx.List(
            [
                nnx.List([SparseBlock(width, rngs=rngs) for _ in range(count)])
                for width, count in zip(channels, config.blocks, strict=True)
            ]
        )
        self.activations = nnx.List([Activation(width, rngs=rngs) for width in channels])
        self.merges = nnx.List([_linear(CHILDREN * a, b, rngs) for a, b in pairwise(channels)])
        if config.attention:
            self.meeting = CellMeeting(
                channels[-1], config.places, config.attention, config.heads, config.views, rngs=rngs
            )
        else:
            self.mixing = _linear(config.views * channels[-1], config.fused, rngs)
            self.last = nnx.Conv(
                config.fused, config.fused, (3, 3), kernel_init=nnx.initializers.he_normal(), rngs=rngs
            )

    def __call__(self, images: Float32[Array, "b h w v"]) -> Float32[Array, "b f"]:
        """Features of images, whose pixels must not be negative.

        Raises:
            ConfigError: images of another size or number of views.
        """
        config = self.config
        if images.shape[1:] != (*config.image, config.views):
            raise ConfigError(
                f"images have shape {images.shape}; (batch, rows, columns, views) = (b, {config.image[0]}, "
                f"{config.image[1]}, {config.views}) is needed"
            )
        patches = patches_of(images, config.patch)
        occupied = [(patches > 0).any(-1)]
        for _ in config.channels[1:]:
            occupied.append(coarser(occupied[-1]))
        full = [int(cells.size) for cells in occupied]
        few = [min(room, size) for room, size in zip(config.capacity(len(images)), full, strict=True)]
        fits = jnp.stack([cells.sum() <= size for cells, size in zip(occupied, few, strict=True)]).all()
        if not self.activations[0].norm.use_running_average:
            features = self._features(images, patches, occupied, few)
            # Rows were lost: better no update than one that nobody can explain.
            return jnp.where(fits, features, jnp.nan)
        if few == full:
            return self._features(images, patches, occupied, full)
        return jax.lax.cond(
            fits,
            lambda: self._features(images, patches, occupied, few),
            lambda: self._features(images, patches, occupied, full),
        )

    def _features(self, images: Array, patches: Array, occupied: list[Array], capacities: list[int]) -> Array:
        active = active_cells(occupied[0], capacities[0])
        inputs = self._inputs(patches, active)
        if self.config.stem:
            inputs = jax.nn.relu(self.pixels(inputs))
        features = self.stem(inputs)
        for scale, blocks in enumerate(self.scales):
            for block in blocks:
                features = block(features, active)
            features = self.activations[scale](features, active)
            if scale + 1 < len(self.scales):
                above = active_cells(occupied[scale + 1], capacities[scale + 1])
                features = self.merges[scale](gather_children(features, merging(active, above)))
                active = above
        met = self.meeting(features, active) if self.config.attention else self._fuse(features, active)
        return jnp.concatenate([met, self._sums(images)], -1)

    def _inputs(self, patches: Array, active: ActiveCells) -> Array:
        """What a cell begins with."""
        config = self.config
        _, h, w = active.grid
        pixels = with_zero_row(patches.reshape(-1, patches.shape[-1]))[active.cell]
        place = active.cell % (h * w)
        where = jnp.stack([place // w / h - 0.5, place % w / w - 0.5], -1)
        values = jnp.log1p(config.gain * pixels) / 3
        return jnp.concatenate([values, (pixels > 0).astype(values.dtype), where.astype(values.dtype)], -1)

    def _fuse(self, features: Array, active: ActiveCells) -> Array:
        """The views meet as channels of one image; its means and maxima."""
        config = self.config
        _, h, w = active.grid
        together = dense_cells(features, active).reshape(-1, config.views, h, w, features.shape[1])
        channels = together.transpose(0, 2, 3, 1, 4).reshape(-1, h, w, config.views * features.shape[1])
        mixed = jax.nn.relu(self.mixing(channels))
        mixed = mixed + jax.nn.relu(self.last(mixed))
        return jnp.concatenate([mixed.mean((1, 2)), mixed.max((1, 2))], -1)

    def _sums(self, images: Array) -> Array:
        """What every view holds in all, and in how many pixels."""
        total = jnp.log1p(self.config.gain * images.sum((1, 2))) / 8
        count = jnp.log1p((images > 0).sum((1, 2)).astype(total.dtype)) / 5
        return jnp.concatenate([total, count], -1)


def patches_of(images: Float32[Array, "b h w v"], patch: int) -> Float32[Array, "n H W p"]:
    """Images cut into patches; the views of an image follow each other."""
    b, h, w, v = images.shape
    cut = images.reshape(b, h // patch, patch, w // patch, patch, v).transpose(0, 5, 1, 3, 2, 4)
    return cut.reshape(b * v, h // patch, w // patch, patch * patch)


def with_measured_cells(
    config: PatchNetworkConfig, images: Float32[np.ndarray, "b h w v"]
) -> PatchNetworkConfig:
    """The configuration with the capacity that such images need.

    Args:
        config: of the network.
        images: a sample of what it will be trained on.
    """
    b, h, w, v = images.shape
    p = config.patch
    occupied = (images.reshape(b, h // p, p, w // p, p, v) > 0).any((2, 4))
    cells, spread = [], 0.0
    for _ in config.channels:
        count = occupied.sum((1, 2, 3))
        mean = max(float(count.mean()), 1.0)
        cells.append(math.ceil(mean))
        spread = max(spread, DEVIATIONS * float(count.std()) / mean)
        rows, columns = occupied.shape[1:3]
        even = np.pad(occupied, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
        occupied = even.reshape(b, (rows + 1) // 2, 2, (columns + 1) // 2, 2, v).any((2, 4))
    return replace(config, cells=tuple(cells), spread=round(spread, 2))


@runtime_checkable
class ClassifierShape(Protocol):
    """What a classifier wants to know of a configuration: numbers of features, of hidden ones, of classes, dropout."""

    @property
    def features(self) -> int: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102
    @property
    def dropout(self) -> float: ...  # noqa: D102


class PatchClassifier(nnx.Module):
    """Features to logits; sums and counts differ by little, so that all features are brought to one width first."""

    def __init__(self, config: ClassifierShape, *, rngs: nnx.Rngs) -> None:
        self.norm = _norm(config.features, rngs)
        self.hidden = _linear(config.features, config.hidden, rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)
        self.output = nnx.Linear(config.hidden, config.classes, rngs=rngs)

    def __call__(self, features: Float32[Array, "b f"]) -> Float32[Array, "b k"]:
        """Logits of the classes."""
        hidden = jax.nn.relu(self.hidden(self.norm(features)))
        logits: Array = self.output(self.dropout(hidden))
        return logits


class PatchNetwork(nnx.Module):
    """Featurizer and classifier."""

    def __init__(self, config: PatchNetworkConfig | None = None, *, rngs: nnx.Rngs) -> None:
        self.config = config or PatchNetworkConfig()
        self.featurizer = PatchFeaturizer(self.config, rngs=rngs)
        self.classifier = PatchClassifier(self.config, rngs=rngs)

    def __call__(self, images: Float32[Array, "b h w v"]) -> Float32[Array, "b k"]:
        """Logits of images."""
        logits: Array = self.classifier(self.featurizer(images))
        return logits
