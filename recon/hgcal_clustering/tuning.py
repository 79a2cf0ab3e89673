"""Parameters of CLUE on layer clusters and of CLUE3D tuned by gradient, through `soft_clue` and `soft_clue3d`.

In a window around a particle, the soft algorithm says who follows whom with what probability. Followed up to the seed,
that gives every layer cluster a probability to end in the particle's shower, and so the energy expected in it. What is
maximised is the overlap of shower and particle,

    (1 + w) (energy of the particle in its shower) / (w energy of the particle + energy of the shower),

which a shower loses that is cut in two or swallows its neighbours. With w = 1 both count alike (the coefficient of
Dice); a particle that is cut in two is not found at all, so that here w = 4.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, Int32

from recon.hgcal_clustering.checks import large_clusters
from recon.hgcal_clustering.clue_clusters import chosen_rows, project
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.projective import line_points
from recon.hgcal_clustering.soft import SoftClusters, soft_clue
from recon.hgcal_clustering.soft_clue3d import Clue3dParameters, soft_clue3d
from recon.hgcal_clustering.tuning_windows import TuningWindow
from recon.types import Array, Clusters

TEMPERATURE = 0.03
"""A radius that is softer than this has many neighbours in its tail, which no seed survives."""
_LEAST = 1e-6
_NEVER = -1e4
_WHOLE = 4.0
_STEPS = 20
"""Of a way to a seed; it rarely takes more than ten."""


class TunedParameters(nnx.Module):
    """Parameters of an algorithm as something that can be trained; all are above 0 and move on a logarithmic scale.

    Attributes:
        names: of the parameters.
        least: those that have one.
        layer_step: see `recon.hgcal_clustering.tuning_windows.tuning_windows`.
    """

    names: ClassVar[tuple[str, ...]]
    least: ClassVar[Mapping[str, float]]
    layer_step: ClassVar[float]

    def __init__(self, settings: Any) -> None:
        start = [np.log(getattr(settings, name)) for name in self.names]
        self.logarithm = nnx.Param(jnp.asarray(start, jnp.float32))

    def values(self) -> dict[str, Array]:
        """The parameters by name."""
        named = dict(zip(self.names, jnp.exp(self.logarithm[...]), strict=True))
        return named | {name: jnp.maximum(named[name], least) for name, least in self.least.items()}

    def rounded(self) -> dict[str, float]:
        """The same with three digits."""
        return {name: float(f"{float(value):.3g}") for name, value in self.values().items()}

    @abstractmethod
    def choose(self, clusters: Clusters) -> Int[np.ndarray, " k"]:
        """Rows of the layer clusters that the algorithm looks at."""

    @abstractmethod
    def soft(self, window: TuningWindow, temperature: float) -> tuple[SoftClusters, Array]:
        """What the algorithm says about a window, and the density of a seed, GeV."""

    @abstractmethod
    def tuned(self, config: HgcalConfig) -> HgcalConfig:
        """The settings of a chain with these parameters."""


class TunedClue(TunedParameters):
    """CLUE on layer clusters.

    Args:
        config: where to start, and what is not tuned.
    """

    names = ("d_c", "rho_c", "outlier_delta_factor", "layer_step")
    least: ClassVar[Mapping[str, float]] = {"outlier_delta_factor": 1.0}
    layer_step = 1.5

    def __init__(self, config: HgcalConfig) -> None:
        super().__init__(config.clusters)
        self.settings = config.clusters

    def choose(self, clusters: Clusters) -> Int[np.ndarray, " k"]:
        """See `TunedParameters.choose`."""
        return chosen_rows(clusters, self.settings.energy_min)

    def soft(self, window: TuningWindow, temperature: float) -> tuple[SoftClusters, Array]:
        """See `TunedParameters.soft`."""
        value = self.values()
        points = project(window.position, window.layer, self.settings.plane, value.pop("layer_step"))
        found = soft_clue(points, window.energy, window.neighbours, **value, temperature=temperature)
        return found, value["rho_c"]

    def tuned(self, config: HgcalConfig) -> HgcalConfig:
        """See `TunedParameters.tuned`."""
        return replace(config, method="clusters", clusters=replace(config.clusters, **self.rounded()))


class TunedClue3d(TunedParameters):
    """CLUE3D.

    Args:
        config: where to start, and what is not tuned.
    """

    names = Clue3dParameters._fields
    least: ClassVar[Mapping[str, float]] = {"outlier_multiplier": 1.0}
    # Layers that are too far apart do not see each other: their slots are for others.
    layer_step = 6.0

    def __init__(self, config: HgcalConfig) -> None:
        super().__init__(config.clue3d)
        self.min_size = config.layer_clusters.min_size
        self.same_layer_density = config.clue3d.same_layer_density

    def choose(self, clusters: Clusters) -> Int[np.ndarray, " k"]:
        """See `TunedParameters.choose`."""
        rows: np.ndarray = large_clusters(clusters, self.min_size)[0]
        return rows

    def soft(self, window: TuningWindow, temperature: float) -> tuple[SoftClusters, Array]:
        """See `TunedParameters.soft`."""
        value = self.values()
        found = soft_clue3d(
            line_points(window.position, window.energy, window.layer),
            window.neighbours,
            Clue3dParameters(**value),
            temperature=temperature,
            same_layer_density=self.same_layer_density,
        )
        return found, value["critical_density"]

    def tuned(self, config: HgcalConfig) -> HgcalConfig:
        """See `TunedParameters.tuned`."""
        value: dict[str, Any] = self.rounded()
        value |= {name: round(value[name]) for name in ("sibling_layers", "critical_layers")}
        return replace(config, method="clue3d", clue3d=replace(config.clue3d, **value))


def tuning_loss(
    module: TunedParameters, window: TuningWindow, rng: jax.Array, temperature: float = TEMPERATURE
) -> tuple[Float[Array, ""], Mapping[str, Array]]:
    """One minus the overlap of a particle and the shower that begins at its densest layer cluster."""
    del rng
    soft, rho_c = module.soft(window, temperature)
    mostly = (window.own > 0.5 * window.energy) & (window.energy > 0)
    densest = jax.nn.softmax(jnp.where(mostly, soft.rho / (temperature * rho_c), _NEVER))
    ends = ends_at(densest * soft.seed * mostly.any(), soft.follow, window.neighbours)
    shared = (ends * window.own).sum()
    shower = (ends * window.energy).sum()
    overlap = (1 + _WHOLE) * shared / jnp.maximum(_WHOLE * window.total + shower, _LEAST)
    return 1 - overlap, module.values()


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
