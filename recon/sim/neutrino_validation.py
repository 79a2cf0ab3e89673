"""What the simulation must reproduce: depths of showers, ranges, kinematics; measured here, compared in the tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from recon.sim.compiled import compiled
from recon.sim.neutrino_detector import (
    CELL_PITCH,
    CELLS,
    HALF_WIDTH,
    MUON_MASS,
    PLANE_PITCH,
    PLANES,
    RADIATION_LENGTH,
)
from recon.sim.neutrino_flux import energies, flux
from recon.sim.neutrino_kinematics import Vector
from recon.sim.neutrino_light import Light, attenuation, darken, new_light
from recon.sim.neutrino_matter import Matter, matter
from recon.sim.neutrino_quasielastic import quasi_elastic
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_reactions import quasi_elastic_reaction
from recon.sim.neutrino_stack import Stack, new_stack, push
from recon.sim.neutrino_transport import follow

CRITICAL_ENERGY = 0.085
"""Of the detector, GeV."""

PUBLISHED_FLUX = (
    (1.0, 0.377), (1.5, 0.914), (2.0, 1.0), (2.5, 0.469), (3.0, 0.168), (4.0, 0.0327), (5.0, 0.0207), (7.0, 0.0120),
    (10.0, 0.0114), (12.0, 0.0124), (14.0, 0.0101), (16.0, 0.0062),
)  # fmt: skip
"""Energy (GeV) and flux of muon neutrinos, over that at 2 GeV, as NOvA published it for the near detector (Fermilab
public document 8; the table `NOvA_FHC.dat` that the package DarkNews carries). Its mean energy is 2.57 GeV."""


def relative_flux(energy: Float64[np.ndarray, " e"]) -> Float64[np.ndarray, " e"]:
    """Flux of the built-in beam at some energies (GeV), over that at 2 GeV; what `PUBLISHED_FLUX` is of NOvA."""
    return np.interp(energy, energies(), flux()) / np.interp(2.0, energies(), flux())


class Shots(NamedTuple):
    """Single particles that start in the middle of the detector along the beam axis.

    Attributes:
        profile: light by plane behind the start, without attenuation, mean of all particles.
        width: light by distance of the cell from the axis, in cells, mean of all particles and both views.
        first: depth of the first plane with light, mm; NaN for none.
        last: depth of the last plane with light, mm; NaN for none.
        energy: in the scintillator, GeV.
    """

    profile: Float64[np.ndarray, " planes"]
    width: Float64[np.ndarray, " cells"]
    first: Float64[np.ndarray, " n"]
    last: Float64[np.ndarray, " n"]
    energy: Float64[np.ndarray, " n"]


class Elastic(NamedTuple):
    """Quasi-elastic reactions of muon neutrinos in carbon, before the proton leaves the nucleus; GeV.

    Attributes:
        q2: squared momentum transfer, GeV^2.
        proton: momentum.
        cosine: of the muon's angle.
        muon: energy.
    """

    q2: Float64[np.ndarray, " n"]
    proton: Float64[np.ndarray, " n"]
    cosine: Float64[np.ndarray, " n"]
    muon: Float64[np.ndarray, " n"]


def shoot(kind: int, kinetic: float, n: int, seed: int = 1) -> Shots:
    """Follow single particles.

    Args:
        kind: of `recon.sim.neutrino_detector`.
        kinetic: energy, GeV.
        n: number of particles.
        seed: of the random numbers.
    """
    planes = np.zeros((n, 2), np.int64)
    profile, width, energy = np.zeros(PLANES), np.zeros(CELLS), np.zeros(n)
    start = 200
    # In the middle of a cell and of a plane's scintillator, not in the dead material between.
    middle = 0.5 * CELL_PITCH
    position = (middle, middle, (start + 0.45) * PLANE_PITCH)
    _shoot(new_stack(), matter(), new_light(), kind, kinetic, position, seed, planes, profile, width, energy)
    depth = np.where(planes >= 0, (planes - start) * PLANE_PITCH, np.nan)
    return Shots(profile[start:] / n, width / n, depth[:, 0], depth[:, 1], energy)


@compiled
def _shoot(
    stack: Stack,
    tables: Matter,
    light: Light,
    kind: int,
    kinetic: float,
    position: Vector,
    seed: int,
    planes: Int64[np.ndarray, "n 2"],
    profile: Float64[np.ndarray, " planes"],
    width: Float64[np.ndarray, " cells"],
    energy: Float64[np.ndarray, " n"],
) -> None:
    for number in range(len(energy)):
        seed_stream(stack.random, seed, kind, number)
        darken(light)
        push(stack, kind, position, (0.0, 0.0, 1.0), kinetic)
        follow(stack, tables, light)
        first, last = PLANES, -1
        for i in range(light.size[0]):
            plane, cell = light.touched[i] // CELLS, light.touched[i] % CELLS
            seen = light.expected[plane, cell] / attenuation(light, HALF_WIDTH)
            first, last = min(first, plane), max(last, plane)
            profile[plane] += seen
            width[abs(cell - CELLS // 2)] += seen
        energy[number] = light.energy[0]
        planes[number, 0], planes[number, 1] = (first, last) if last >= 0 else (-1, -1)


def shower_maximum(shots: Shots) -> float:
    """Depth of the maximum of a profile in radiation lengths, from a parabola through the planes around it."""
    # Two planes together: the gaps between the cells of the two views differ.
    smooth = np.convolve(shots.profile, np.ones(3) / 3, "same")
    top = int(np.argmax(smooth))
    if not 0 < top < len(smooth) - 1:
        return top * PLANE_PITCH / RADIATION_LENGTH
    around = np.arange(max(top - 6, 0), min(top + 7, len(smooth)))
    a, b, _ = np.polyfit(around, smooth[around], 2)
    return float(-b / (2 * a) * PLANE_PITCH / RADIATION_LENGTH)


def expected_maximum(energy: float, *, photon: bool) -> float:
    """Depth of the maximum of an electromagnetic shower, radiation lengths (Particle Data Group, equation 34.36)."""
    return float(np.log(energy / CRITICAL_ENERGY) + (0.5 if photon else -0.5))


def quasi_elastic_sample(energy: float, n: int, seed: int = 1) -> Elastic:
    """Quasi-elastic reactions of muon neutrinos of one energy (GeV) in carbon."""
    lepton, nucleon = np.zeros((n, 4)), np.zeros((n, 4))
    state = np.zeros(4, np.uint64)
    seed_stream(state, seed, 0, 0)
    tables = quasi_elastic(MUON_MASS)
    for i in range(n):
        _, lepton[i], nucleon[i] = quasi_elastic_reaction(
            state, tables, (0.0, 0.0, 1.0), energy, MUON_MASS, True
        )
    transfer = np.array([0.0, 0.0, energy, energy]) - lepton
    size = np.linalg.norm(lepton[:, :3], axis=1)
    return Elastic(
        q2=(transfer[:, :3] ** 2).sum(axis=1) - transfer[:, 3] ** 2,
        proton=np.linalg.norm(nucleon[:, :3], axis=1),
        cosine=lepton[:, 2] / size,
        muon=lepton[:, 3],
    )
