"""Neutrino events by engines that serve the two artefacts of a network: featurizer, then classifier."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from recon.engines import Engine, Inputs, Outputs, check_shapes
from recon.pipeline import EngineModule, Job
from recon.tagging.cvn import BATCH, NeutrinoModel
from recon.tagging.image_export import BATCHES, export_parts
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.pixel_maps import images_of
from recon.types import NeutrinoEvents

MODEL = "nova"
"""Name of the artefacts before the underscore."""


def export_neutrino_model(
    directory: Path,
    model: NeutrinoModel,
    *,
    name: str = MODEL,
    version: str = "1",
    batches: Sequence[int] = BATCHES,
    overwrite: bool = False,
) -> list[Path]:
    """Write `<name>_featurizer`, both views to features, and `<name>_classifier`, features to probabilities.

    Args:
        directory: the model repository.
        model: the network.
        name: of the artefacts.
        version: of the artefacts.
        batches: padded numbers of events.
        overwrite: replace artefacts of these names and version.

    Returns:
        Both folders, the featurizer's first.

    Raises:
        ConfigError: an artefact exists.
    """
    return export_parts(
        directory,
        model,
        model.network.config,
        name=name,
        description="neutrino events in two views of 100 planes x 80 cells",
        version=version,
        batches=batches,
        overwrite=overwrite,
    )


class _Asked(NamedTuple):
    """Events that an engine is asked about at once."""

    events: NeutrinoEvents
    rows: np.ndarray


def _images(asked: _Asked) -> Inputs:
    return {"image": images_of(asked.events, asked.rows)}


def _scores(asked: _Asked, outputs: Outputs) -> Float32[np.ndarray, "e k"]:
    check_shapes(outputs, {"scores": (len(asked.rows), len(NEUTRINO_LABELS))})
    return outputs["scores"]


def classify_remotely(
    tables: Iterable[NeutrinoEvents],
    engine: Engine,
    *,
    streams: int = 4,
    batch: int = BATCH // 2,
) -> Generator[tuple[NeutrinoEvents, Float32[np.ndarray, "e k"]], None, None]:
    """Tables of events with their scores from an engine, several requests on their way at once.

    Args:
        tables: of events; cut into requests.
        engine: of `recon.tagging.two_part_engine.connect_parts`.
        streams: requests on their way at once.
        batch: most events of a request.
    """

    def requests() -> Iterable[_Asked]:
        for events in tables:
            rows = np.arange(len(events.label))
            for start in range(0, len(rows), batch):
                yield _Asked(events, rows[start : start + batch])

    job = Job(requests(), {"scores": EngineModule(engine, _images, _scores)}, streams=streams)
    parts: list[np.ndarray] = []
    with closing(job.results()) as results:
        for asked, products in results:
            parts.append(products["scores"])
            if sum(map(len, parts)) == len(asked.events.label):
                yield asked.events, np.concatenate(parts)
                parts = []
