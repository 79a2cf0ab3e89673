"""Settings of the track fit, and what it needs to know of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from recon.errors import ConfigError
from recon.tracking.detector import PassiveMaterial
from recon.tracking.supports import layer_supports
from recon.types import Detector


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of the track fit.

    Attributes:
        field: solenoidal field along +z, T.
        mass: of the particle hypothesis, GeV; the charged pion by default.
        iterations: linearisations, at least 1.
        min_hits: tracks with fewer hits are not converged; at least 3.
        sensor_share: part of `Detector.thickness` that is the sensor itself; the rest is the support that two
            overlapping sensors of one layer have in common.
        sensor_loss: mean energy loss in sensors, GeV per radiation length. 0 by default, as in the
            GenericDetector of ACTS, whose silicon has the density of a gas; 0.037 for real silicon.
        passive_loss: mean energy loss in passive cylinders, GeV per radiation length; beryllium by default.
        hit_chi2: compute `FitResult.hit_chi2` (about a fifth of the time).
        max_step: a track is converged when the last linearisation moved it by less than this many sigma.
    """

    field: float = 2.0
    mass: float = 0.13957039
    iterations: int = 3
    min_hits: int = 3
    sensor_share: float = 0.1
    sensor_loss: float = 0.0
    passive_loss: float = 0.104
    hit_chi2: bool = True
    max_step: float = 0.5

    def __post_init__(self) -> None:
        if self.field == 0:
            raise ConfigError(
                "FitConfig.field is 0 T: the momentum cannot be fitted; give the field along +z"
            )
        if self.iterations < 1 or self.min_hits < 3:
            raise ConfigError(
                f"FitConfig.iterations={self.iterations} and min_hits={self.min_hits}: "
                "at least 1 and 3 are needed"
            )


class FitSurfaces(NamedTuple):
    """What the fit needs to know of a detector, on the device.

    Attributes:
        plane: for every sensor the axes u, v, w, the centre (mm), thickness, layer, and the support of the layer
            as in `Planes.support` (mm), one row each.
        barrel: cylinders that support barrel layers, see `missed_supports`.
        discs: discs that support endcap layers, see `missed_supports`.
        radius: of the passive cylinders in order of radius, the first (the beam pipe) inside all sensors, mm.
        thickness: of the passive cylinders, radiation lengths.
    """

    plane: Float32[Array, "m 17"]
    barrel: Float32[Array, "b 5"]
    discs: Float32[Array, "d 5"]
    radius: Float32[Array, " c"]
    thickness: Float32[Array, " c"]


def fit_surfaces(detector: Detector, passive: PassiveMaterial) -> FitSurfaces:
    """Prepare the detector tables for the fit.

    Args:
        detector: the sensors.
        passive: beam pipe and support tubes.

    Returns:
        Device arrays; make them once.
    """
    supports = layer_supports(detector)
    extent = np.stack([supports.level, supports.low, supports.high], axis=1)
    table = np.concatenate([supports.layer[:, None], extent, supports.thickness[:, None]], axis=1)
    table = table.astype(np.float32)
    columns = [detector.rotation.reshape(-1, 9), detector.center, detector.thickness[:, None]]
    columns += [detector.layer[:, None], extent[np.searchsorted(supports.layer, detector.layer)]]
    order = np.argsort(passive.radius)
    return FitSurfaces(
        plane=jnp.asarray(np.concatenate(columns, axis=1).astype(np.float32)),
        barrel=jnp.asarray(table[~supports.disc]),
        discs=jnp.asarray(table[supports.disc]),
        radius=jnp.asarray(passive.radius[order]),
        thickness=jnp.asarray(passive.thickness[order]),
    )
