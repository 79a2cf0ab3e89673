"""Track finding by an engine that serves the artefact of `recon.tracking.export.export_chain`."""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.engines import Engine, Inputs, Outputs, check_shapes
from recon.pipeline import EngineModule
from recon.tracking.checks import check_hits
from recon.types import NOISE, Detector, Event, Hits, Tracks

MODEL = "tracking"
"""Name of the artefact."""
INPUTS = ("position", "layer", "module", "local", "variance", "features")


def pack_hits(hits: Hits, detector: Detector) -> Inputs:
    """Hits as the inputs of the artefact: the valid ones, column by column.

    Raises:
        DataError: a hit is not finite or lies on a layer that the detector does not have; it is named.
    """
    check_hits(hits, detector)
    used = np.asarray(hits.valid)
    columns = {name: np.asarray(getattr(hits, name)) for name in INPUTS}
    return columns if used.all() else {name: column[used] for name, column in columns.items()}


def unpack_tracks(hits: Hits, outputs: Outputs) -> Tracks:
    """The artefact's outputs as the tracks of an event.

    Raises:
        DataError: they are not those of this event; the output is named.
    """
    used = np.asarray(hits.valid)
    n_hits, n_tracks = int(used.sum()), len(outputs["chi2"])
    shapes = {
        "hit_track": (n_hits,),
        "parameters": (n_tracks, 5),
        "covariance": (n_tracks, 5, 5),
        "chi2": (n_tracks,),
        "n_hits": (n_tracks,),
    }
    check_shapes(outputs, shapes)
    hit_track = np.full(len(used), NOISE, np.int32)
    hit_track[used] = outputs["hit_track"]
    columns = {name: outputs[name] for name in shapes if name != "hit_track"}
    return Tracks(hit_track=hit_track, **columns, valid=np.ones(n_tracks, np.bool_))


class TrackFinder(EngineModule[Event]):
    """A module of `recon.pipeline.Job`: events to tracks, as `find_tracks` gives them.

    Args:
        engine: that serves the artefact.
        detector: whose sensors the hits lie on.
    """

    def __init__(self, engine: Engine, detector: Detector) -> None:
        def pack(event: Event) -> Inputs:
            return pack_hits(event.hits, detector)

        def unpack(event: Event, outputs: Outputs) -> Any:
            return unpack_tracks(event.hits, outputs)

        super().__init__(engine, pack, unpack)
