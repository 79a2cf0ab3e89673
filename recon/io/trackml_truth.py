"""The truth files of the TrackML challenge: particles, and the particle behind every hit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from recon.io.csv_table import (
    Table,
    find_rows,
    read_table,
    refuse_lines,
    require_finite,
    require_unique,
    rows_of,
)
from recon.types import NOISE, HitTruth, Particles

TRUTH_POSITION = ("tx", "ty", "tz")
TRUTH_MOMENTUM = ("tpx", "tpy", "tpz")
VERTEX = ("vx", "vy", "vz")
MOMENTUM = ("px", "py", "pz")

_MADE_IN_DETECTOR = np.uint64(0xFFFFFF)
"""Bits of a particle's identifier that are 0 for what the generator made: 16 to 23 count the generations in
the detector, 0 to 15 the products of an interaction there."""

NOISE_ID = 0
"""`particle_id` of noise in the truth file, `track_id` of hits on no track in a submission."""


def read_truth(
    truth_path: Path, particles_path: Path, hits: Table
) -> tuple[Particles, HitTruth, UInt64[np.ndarray, " p"]]:
    """Read particles and true crossings.

    Args:
        truth_path: hit_id, particle_id, tx, ty, tz, tpx, tpy, tpz; one line a hit, in any order.
        particles_path: particle_id, vx, vy, vz, px, py, pz, q; particle_type and primary where it has them.
        hits: the hits file, for its hit_id.

    Returns:
        Particles with the owners of the hits, the true crossings in the order of the hits, the identifiers.

    Raises:
        DataError: naming file, line and column.
    """
    particle_table = _read_particles(particles_path)
    particle_id = particle_table["particle_id"]
    truth_table, row_of_hit = _read_crossings(truth_path, hits)
    particles = _particles(particle_table, _owners(truth_table, particle_id)[row_of_hit])
    return particles, _truth(truth_table, row_of_hit, particles), particle_id


def _read_particles(path: Path) -> Table:
    required = {"particle_id": "u8", **dict.fromkeys((*VERTEX, *MOMENTUM), "f8"), "q": "i4"}
    table = read_table(path, required, {"particle_type": "i4", "primary": "i4"})
    require_finite(table, *VERTEX, *MOMENTUM)
    require_unique(table, "particle_id")
    refuse_lines(table, "particle_id", np.equal(table["particle_id"], NOISE_ID), "0 stands for noise")
    return table


def _particles(table: Table, hit_particle: np.ndarray) -> Particles:
    n_particles = len(table["particle_id"])
    stored = table.columns.get("primary")
    return Particles(
        momentum=_vectors(table, MOMENTUM),
        vertex=_vectors(table, VERTEX),
        charge=table["q"],
        pdg=table.columns.get("particle_type", np.zeros(n_particles, np.int32)),
        primary=table["particle_id"] & _MADE_IN_DETECTOR == 0 if stored is None else stored != 0,
        valid=np.ones(n_particles, bool),
        hit_particle=hit_particle,
    )


def _read_crossings(path: Path, hits: Table) -> tuple[Table, np.ndarray]:
    """Read the truth and find the line of every hit in it."""
    required = {
        "hit_id": "u8",
        "particle_id": "u8",
        **dict.fromkeys((*TRUTH_POSITION, *TRUTH_MOMENTUM), "f8"),
    }
    table = read_table(path, required)
    require_unique(table, "hit_id")
    rows_of(table, "hit_id", hits["hit_id"], str(hits.path))
    return table, rows_of(hits, "hit_id", table["hit_id"], str(path))


def _owners(table: Table, particle_id: np.ndarray) -> np.ndarray:
    """Row of the particle for every line of the truth file."""
    rows, found = find_rows(table["particle_id"], particle_id)
    noise = table["particle_id"] == NOISE_ID
    refuse_lines(table, "particle_id", ~found & ~noise, "no such identifier in the particles file")
    return np.where(noise, NOISE, rows).astype(np.int32)


def _truth(table: Table, row_of_hit: np.ndarray, particles: Particles) -> HitTruth:
    owner = np.asarray(particles.hit_particle)
    noise = owner == NOISE
    position = _vectors(table, TRUTH_POSITION)[row_of_hit]
    momentum = _vectors(table, TRUTH_MOMENTUM)[row_of_hit]
    # The challenge puts random numbers where noise has no truth.
    position[noise] = np.nan
    momentum[noise] = np.nan
    vertex = np.asarray(particles.vertex)[owner] if len(particles.valid) else position
    distance = np.linalg.norm(position - vertex, axis=1)
    return HitTruth(position, momentum, rank_within(owner, distance))


def rank_within(owner: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Rank every hit among the hits of its owner by increasing key, from 0; `NOISE` for hits of no owner."""
    order = np.lexsort((key, owner))
    sorted_owner = owner[order]
    starts = np.searchsorted(sorted_owner, sorted_owner, side="left")
    rank = np.empty(len(owner), np.int32)
    rank[order] = np.arange(len(owner)) - starts
    rank[owner == NOISE] = NOISE
    return rank


def _vectors(table: Table, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([table[name] for name in names], axis=1).astype(np.float32)
