"""What every reader and writer demands of a calorimeter event, so that bad numbers stop at the door."""

from __future__ import annotations

import numpy as np

from recon.errors import DataError
from recon.io.checks import refuse
from recon.types import CalorimeterEvent, HitTimes, RecHits, ShowerTruth

UNKNOWN = -1
"""`RecHits.cell` where the cell is not known."""


def check_calorimeter_event(
    event: CalorimeterEvent, where: str, *, n_layers: int | None = None, n_cells: int | None = None
) -> None:
    """Check one unpadded event on the host.

    Args:
        event: the event.
        where: file and event, opens every message.
        n_layers: of the calorimeter, where known.
        n_cells: of the calorimeter, where known.

    Raises:
        DataError: columns of different lengths, NaN or infinite numbers, negative energies or noise, layers, cells,
            hits or particles that do not exist, infinite times, times without an error above 0, fractions outside 0 to
            1, shares that are not sorted by hit.
    """
    if event.number < 0:
        raise DataError(f"{where}: the event number is {event.number}; it must not be negative")
    _check_hits(event.hits, where, n_layers, n_cells)
    if event.times is not None:
        _check_times(event.times, len(event.hits.energy), where)
    if event.truth is not None:
        _check_truth(event.truth, len(event.hits.energy), where)


def _check_hits(hits: RecHits, where: str, n_layers: int | None, n_cells: int | None) -> None:
    lengths = {name: len(values) for name, values in hits._asdict().items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: columns of the hits have different lengths: {lengths}")
    row = {"row_name": "hit row"}
    bad = ~np.isfinite(hits.position).all(axis=1)
    refuse(bad, hits.position, where, "hit x y z", "it must be finite", **row)
    for column, values in (("hit_energy", hits.energy), ("hit_sigma_noise", hits.sigma_noise)):
        refuse(~np.isfinite(values), values, where, column, "it must be finite", **row)
        refuse(values < 0, values, where, column, "it must not be negative", **row)
    refuse(~hits.valid, hits.valid, where, "hits.valid", "files hold unpadded events", **row)
    for column, values, n, lowest in (
        ("hit_layer", hits.layer, n_layers, 0),
        ("hit_cell", hits.cell, n_cells, UNKNOWN),
    ):
        highest = np.iinfo(np.int32).max if n is None else n - 1
        wrong = (values < lowest) | (values > highest)
        refuse(wrong, values, where, column, f"allowed are {lowest} to {highest}", **row)


def _check_times(times: HitTimes, n_hits: int, where: str) -> None:
    lengths = {name: len(values) for name, values in times._asdict().items()}
    if set(lengths.values()) != {n_hits}:
        raise DataError(f"{where}: times have lengths {lengths}; the event has {n_hits} hits")
    row = {"row_name": "hit row"}
    refuse(np.isinf(times.time), times.time, where, "hit_time", "it must be finite, or NaN for none", **row)
    wrong = ~(np.isnan(times.time) | ((times.error > 0) & np.isfinite(times.error)))
    refuse(wrong, times.error, where, "hit_time_error", "with a time it must be above 0 and finite", **row)


def _check_truth(truth: ShowerTruth, n_hits: int, where: str) -> None:
    for group in (("momentum", "vertex", "charge", "pdg", "hard_scatter"), ("hit", "particle", "fraction")):
        lengths = {name: len(getattr(truth, name)) for name in group}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{where}: columns of the truth have different lengths: {lengths}")
    row = {"row_name": "particle row"}
    for column, vectors in (("particle px py pz", truth.momentum), ("particle vx vy vz", truth.vertex)):
        refuse(~np.isfinite(vectors).all(axis=1), vectors, where, column, "it must be finite", **row)
    row = {"row_name": "share"}
    for column, values, n in (
        ("share_hit", truth.hit, n_hits),
        ("share_particle", truth.particle, len(truth.pdg)),
    ):
        refuse(
            (values < 0) | (values >= n), values, where, column, f"the event has {n}, counted from 0", **row
        )
    unsorted = np.diff(truth.hit, prepend=truth.hit[:1]) < 0
    refuse(unsorted, truth.hit, where, "share_hit", "shares are sorted by hit", **row)
    # Single precision: a share may exceed 1 by a rounding.
    outside = ~((truth.fraction >= 0) & (truth.fraction <= 1 + 1e-5))
    refuse(outside, truth.fraction, where, "share_fraction", "allowed are 0 to 1", **row)
