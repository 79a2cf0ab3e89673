"""What particles meet in the detector: energy loss, free paths; tables over the kinetic energy."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    CHARGES,
    DENSITY,
    ELECTRON,
    ELECTRON_MASS,
    EXCITATION,
    MASSES,
    NEUTRON,
    PHOTON,
    PI_MINUS,
    PI_PLUS,
    PROTON,
    RADIATION_LENGTH,
    Z_OVER_A,
)

Values = Float64[np.ndarray, " n"]

AVOGADRO = 0.602214  # per mol, times 1e-24 cm^2 in a barn
LOWEST, HIGHEST, PER_LOG = 1e-4, 1e4, 64.0
"""Ends of the tables, GeV, and their entries in a factor e."""
SOFT_DELTA = 0.5e-3
"""Knocked-out electrons above this are drawn one by one, GeV; the energy loss holds those below."""
SOFT_PHOTON = 3e-3
"""The same for bremsstrahlung photons."""
LOSS_CONSTANT = 0.307075e-4 * DENSITY * Z_OVER_A
"""4 pi N_A r_e^2 m_e c^2 Z/A times the density, GeV/mm."""
_PLASMA = 28.816e-9 * math.sqrt(DENSITY * Z_OVER_A)

# The detector by mass is two parts of oil, CH2, and one of PVC, C2H3Cl: moles of nuclei a gram.
_HYDROGEN = (2 / 3) * 2 / 14.03 + (1 / 3) * 3 / 62.5
_CARBON = (2 / 3) / 14.03 + (1 / 3) * 2 / 62.5
_CHLORINE = (1 / 3) / 62.5
_CHLORINE_TO_CARBON = (35.45 / 12.01) ** (2 / 3)

# Barn against GeV, read off the curves of the Particle Data Group (hydrogen, both charges of the pion averaged) and of
# D. Ashery et al., Phys. Rev. C 23 (1981) 2173 and R. F. Carlson, At. Data Nucl. Data Tables 63 (1996) 93 (carbon,
# reactions without the coherent elastic scattering, which hardly deflects).
_PION_CARBON = ((0.005, 0.02, 0.05, 0.085, 0.125, 0.165, 0.205, 0.245, 0.315, 0.5, 1.0, 3.0, 100.0),
                (0.02, 0.08, 0.15, 0.22, 0.36, 0.43, 0.43, 0.405, 0.35, 0.27, 0.26, 0.225, 0.19))  # fmt: skip
_PION_HYDROGEN = ((0.02, 0.05, 0.1, 0.15, 0.19, 0.25, 0.3, 0.5, 0.7, 0.9, 1.4, 3.0, 100.0),
                  (0.005, 0.015, 0.06, 0.115, 0.14, 0.095, 0.065, 0.027, 0.033, 0.045, 0.036, 0.03, 0.024))  # fmt: skip
_PROTON_CARBON = ((0.005, 0.015, 0.03, 0.06, 0.1, 0.2, 0.5, 1.0, 100.0),
                  (0.01, 0.42, 0.38, 0.29, 0.23, 0.21, 0.225, 0.23, 0.225))  # fmt: skip
_PROTON_HYDROGEN = ((0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 100.0),
                    (0.3, 0.05, 0.033, 0.024, 0.027, 0.04, 0.047, 0.04))  # fmt: skip
_NEUTRON_CARBON = ((0.005, 0.012, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0, 100.0),
                   (0.02, 0.35, 0.45, 0.38, 0.29, 0.23, 0.21, 0.225, 0.23, 0.225))  # fmt: skip
_NEUTRON_HYDROGEN = ((0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0, 100.0),
                     (4.2, 2.3, 0.95, 0.48, 0.165, 0.073, 0.042, 0.034, 0.039, 0.04))  # fmt: skip
_CROSS_SECTIONS = {
    PI_PLUS: (_PION_CARBON, _PION_HYDROGEN),
    PI_MINUS: (_PION_CARBON, _PION_HYDROGEN),
    PROTON: (_PROTON_CARBON, _PROTON_HYDROGEN),
    NEUTRON: (_NEUTRON_CARBON, _NEUTRON_HYDROGEN),
}
# Pair production as a part of 7/9 per radiation length, by photon energy (NIST XCOM, light elements).
_PAIRS = ((1.022e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.3, 1.0, 10.0),
          (0.0, 0.02, 0.11, 0.235, 0.37, 0.55, 0.67, 0.81, 0.91, 1.0))  # fmt: skip


class Matter(NamedTuple):
    """Tables over the logarithm of the kinetic energy, one row a particle.

    Attributes:
        loss: mean energy loss without what is drawn one by one, GeV/mm.
        rate: of reactions: of hadrons with nuclei, of photons by pairs and Compton scattering together; 1/mm.
        hydrogen: share of the reactions of hadrons that are with free protons; of photons, share of pairs.
    """

    loss: Float64[np.ndarray, "k t"]
    rate: Float64[np.ndarray, "k t"]
    hydrogen: Float64[np.ndarray, "k t"]


@compiled
def table_place(kinetic: float) -> float:
    """Place of a kinetic energy in the tables, as a real number."""
    return min(max(math.log(kinetic / LOWEST), 0.0), math.log(HIGHEST / LOWEST) - 1e-9) * PER_LOG


@compiled
def looked_up(row: Values, place: float) -> float:
    """Linear interpolation of a row of a table."""
    i = int(place)
    return row[i] + (place - i) * (row[i + 1] - row[i])


@lru_cache(maxsize=1)
def matter() -> Matter:
    """The tables of the detector."""
    n = int(math.log(HIGHEST / LOWEST) * PER_LOG) + 2
    kinetic = LOWEST * np.exp(np.arange(n) / PER_LOG)
    loss, rate, share = (np.zeros((len(MASSES), n)) for _ in range(3))
    for kind, charge in enumerate(CHARGES):
        if kind == ELECTRON:
            loss[kind] = electron_loss(kinetic)
        elif charge:
            loss[kind] = stopping_power(kinetic, MASSES[kind], cut=SOFT_DELTA)
    for kind in _CROSS_SECTIONS:
        rate[kind], share[kind] = hadron_rate(kinetic, kind)
    pairs, compton = pair_rate(kinetic), compton_rate(kinetic)
    rate[PHOTON] = pairs + compton
    share[PHOTON] = pairs / rate[PHOTON]
    return Matter(loss, rate, share)


def stopping_power(kinetic: Values, mass: float, cut: float = math.inf) -> Values:
    """Mean energy loss of a heavy particle of charge 1, by electrons knocked out with less than a cut.

    Args:
        kinetic: energy, GeV.
        mass: of the particle, GeV.
        cut: GeV; infinite for the whole loss.

    Returns:
        GeV/mm.

    Source:
        Particle Data Group (2022), equations 34.4 to 34.10 (Bethe; Sternheimer's density effect at high energy).
    """
    gamma = 1 + kinetic / mass
    beta2 = 1 - 1 / gamma**2
    bg2 = gamma**2 - 1
    highest = largest_transfer(gamma, mass)
    limit = np.minimum(cut, highest)
    # Down to some keV, below which the formula does not hold; tracks end before.
    argument = np.maximum(2 * ELECTRON_MASS * bg2 * limit / EXCITATION**2, 2.0)
    density = np.maximum(np.log(np.maximum(bg2, 1e-9)) + 2 * np.log(_PLASMA / EXCITATION) - 1, 0)
    bracket = 0.5 * np.log(argument) - 0.5 * beta2 * (1 + limit / highest) - 0.5 * density
    return LOSS_CONSTANT / beta2 * np.maximum(bracket, 0.1)


def largest_transfer(gamma: Values, mass: float) -> Values:
    """Largest energy that a particle gives to an electron in one collision, GeV."""
    ratio = ELECTRON_MASS / mass
    return 2 * ELECTRON_MASS * (gamma**2 - 1) / (1 + 2 * gamma * ratio + ratio**2)


def electron_loss(kinetic: Values) -> Values:
    """Mean energy loss of an electron by soft collisions and soft photons.

    Args:
        kinetic: energy, GeV.

    Returns:
        GeV/mm.

    Source:
        Berger and Seltzer's restricted formula for electrons (Geant4 Physics Reference Manual, "Ionisation").
    """
    tau = kinetic / ELECTRON_MASS
    gamma = tau + 1
    beta2 = 1 - 1 / gamma**2
    up = np.minimum(SOFT_DELTA / ELECTRON_MASS, tau / 2 * (1 - 1e-9))
    soft = (
        -1 - beta2 + np.log((tau - up) * up) + tau / (tau - up)
        + (0.5 * up**2 + (2 * tau + 1) * np.log(1 - up / tau)) / gamma**2
    )  # fmt: skip
    density = np.maximum(np.log(gamma**2 - 1) + 2 * np.log(_PLASMA / EXCITATION) - 1, 0)
    bracket = np.log(2 * (tau + 2) / (EXCITATION / ELECTRON_MASS) ** 2) + soft - density
    photons = 4 / 3 * np.minimum(SOFT_PHOTON, kinetic) / RADIATION_LENGTH
    return 0.5 * LOSS_CONSTANT / beta2 * np.maximum(bracket, 0.2) + photons


def muon_range(kinetic: float) -> float:
    """Range of a muon that loses the mean energy all along (CSDA), mm."""
    energies = np.geomspace(LOWEST, kinetic, 4000)
    return float(np.trapezoid(1 / stopping_power(energies, MASSES[2]), energies))


def hadron_rate(kinetic: Values, kind: int) -> tuple[Values, Values]:
    """Reactions of a hadron a mm, and which part of them is with hydrogen."""
    carbon, hydrogen = (np.interp(np.log(kinetic), np.log(x), y) for x, y in _CROSS_SECTIONS[kind])
    heavy = (_CARBON + _CHLORINE * _CHLORINE_TO_CARBON) * carbon
    light = _HYDROGEN * hydrogen
    return 0.1 * AVOGADRO * DENSITY * (heavy + light), light / (heavy + light)


def pair_rate(energy: Values) -> Values:
    """Conversions of a photon a mm."""
    return np.interp(np.log(energy), np.log(_PAIRS[0]), _PAIRS[1]) * 7 / 9 / RADIATION_LENGTH


def compton_rate(energy: Values) -> Values:
    """Compton scatterings of a photon a mm (Klein and Nishina, 1929)."""
    a = energy / ELECTRON_MASS
    radius = 2.8179e-13  # of the electron, cm
    log = np.log1p(2 * a)
    total = (
        2 * np.pi * radius**2
        * ((1 + a) / a**2 * (2 * (1 + a) / (1 + 2 * a) - log / a) + log / (2 * a) - (1 + 3 * a) / (1 + 2 * a) ** 2)
    )  # fmt: skip
    return 0.1 * total * AVOGADRO * 1e24 * DENSITY * Z_OVER_A
