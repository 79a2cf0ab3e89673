"""Parameters of CLUE on layer clusters tuned by gradient, through `soft_clue`.

What is maximised is the probability of the right decision for every layer cluster, weighted with its energy: to
follow one of the same particle; to be the seed if none of its particle is hotter; or, for one that no particle of
account made, anything but following such a particle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Float32, Int32

from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, chosen_rows, project
from recon.hgcal_clustering.condensation import TARGET_ENERGY_MIN
from recon.hgcal_clustering.soft import neighbour_table, soft_clue
from recon.hgcal_clustering.training_data import TrainingEvent, sides
from recon.types import NOISE, Array

PARAMETERS = ("d_c", "rho_c", "outlier_delta_factor", "layer_step")
"""What is tuned; all are above 0 and move on a logarithmic scale."""
TEMPERATURE = 0.15
_TABLE_RADIUS = 70.0
_TABLE_STEP = 1.5
_WINDOW = 130.0
_LEAST = 1e-6


class TuningWindow(NamedTuple):
    """Layer clusters around one particle, padded.

    Attributes:
        xy: projected, mm.
        layer: number.
        energy: GeV; 0 for padding.
        particle: that made most of it, if it is of account; else -1.
        hottest: true for the layer cluster with most energy of its particle.
        neighbours: of `neighbour_table`.
    """

    xy: Float32[Array, "n 2"]
    layer: Int32[Array, " n"]
    energy: Float32[Array, " n"]
    particle: Int32[Array, " n"]
    hottest: Bool[Array, " n"]
    neighbours: Int32[Array, "n k"]


class TunedClue(nnx.Module):
    """The parameters as something that can be trained."""

    def __init__(self, config: ClusterClueConfig) -> None:
        start = [np.log(getattr(config, name)) for name in PARAMETERS]
        self.logarithm = nnx.Param(jnp.asarray(start, jnp.float32))

    def values(self) -> dict[str, Array]:
        """The parameters by name; the outlier factor is at least 1."""
        value = jnp.exp(self.logarithm[...])
        named = dict(zip(PARAMETERS, value, strict=True))
        return named | {"outlier_delta_factor": jnp.maximum(named["outlier_delta_factor"], 1.0)}


def tuning_loss(
    module: TunedClue, window: TuningWindow, rng: jax.Array
) -> tuple[Float[Array, ""], Mapping[str, Array]]:
    """Minus the logarithm of the probability of the right decision, energy-weighted mean."""
    del rng
    value = module.values()
    points = jnp.concatenate(
        [window.xy, (window.layer * value["layer_step"]).astype(jnp.float32)[:, None]], 1
    )
    soft = soft_clue(
        points,
        window.energy,
        window.neighbours,
        d_c=value["d_c"],
        rho_c=value["rho_c"],
        outlier_delta_factor=value["outlier_delta_factor"],
        temperature=TEMPERATURE,
    )
    other = jnp.where(window.neighbours >= 0, window.particle[jnp.maximum(window.neighbours, 0)], NOISE)
    same = (soft.follow * (other == window.particle[:, None])).sum(1)
    of_particle = same + jnp.where(window.hottest, soft.seed, 0)
    right = jnp.where(window.particle >= 0, of_particle, same + soft.seed + soft.outlier)
    total = jnp.maximum(window.energy.sum(), _LEAST)
    loss = -(jnp.log(jnp.maximum(right, _LEAST)) * window.energy).sum() / total
    return loss, value


def tuning_windows(
    event: TrainingEvent, config: ClusterClueConfig, *, energy_min: float, size: int, slots: int
) -> list[TuningWindow]:
    """Windows around the particles above an energy; what does not fit, the softest first, is left out.

    Args:
        event: with truth.
        config: plane and least energy of a layer cluster.
        energy_min: of the particles, GeV.
        size: layer clusters of a window.
        slots: neighbours of a layer cluster; the nearest stay.
    """
    windows = []
    for clusters in sides(event.clusters):
        rows = chosen_rows(clusters, config.energy_min)
        xy = project(clusters.position[rows], clusters.layer[rows], config.plane, 1.0)[:, :2]
        owner, given = _owners(event, len(clusters.valid))
        owner, given = owner[rows], given[rows]
        for particle in np.flatnonzero(event.energy >= energy_min):
            own = owner == particle
            if own.sum() < 2:
                continue
            centre = np.average(xy[own], axis=0, weights=given[own])
            near = np.flatnonzero(np.hypot(*(xy - centre).T) < _WINDOW)
            near = near[np.argsort(-clusters.energy[rows[near]], kind="stable")][:size]
            one = rows[near]
            windows.append(
                _window(xy[near], clusters.layer[one], clusters.energy[one], owner[near], size, slots)
            )
    return windows


def _window(
    xy: np.ndarray, layer: np.ndarray, energy: np.ndarray, owner: np.ndarray, size: int, slots: int
) -> TuningWindow:
    n = len(energy)
    points = np.concatenate([xy, layer[:, None] * _TABLE_STEP], 1).astype(np.float32)
    table = neighbour_table(points, _TABLE_RADIUS)
    apart = np.linalg.norm(points[:, None] - points[np.maximum(table, 0)], axis=2)
    order = np.argsort(np.where(table >= 0, apart, np.inf), 1, kind="stable")[:, :slots]
    nearest = np.take_along_axis(table, order, 1)
    neighbours = np.full((size, slots), -1, np.int32)
    neighbours[:n, : nearest.shape[1]] = nearest
    hottest = np.zeros(n, bool)
    # Sorted by energy: the first of a particle is its hottest.
    hottest[np.unique(owner, return_index=True)[1]] = True
    spare = size - n
    return TuningWindow(
        np.pad(xy, ((0, spare), (0, 0))),
        np.pad(layer, (0, spare)).astype(np.int32),
        np.pad(energy, (0, spare)).astype(np.float32),
        np.pad(owner, (0, spare), constant_values=NOISE).astype(np.int32),
        np.pad(hottest & (owner >= 0), (0, spare)),
        neighbours,
    )


def _owners(event: TrainingEvent, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Particle of account that made most of every layer cluster (-1 for none), and what it gave."""
    shares = event.shares
    order = np.argsort(shares.energy, kind="stable")
    owner, given = np.full(n, NOISE), np.zeros(n)
    owner[shares.cluster[order]] = shares.particle[order]
    given[shares.cluster[order]] = shares.energy[order]
    hard = (owner >= 0) & (np.append(event.energy, 0)[owner] >= TARGET_ENERGY_MIN)
    return np.where(hard, owner, NOISE), given


def tuned_config(module: TunedClue, config: ClusterClueConfig) -> ClusterClueConfig:
    """The settings with the tuned parameters, rounded to three digits."""
    values = {name: float(f"{float(value):.3g}") for name, value in module.values().items()}
    return ClusterClueConfig(plane=config.plane, energy_min=config.energy_min, **values)
