"""Events of a narrow piece of an endcap by the parametrisation itself, with cells, noise and truth."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from recon.hgcal_clustering.sensors import SENSORS
from recon.io.root_rechits import write_rechits
from recon.sim.calorimeter_assembly import assemble
from recon.sim.calorimeter_deposits import collect
from recon.sim.calorimeter_hadrons import shower_spots
from recon.sim.calorimeter_noise import read_out
from recon.sim.calorimeter_particles import gun, reach_endcap
from recon.sim.mixing import mix
from recon.sim.pool import empty_pool


def wedge_event(geometry, calorimeter, lookup, number=0, n=3, energy=(10.0, 25.0), sides=(1, -1)):
    """An event with `n` photons and pions in the middle of the wedge, half of them in either endcap."""
    rng = np.random.default_rng([7, number])
    pool = gun(("photon", "pion"), n, energy, (1.8, 2.7), rng, both_sides=len(sides) > 1)
    width = geometry.phi_max - geometry.phi_min
    phi = geometry.phi_min + width * rng.uniform(0.3, 0.7, n)
    pt = np.hypot(*pool.momentum[:, :2].T)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pool.momentum[:, 2]], 1).astype(np.float32)
    # Without charge they fly straight and stay in the wedge.
    pool = pool._replace(momentum=momentum, charge=np.zeros(n, np.int32))
    generated = mix(pool, empty_pool(), 0, rng, pt_min=0.0, eta_max=3.3)
    layers = geometry.layers()
    noise = np.array([sensor.noise_mip for sensor in SENSORS])[calorimeter.sensor]
    found = []
    for side in sides:
        incident = reach_endcap(generated, float(layers.z[0]), (0.0, 1e4), side)
        spots = shower_spots(incident, layers, rng)
        hits = read_out(collect(spots, len(incident.row), lookup), noise, 3.0, rng)
        found.append((side, incident, hits))
    return assemble(number, generated, calorimeter, found)


def write_wedge(path, geometry, calorimeter, events, pileup=0):
    metadata = {"calorimeter": asdict(geometry), "simulation": {"pileup": pileup}}
    write_rechits(
        path, events, metadata=metadata, n_layers=len(calorimeter.layer_z), n_cells=len(calorimeter.layer)
    )
    return path
