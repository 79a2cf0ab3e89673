"""Jets as images: the transverse momentum around the axis of a jet, in pixels of eta and phi, made inside a program.

Of the 50,176 pixels of a jet 65 are not zero: candidates are what is kept on disk and in memory, images are made of
them on the way into the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32

from recon.errors import ConfigError
from recon.features import Feature, FeatureTable
from recon.tagging.inputs import JetInputs

NOTHING = -99.0
"""Logarithm of the share of a candidate without transverse momentum."""
FAR = 99.0
"""Distance from the axis that stands in for one that is no number: such a candidate is outside, and counted there."""

IMAGE_INPUTS = JetInputs(
    candidates=FeatureTable(
        features=(
            Feature(column="part_deta", replace=FAR),
            Feature(column="part_dphi", replace=FAR),
            Feature(column="part_logptrel", replace=NOTHING),
        )
    ),
    n_candidates=128,
)
"""What an image is made of, as `recon.tagging.features.make_jets` computes it: leading candidates, kept by pT."""


REFERENCE_PT = 500.0
"""GeV; what absolute images are in units of."""

ABSOLUTE_INPUTS = JetInputs(
    candidates=FeatureTable(
        features=(
            *IMAGE_INPUTS.candidates.features[:2],
            Feature(column="part_pt_log", mean=math.log(REFERENCE_PT), replace=NOTHING),
        )
    ),
    n_candidates=IMAGE_INPUTS.n_candidates,
)
"""The same with pT of candidate / 500 GeV in place of the share: such an image knows the scale, hence the mass, of its
jet."""


@dataclass(frozen=True, kw_only=True)
class JetImageConfig:
    """How jets become images.

    Attributes:
        pixels: of every side.
        half_width: of the window around the axis of the jet, in eta and in phi.
        align: rotate and flip every jet, see `aligned`.
        channels: equal copies of the image, which networks for photographs want three of.
    """

    pixels: int = 224
    half_width: float = 1.0
    align: bool = False
    channels: int = 3

    def __post_init__(self) -> None:
        if self.pixels < 1 or self.channels < 1 or not self.half_width > 0:
            raise ConfigError(f"{self}: pixels and channels must be 1 or more, half_width above 0")


class JetImages(NamedTuple):
    """Images of jets, and what is not on them.

    Attributes:
        pixels: sum of pT of candidate / pT of jet (or 500 GeV) in every pixel; rows by rising eta, columns by rising
            phi.
        outside: the same sum over the candidates outside the window.
    """

    pixels: Float32[Array, "j n n k"]
    outside: Float32[Array, " j"]


def jet_images(
    candidates: Float32[Array, "j c 3"], valid: Bool[Array, "j c"], config: JetImageConfig
) -> JetImages:
    """Draw jets.

    Args:
        candidates: distance from the axis in eta and in phi (rad), logarithm of pT of candidate / pT of jet; as
            `IMAGE_INPUTS` or `ABSOLUTE_INPUTS` gives them.
        valid: false for padding.
        config: size of the image.

    Source:
        The images of the SONIC study (arXiv:1904.08986): 224 pixels a side, +-1 in eta and phi, three equal channels.
    """
    share = jnp.where(valid, jnp.exp(candidates[..., 2]), 0)
    place = candidates[..., :2]
    if config.align:
        place = aligned(place, share)
    pixel = jnp.floor((place + config.half_width) * (config.pixels / (2 * config.half_width)))
    inside = ((pixel >= 0) & (pixel < config.pixels)).all(-1)
    row, column = (jnp.where(inside, pixel[..., axis], 0).astype(jnp.int32) for axis in (0, 1))
    jet = jnp.arange(len(share), dtype=jnp.int32)[:, None]
    image = jnp.zeros((len(share), config.pixels, config.pixels), jnp.float32)
    image = image.at[jet, row, column].add(jnp.where(inside, share, 0))
    outside = jnp.where(inside, 0, share).sum(-1)
    shape = (*image.shape, config.channels)
    return JetImages(jnp.broadcast_to(image[..., None], shape), outside)


def aligned(place: Float32[Array, "j c 2"], share: Float32[Array, "j c"]) -> Float32[Array, "j c 2"]:
    """Turn every jet so that its principal axis runs along phi, and flip it so that the upper right is the heavier.

    The principal axis is that of the second moments about the axis of the jet, weighted with pT, with distances in eta
    and phi taken as those in a plane. After the rotation the sides of positive phi and of positive eta have no less
    pT than those across.

    Args:
        place: distance from the axis in eta and phi.
        share: weights, 0 for padding.
    """
    # What is far away, or no number, must not turn the jet.
    near = jnp.where((jnp.abs(place) < FAR).all(-1), share, 0)
    eta, phi = place[..., 0], place[..., 1]
    eta_eta, phi_phi, eta_phi = ((near * a * b).sum(-1) for a, b in ((eta, eta), (phi, phi), (eta, phi)))
    turn = jnp.pi / 2 - jnp.arctan2(2 * eta_phi, eta_eta - phi_phi) / 2
    sine, cosine = jnp.sin(turn)[:, None], jnp.cos(turn)[:, None]
    turned = jnp.stack([cosine * eta - sine * phi, sine * eta + cosine * phi], -1)
    heavier = (near[..., None] * jnp.sign(turned)).sum(-2, keepdims=True)
    return jnp.where(heavier < 0, -turned, turned)


def turned(
    place: Float32[Array, "j c 2"], angle: Float32[Array, " j"], mirrored: Bool[Array, " j"]
) -> Float32[Array, "j c 2"]:
    """Turn jets about their axes and mirror some: the physics does not change, so training may.

    Args:
        place: distance from the axis in eta and phi.
        angle: rad, counted from eta to phi.
        mirrored: change the sign of eta before.
    """
    eta = jnp.where(mirrored[:, None], -place[..., 0], place[..., 0])
    phi = place[..., 1]
    sine, cosine = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    return jnp.stack([cosine * eta - sine * phi, sine * eta + cosine * phi], -1)


@partial(jax.jit, static_argnames="config")
def draw_jets(
    candidates: Float32[Array, "j c 3"], valid: Bool[Array, "j c"], config: JetImageConfig
) -> Float32[Array, "j n n k"]:
    """The images of jets alone, by a compiled program; see `jet_images`."""
    return jet_images(candidates, valid, config).pixels


def average_image(
    candidates: Float32[Array, "j c 3"], valid: Bool[Array, "j c"], config: JetImageConfig
) -> Float32[Array, "n n"]:
    """Mean of the images of some jets, one channel of it."""
    return draw_jets(candidates, valid, config)[..., 0].mean(0)
