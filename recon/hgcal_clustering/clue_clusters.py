"""Layer clusters to showers: CLUE in three dimensions along lines of sight.

As `clue_hits`, with layer clusters in the place of hits: they are projected into one plane, and layers are a small
step apart, so that all of a hadronic shower, however deep, lies within a few radii. Layer clusters of one cell count:
much of a hadronic shower is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, Int, Int32

from recon.errors import ConfigError
from recon.hgcal_clustering.checks import check_points
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.rows import nothing, to_rows
from recon.types import Array, Clusters, DensityClusters


@dataclass(frozen=True, kw_only=True)
class ProjectedClueConfig:
    """Parameters of CLUE in three dimensions along lines of sight.

    Attributes:
        plane: points are projected into this distance from the interaction point, mm.
        layer_step: distance of two layers in row, mm.
        d_c: radius of the density, mm.
        rho_c: least density of a seed, GeV.
        outlier_delta_factor: in units of `d_c`, how far points below `rho_c` look for a denser one.
    """

    plane: float = 3300.0
    layer_step: float
    d_c: float = 20.0
    rho_c: float
    outlier_delta_factor: float

    def __post_init__(self) -> None:
        for name in ("plane", "layer_step", "d_c", "rho_c"):
            if not getattr(self, name) > 0:
                self._refuse(name, "more than 0")
        if not self.outlier_delta_factor >= 1:
            self._refuse("outlier_delta_factor", "1 or more")

    def _refuse(self, name: str, allowed: str) -> NoReturn:
        raise ConfigError(f"{type(self).__name__}.{name} = {getattr(self, name)}; allowed is {allowed}")


@dataclass(frozen=True, kw_only=True)
class ClusterClueConfig(ProjectedClueConfig):
    """Parameters of CLUE on layer clusters; see `ProjectedClueConfig` for the others.

    Attributes:
        energy_min: layer clusters below are left out, GeV.
    """

    layer_step: float = 3.0
    rho_c: float = 4.0
    outlier_delta_factor: float = 2.0
    energy_min: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.energy_min >= 0:
            self._refuse("energy_min", "0 or more")


def project(
    position: Float32[Array, "n 3"], layer: Int32[Array, " n"], plane: float, layer_step: float | Array
) -> Float32[Array, "n 3"]:
    """Coordinates that distances are taken in, mm; NumPy or JAX.

    Args:
        position: none in the plane z = 0, mm.
        layer: of every one.
        plane: distance that is projected into, mm.
        layer_step: distance of two layers, mm.
    """
    # In this form NumPy and a compiled program round alike: on a lattice, where many distances are equal, it matters.
    scale = plane / abs(position[:, 2])
    columns = (position[:, 0] * scale, position[:, 1] * scale, layer.astype(np.float32) * layer_step)
    return columns[0].__array_namespace__().stack(columns, -1).astype(np.float32)


def chosen_rows(clusters: Clusters, energy_min: float) -> Int[np.ndarray, " k"]:
    """Rows of the layer clusters that take part, checked.

    Raises:
        DataError: one of them is not finite, has negative energy, or lies in the plane z = 0 or on the other side of it
            than another.
    """
    valid = np.flatnonzero(clusters.valid)
    check_points("layer clusters", clusters.position[valid], clusters.energy[valid], valid)
    rows: np.ndarray = valid[clusters.energy[valid] >= energy_min]
    return rows


def clue_clusters(clusters: Clusters, config: ClusterClueConfig | None = None) -> DensityClusters:
    """Cluster the layer clusters of one endcap in three dimensions.

    Args:
        clusters: on the host.
        config: parameters.

    Returns:
        Host arrays, one row a layer cluster.

    Raises:
        DataError: layer clusters that cannot be used; see `chosen_rows`.
    """
    config = config or ClusterClueConfig()
    rows = chosen_rows(clusters, config.energy_min)
    if len(rows) == 0:
        return nothing(len(clusters.valid))
    found = clue(
        project(clusters.position[rows], clusters.layer[rows], config.plane, config.layer_step),
        clusters.energy[rows],
        d_c=config.d_c,
        rho_c=config.rho_c,
        outlier_delta_factor=config.outlier_delta_factor,
    )
    return to_rows(found, rows, len(clusters.valid))
