"""Which neutrinos react in the far detector, and how: the off-axis NuMI beam times cross sections.

Fluxes are not oscillated: electron and tau neutrinos have the spectrum of muon neutrinos, as in the training samples
of the NOvA collaboration. A `FluxTable` may stand in for the built-in beam.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.errors import ConfigError
from recon.sim.flux_table import FluxTable
from recon.sim.neutrino_detector import ELECTRON_MASS, MUON_MASS, TAU_MASS
from recon.sim.neutrino_quasielastic import quasi_elastic
from recon.tagging.labels import NEUTRINO_MODES

OFF_AXIS = 14.6e-3
"""Angle between the beam and the detector, rad."""
DIVERGENCE = ((0.8, 2.2e-3), (0.2, 7e-3))
"""Shares of the parents that the horns focus well and badly, and the spread of their directions, rad.

Those that fly towards the detector make the tail above the peak.
"""
DECAY_PIPE = 675.0
"""m."""
KAON_SHARE = 0.03
"""Kaons for every pion behind the horns, weighted with what focusing does to them; tuned so that 20, 33 and 46 % of
the charged currents of muon neutrinos are QE, RES and DIS, as in the collaboration's training sample."""
ENERGY_STEP, LOWEST_ENERGY, HIGHEST_ENERGY = 0.05, 0.2, 60.0
"""GeV."""

# Mass (GeV), c tau (m), energy of the neutrino at rest (GeV), slope of the spectrum (GeV).
_PION, _KAON = (0.13957, 7.80, 0.02979, 5.5), (0.49368, 3.71, 0.23554, 9.0)
_NEUTRONS_PER_NUCLEON = 6 / 14
_PAULI = 0.93
"""Part of the quasi-elastic reactions in carbon that the Pauli principle allows, at 2 GeV."""
_NEUTRAL_TO_CHARGED = (0.30, 0.33, 0.31)
# Reduction of the cross section by the mass of the tau lepton, approximate reading of Y. S. Jeong and M. H. Reno,
# Phys. Rev. D 82 (2010) 033010.
_TAU_ENERGIES, _TAU_RATIO = (
    (3.5, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0),
    (0.0, 0.07, 0.17, 0.29, 0.51, 0.70, 0.79),
)


class Spectrum(NamedTuple):
    """Reacting neutrinos of one class.

    Attributes:
        energy: centres of the bins, GeV.
        cumulative: over modes and bins, mode by mode; ends at 1.
    """

    energy: Float64[np.ndarray, " e"]
    cumulative: Float64[np.ndarray, " m*e"]


def energies() -> Float64[np.ndarray, " e"]:
    """Centres of the bins of all spectra, GeV."""
    return np.arange(LOWEST_ENERGY, HIGHEST_ENERGY, ENERGY_STEP)


@lru_cache(maxsize=4)
def flux(
    divergence: tuple[tuple[float, float], ...] = DIVERGENCE, kaon_share: float = KAON_SHARE
) -> Float64[np.ndarray, " e"]:
    """Neutrinos a bin, in arbitrary units.

    Two-body decays of pions and kaons in flight: seen under an angle theta, a parent of energy gamma m makes neutrinos
    of 2 gamma E* / (1 + gamma^2 theta^2), with the solid angle going as (2 gamma / (1 + gamma^2 theta^2))^2.

    Args:
        divergence: as `DIVERGENCE`.
        kaon_share: as `KAON_SHARE`.
    """
    centres = energies()
    edges = np.append(centres - ENERGY_STEP / 2, centres[-1] + ENERGY_STEP / 2)
    total = np.zeros(len(centres))
    parents = np.linspace(0.6, 110.0, 2400)
    for (mass, c_tau, at_rest, slope), weight in ((_PION, 1.0), (_KAON, kaon_share)):
        gamma = parents / mass
        decays = 1 - np.exp(-DECAY_PIPE / (gamma * c_tau))
        spectrum = weight * parents * np.exp(-parents / slope) * decays
        for angle, share in zip(*_angles(divergence), strict=True):
            seen = 2 * gamma / (1 + (gamma * angle) ** 2)
            total += np.histogram(at_rest * seen, edges, weights=share * spectrum * seen**2)[0]
    return np.convolve(total, np.ones(5) / 5, "same")


