"""Parameters of CLUE on layer clusters tuned by gradient, through `soft_clue`.

In a window around a particle, `soft_clue` says who follows whom with what probability. Followed up to the seed, that
gives every layer cluster a probability to end in the particle's shower, and so the energy expected in it. What is
maximised is the overlap of shower and particle,

    (1 + w) (energy of the particle in its shower) / (w energy of the particle + energy of the shower),

which a shower loses that is cut in two or swallows its neighbours. With w = 1 both count alike (the coefficient of
Dice); a particle that is cut in two is not found at all, so that here w = 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Float32, Int32

from recon.hgcal_clustering.clue_clusters import ClusterClueConfig, chosen_rows, project
from recon.hgcal_clustering.soft import neighbour_table, soft_clue
from recon.hgcal_clustering.training_data import TrainingEvent, sides
from recon.types import Array

PARAMETERS = ("d_c", "rho_c", "outlier_delta_factor", "layer_step")
"""What is tuned; all are above 0 and move on a logarithmic scale."""
TEMPERATURE = 0.03
"""A radius that is softer than this has many neighbours in its tail, which no seed survives."""
_TABLE_RADIUS = 70.0
_TABLE_STEP = 1.5
_WINDOW = 130.0
_LEAST = 1e-6
_NEVER = -1e4
_WHOLE = 4.0
_STEPS = 20
"""Of a way to a seed; it rarely takes more than ten."""


class TuningWindow(NamedTuple):
    """Layer clusters around one particle, padded.

    Attributes:
        xy: projected, mm.
        layer: number.
        energy: GeV; 0 for padding.
        own: what the particle gave, GeV.
        total: what it gave in all, GeV.
        neighbours: of `neighbour_table`.
    """

    xy: Float32[Array, "n 2"]
    layer: Int32[Array, " n"]
    energy: Float32[Array, " n"]
    own: Float32[Array, " n"]
    total: Float32[Array, ""]
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
    module: TunedClue, window: TuningWindow, rng: jax.Array, temperature: float = TEMPERATURE
) -> tuple[Float[Array, ""], Mapping[str, Array]]:
    """One minus the overlap of a particle and the shower that begins at its densest layer cluster."""
    del rng
    value = module.values()
    depth = (window.layer * value["layer_step"]).astype(jnp.float32)
    soft = soft_clue(
        jnp.concatenate([window.xy, depth[:, None]], 1),
        window.energy,
        window.neighbours,
        d_c=value["d_c"],
        rho_c=value["rho_c"],
        outlier_delta_factor=value["outlier_delta_factor"],
        temperature=temperature,
    )
    mostly = (window.own > 0.5 * window.energy) & (window.energy > 0)
    densest = jax.nn.softmax(jnp.where(mostly, soft.rho / (temperature * value["rho_c"]), _NEVER))
    ends = ends_at(densest * soft.seed * mostly.any(), soft.follow, window.neighbours)
    shared = (ends * window.own).sum()
    shower = (ends * window.energy).sum()
    overlap = (1 + _WHOLE) * shared / jnp.maximum(_WHOLE * window.total + shower, _LEAST)
    return 1 - overlap, value


def ends_at(
    start: Float[Array, " n"], follow: Float[Array, "n k"], neighbours: Int32[Array, "n k"]
) -> Float[Array, " n"]:
    """Probability that the way from a point ends at one of some points.

    Args:
        start: probability of every point to be such an end.
        follow: of `soft_clue`.
        neighbours: of the same table.
    """
    share = jnp.where(neighbours >= 0, follow, 0)
    row = jnp.maximum(neighbours, 0)

    def step(ends: Array, _: None) -> tuple[Array, None]:
        return start + (share * ends[row]).sum(1), None

    return jax.lax.scan(step, start, None, length=_STEPS)[0]


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
    shares = event.shares
    for clusters in sides(event.clusters):
        rows = chosen_rows(clusters, config.energy_min)
        xy = project(clusters.position[rows], clusters.layer[rows], config.plane, 1.0)[:, :2]
        for particle in np.flatnonzero(event.energy >= energy_min):
            own = np.zeros(len(clusters.valid))
            mine = shares.particle == particle
            own[shares.cluster[mine]] = shares.energy[mine]
            given = own[rows]
            if np.count_nonzero(given) < 2:
                continue
            centre = np.average(xy, axis=0, weights=given)
            near = np.flatnonzero(np.hypot(*(xy - centre).T) < _WINDOW)
            near = near[np.argsort(-clusters.energy[rows[near]], kind="stable")][:size]
            one = rows[near]
            columns = (xy[near], clusters.layer[one], clusters.energy[one], given[near])
            windows.append(_window(columns, given.sum(), size, slots))
    return windows


def _window(columns: tuple[np.ndarray, ...], total: float, size: int, slots: int) -> TuningWindow:
    xy, layer, energy, own = columns
    points = np.concatenate([xy, layer[:, None] * _TABLE_STEP], 1).astype(np.float32)
    table = neighbour_table(points, _TABLE_RADIUS)
    apart = np.linalg.norm(points[:, None] - points[np.maximum(table, 0)], axis=2)
    order = np.argsort(np.where(table >= 0, apart, np.inf), 1, kind="stable")[:, :slots]
    nearest = np.take_along_axis(table, order, 1)
    neighbours = np.full((size, slots), -1, np.int32)
    neighbours[: len(energy), : nearest.shape[1]] = nearest
    spare = size - len(energy)
    return TuningWindow(
        np.pad(xy, ((0, spare), (0, 0))),
        np.pad(layer, (0, spare)).astype(np.int32),
        np.pad(energy, (0, spare)).astype(np.float32),
        np.pad(own, (0, spare)).astype(np.float32),
        np.float32(total),
        neighbours,
    )


def tuned_config(module: TunedClue, config: ClusterClueConfig) -> ClusterClueConfig:
    """The settings with the tuned parameters, rounded to three digits."""
    values = {name: float(f"{float(value):.3g}") for name, value in module.values().items()}
    return ClusterClueConfig(plane=config.plane, energy_min=config.energy_min, **values)
