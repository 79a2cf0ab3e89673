"""What an event display shows, free of any drawing library."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from recon.types import Detector


class TrackGroup(NamedTuple):
    """Tracks that are drawn alike and shown or hidden together.

    Attributes:
        name: for the legend.
        color: as "#rrggbb".
        dashed: for what is not reconstructed.
        curves: points along every track, mm.
        hits: positions of the hits on these tracks, mm.
        pt: GeV; NaN for unknown, as below.
        eta: pseudorapidity.
        n_hits: on the track.
        chi2: of the fit.
    """

    name: str
    color: str
    dashed: bool
    curves: Float32[np.ndarray, "t k 3"]
    hits: Float32[np.ndarray, "h 3"]
    pt: Float32[np.ndarray, " t"]
    eta: Float32[np.ndarray, " t"]
    n_hits: Int32[np.ndarray, " t"]
    chi2: Float32[np.ndarray, " t"]


class Outline(NamedTuple):
    """Layers of a detector as cylinders and discs around the z axis, mm.

    Attributes:
        cylinders: radius, lowest z, highest z.
        discs: z, inner radius, outer radius.
    """

    cylinders: Float32[np.ndarray, "c 3"]
    discs: Float32[np.ndarray, "d 3"]


class Scene(NamedTuple):
    """One event to draw.

    Attributes:
        title: says which event this is.
        hits: positions of all hits, mm.
        groups: tracks, drawn in this order.
        outline: of the detector; `None` to leave it out.
    """

    title: str
    hits: Float32[np.ndarray, "n 3"]
    groups: tuple[TrackGroup, ...]
    outline: Outline | None


def detector_outline(detector: Detector) -> Outline:
    """Reduce the sensors of a detector to one cylinder or disc a layer.

    Args:
        detector: the sensor table; a layer is a disc if its sensors face along z.
    """
    radius = np.hypot(detector.center[:, 0], detector.center[:, 1])
    z = detector.center[:, 2]
    half = detector.half_size[:, 2]
    cylinders: list[tuple[float, float, float]] = []
    discs: list[tuple[float, float, float]] = []
    for layer in np.unique(detector.layer):
        rows = detector.layer == layer
        faces_along_z = np.mean(np.abs(detector.rotation[rows, 2, 2])) > 0.5
        position, along = (z, radius) if faces_along_z else (radius, z)
        ends = (position[rows].mean(), (along - half)[rows].min(), (along + half)[rows].max())
        (discs if faces_along_z else cylinders).append(ends)
    return Outline(
        np.asarray(cylinders, np.float32).reshape(-1, 3), np.asarray(discs, np.float32).reshape(-1, 3)
    )