def _angles(
    divergence: tuple[tuple[float, float], ...],
) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
    """Angles between the parents and the detector, and their shares: normal directions about the beam."""
    angles, shares = [], []
    for share, spread in divergence:
        grid = spread * np.linspace(-3.5, 3.5, 43)
        towards, across = np.meshgrid(grid, grid[21:], indexing="ij")
        weight = np.exp(-0.5 * (towards**2 + across**2) / spread**2) * np.where(across > 0, 2, 1)
        angles.append(np.hypot(OFF_AXIS + towards, across).ravel())
        shares.append((share * weight / weight.sum()).ravel())
    return np.concatenate(angles), np.concatenate(shares)


def charged_current(energy: Float64[np.ndarray, " e"]) -> Float64[np.ndarray, "3 e"]:
    """Cross sections of muon neutrinos by mode on an average nucleon of CH2.

    Quasi-elastic by Llewellyn Smith on the neutrons; resonances as a plateau above their threshold; deep inelastic
    scattering fills up to the measured total (0.66e-38 cm^2/GeV on this mixture; J. A. Formaggio and G. P. Zeller,
    Rev. Mod. Phys. 84 (2012) 1307) once the hadrons weigh more than the resonances.

    Args:
        energy: GeV.

    Returns:
        1e-38 cm^2.
    """
    tables = quasi_elastic(MUON_MASS)
    free = np.interp(np.log(energy), tables.log_energy, tables.cross_section)
    elastic = _NEUTRONS_PER_NUCLEON * _PAULI * free
    resonant = 0.70 / (1 + np.exp(-(energy - 1.25) / 0.28)) * np.clip((energy - 0.35) / 0.3, 0, 1)
    rest = np.maximum(0.66 * energy - elastic - resonant, 0)
    return np.stack([elastic, resonant, rest / (1 + np.exp(-(energy - 1.9) / 0.45))])


@lru_cache(maxsize=8)
def spectrum(lepton: float, table: FluxTable | None = None) -> Spectrum:
    """Reacting neutrinos.

    Args:
        lepton: mass of the lepton that they become, GeV; 0 is a neutral current.
        table: of the flux; that of the built-in beam if not given.

    Raises:
        ConfigError: none of them reacts so.
    """
    energy = energies()
    sections = charged_current(energy)
    if lepton == 0.0:
        sections = sections * np.array(_NEUTRAL_TO_CHARGED)[:, None]
    elif lepton == TAU_MASS:
        heavy, light = quasi_elastic(TAU_MASS), quasi_elastic(MUON_MASS)
        elastic = heavy.cross_section / np.maximum(light.cross_section, 1e-9)
        ratio = np.interp(energy, _TAU_ENERGIES, _TAU_RATIO)
        sections = sections * np.stack([np.interp(np.log(energy), heavy.log_energy, elastic), ratio, ratio])
    elif lepton not in (MUON_MASS, ELECTRON_MASS):
        raise ValueError(f"no lepton has a mass of {lepton} GeV")
    rate = (sections * (flux() if table is None else table.at(energy))).ravel()
    if not rate.sum() > 0:
        raise ConfigError(
            f"no neutrino of this flux makes a lepton of {lepton:g} GeV: it is 0 from {LOWEST_ENERGY:g} GeV, or the "
            f"threshold of the reaction, to {HIGHEST_ENERGY:g} GeV"
        )
    return Spectrum(energy, np.cumsum(rate) / rate.sum())


def fractions(found: Spectrum) -> Float64[np.ndarray, "m e"]:
    """Shares of modes and bins among all that react; 1 in all."""
    return np.diff(found.cumulative, prepend=0.0).reshape(len(NEUTRINO_MODES), -1)


def mode_fractions(
    lepton: float, low: float = 0.0, high: float = math.inf, table: FluxTable | None = None
) -> Float64[np.ndarray, " 3"]:
    """Shares of QE, RES and DIS among the reacting neutrinos between two energies, GeV; the rest as `spectrum`."""
    found = spectrum(lepton, table)
    rate = fractions(found)
    chosen = rate[:, (found.energy >= low) & (found.energy < high)].sum(axis=1)
    return chosen / chosen.sum()
