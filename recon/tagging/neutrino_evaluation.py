"""Neutrino events of files with what networks say of them: file -> events -> images -> scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from recon.errors import DataError
from recon.io.pixel_maps import has_empty_view
from recon.io.root_pixel_maps import read_neutrino_events
from recon.tagging.cvn import NeutrinoModel
from recon.tagging.neutrino_performance import Judged
from recon.tagging.neutrino_report import NetworkResult
from recon.tagging.pixel_maps import exchanged, images_of
from recon.types import NeutrinoEvents

CHUNK = 512
"""Events that are drawn at once: their images take 32 MB."""


class ScoredEvents(NamedTuple):
    """Events with the probabilities of their classes.

    Attributes:
        events: as they were read.
        scores: probabilities.
    """

    events: NeutrinoEvents
    scores: Float32[np.ndarray, "e k"]


def score_events(
    events: NeutrinoEvents, model: NeutrinoModel, *, reflections: bool = False
) -> Float32[np.ndarray, "e k"]:
    """Probabilities of the classes of events; views may be empty.

    Args:
        events: host arrays.
        model: of `recon.tagging.cvn.load_model`.
        reflections: mean of what the network says of an event and of the same with left and right exchanged; twice
            the time.
    """
    parts = []
    for start in range(0, len(events.label), CHUNK):
        images = images_of(events, np.arange(start, min(start + CHUNK, len(events.label))))
        scores = model.scorer(images).scores
        if reflections:
            scores = (scores + model.scorer(exchanged(images)).scores) / 2
        parts.append(scores)
    return np.concatenate(parts) if parts else np.zeros((0, len(model.labels)), np.float32)


def score_file(path: Path, model: NeutrinoModel, *, reflections: bool = False) -> Iterator[ScoredEvents]:
    """Events of a file with their scores, some thousand at a time.

    Args:
        path: of the file.
        model: the network.
        reflections: see `score_events`.

    Raises:
        DataError: as `recon.io.root_pixel_maps.read_neutrino_events`.
    """
    for events in read_neutrino_events(path):
        yield ScoredEvents(events, score_events(events, model, reflections=reflections))


def judge_tables(
    tables: Iterable[NeutrinoEvents],
    model: NeutrinoModel,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    total: int = 0,
    reflections: bool = False,
) -> NetworkResult:
    """Score events whose classes are known.

    Args:
        tables: of simulated events.
        model: the network.
        report: told how many are done.
        total: number of events, for `report`.
        reflections: see `score_events`.

    Raises:
        DataError: no events, or events without labels or truth.
    """
    done, parts, begin = 0, [], time.process_time()
    for events in tables:
        if events.truth is None or (events.label < 0).any():
            raise DataError(
                "events without labels or truth cannot be compared with it; simulated ones have both"
            )
        scores = score_events(events, model, reflections=reflections)
        parts.append((events.label, scores, events.truth.energy))
        done += len(scores)
        report(done, max(total, done))
    if not done:
        raise DataError("there are no events to judge a network by")
    judged = Judged(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return NetworkResult(judged, (time.process_time() - begin) / done)


def losses(events: NeutrinoEvents) -> dict[str, int]:
    """What a network does not see of events: hits outside of the window, views without any."""
    return {
        "hits": len(events.charge),
        "hits_outside": int(events.outside.sum()),
        "events_with_empty_view": int(has_empty_view(events).sum()),
    }
