"""Pixel maps as images for networks: both views as channels, or merged into one picture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from recon.errors import DataError
from recon.io.pixel_maps import CELLS, PLANES, pixel_maps, take_events
from recon.types import NeutrinoEvents, PixelMaps

MERGED_PIXELS = 224
"""Side of the merged picture, what networks for photographs are trained with."""


def two_views(maps: PixelMaps) -> Float32[np.ndarray, "b planes cells 2"]:
    """Both views of events as the channels of one image.

    Args:
        maps: host arrays.

    Raises:
        DataError: images of another size, channels in front, or pixels that are NaN or negative; names the view.
    """
    for name, view in (("xz", maps.xz), ("yz", maps.yz)):
        if view.shape[1:] != (PLANES, CELLS, 1):
            raise DataError(
                f"pixel maps: {name} has shape {view.shape}; (events, {PLANES} planes, {CELLS} cells, 1) is needed"
            )
        if not (view >= 0).all():
            event = int(np.argmax(~(view >= 0).all(axis=(1, 2, 3))))
            raise DataError(f"pixel maps: {name} of event {event} has pixels that are NaN or negative")
    return np.concatenate([maps.xz, maps.yz], axis=-1)


def reflected(events: NeutrinoEvents, rng: np.random.Generator, noise: float = 0.01) -> NeutrinoEvents:
    """Events as they could as well have been: left and right exchanged, charges with a little noise.

    Only the view from above is mirrored: cosmic rays come down, and the beam goes up by 58 mrad, against which the
    momentum that a neutrino carried away from a tau lepton shows.

    Args:
        events: host arrays.
        rng: decides which are mirrored.
        noise: standard deviation of the charge of a hit, relative.

    Source:
        D. Rocco, PhD thesis, University of Minnesota (2016): reflection in the cells (there of both views) and 1 % of
        noise.
    """
    flip = rng.random(len(events.label)) < 0.5
    row = np.repeat(np.arange(len(events.label)), np.diff(events.offsets))
    cell = np.where(flip[row] & (events.view == 0), CELLS - 1 - events.cell, events.cell)
    factor = np.maximum(1 + noise * rng.standard_normal(len(row)), 0.5)
    return events._replace(
        cell=cell.astype(events.cell.dtype), charge=(events.charge * factor).astype(np.float32)
    )


def exchanged(images: Float32[np.ndarray, "b planes cells 2"]) -> Float32[np.ndarray, "b planes cells 2"]:
    """Images with left and right exchanged: the view from above mirrored across the beam, see `reflected`."""
    return np.stack([images[:, :, ::-1, 0], images[..., 1]], axis=-1)


def images_of(events: NeutrinoEvents, rows: np.ndarray) -> Float32[np.ndarray, "b planes cells 2"]:
    """Both views of some of the events."""
    return two_views(pixel_maps(take_events(events, rows)))


def merged_images(
    images: Float32[Array, "b planes cells v"], pixels: int = MERGED_PIXELS
) -> Float32[Array, "b n n 3"]:
    """All views in one square picture with three equal channels; can be compiled.

    xz is above yz, the beam runs from left to right; scaled bilinearly.

    Args:
        images: of `two_views`, or others with their views as channels.
        pixels: of every side of the picture.
    """
    above = jnp.concatenate(list(jnp.moveaxis(images, -1, 0)), axis=2).transpose(0, 2, 1)
    scaled = jax.image.resize(above, (len(images), pixels, pixels), "bilinear")
    return jnp.broadcast_to(scaled[..., None], (*scaled.shape, 3))
