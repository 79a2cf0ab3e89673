"""From the arrays that ACTS made to an `Event`: noise, random order, truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped, UInt64

from recon.sim.digitisation import Digitisation
from recon.sim.noise import NoiseHits, draw_noise
from recon.sim.resolution import cluster_variance
from recon.tracking.detector import to_global
from recon.types import NOISE, Detector, Event, Hits, HitTruth, Particles

if TYPE_CHECKING:
    from recon.sim.fatras import SimulatedArrays


def assemble_event(
    arrays: SimulatedArrays,
    detector: Detector,
    *,
    noise_fraction: float,
    kind: Digitisation,
    noise_rng: np.random.Generator,
    order_rng: np.random.Generator,
) -> Event:
    """Add noise hits, shuffle all hits and convert into the types of the package.

    Args:
        arrays: what ACTS simulated.
        detector: the sensor table.
        noise_fraction: noise hits per real hit.
        kind: of digitisation.
        noise_rng: random numbers for the noise.
        order_rng: random numbers for the order of the hits.

    Returns:
        The event, with truth.
    """
    module = _sensor_rows(detector, arrays.geometry_id)
    n_noise = int(len(module) * noise_fraction)
    noise = draw_noise(detector, module, arrays.cluster, n_noise, noise_rng)
    order = order_rng.permutation(len(module) + len(noise.module))
    particle = np.searchsorted(arrays.barcode, arrays.hit_barcode)
    return Event(
        number=arrays.number,
        hits=_hits(arrays, noise, module, detector, order=order, kind=kind),
        particles=Particles(
            momentum=arrays.momentum.astype(np.float32),
            vertex=arrays.vertex.astype(np.float32),
            charge=np.rint(arrays.charge).astype(np.int32),
            pdg=arrays.pdg.astype(np.int32),
            primary=_is_primary(arrays.barcode),
            valid=np.ones(len(arrays.barcode), bool),
            hit_particle=_with_noise(particle.astype(np.int32), noise, NOISE)[order],
        ),
        truth=HitTruth(
            position=_with_noise(arrays.hit_position.astype(np.float32), noise, np.nan)[order],
            momentum=_with_noise(arrays.hit_momentum.astype(np.float32), noise, np.nan)[order],
            order=_with_noise(_rank_along_path(particle, arrays.hit_index), noise, NOISE)[order],
        ),
        hit_id=np.arange(1, len(order) + 1, dtype=np.uint64),
        particle_id=arrays.barcode,
    )


def _hits(
    arrays: SimulatedArrays,
    noise: NoiseHits,
    module: Int32[np.ndarray, " n"],
    detector: Detector,
    *,
    order: Int64[np.ndarray, " t"],
    kind: Digitisation,
) -> Hits:
    module = np.concatenate([module, noise.module])[order]
    local = np.concatenate([arrays.local.astype(np.float32), noise.local])[order]
    cluster = np.concatenate([arrays.cluster, arrays.cluster[noise.template]])[order]
    return Hits(
        position=to_global(detector, module, local),
        layer=detector.layer[module],
        module=module,
        local=local,
        variance=cluster_variance(detector, module, cluster[:, :2], kind).astype(np.float32),
        features=cluster.astype(np.float32),
        valid=np.ones(len(order), bool),
    )


def _sensor_rows(detector: Detector, geometry_id: UInt64[np.ndarray, " n"]) -> Int32[np.ndarray, " n"]:
    return np.searchsorted(detector.geometry_id, geometry_id).astype(np.int32)


def _is_primary(barcode: UInt64[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """Generation 0, bits 16 to 23: made by the generator."""
    return (barcode >> np.uint64(16)) & np.uint64(0xFF) == 0


def _with_noise(
    real: Shaped[np.ndarray, "n ..."], noise: NoiseHits, fill: float | int
) -> Shaped[np.ndarray, "t ..."]:
    """Append rows of a fill value for the noise hits."""
    return np.concatenate([real, np.full((len(noise.module), *real.shape[1:]), fill, real.dtype)])


def _rank_along_path(
    particle: Int64[np.ndarray, " n"], index: Int64[np.ndarray, " n"]
) -> Int32[np.ndarray, " n"]:
    """Number the hits of each particle 0, 1, ... along its path."""
    along = np.lexsort((index, particle))
    sorted_particle = particle[along]
    rank = np.empty(len(particle), np.int32)
    rank[along] = np.arange(len(particle)) - np.searchsorted(sorted_particle, sorted_particle)
    return rank
