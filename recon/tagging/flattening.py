"""How likely jets are to be drawn: every class with the same momenta, and if wanted the same masses, as every other.

Without it a network learns the spectra of the samples, which are those of a generator's settings.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from recon.errors import ConfigError, DataError

Flatten = Literal["none", "pt", "pt-mass"]

PT_BINS, MASS_EDGES = 20, np.linspace(30.0, 250.0, 12)
"""Momenta in bins of equal width over those that occur; masses outside the edges, GeV, lie in the first or last bin."""

LARGEST = 10.0
"""Chances are cut at so many times the mean of the class: few jets must not stand for many."""


def draw_chance(
    label: Int[np.ndarray, " j"],
    pt: Float[np.ndarray, " j"],
    mass: Float[np.ndarray, " j"],
    *,
    flatten: Flatten = "pt",
    balance: float = 0.5,
) -> Float[np.ndarray, " j"]:
    """Chance of every jet to be drawn, relative to the others.

    Args:
        label: class; negative for jets that are never drawn.
        pt: transverse momentum, GeV.
        mass: soft-drop mass, GeV.
        flatten: "pt" makes the momenta of every class flat, "pt-mass" momenta and masses together, which hides the
            mass from the network (flat-mass sampling).
        balance: a class is drawn in proportion to its number of jets to this power: 1 as often as it occurs, 0 as
            often as every other.

    Raises:
        ConfigError: balance outside [0, 1].
        DataError: no jet of any class, or momenta or masses that are not finite where they are to be flattened.
    """
    if not 0 <= balance <= 1:
        raise ConfigError(f"balance is {balance}; allowed: from 0 to 1")
    if not (label >= 0).any():
        raise DataError(f"none of the {len(label)} jets is of a class that is trained")
    if flatten == "pt-mass" and not np.isfinite(mass[label >= 0]).all():
        raise DataError("the mass cannot be flattened: there are jets without a finite 'jet_sdmass'")
    if flatten != "none" and not np.isfinite(pt[label >= 0]).all():
        raise DataError("the momenta cannot be flattened: there are jets without a finite 'jet_pt'")
    known = label >= 0
    cell = np.zeros(len(label), np.int64)
    cell[known] = _cells(pt[known], mass[known], flatten)
    chance = np.zeros(len(label))
    for kind in np.unique(label[known]):
        rows = np.flatnonzero(label == kind)
        chance[rows] = _flat(cell[rows]) * len(rows) ** (balance - 1)
    return chance


def _cells(pt: np.ndarray, mass: np.ndarray, flatten: Flatten) -> Int[np.ndarray, " j"]:
    """Number of the bin of every jet."""
    if flatten == "none":
        return np.zeros(len(pt), np.int64)
    edges = np.linspace(pt.min(), pt.max(), PT_BINS + 1)[1:-1]
    of_pt = np.searchsorted(edges, pt, side="right")
    if flatten == "pt":
        return of_pt
    of_mass = np.searchsorted(MASS_EDGES[1:-1], mass, side="right")
    return of_pt * (len(MASS_EDGES) - 1) + of_mass


def _flat(cell: Int[np.ndarray, " j"]) -> Float[np.ndarray, " j"]:
    """1 / (jets in the cell), limited, with mean 1."""
    inverse = 1 / np.bincount(cell)[cell]
    inverse = inverse / inverse.mean()
    limited = np.minimum(inverse, LARGEST)
    return np.asarray(limited / limited.mean())
