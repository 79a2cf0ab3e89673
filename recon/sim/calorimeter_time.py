"""Times of the hits of a simulated endcap: collisions spread in time, particles fly, silicon measures.

A hit is as late as the particles in it, by their shares of its energy. Silicon measures the time where the charge is
12 fC or more (A. Lobanov for CMS, arXiv:2005.13324), and does so as well as a single channel of the prototype did, to
60 ps (CMS HGCAL, arXiv:2312.14622), with noise on top that falls with the charge and is 100 ps at the threshold, which
is an assumption. Tiles of scintillator measure none here. A shower itself takes no time.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from recon.hgcal_clustering.sensors import SENSORS
from recon.sim.calorimeter_noise import ReadOut
from recon.sim.calorimeter_particles import Incident
from recon.sim.mixing import LIGHT_SPEED, GeneratedParticles
from recon.types import Calorimeter, HitTimes

COLLISION_SPREAD = 0.17
"""Standard deviation of the time of a collision, ns: what the design of the LHC gives for a crossing of bunches."""
CHARGE_MIN = 12.0
"""fC that a channel needs for a time."""
ERROR_MIN = 0.06
"""ns, of any charge."""
ERROR_AT_THRESHOLD = 0.1
"""ns of noise at `CHARGE_MIN`."""
_LEAST_SHARE = 0.3
"""A hit that noise made for the most part has no time that means anything."""


def hit_times(
    generated: GeneratedParticles,
    calorimeter: Calorimeter,
    sides: list[tuple[int, Incident, ReadOut]],
    face: float,
    rng: np.random.Generator,
) -> HitTimes:
    """Times of all hits of an event, in the order of the endcaps.

    Args:
        generated: all particles.
        calorimeter: the cells.
        sides: for each endcap its sign of z, the particles that reached it, and its hits.
        face: z of the face, mm.
        rng: random numbers of this event's times.
    """
    count = int(generated.collision.max(initial=0)) + 1
    collision = rng.normal(0.0, COLLISION_SPREAD, count)
    start = collision[generated.collision] + since_collision(generated)
    parts = []
    for side, incident, hits in sides:
        late = start[incident.row] + lateness(generated, incident, face, side)
        parts.append(_measured(late, incident, hits, calorimeter, face, rng))
    time, error = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return HitTimes(time.astype(np.float32), error.astype(np.float32))


def since_collision(generated: GeneratedParticles) -> Float64[np.ndarray, " n"]:
    """How long after its collision every particle was made, ns: particles of decays in flight are late.

    The times of the collisions in `generated` are those of the tracker's simulation, wider than real ones; the first
    particle of a collision tells its time.
    """
    first = np.full(int(generated.collision.max(initial=0)) + 1, np.inf)
    np.minimum.at(first, generated.collision, generated.time)
    return (generated.time - first[generated.collision]) / LIGHT_SPEED


def lateness(
    generated: GeneratedParticles, incident: Incident, face: float, side: int
) -> Float64[np.ndarray, " p"]:
    """How long particles take from their vertices to the face, ns: along helices, and slower than light.

    Args:
        generated: all particles.
        incident: those that reach the face.
        face: z of it, mm.
        side: sign of z of the endcap.
    """
    row = incident.row
    momentum = generated.momentum[row]
    energy = np.sqrt((momentum**2).sum(1) + generated.mass[row] ** 2)
    along = face - side * generated.vertex[row, 2]
    # The component along the field is all that a helix leaves alone.
    return along * energy / (side * momentum[:, 2] * LIGHT_SPEED)


def _measured(
    late: Float64[np.ndarray, " p"],
    incident: Incident,
    hits: ReadOut,
    calorimeter: Calorimeter,
    face: float,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Times of the hits of one endcap and their errors; NaN where there is none."""
    cell, n = calorimeter.position[hits.cell].astype(np.float64), len(hits.cell)
    x, y = incident.x0 + face * incident.slope_x, incident.y0 + face * incident.slope_y
    entry = np.stack([x, y, np.full(len(x), face)], 1)
    inside = np.linalg.norm(cell[hits.hit] - entry[hits.particle], axis=1) / LIGHT_SPEED
    arrival = late[hits.particle] + inside
    share = np.bincount(hits.hit, weights=hits.fraction, minlength=n)
    mean = np.bincount(hits.hit, weights=hits.fraction * arrival, minlength=n) / np.maximum(share, 1e-9)
    charge = hits.energy * np.array([sensor.fc_per_mip for sensor in SENSORS])[calorimeter.sensor[hits.cell]]
    there = (charge >= CHARGE_MIN) & (share >= _LEAST_SHARE)
    error = np.hypot(ERROR_MIN, ERROR_AT_THRESHOLD * CHARGE_MIN / np.maximum(charge, CHARGE_MIN))
    time = mean - np.linalg.norm(cell, axis=1) / LIGHT_SPEED + error * rng.standard_normal(n)
    return np.where(there, time, np.nan), np.where(there, error, np.nan)
