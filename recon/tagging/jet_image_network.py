"""Jets to classes by their images: candidates in, drawn inside the program, looked at patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from flax import nnx
from jaxtyping import Array, Float32

from recon.nn.patch_network import PatchClassifier, PatchFeaturizer, PatchNetworkConfig
from recon.tagging.jet_images import JetImageConfig, jet_images
from recon.tagging.labels import LABELS
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


class JetImageNetwork(nnx.Module):
    """Image, featurizer, classifier.

    Args:
        config: shape of the network.
        rngs: where the initial weights and the dropout come from.
    """

    def __init__(self, config: JetImageNetworkConfig | None = None, *, rngs: nnx.Rngs) -> None:
        self.config = config or JetImageNetworkConfig()
        self.featurizer = PatchFeaturizer(self.config.network, rngs=rngs)
        self.classifier = PatchClassifier(self.config.network, rngs=rngs)

    def __call__(self, jets: Jets) -> Float32[Array, "j k"]:
        """Logits; candidates as `recon.tagging.jet_images.IMAGE_INPUTS` gives them, in any order."""
        images = jet_images(jets.candidates[..., :3], jets.candidate_valid, self.config.image)
        logits: Array = self.classifier(self.featurizer(images.pixels))
        return logits
