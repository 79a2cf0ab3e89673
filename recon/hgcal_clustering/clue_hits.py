"""Hits straight to showers: CLUE in three dimensions, without layer clusters in between.

Hits are projected along their lines of sight into one plane, and layers are a fixed step apart: a shower, which points
back to the interaction point, is then a short column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon.hgcal_clustering.checks import check_rechits
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.clue_clusters import ProjectedClueConfig, project
from recon.hgcal_clustering.rows import to_rows
from recon.types import DensityClusters, RecHits


@dataclass(frozen=True, kw_only=True)
class HitClueConfig(ProjectedClueConfig):
    """Parameters of CLUE on hits; see `ProjectedClueConfig`."""

    layer_step: float = 10.0
    rho_c: float = 0.25
    outlier_delta_factor: float = 1.0


def clue_hits(hits: RecHits, config: HitClueConfig | None = None) -> DensityClusters:
    """Cluster the hits of one event in three dimensions; the two endcaps do not see each other.

    Args:
        hits: on the host; those that are not valid belong to nothing.
        config: parameters.

    Returns:
        Host arrays, one row a hit; ties do not depend on the order of the hits.

    Raises:
        DataError: hits that cannot be used; see `check_rechits`.
    """
    config = config or HitClueConfig()
    check_rechits(hits)
    rows = np.flatnonzero(hits.valid)
    used = RecHits(*(np.asarray(column)[rows] for column in hits))
    found = clue(
        project(used.position, used.layer, config.plane, config.layer_step),
        used.energy,
        d_c=config.d_c,
        rho_c=config.rho_c,
        outlier_delta_factor=config.outlier_delta_factor,
        batch=(used.position[:, 2] > 0).astype(np.int32),
    )
    return to_rows(found, rows, len(hits.valid))
