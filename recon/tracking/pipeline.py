"""The tracking chain: hits to fitted tracks, top to bottom.

    hits -> candidate graph -> edge scores -> track candidates -> Kalman fit, outliers out -> tracks

Each step is a pure function of arrays; `reconstruct` is their composition, one XLA program. `find_tracks` is what
users call: it checks and pads the event, picks the program for its size, and repeats with larger arrays if something
did not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from recon.tracking.building import Candidates, attach_loose, list_candidates, walk
from recon.tracking.capacity import (
    MAX_TRIES,
    TrackingCapacity,
    TrackingSizes,
    capacity_in_use,
    check_sizes,
    grow,
    overflows,
)
from recon.tracking.checks import check_hits, pad_hits
from recon.tracking.cleaning import accept, remove_outliers
from recon.tracking.config import TrackingConfig
from recon.tracking.fitting import FitResult, fit_and_clean
from recon.tracking.graph import HitGraph, build_graph
from recon.tracking.scoring import score_edges
from recon.tracking.shipped import DeviceModel, TrackingModel
from recon.types import NOISE, Event, Hits, Tracks


def score(graph: HitGraph, model: DeviceModel, config: TrackingConfig) -> Float32[Array, " e"]:
    """Probability of every edge to join two hits in a row of one particle."""
    return score_edges(
        model.network, config.network, graph.node_features, graph.edge_features, graph.edges, graph.node_valid
    )


def build(
    graph: HitGraph,
    scores: Float32[Array, " e"],
    hits: Hits,
    config: TrackingConfig,
    capacity: TrackingCapacity,
) -> Candidates:
    """Track candidates as rows of `hits`."""
    edges, n_hits = graph.edges, hits.layer.shape[0]
    n_nodes = graph.node_valid.shape[0]
    hit = jnp.minimum(graph.hit, n_hits - 1)
    ends = (scores, edges.senders, edges.receivers, edges.valid)
    chains = walk(*ends, n_nodes, config.building)
    head = attach_loose(chains, *ends, config.building)
    # Along a track from the beam line the distance to the origin grows, in the barrel and in the discs alike.
    distance = jnp.linalg.norm(hits.position[hit], axis=1)
    found = list_candidates(
        head, distance, graph.node_valid, config.building, capacity=capacity.tracks, width=capacity.track_hits
    )
    return found._replace(nodes=jnp.where(found.nodes >= 0, hit[found.nodes], NOISE))


def fit(
    found: Candidates, hits: Hits, model: DeviceModel, config: TrackingConfig
) -> tuple[Int32[Array, "t k"], FitResult]:
    """Fit, remove outliers and fit again: (hits of each track, their fit)."""
    clean = partial(remove_outliers, config=config.cleaning)
    return fit_and_clean(hits, found.nodes, model.surfaces, config.fit, clean, config.cleaning.rounds)


def select(track_hits: Int32[Array, "t k"], result: FitResult, n_hits: int, config: TrackingConfig) -> Tracks:
    """Keep the candidates that look like particles."""
    length = (track_hits >= 0).sum(1).astype(jnp.int32)
    valid = accept(length, result, config.cleaning)
    row = jnp.arange(track_hits.shape[0], dtype=jnp.int32)[:, None]
    place = jnp.where((track_hits >= 0) & valid[:, None], track_hits, n_hits)
    hit_track = (
        jnp.full(n_hits, NOISE, jnp.int32).at[place].set(jnp.broadcast_to(row, place.shape), mode="drop")
    )
    return Tracks(
        hit_track, result.parameters, result.covariance, result.chi2, jnp.where(valid, length, 0), valid
    )


def reconstruct(
    hits: Hits, model: DeviceModel, config: TrackingConfig, capacity: TrackingCapacity
) -> tuple[Tracks, TrackingSizes]:
    """Hits to fitted tracks; pure, to be compiled with static `config` and `capacity`.

    Args:
        hits: padded hits of one event.
        model: arrays of the model.
        config: settings.
        capacity: lengths of all inner arrays; look at the sizes before the tracks.

    Returns:
        Padded tracks, and the sizes that were needed: where one exceeds its capacity the tracks are incomplete.
    """
    graph = build_graph(hits, model.rotation, model.pairs, capacity.graph)
    scores = score(graph, model, config)
    found = build(graph, scores, hits, config, capacity)
    track_hits, result = fit(found, hits, model, config)
    tracks = select(track_hits, result, hits.layer.shape[0], config)
    return tracks, TrackingSizes(**graph.sizes._asdict(), tracks=found.n_needed, track_hits=found.longest)


# The steps as programs of their own: they compile faster than the whole, and each can be timed.
_graph = jax.jit(build_graph, static_argnames="capacity")
_score = jax.jit(score, static_argnames="config")
_build = jax.jit(build, static_argnames=("config", "capacity"))
_fit = jax.jit(fit, static_argnames="config")
_select = jax.jit(select, static_argnames=("n_hits", "config"))

STEPS = (_graph, _score, _build, _fit, _select)

Clock = Callable[[str, Any], None]
"""Called with the name of a step and its result, when the step has been started."""


def run_steps(
    hits: Hits,
    model: DeviceModel,
    config: TrackingConfig,
    capacity: TrackingCapacity,
    clock: Clock = lambda *_: None,
) -> tuple[Tracks, TrackingSizes]:
    """`reconstruct`, one compiled program a step; `clock` sees each go by."""
    graph = _graph(hits, model.rotation, model.pairs, capacity=capacity.graph)
    clock("graph", graph)
    scores = _score(graph, model, config=config)
    clock("network", scores)
    found = _build(graph, scores, hits, config=config, capacity=capacity)
    clock("building", found)
    track_hits, result = _fit(found, hits, model, config=config)
    tracks = _select(track_hits, result, n_hits=len(hits.layer), config=config)
    clock("fit", tracks)
    return tracks, TrackingSizes(**graph.sizes._asdict(), tracks=found.n_needed, track_hits=found.longest)


def find_tracks(
    hits: Hits | Event,
    model: TrackingModel,
    *,
    length: int | None = None,
    capacity: TrackingCapacity | None = None,
    clock: Clock = lambda *_: None,
) -> Tracks:
    """Find and fit the tracks of one event.

    Args:
        hits: the hits of the event on the host, not padded; or the event.
        model: from `recon.tracking.load_model`.
        length: pad to this many hits, so that one program serves events of several sizes; the next size of a ladder
            if not given.
        capacity: lengths of the program's arrays; chosen by the number of hits and the windows, and enlarged
            when needed, if not given.
        clock: sees every step go by, once or more often if something did not fit.

    Returns:
        Host arrays, not padded: `hit_track` for every hit, and one row for every track.

    Raises:
        DataError: a hit is not finite or lies on a layer that the detector does not have; it is named.
        CapacityError: `length` or `capacity` was given and is too small.

    Example:
        >>> from recon import tracking
        >>> model = tracking.load_model()
        >>> tracks = tracking.find_tracks(event, model)  # doctest: +SKIP
    """
    if isinstance(hits, Event):
        hits = hits.hits
    check_hits(hits, model.detector)
    padded = pad_hits(hits, length)
    size = len(padded.layer)
    chosen = capacity or capacity_in_use(model.capacities, size, model.pairs)
    for _ in range(MAX_TRIES):
        tracks, sizes = jax.device_get(run_steps(padded, model.device, model.config, chosen, clock))
        if capacity is not None or not overflows(sizes, chosen):
            break
        chosen = model.capacities[size] = grow(sizes, chosen)
    check_sizes(sizes, chosen)
    return trim(tracks, len(hits.layer))


def trim(tracks: Tracks, n_hits: int) -> Tracks:
    """Drop the padding and number the tracks from 0."""
    keep = np.flatnonzero(tracks.valid)
    number = np.full(len(tracks.valid) + 1, NOISE, np.int32)
    number[keep] = np.arange(len(keep), dtype=np.int32)
    # NOISE is the last entry of the table.
    return Tracks(number[tracks.hit_track[:n_hits]], *(np.asarray(column)[keep] for column in tracks[1:]))
