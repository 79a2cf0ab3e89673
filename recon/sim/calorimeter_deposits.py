"""From spots in the planes of the sensors to what every particle leaves in every cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.hgcal_clustering.lookup import NO_CELL, CellLookup, cell_at
from recon.sim.calorimeter_showers import Spots


class Deposits(NamedTuple):
    """What particles leave in cells, one row a pair, sorted by cell and particle.

    Attributes:
        cell: row of the `Calorimeter` table.
        particle: row of the incident particle.
        energy: in units of a minimum ionising particle.
    """

    cell: Int64[np.ndarray, " n"]
    particle: Int64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]


def collect(spots: Spots, n_particles: int, lookup: CellLookup) -> Deposits:
    """Add up the spots by cell and particle; spots outside the sensitive area are lost, as in the real detector.

    Args:
        spots: of all particles.
        n_particles: number of incident particles.
        lookup: the cells.

    Returns:
        The deposits.
    """
    cell = cell_at(lookup, spots.x, spots.y, spots.layer)
    seen = cell != NO_CELL
    key = cell[seen].astype(np.int64) * max(n_particles, 1) + spots.particle[seen]
    order = np.argsort(key, kind="stable")
    key, energy = key[order], spots.energy[seen][order]
    first = (
        np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
    )
    total = np.add.reduceat(energy, first) if len(key) else np.zeros(0)
    return Deposits(key[first] // max(n_particles, 1), key[first] % max(n_particles, 1), total)
