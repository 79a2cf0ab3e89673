"""Cells and noise for hits that come from elsewhere with nothing but a position."""

from __future__ import annotations

import numpy as np

from recon.hgcal_clustering.lookup import NO_CELL, CellLookup, cell_at
from recon.types import Calorimeter, RecHits


def attach_cells(hits: RecHits, calorimeter: Calorimeter, lookup: CellLookup) -> RecHits:
    """Find the cell under every hit, and the noise of that cell.

    Args:
        hits: host arrays; layers must be those of the calorimeter.
        calorimeter: the cells.
        lookup: their index.

    Returns:
        The same hits with `cell` and `sigma_noise`; hits outside the sensitive area, and padding, keep theirs.
        Positions stay what they were, so two hits may share a cell where the geometries differ.
    """
    x, y, _ = hits.position.T
    cell = cell_at(lookup, x, y, np.where(hits.valid, hits.layer, NO_CELL))
    found = cell != NO_CELL
    return hits._replace(
        cell=np.where(found, cell, hits.cell),
        sigma_noise=np.where(found, calorimeter.sigma_noise[cell], hits.sigma_noise),
    )
