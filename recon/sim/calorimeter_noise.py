"""Electronic noise and zero suppression: from deposits to the hits that are read out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr, ndtri

from recon.sim.calorimeter_deposits import Deposits


class ReadOut(NamedTuple):
    """Cells above threshold and what is in them.

    Attributes:
        cell: row of the `Calorimeter` table, ascending.
        energy: with noise, in units of a minimum ionising particle.
        hit: row of the hit that a deposit is part of, ascending.
        particle: the particle of that deposit.
        fraction: of the hit's energy that the deposit makes; what is missing to 1 is noise.
    """

    cell: Int64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]
    hit: Int64[np.ndarray, " k"]
    particle: Int64[np.ndarray, " k"]
    fraction: Float64[np.ndarray, " k"]


def read_out(
    deposits: Deposits,
    noise: Float64[np.ndarray, " c"],
    threshold: float,
    rng: np.random.Generator,
    *,
    noisy: bool = True,
) -> ReadOut:
    """Add noise to all cells and keep those above the threshold.

    Noise is Gaussian. Cells without a deposit that pass the threshold are drawn directly, in the number and with the
    energies that noise in all of them would give.

    Args:
        deposits: sorted by cell.
        noise: standard deviation of every cell in units of a minimum ionising particle.
        threshold: in standard deviations.
        rng: random numbers.
        noisy: false to leave the noise out and keep the threshold.

    Returns:
        The cells above threshold.
    """
    cell, first, inverse = np.unique(deposits.cell, return_index=True, return_inverse=True)
    deposited = np.add.reduceat(deposits.energy, first) if len(cell) else np.zeros(0)
    energy = deposited + (noise[cell] * rng.standard_normal(len(cell)) if noisy else 0.0)
    empty, empty_energy = _noise_hits(cell, noise, threshold, rng) if noisy else (cell[:0], energy[:0])
    above = energy > threshold * noise[cell]
    all_cells = np.concatenate([cell[above], empty])
    order = np.argsort(all_cells, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    hit_of_cell = np.full(len(cell), -1, np.int64)
    hit_of_cell[above] = place[: above.sum()]
    kept = above[inverse]
    # Noise that lowers a hit takes nothing away from the shares of the particles.
    whole = np.maximum(energy, deposited)
    return ReadOut(
        cell=all_cells[order],
        energy=np.concatenate([energy[above], empty_energy])[order],
        hit=hit_of_cell[inverse[kept]],
        particle=deposits.particle[kept],
        fraction=(deposits.energy / whole[inverse])[kept],
    )


def _noise_hits(
    occupied: Int64[np.ndarray, " d"],
    noise: Float64[np.ndarray, " c"],
    threshold: float,
    rng: np.random.Generator,
) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Cells that noise alone lifts above the threshold."""
    probability = float(ndtr(-threshold))
    number = int(rng.binomial(len(noise), probability))
    cell = rng.choice(len(noise), number, replace=False, shuffle=False).astype(np.int64)
    # Upper tail of the normal distribution, by inverting its integral.
    energy = -ndtri(probability * (1.0 - rng.random(number))) * noise[cell]
    free = ~np.isin(cell, occupied)
    return cell[free], energy[free]
