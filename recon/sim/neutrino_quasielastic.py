"""Quasi-elastic neutrino scattering on nucleons: Llewellyn Smith's cross section and tables to draw from."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import NUCLEON_MASS, PION_MASS
from recon.sim.neutrino_random import State, uniform

AXIAL_MASS, AXIAL_CHARGE = 0.99, -1.267
VECTOR_MASS2, MAGNETIC_MOMENTS = 0.71, 3.706
"""Dipole of the vector form factors, GeV^2; difference of the anomalous magnetic moments."""
FERMI_CONSTANT2, CABIBBO_COSINE2, GEV2_CM2 = (1.16638e-5) ** 2, 0.9494, 0.38938e-27

Values = Float64[np.ndarray, "..."]


class QuasiElastic(NamedTuple):
    """Tables of one lepton.

    Attributes:
        log_energy: of the neutrino in the rest frame of the nucleon, evenly spaced.
        cross_section: on a free nucleon, 1e-38 cm^2.
        quantiles: of Q^2 at every energy, GeV^2.
    """

    log_energy: Float64[np.ndarray, " e"]
    cross_section: Float64[np.ndarray, " e"]
    quantiles: Float64[np.ndarray, "e u"]


def differential_cross_section(energy: float, q2: Values, lepton: float) -> Values:
    """Cross section by Q^2 of a neutrino on a free neutron, without the kinematic limits.

    Args:
        energy: of the neutrino in the rest frame of the neutron, GeV.
        q2: GeV^2.
        lepton: mass of the outgoing lepton, GeV.

    Returns:
        1e-38 cm^2/GeV^2.

    Source:
        C. H. Llewellyn Smith, Phys. Rep. 3 (1972) 261, equations 3.18 and 3.22; axial form factor negative, so that
        vector and axial current add for neutrinos.
    """
    m2 = NUCLEON_MASS**2
    tau = q2 / (4 * m2)
    dipole = (1 + q2 / VECTOR_MASS2) ** -2
    electric, magnetic = dipole, (1 + MAGNETIC_MOMENTS) * dipole
    f1 = (electric + tau * magnetic) / (1 + tau)
    f2 = (magnetic - electric) / (1 + tau)  # xi times F2
    fa = AXIAL_CHARGE * (1 + q2 / AXIAL_MASS**2) ** -2
    fp = 2 * m2 * fa / (PION_MASS**2 + q2)
    s_u = 4 * NUCLEON_MASS * energy - q2 - lepton**2
    spin = (f1 + f2) ** 2 + (fa + 2 * fp) ** 2 - (q2 / m2 + 4) * fp**2
    a = (lepton**2 + q2) / m2 * (
        (1 + tau) * fa**2 - (1 - tau) * f1**2 + tau * (1 - tau) * f2**2 + 4 * tau * f1 * f2
        - lepton**2 / (4 * m2) * spin
    )  # fmt: skip
    b = q2 / m2 * fa * (f1 + f2)
    c = 0.25 * (fa**2 + f1**2 + tau * f2**2)
    norm = FERMI_CONSTANT2 * CABIBBO_COSINE2 * m2 / (8 * np.pi * energy**2) * GEV2_CM2 * 1e38
    return np.maximum(norm * (a - b * s_u / m2 + c * s_u**2 / m2**2), 0)


def q2_limits(energy: float, lepton: float) -> tuple[float, float]:
    """Smallest and largest Q^2 of a quasi-elastic reaction, GeV^2; both 0 below its threshold."""
    m = NUCLEON_MASS
    s = m * m + 2 * m * energy
    if math.sqrt(s) <= m + lepton:
        return 0.0, 0.0
    neutrino = (s - m * m) / (2 * math.sqrt(s))
    e = (s + lepton**2 - m * m) / (2 * math.sqrt(s))
    p = math.sqrt(max(e * e - lepton**2, 0.0))
    return 2 * neutrino * (e - p) - lepton**2, 2 * neutrino * (e + p) - lepton**2


@lru_cache(maxsize=4)
def quasi_elastic(lepton: float, energies: int = 120, quantiles: int = 257) -> QuasiElastic:
    """Tables for the mass of a lepton, GeV; for neutral currents 0, with the form factors of the charged ones."""
    grid = np.linspace(math.log(0.15), math.log(100.0), energies)
    total, table = np.zeros(energies), np.zeros((energies, quantiles))
    for row, energy in enumerate(np.exp(grid).tolist()):
        low, high = q2_limits(energy, lepton)
        if high <= low:
            continue
        # Points are dense at small Q^2, where the form factors put most of the reactions.
        q2 = low + (high - low) * np.linspace(0, 1, 4000) ** 3
        value = differential_cross_section(energy, q2, lepton)
        steps = 0.5 * (value[1:] + value[:-1]) * np.diff(q2)
        total[row] = steps.sum()
        if total[row] > 0:
            cumulative = np.concatenate([[0], np.cumsum(steps)]) / total[row]
            table[row] = np.interp(np.linspace(0, 1, quantiles), cumulative, q2)
    return QuasiElastic(grid, total, table)


@compiled
def draw_q2(state: State, tables: QuasiElastic, energy: float) -> float:
    """A Q^2, GeV^2; between two energies of the tables either is taken, in proportion."""
    place = _place(tables, energy)
    row = int(place)
    if uniform(state) < place - row:
        row += 1
    at = uniform(state) * (tables.quantiles.shape[1] - 1)
    i = int(at)
    quantiles = tables.quantiles[row]
    return quantiles[i] + (at - i) * (quantiles[i + 1] - quantiles[i])


@compiled
def cross_section_at(tables: QuasiElastic, energy: float) -> float:
    """Cross section on a free nucleon, 1e-38 cm^2."""
    place = _place(tables, energy)
    row = int(place)
    low = tables.cross_section[row]
    return low + (place - row) * (tables.cross_section[row + 1] - low)


@compiled
def _place(tables: QuasiElastic, energy: float) -> float:
    grid = tables.log_energy
    place = (math.log(energy) - grid[0]) / (grid[1] - grid[0])
    return min(max(place, 0.0), len(grid) - 1.001)
