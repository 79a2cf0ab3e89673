"""What every reader and writer demands of an event, so that bad numbers stop at the door."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from recon.errors import DataError
from recon.types import NOISE, Event, Hits, HitTruth, Particles, Tracks


def refuse(
    bad: ArrayLike, values: ArrayLike, where: str, column: str, rule: str, *, row_name: str = "row"
) -> None:
    """Raise `DataError` for the first true entry of `bad`.

    Args:
        bad: bool[n], true where `values` breaks the rule.
        values: [n] or [n, k], what was given.
        where: file and event.
        column: name of the column in the file.
        rule: what is allowed.
        row_name: what a row is ("hit row").

    Raises:
        DataError: naming file, event, column, row and value.
    """
    rows = np.flatnonzero(bad)
    if rows.size:
        others = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        first = int(rows[0])
        raise DataError(
            f"{where}: {column} is {np.asarray(values)[first]} at {row_name} {first}{others}; {rule}"
        )


def refuse_duplicates(ids: np.ndarray, where: str, column: str, row_name: str) -> None:
    """Raise `DataError` naming the first identifier that occurs twice and its rows.

    Raises:
        DataError: where `ids` are not unique.
    """
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if again.size:
        repeated = ids[order[again[0]]]
        rows = ", ".join(str(row) for row in np.flatnonzero(ids == repeated)[:5])
        raise DataError(
            f"{where}: {column} {repeated} occurs at {row_name}s {rows}; it must be unique in an event"
        )


def check_event(
    event: Event, where: str, *, n_layers: int | None = None, n_modules: int | None = None
) -> None:
    """Check one unpadded event on the host.

    Args:
        event: host arrays.
        where: file and event, opens every message.
        n_layers: number of detector layers; the upper bound of `hits.layer` where it is known.
        n_modules: number of sensors; the upper bound of `hits.module` where it is known.

    Raises:
        DataError: columns of different lengths, padding, NaN or infinite numbers, a negative variance, a
            layer, module or particle that does not exist, an identifier that occurs twice.
    """
    _check_lengths(event, where)
    _check_hits(event.hits, where, n_layers, n_modules)
    refuse_duplicates(event.hit_id, where, "hit_id", "hit row")
    if event.particles is not None:
        _check_particles(event.particles, where)
        refuse_duplicates(event.particle_id, where, "particle_id", "particle row")
    if event.truth is not None and event.particles is not None:
        _check_truth(event.truth, event.particles, where)


def _check_hits(hits: Hits, where: str, n_layers: int | None, n_modules: int | None) -> None:
    columns = (
        ("x y z", hits.position),
        ("local", hits.local),
        ("variance", hits.variance),
        ("features", hits.features),
    )
    for column, values in columns:
        bad = ~np.isfinite(values).all(axis=1)
        refuse(bad, values, where, f"hit {column}", "it must be finite", row_name="hit row")
    negative = (hits.variance < 0).any(axis=1)
    refuse(negative, hits.variance, where, "hit variance", "it must not be negative", row_name="hit row")
    refuse(~hits.valid, hits.valid, where, "hits.valid", "files hold unpadded events", row_name="hit row")
    top_layer = np.iinfo(np.int32).max if n_layers is None else n_layers - 1
    top_module = np.iinfo(np.int32).max if n_modules is None else n_modules - 1
    wrong_layer = (hits.layer < 0) | (hits.layer > top_layer)
    refuse(wrong_layer, hits.layer, where, "hit_layer", f"allowed are 0 to {top_layer}", row_name="hit row")
    wrong_module = (hits.module < NOISE) | (hits.module > top_module)
    allowed = f"allowed are {NOISE} (unknown) to {top_module}"
    refuse(wrong_module, hits.module, where, "hit_module", allowed, row_name="hit row")


def _check_lengths(event: Event, where: str) -> None:
    n_hits = event.hits.position.shape[0]
    lengths = {f"hits.{name}": len(values) for name, values in event.hits._asdict().items()}
    lengths["hit_id"] = len(event.hit_id)
    if event.particles is not None:
        lengths["hit_particle"] = len(event.particles.hit_particle)
        n_particles = len(event.particles.valid)
        if len(event.particle_id) != n_particles:
            raise DataError(
                f"{where}: {len(event.particle_id)} values of particle_id for {n_particles} particles"
            )
    if event.truth is not None:
        lengths |= {f"truth.{name}": len(values) for name, values in event.truth._asdict().items()}
    wrong = {name: length for name, length in lengths.items() if length != n_hits}
    if wrong:
        listed = ", ".join(f"{name} has {length}" for name, length in wrong.items())
        raise DataError(
            f"{where}: {n_hits} hits by their position, but {listed}; all must have the same length"
        )


def _check_particles(particles: Particles, where: str) -> None:
    for column, values in (("px py pz", particles.momentum), ("vx vy vz", particles.vertex)):
        bad = ~np.isfinite(values).all(axis=1)
        refuse(bad, values, where, f"particle {column}", "it must be finite", row_name="particle row")
    refuse(
        ~particles.valid,
        particles.valid,
        where,
        "particles.valid",
        "files hold unpadded events",
        row_name="particle row",
    )
    top = len(particles.valid) - 1
    wrong = (particles.hit_particle < NOISE) | (particles.hit_particle > top)
    rule = f"allowed are {NOISE} (noise) and the rows of the event's particles, 0 to {top}"
    refuse(wrong, particles.hit_particle, where, "hit_particle", rule, row_name="hit row")


def _check_truth(truth: HitTruth, particles: Particles, where: str) -> None:
    from_particle = particles.hit_particle != NOISE
    for column, values in (("tx ty tz", truth.position), ("tpx tpy tpz", truth.momentum)):
        bad = from_particle & ~np.isfinite(values).all(axis=1)
        refuse(
            bad, values, where, f"hit {column}", "only noise may lack its true crossing", row_name="hit row"
        )


def compact_tracks(event: Event, tracks: Tracks, where: str) -> Tracks:
    """Bring padded tracks of one event to the host and drop the padding.

    Args:
        event: where the hits come from.
        tracks: NumPy or JAX; `hit_track` at least as long as the event has hits.
        where: opens every message.

    Returns:
        The valid tracks in their order, `hit_track` renumbered and as long as the event has hits.

    Raises:
        DataError: a hit on a track that does not exist or is not valid, padding on a track, `n_hits` that
            disagrees with `hit_track`, an infinite parameter. NaN is allowed: a fit may fail.
    """
    hit_track = np.asarray(tracks.hit_track)
    valid = np.asarray(tracks.valid)
    n_hits = len(event.hit_id)
    if len(hit_track) < n_hits:
        raise DataError(
            f"{where}: hit_track has {len(hit_track)} rows for {n_hits} hits of event {event.number}"
        )
    on_track = hit_track != NOISE
    refuse(on_track[n_hits:], hit_track[n_hits:], where, "hit_track of padding", f"it must be {NOISE}")
    known = np.append(valid, True)  # the last entry is that of NOISE
    in_range = (hit_track >= NOISE) & (hit_track < len(valid))
    bad = ~in_range | ~known[np.where(in_range, hit_track, NOISE)]
    rule = f"allowed are {NOISE} and the rows of the {valid.sum()} valid tracks"
    refuse(bad, hit_track, where, "hit_track", rule, row_name="hit row")
    counts = np.bincount(hit_track[on_track], minlength=len(valid))
    given = np.asarray(tracks.n_hits)
    refuse(
        valid & (counts != given), given, where, "n_hits", "hit_track says otherwise", row_name="track row"
    )
    parameters = np.asarray(tracks.parameters)
    infinite = valid & np.isinf(parameters).any(axis=1)
    refuse(infinite, parameters, where, "parameters", "they must be finite or NaN", row_name="track row")
    new_row = np.append(np.cumsum(valid) - 1, NOISE).astype(np.int32)
    kept = [np.asarray(values)[valid] for values in tracks[1:]]
    return Tracks(new_row[hit_track[:n_hits]], *kept)


def track_hits(event: Event, tracks: Tracks) -> list[np.ndarray]:
    """Return the rows of the hits on every track, from the innermost by distance from the origin.

    Args:
        event: where the hits come from.
        tracks: from `compact_tracks`.
    """
    hit_track = np.asarray(tracks.hit_track)
    radius = np.linalg.norm(np.asarray(event.hits.position, np.float64), axis=1)
    order = np.lexsort((radius, hit_track))
    bounds = np.searchsorted(hit_track[order], np.arange(len(tracks.valid) + 1))
    return [order[low:high] for low, high in pairwise(bounds)]
