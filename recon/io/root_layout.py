"""The columns of an event in a ROOT file: their names, types and units, and the way to and from `Event`.

One entry an event. `hit_*` are jagged with `n_hits` values, `particle_*` with `n_particles`. `hit_particle`
is the row of the particle within the same entry, -1 for noise. Lengths are mm, momenta GeV, charges e,
cluster sizes cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recon.types import Detector, Event, Hits, HitTruth, Particles

SCHEMA = "recon.events"
SCHEMA_VERSION = 1
UNITS = {"length": "mm", "momentum": "GeV", "charge": "e", "variance": "mm^2", "cluster size": "cells"}

HITS: Mapping[str, str] = {
    "hit_id": "uint64",
    "hit_x": "float32",
    "hit_y": "float32",
    "hit_z": "float32",
    "hit_layer": "int32",
    "hit_module": "int32",
    "hit_local_u": "float32",
    "hit_local_v": "float32",
    "hit_var_u": "float32",
    "hit_var_v": "float32",
    "hit_size_u": "float32",
    "hit_size_v": "float32",
    "hit_charge": "float32",
}
"""Always there: the measurements."""

GEOMETRY: Mapping[str, str] = {
    "hit_geometry_id": "uint64",
    "hit_volume_id": "int32",
    "hit_layer_id": "int32",
    "hit_module_id": "int32",
}
"""For other programs: the identifiers of the sensor; written where the detector is known, never read back."""

PARTICLES: Mapping[str, str] = {
    "particle_id": "uint64",
    "particle_px": "float32",
    "particle_py": "float32",
    "particle_pz": "float32",
    "particle_vx": "float32",
    "particle_vy": "float32",
    "particle_vz": "float32",
    "particle_charge": "int32",
    "particle_pdg": "int32",
    "particle_primary": "bool",
}
HIT_PARTICLE: Mapping[str, str] = {"hit_particle": "int32"}
"""Together with `PARTICLES`: simulation only."""

TRUTH: Mapping[str, str] = {
    "hit_tx": "float32",
    "hit_ty": "float32",
    "hit_tz": "float32",
    "hit_tpx": "float32",
    "hit_tpy": "float32",
    "hit_tpz": "float32",
    "hit_order": "int32",
}
"""The true crossing behind every hit, NaN for noise: simulation only."""

N_FEATURES = 3


def columns_of(event: Event, detector: Detector | None) -> dict[str, np.ndarray]:
    """Lay one event out as flat columns.

    Args:
        event: host arrays, already checked.
        detector: adds the columns of `GEOMETRY`.

    Returns:
        Column name to array of length n_hits (`hit_*`) or n_particles (`particle_*`).
    """
    hits = event.hits
    values: list[Any] = [event.hit_id, *hits.position.T, hits.layer, hits.module]
    values += [*hits.local.T, *hits.variance.T, *hits.features.T]
    columns = _typed(HITS, values)
    if detector is not None:
        columns |= _typed(GEOMETRY, _geometry(np.asarray(hits.module), detector))
    if event.particles is not None:
        particles = event.particles
        values = [event.particle_id, *particles.momentum.T, *particles.vertex.T]
        values += [particles.charge, particles.pdg, particles.primary]
        columns |= _typed(PARTICLES, values) | _typed(HIT_PARTICLE, [particles.hit_particle])
    if event.truth is not None:
        truth = event.truth
        columns |= _typed(TRUTH, [*truth.position.T, *truth.momentum.T, truth.order])
    return columns


def event_of(columns: Mapping[str, np.ndarray], number: int) -> Event:
    """Build the event that `columns_of` laid out; the truth is `None` where its columns are absent.

    Args:
        columns: column name to array, types as declared in this module.
        number: event number.

    Returns:
        The unpadded event on the host.
    """
    n_hits = len(columns["hit_x"])
    hits = Hits(
        position=_stacked(columns, "hit_x", "hit_y", "hit_z"),
        layer=columns["hit_layer"],
        module=columns["hit_module"],
        local=_stacked(columns, "hit_local_u", "hit_local_v"),
        variance=_stacked(columns, "hit_var_u", "hit_var_v"),
        features=_stacked(columns, "hit_size_u", "hit_size_v", "hit_charge"),
        valid=np.ones(n_hits, bool),
    )
    particles = _particles_of(columns) if "particle_id" in columns else None
    truth = None
    if "hit_tx" in columns:
        truth = HitTruth(
            position=_stacked(columns, "hit_tx", "hit_ty", "hit_tz"),
            momentum=_stacked(columns, "hit_tpx", "hit_tpy", "hit_tpz"),
            order=columns["hit_order"],
        )
    particle_id = columns["particle_id"] if particles is not None else np.zeros(0, np.uint64)
    return Event(number, hits, particles, truth, columns["hit_id"], particle_id)


def _particles_of(columns: Mapping[str, np.ndarray]) -> Particles:
    return Particles(
        momentum=_stacked(columns, "particle_px", "particle_py", "particle_pz"),
        vertex=_stacked(columns, "particle_vx", "particle_vy", "particle_vz"),
        charge=columns["particle_charge"],
        pdg=columns["particle_pdg"],
        primary=columns["particle_primary"],
        valid=np.ones(len(columns["particle_id"]), bool),
        hit_particle=columns["hit_particle"],
    )


def _geometry(module: np.ndarray, detector: Detector) -> list[np.ndarray]:
    """Return the identifiers of every hit's sensor, 0 where the sensor is unknown."""
    identifiers = (detector.geometry_id, detector.volume_id, detector.layer_id, detector.module_id)
    if detector.geometry_id.size == 0:
        return [np.zeros(module.shape, values.dtype) for values in identifiers]
    row = np.maximum(module, 0)
    return [np.where(module >= 0, values[row], values.dtype.type(0)) for values in identifiers]


def _typed(declared: Mapping[str, str], values: list[Any]) -> dict[str, np.ndarray]:
    pairs = zip(declared.items(), values, strict=True)
    return {name: np.ascontiguousarray(array, dtype=dtype) for (name, dtype), array in pairs}


def _stacked(columns: Mapping[str, np.ndarray], *names: str) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=-1)
