"""Hits to groups within every layer, by CLUE on their positions.

With a table of cells at hand `recon.hgcal_clustering.cell_graph` does the same faster; this needs positions only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from recon.errors import ConfigError
from recon.geometry import eta
from recon.hgcal_clustering.checks import check_rechits
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.distances import Metric
from recon.hgcal_clustering.rows import join_rows
from recon.types import DensityClusters, RecHits


@dataclass(frozen=True, kw_only=True)
class LayerClueConfig:
    """Parameters of CLUE in the layers; the defaults are CMS's.

    Attributes:
        d_c: radius of the density in silicon, mm.
        d_c_tiles: the same in scintillator, in eta and phi.
        kappa: least density of a seed, in units of the noise of its cell.
        outlier_delta_factor: in units of `d_c`, how far hits of lower density look for a denser one.
    """

    d_c: float = 13.0
    d_c_tiles: float = 0.0315
    kappa: float = 9.0
    outlier_delta_factor: float = 2.0

    def __post_init__(self) -> None:
        for name in ("d_c", "d_c_tiles", "kappa", "outlier_delta_factor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"LayerClueConfig.{name} = {getattr(self, name)}; allowed is more than 0")


def clue_layers(
    hits: RecHits,
    config: LayerClueConfig | None = None,
    *,
    scintillator: Bool[np.ndarray, " n"] | None = None,
) -> DensityClusters:
    """Cluster the hits of every layer of both endcaps.

    Args:
        hits: on the host; those that are not valid belong to nothing.
        config: parameters; CMS's if not given.
        scintillator: true for hits in tiles, which are compared in eta and phi; none if not given.

    Returns:
        Host arrays, one row a hit; densities in GeV, distances in mm (in eta and phi for tiles).

    Raises:
        DataError: hits that cannot be used; see `check_rechits`.
    """
    config = config or LayerClueConfig()
    check_rechits(hits)
    tile = np.zeros(len(hits.valid), bool) if scintillator is None else scintillator
    batch = 2 * np.asarray(hits.layer) + (hits.position[:, 2] > 0)
    parts = []
    for kind, d_c, metric in (
        (~tile, config.d_c, Metric()),
        (tile, config.d_c_tiles, Metric("periodic", (math.inf, 2 * math.pi))),
    ):
        rows = np.flatnonzero(kind & hits.valid)
        position = hits.position[rows]
        if metric.values:
            points = np.stack([np.asarray(eta(position)), np.arctan2(position[:, 1], position[:, 0])], 1)
        else:
            points = position[:, :2]
        found = clue(
            points,
            hits.energy[rows],
            d_c=d_c,
            rho_c=config.kappa * hits.sigma_noise[rows],
            outlier_delta_factor=config.outlier_delta_factor,
            batch=batch[rows],
            metric=metric,
        )
        parts.append((found, rows))
    return join_rows(parts, len(hits.valid))
