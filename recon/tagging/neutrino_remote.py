"""Neutrino events by engines that serve the two artefacts of a network: featurizer, then classifier."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from recon.engines import Engine
from recon.errors import DataError
from recon.pipeline import Job
from recon.tagging.cvn import BATCH, NeutrinoModel
from recon.tagging.image_export import BATCHES, export_parts
from recon.tagging.pixel_maps import images_of
from recon.types import NeutrinoEvents

FEATURIZER, CLASSIFIER = "nova_featurizer", "nova_classifier"
"""Names of the artefacts."""


def export_neutrino_model(
    directory: Path,
    model: NeutrinoModel,
    *,
    name: str = "nova",
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
    config = model.network.config
    return export_parts(
        directory,
        model.network,
        name=name,
        labels=model.labels,
        image=(*config.image, config.views),
        features=config.features,
        description="neutrino events in two views of 100 planes x 80 cells",
        card=model.card,
        version=version,
        batches=batches,
        overwrite=overwrite,
    )


class _Asked(NamedTuple):
    """Events that an engine is asked about at once."""

    events: NeutrinoEvents
    rows: np.ndarray


class EventClassifier:
    """A module of `recon.pipeline.Job`: images to a featurizer, its features to a classifier.

    Args:
        featurizer: engine of the one artefact.
        classifier: engine of the other.
        classes: number of them.
    """

    def __init__(self, featurizer: Engine, classifier: Engine, classes: int) -> None:
        self._featurizer, self._classifier, self._classes = featurizer, classifier, classes

    def acquire(self, asked: Any) -> Any:
        """Send the images of some events."""
        return self._featurizer.acquire({"image": images_of(asked.events, asked.rows)})

    def produce(self, asked: Any, state: Any) -> Float32[np.ndarray, "e k"]:
        """Wait for the features, send them on, wait for the probabilities.

        Raises:
            DataError: the engine answered for other events or other classes.
        """
        features = self._featurizer.produce(state)["features"]
        scores = self._classifier.produce(self._classifier.acquire({"features": features}))["scores"]
        wanted = (len(asked.rows), self._classes)
        if scores.shape != wanted:
            raise DataError(f"output 'scores' of the engine has shape {scores.shape}; {wanted} is needed")
        return scores

    def cancel(self, state: Any) -> None:
        """Give the call up."""
        state.cancel()


def classify_remotely(
    tables: Iterable[NeutrinoEvents],
    featurizer: Engine,
    classifier: Engine,
    classes: int,
    *,
    streams: int = 4,
    batch: int = BATCH // 2,
) -> Generator[tuple[NeutrinoEvents, Float32[np.ndarray, "e k"]], None, None]:
    """Tables of events with their scores from engines, several requests on their way at once.

    Args:
        tables: of events; cut into requests.
        featurizer: engine.
        classifier: engine.
        classes: number of them.
        streams: requests on their way at once.
        batch: most events of a request.
    """

    def requests() -> Iterable[_Asked]:
        for events in tables:
            rows = np.arange(len(events.label))
            for start in range(0, len(rows), batch):
                yield _Asked(events, rows[start : start + batch])

    job = Job(requests(), {"scores": EventClassifier(featurizer, classifier, classes)}, streams=streams)
    parts: list[np.ndarray] = []
    with closing(job.results()) as results:
        for asked, products in results:
            parts.append(products["scores"])
            if sum(map(len, parts)) == len(asked.events.label):
                yield asked.events, np.concatenate(parts)
                parts = []
