"""Jets to classes by their images: candidates in, drawn inside the program.

They are looked at patch by patch, or by a network that was trained on photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flax import nnx
from jaxtyping import Array, Float32

from recon.nn.patch_network import PatchClassifier, PatchFeaturizer, PatchNetworkConfig
from recon.tagging.backbone_network import BackboneConfig, MergedFeaturizer, Scale
from recon.tagging.jet_images import JetImageConfig, jet_images
from recon.tagging.labels import LABELS
from recon.tagging.pixel_maps import MERGED_PIXELS
from recon.types import Jets


@dataclass(frozen=True, kw_only=True)
class JetImageNetworkConfig:
    """Shape of a network.

    Attributes:
        pixels: of the image; see `JetImageConfig`.
        half_width: of the image.
        align: of the image.
        channels: see `PatchNetworkConfig`, as all that follow.
        blocks: residual blocks.
        fused: channels of the last image.
        classes: outputs.
        hidden: of the classifier.
        gain: of pixels.
        cells: that hold something.
        spread: of their number.
        dropout: in training.
    """

    pixels: int = 80
    half_width: float = 1.0
    align: bool = True
    channels: tuple[int, ...] = (48, 64, 96)
    blocks: tuple[int, ...] = (1, 1, 1)
    fused: int = 96
    classes: int = len(LABELS)
    hidden: int = 128
    gain: float = 300.0
    cells: tuple[int, ...] = (44, 26, 14)
    spread: float = 2.0
    dropout: float = 0.1

    @cached_property
    def image(self) -> JetImageConfig:
        """How jets are drawn."""
        return JetImageConfig(pixels=self.pixels, half_width=self.half_width, align=self.align, channels=1)

    @cached_property
    def network(self) -> PatchNetworkConfig:
        """What looks at the image."""
        return PatchNetworkConfig(
            image=(self.pixels, self.pixels),
            views=1,
            channels=self.channels,
            blocks=self.blocks,
            fused=self.fused,
            classes=self.classes,
            hidden=self.hidden,
            gain=self.gain,
            cells=self.cells,
            spread=self.spread,
            dropout=self.dropout,
        )


@dataclass(frozen=True, kw_only=True)
class JetBackboneConfig:
    """Shape of a network with a featurizer of others.

    Attributes:
        backbone: see `BackboneConfig`, as all that is not the image's.
        weights: file of its weights.
        scale: see there.
        pixels: of every side of the image; scaled bilinearly to what the network was trained with.
        half_width: of the image.
        align: of the image.
        gain: of pixels.
        classes: outputs.
        hidden: of the classifier.
        dropout: in training.
    """

    backbone: str
    weights: str = ""
    scale: Scale | None = None
    pixels: int = MERGED_PIXELS
    half_width: float = 1.0
    align: bool = True
    gain: float = 300.0
    classes: int = len(LABELS)
    hidden: int = 256
    dropout: float = 0.2

    @cached_property
    def image(self) -> JetImageConfig:
        """How jets are drawn."""
        return JetImageConfig(pixels=self.pixels, half_width=self.half_width, align=self.align, channels=1)

    @cached_property
    def network(self) -> BackboneConfig:
        """What looks at the image."""
        return BackboneConfig(
            backbone=self.backbone,
            weights=self.weights,
            scale=self.scale,
            image=(self.pixels, self.pixels),
            views=1,
            gain=self.gain,
            classes=self.classes,
            hidden=self.hidden,
            dropout=self.dropout,
        )


class JetImageNetwork(nnx.Module):
    """Image, featurizer, classifier.

    Args:
        config: shape of the network; says whose featurizer it is.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(
        self, config: JetImageNetworkConfig | JetBackboneConfig | None = None, *, rngs: nnx.Rngs
    ) -> None:
        self.config = config or JetImageNetworkConfig()
        shape = self.config.network
        self.featurizer: Any = (
            MergedFeaturizer(shape)
            if isinstance(shape, BackboneConfig)
            else PatchFeaturizer(shape, rngs=rngs)
        )
        self.classifier = PatchClassifier(shape, rngs=rngs)

    def __call__(self, jets: Jets) -> Float32[Array, "j k"]:
        """Logits; candidates as `recon.tagging.jet_images.IMAGE_INPUTS` gives them, in any order."""
        images = jet_images(jets.candidates[..., :3], jets.candidate_valid, self.config.image)
        logits: Array = self.classifier(self.featurizer(images.pixels))
        return logits
