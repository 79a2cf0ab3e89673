"""Neutrino events between hits and images, and the checks that they must pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from recon.errors import DataError
from recon.types import NOISE, NeutrinoEvents, NeutrinoTruth, PixelMaps

PLANES, CELLS = 100, 80
"""Of a view: 200 planes of the detector, of which every other one is of the view."""
FULL_SCALE = 0.06
"""Energy of the brightest grey value, GeV; a muon leaves about 0.011 in a cell."""
GREY_VALUES = 255


def grey_values(charge: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Energies (GeV) as 8-bit grey values from 0 to 1; a hit is never 0.

    Source:
        D. Rocco, PhD thesis, University of Minnesota (2016): intensities of pixel maps have 256 values.
    """
    return (np.clip(np.floor(charge / FULL_SCALE * GREY_VALUES), 1, GREY_VALUES) / GREY_VALUES).astype(
        np.float32
    )


def pixel_maps(
    events: NeutrinoEvents, *, empty_views: Literal["keep", "refuse"] = "keep", where: str = "events"
) -> PixelMaps:
    """Draw the hits into images; those of the same pixel add up before they become a grey value.

    Args:
        events: host arrays, all hits within the window.
        empty_views: what to do with events that have no hit in one of the views.
        where: opens the message.

    Returns:
        Images of 100 planes times 80 cells.

    Raises:
        DataError: an empty view that is refused.
    """
    check_events(events, where, windowed=True)
    n = len(events.label)
    if empty_views == "refuse" and (bad := has_empty_view(events)).any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{where}: event {events.number[first]}: branch hit_view has no hit in one of the views "
            f"({int(bad.sum())} of {n} events)"
        )
    row = np.repeat(np.arange(n), np.diff(events.offsets))
    index = ((events.view.astype(np.int64) * n + row) * PLANES + events.plane) * CELLS + events.cell
    # Only pixels with hits are touched: they are a hundredth of all.
    energy, images = (np.zeros(2 * n * PLANES * CELLS, dtype) for dtype in (np.float64, np.float32))
    np.add.at(energy, index, events.charge)
    images[index] = grey_values(energy[index].astype(np.float32))
    xz, yz = images.reshape(2, n, PLANES, CELLS, 1)
    return PixelMaps(xz, yz, np.asarray(events.label, np.int32))


def has_empty_view(events: NeutrinoEvents) -> Bool[np.ndarray, " e"]:
    """Which events have no hit in one of the views, or in both."""
    n = len(events.label)
    row = np.repeat(np.arange(n), np.diff(events.offsets))
    return (np.bincount(2 * row + events.view, minlength=2 * n).reshape(n, 2) == 0).any(axis=1)


def drop_outside(events: NeutrinoEvents) -> NeutrinoEvents:
    """Leave out the hits that the window does not hold, and count them in `outside`."""
    inside = (events.plane >= 0) & (events.plane < PLANES) & (events.cell >= 0) & (events.cell < CELLS)
    if inside.all():
        return events
    row = np.repeat(np.arange(len(events.label)), np.diff(events.offsets))
    kept = np.bincount(row[inside], minlength=len(events.label))
    lost = np.diff(events.offsets) - kept
    return events._replace(
        offsets=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        view=events.view[inside],
        plane=events.plane[inside],
        cell=events.cell[inside],
        charge=events.charge[inside],
        outside=(events.outside + lost).astype(np.int32),
    )


def take_events(events: NeutrinoEvents, rows: np.ndarray) -> NeutrinoEvents:
    """Some of the events, in the order of `rows`."""
    counts = np.diff(events.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    hits = np.repeat(events.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    truth = events.truth
    return NeutrinoEvents(
        number=events.number[rows],
        label=events.label[rows],
        offsets=offsets,
        view=events.view[hits],
        plane=events.plane[hits],
        cell=events.cell[hits],
        charge=events.charge[hits],
        outside=events.outside[rows],
        window=events.window[rows],
        truth=None if truth is None else type(truth)(*(column[rows] for column in truth)),
    )


def packed(events: NeutrinoEvents) -> NeutrinoEvents:
    """The same events, all hits within the window, with bytes where bytes suffice: less than half of the memory."""
    small = {name: getattr(events, name).astype(np.uint8) for name in ("view", "plane", "cell")}
    return events._replace(**small)


def join_events(tables: Iterable[NeutrinoEvents]) -> NeutrinoEvents:
    """All events of several tables; they all have truth, or none has.

    Args:
        tables: one or more; of an iterator that nobody else reads, memory holds the events hardly more than once.

    Raises:
        DataError: some have truth and others have none.
    """
    names = [name for name in NeutrinoEvents._fields if name not in ("offsets", "truth")]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    counts, truths = [], []
    for table in tables:
        counts.append(np.diff(table.offsets))
        truths.append(table.truth)
        for name, columns in parts.items():
            columns.append(getattr(table, name))
    known = [truth for truth in truths if truth is not None]
    if known and len(known) != len(truths):
        raise DataError("some events have truth, others have none; give it to all or to none")
    # The parts of a column go as soon as it is whole.
    joined = {name: np.concatenate(parts.pop(name)) for name in names}
    truth = NeutrinoTruth(*map(np.concatenate, zip(*known, strict=True))) if known else None
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return NeutrinoEvents(**joined, offsets=offsets, truth=truth)


def check_events(events: NeutrinoEvents, where: str, *, windowed: bool = False) -> None:
    """Check events on the host.

    Args:
        events: the events.
        where: opens every message, as the file.
        windowed: whether all hits must be within the window.

    Raises:
        DataError: the branch, the event and the hit of: charges that are not finite or not positive, views other than
            0 and 1, planes and cells outside of the window; energies of the truth that are not finite.
    """
    n_hits = {name: len(getattr(events, name)) for name in ("view", "plane", "cell", "charge")}
    if set(n_hits.values()) != {int(events.offsets[-1])}:
        raise DataError(f"{where}: columns of the hits have lengths {n_hits}; needed is {events.offsets[-1]}")
    charge = events.charge
    _refuse_hits(events, ~np.isfinite(charge), where, "hit_charge", charge, "it must be finite")
    _refuse_hits(events, charge <= 0, where, "hit_charge", charge, "it must be positive")
    _refuse_hits(
        events, (events.view != 0) & (events.view != 1), where, "hit_view", events.view, "allowed are 0 and 1"
    )
    if windowed:
        for name, values, n in (("hit_plane", events.plane, PLANES), ("hit_cell", events.cell, CELLS)):
            outside = (values < 0) | (values >= n)
            _refuse_hits(events, outside, where, name, values, f"allowed are 0 to {n - 1}")
    bad = np.asarray(events.label) < NOISE
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{where}: event {events.number[row]}: branch label is {events.label[row]}")
    if events.truth is not None and not np.isfinite(events.truth.energy).all():
        row = int(np.argmax(~np.isfinite(events.truth.energy)))
        raise DataError(
            f"{where}: event {events.number[row]}: branch truth_energy is {events.truth.energy[row]}"
        )


def _refuse_hits(
    events: NeutrinoEvents,
    bad: Bool[np.ndarray, " n"],
    where: str,
    branch: str,
    values: np.ndarray,
    rule: str,
) -> None:
    if not bad.any():
        return
    hit = int(np.argmax(bad))
    row = int(np.searchsorted(events.offsets, hit, side="right")) - 1
    raise DataError(
        f"{where}: event {events.number[row]}: branch {branch} is {values[hit]} at hit "
        f"{hit - int(events.offsets[row])}; {rule} ({int(bad.sum())} such hits)"
    )
