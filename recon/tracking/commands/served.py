"""The demo's last step: the network in a second process, asked over the wire, beside the network here."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from recon.engines import Inputs, connect
from recon.padding import bucket_size
from recon.server_process import served_models
from recon.tracking.export import export_network
from recon.tracking.graph import HitGraph
from recon.tracking.pipeline import find_tracks
from recon.tracking.shipped import TrackingModel
from recon.types import Event

NAME = "tracking_network"
PATIENCE_S = 120.0


def served_difference(
    event: Event, model: TrackingModel, folder: Path, length: int | None = None
) -> tuple[int, float]:
    """Score the segments of an event here and by a server of the exported network.

    Args:
        event: one event.
        model: the track finder.
        folder: the model repository to write.
        length: as for `find_tracks`.

    Returns:
        (number of segments, largest difference of a score).

    Raises:
        EngineError: the server does not start or does not answer.
    """
    seen: dict[str, Any] = {}
    find_tracks(event, model, length=length, clock=lambda step, result: seen.update({step: result}))
    inputs, here = _request(*jax.device_get((seen["graph"], seen["network"])))
    # Half as many hits as segments go with a bucket.
    edges = bucket_size(max(len(here), 2 * len(inputs["node_features"])), steps_per_octave=1)
    export_network(folder, model, buckets=(edges,), overwrite=True)
    with served_models(folder) as url, closing(connect(url, model=NAME, timeout=PATIENCE_S)) as engine:
        there = engine.produce(engine.acquire(inputs))["scores"]
    return len(here), float(np.abs(there - here).max(initial=0.0))


def _request(graph: HitGraph, scores: np.ndarray) -> tuple[Inputs, np.ndarray]:
    """The graph without padding, which comes last, and its scores."""
    nodes, edges = int(graph.node_valid.sum()), int(graph.edges.valid.sum())
    inputs = {
        "node_features": graph.node_features[:nodes],
        "edge_features": graph.edge_features[:edges],
        "senders": graph.edges.senders[:edges],
        "receivers": graph.edges.receivers[:edges],
    }
    return inputs, scores[:edges]
