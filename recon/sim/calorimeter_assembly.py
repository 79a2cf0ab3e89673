"""From the hits of the endcaps to an event of the package, with truth."""

from __future__ import annotations

import numpy as np

from recon.sim.calorimeter_noise import ReadOut
from recon.sim.calorimeter_particles import Incident
from recon.sim.mixing import GeneratedParticles
from recon.types import Calorimeter, CalorimeterEvent, RecHits, ShowerTruth

_HARD_SCATTER = 1
"""Number of the collision in `GeneratedParticles`."""


def assemble(
    number: int,
    generated: GeneratedParticles,
    calorimeter: Calorimeter,
    sides: list[tuple[int, Incident, ReadOut]],
) -> CalorimeterEvent:
    """Put the endcaps of one event together.

    Args:
        number: of the event.
        generated: all particles.
        calorimeter: the cells.
        sides: for each endcap its sign of z, the particles that reached it, and its hits.

    Returns:
        The event; particles that reached no endcap are left out.
    """
    cell = np.concatenate([hits.cell for _, _, hits in sides])
    energy = np.concatenate([hits.energy for _, _, hits in sides])
    side = np.repeat([sign for sign, _, _ in sides], [len(hits.cell) for _, _, hits in sides])
    position = calorimeter.position[cell].copy()
    position[:, 2] *= side
    hits = RecHits(
        position=position,
        energy=(energy * calorimeter.gev_per_mip[cell]).astype(np.float32),
        layer=calorimeter.layer[cell],
        cell=cell.astype(np.int32),
        sigma_noise=calorimeter.sigma_noise[cell],
        valid=np.ones(len(cell), bool),
    )
    return CalorimeterEvent(number, hits, _truth(generated, sides))


def _truth(generated: GeneratedParticles, sides: list[tuple[int, Incident, ReadOut]]) -> ShowerTruth:
    row = np.concatenate([incident.row for _, incident, _ in sides])
    before_hits = np.cumsum([0] + [len(hits.cell) for _, _, hits in sides])
    before_particles = np.cumsum([0] + [len(incident.row) for _, incident, _ in sides])
    shifted = list(zip(before_hits, before_particles, sides, strict=False))
    return ShowerTruth(
        momentum=generated.momentum[row].astype(np.float32),
        vertex=generated.vertex[row].astype(np.float32),
        charge=generated.charge[row].astype(np.int32),
        pdg=generated.pdg[row].astype(np.int32),
        hard_scatter=generated.collision[row] == _HARD_SCATTER,
        hit=np.concatenate([hits.hit + first for first, _, (_, _, hits) in shifted]).astype(np.int32),
        particle=np.concatenate([hits.particle + first for _, first, (_, _, hits) in shifted]).astype(
            np.int32
        ),
        fraction=np.concatenate([hits.fraction for _, _, hits in sides]).astype(np.float32),
    )
