"""Neutrinos that react with a nucleus of the detector: what leaves the vertex, compiled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from recon.sim.compiled import compiled
from recon.sim.flux_table import FluxTable
from recon.sim.neutrino_detector import (
    BINDING_ENERGY,
    ELECTRON,
    ELECTRON_MASS,
    HALF_WIDTH,
    LENGTH,
    MUON,
    MUON_MASS,
    NEUTRON,
    NUCLEON_MASS,
    PROTON,
    TAU_MASS,
)
from recon.sim.neutrino_flux import ENERGY_STEP, Spectrum, spectrum
from recon.sim.neutrino_hadrons import fermi_motion, leave_nucleus
from recon.sim.neutrino_kinematics import Vector
from recon.sim.neutrino_quasielastic import QuasiElastic, quasi_elastic
from recon.sim.neutrino_random import State, uniform
from recon.sim.neutrino_reactions import QE, RES, inelastic_reaction, quasi_elastic_reaction
from recon.sim.neutrino_stack import Stack, push_momentum
from recon.sim.neutrino_systems import decay_system, multiplicity
from recon.sim.neutrino_tau import decay_tau

BEAM_SLOPE = math.radians(3.34)
"""The beam goes up at the far detector, 58 mrad."""
BEAM = (0.0, math.sin(BEAM_SLOPE), math.cos(BEAM_SLOPE))
FIDUCIAL_EDGE, FIDUCIAL_START, FIDUCIAL_END = 1100.0, 1000.0, 11000.0
"""Vertices are at least so far from the sides, from the upstream and from the downstream face, mm."""
TWO_NUCLEON_SHARE = 0.15
"""Part of the quasi-elastic reactions that are with a pair of nucleons (two particles, two holes)."""
_FREE_PROTONS = 2 / 8


class Neutrinos(NamedTuple):
    """Tables of one class of events.

    Attributes:
        spectrum: of the reacting neutrinos.
        quasi_elastic: tables of quasi-elastic scattering.
        lepton: mass of the outgoing lepton, GeV; 0 for a neutrino.
    """

    spectrum: Spectrum
    quasi_elastic: QuasiElastic
    lepton: float


def neutrinos(lepton: float, flux: FluxTable | None = None) -> Neutrinos:
    """Tables by the mass of the outgoing lepton, GeV; 0 for neutral currents. Without a flux that of the beam."""
    return Neutrinos(spectrum(lepton, flux), quasi_elastic(lepton), lepton)


@compiled
def draw_neutrino(state: State, tables: Spectrum) -> tuple[float, int]:
    """Energy (GeV) and mode of a reacting neutrino."""
    row = np.searchsorted(tables.cumulative, uniform(state))
    row = min(row, len(tables.cumulative) - 1)
    bins = len(tables.energy)
    return tables.energy[row % bins] + ENERGY_STEP * (uniform(state) - 0.5), row // bins


@compiled
def draw_target(state: State, mode: int, charged: bool) -> tuple[bool, bool]:
    """Whether the struck nucleon is a proton, and whether it is bound in carbon.

    Charged currents are quasi-elastic on neutrons only, make resonances three times as often on protons, and break up
    neutrons twice as often; neutral currents count nucleons.
    """
    protons, neutrons = 8.0, 6.0
    if charged and mode == QE:
        protons = 0.0
    elif charged and mode == RES:
        protons *= 3.0
    elif charged:
        neutrons *= 2.0
    proton = uniform(state) * (protons + neutrons) < protons
    return proton, not (proton and uniform(state) < _FREE_PROTONS)


@compiled
def neutrino_event(stack: Stack, tables: Neutrinos, truth: Float64[np.ndarray, " t"]) -> bool:
    """Put the particles of one reaction on the stack.

    Args:
        stack: is changed.
        tables: of the class.
        truth: receives energy, lepton, vertex and mode; see `recon.sim.neutrino_events`.

    Returns:
        False where the energy does not suffice; the stack may then hold something.
    """
    state, lepton = stack.random, tables.lepton
    energy, mode = draw_neutrino(state, tables.spectrum)
    charged = lepton > 0.0
    proton, on_carbon = draw_target(state, mode, charged)
    x = (2 * uniform(state) - 1) * (HALF_WIDTH - FIDUCIAL_EDGE)
    y = (2 * uniform(state) - 1) * (HALF_WIDTH - FIDUCIAL_EDGE)
    z = FIDUCIAL_START + uniform(state) * (LENGTH - FIDUCIAL_START - FIDUCIAL_END)
    vertex = (x, y, z)
    if mode == QE:
        found, out, hadrons = quasi_elastic_reaction(
            state, tables.quasi_elastic, BEAM, energy, lepton, on_carbon
        )
    else:
        found, out, hadrons = inelastic_reaction(state, mode, BEAM, energy, lepton, on_carbon)
    if not found:
        return False
    charge = (1 if proton else 0) + (1 if charged else 0)
    if not hadrons_of_reaction(stack, mode, charge, proton, on_carbon, hadrons, vertex):
        return False
    p = (out[0], out[1], out[2])
    if lepton in (MUON_MASS, ELECTRON_MASS):
        push_momentum(stack, MUON if lepton == MUON_MASS else ELECTRON, vertex, p)
    elif lepton == TAU_MASS:
        decay_tau(stack, vertex, p)
    truth[0] = energy
    for i in range(3):
        truth[1 + i], truth[4 + i] = p[i], vertex[i]
    truth[7] = mode
    return True


@compiled
def hadrons_of_reaction(
    stack: Stack,
    mode: int,
    charge: int,
    proton: bool,
    on_carbon: bool,
    hadrons: tuple[float, float, float, float],
    vertex: Vector,
) -> bool:
    """Turn the hadrons of a reaction into particles and lead them out of the nucleus.

    Args:
        stack: is changed.
        mode: row of `recon.tagging.labels.NEUTRINO_MODES`.
        charge: of the hadrons.
        proton: whether a proton was struck.
        on_carbon: whether it was bound.
        hadrons: px, py, pz, E; GeV.
        vertex: mm.

    Returns:
        False where there is no room for the particles.
    """
    state = stack.random
    square = hadrons[0] ** 2 + hadrons[1] ** 2 + hadrons[2] ** 2
    norm = 1 / math.sqrt(max(square, 1e-12))
    axis = (hadrons[0] * norm, hadrons[1] * norm, hadrons[2] * norm)
    n = 1
    if mode != QE:
        w = math.sqrt(max(hadrons[3] ** 2 - square, 0.0))
        n = 2 if w < 1.35 else multiplicity(state, w, proton)
        if not decay_system(stack, 1, n, charge, hadrons, axis):
            return False
    elif on_carbon and uniform(state) < TWO_NUCLEON_SHARE:
        px, py, pz = fermi_motion(state)
        e = hadrons[3] + math.sqrt(NUCLEON_MASS**2 + px * px + py * py + pz * pz) - BINDING_ENERGY
        n = 2
        # Pairs in nuclei are mostly a proton and a neutron: the other nucleon is of the other kind.
        pair = charge + (0 if proton else 1)
        total = (hadrons[0] + px, hadrons[1] + py, hadrons[2] + pz, e)
        if not decay_system(stack, 2, n, pair, total, axis):
            return False
    else:
        stack.product_kind[0] = PROTON if charge == 1 else NEUTRON
        for i in range(4):
            stack.product[0, i] = hadrons[i]
    leave_nucleus(stack, n, vertex, on_carbon)
    return True
