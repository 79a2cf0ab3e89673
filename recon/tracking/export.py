"""The track finder as artefacts: the network alone, and the whole chain from hits to fitted tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from recon.export import Report, Signature, Sizes, Tensor, export_model, quiet
from recon.nn.export import flat_function
from recon.tracking.capacity import TrackingCapacity, TrackingSizes, capacity_for, limits
from recon.tracking.detector import n_layers
from recon.tracking.graph import EDGE_FEATURES, NODE_FEATURES
from recon.tracking.pipeline import reconstruct
from recon.tracking.scoring import network_state, network_with, score_edges
from recon.tracking.shipped import TrackingModel
from recon.types import NOISE, EdgeList, Hits, Tracks

HIT_BUCKETS = (4096, 16_384, 49_152)
"""Padded numbers of hits: up to t tbar at 40 pile-up collisions and more."""
EDGE_BUCKETS = (4096, 16_384, 65_536, 262_144)


def export_network(
    directory: Path,
    model: TrackingModel,
    *,
    name: str = "tracking_network",
    version: str = "1",
    buckets: tuple[int, ...] = EDGE_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write the edge classifier: graphs of several requests run as one.

    Args:
        directory: the model repository.
        model: whose network is written.
        name: of the artefact.
        version: of the artefact.
        buckets: padded numbers of edges; half as many hits go with them.
        overwrite: replace an artefact of this name and version.
        report: hears (programs written, programs in all).
    """
    shape = model.config.network
    state = network_state(network_with(shape, model.weights))
    weights, tree_of = flat_function(state)

    def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        edges = EdgeList(inputs["senders"], inputs["receivers"], inputs["edge_valid"], jnp.asarray(False))
        scores = score_edges(
            tree_of(weights),
            shape,
            inputs["node_features"],
            inputs["edge_features"],
            edges,
            inputs["node_valid"],
        )
        return {"scores": scores}

    signature = Signature(
        inputs=(
            Tensor(name="node_features", datatype="FP32", shape=("n", shape.node_features), finite=True),
            Tensor(name="edge_features", datatype="FP32", shape=("e", shape.edge_features), finite=True),
            Tensor(name="senders", datatype="INT32", shape=("e",), index_of="n"),
            Tensor(name="receivers", datatype="INT32", shape=("e",), index_of="n", is_sorted=True),
        ),
        outputs=(Tensor(name="scores", datatype="FP32", shape=("e",)),),
        buckets=tuple({"n": edges // 2, "e": edges} for edges in buckets),
        batched=True,
        masks={"n": "node_valid", "e": "edge_valid"},
    )
    return export_model(
        directory,
        # The blocks of the message passing depend on the number of edges.
        lambda sizes: program,
        weights,
        signature,
        name=name,
        version=version,
        by_bucket=True,
        description="graph network that scores the segments between hits",
        config=model.config.to_json(),
        features=[
            {"tensor": tensor, "column": column, "quantity": quantity}
            for tensor, names in (("node_features", NODE_FEATURES), ("edge_features", EDGE_FEATURES))
            for column, quantity in enumerate(names)
        ],
        provenance={"card": model.card},
        overwrite=overwrite,
        report=report,
    )


def export_chain(
    directory: Path,
    model: TrackingModel,
    *,
    name: str = "tracking",
    version: str = "1",
    buckets: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write the whole chain, hits to fitted tracks.

    Args:
        directory: the model repository.
        model: the track finder.
        name: of the artefact.
        version: of the artefact.
        buckets: padded numbers of hits.
        overwrite: replace an artefact of this name and version.
        report: hears (programs written, programs in all).
    """
    weights, tree_of = flat_function(model.device)

    def program_of(sizes: Sizes) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
        capacity = capacity_for(sizes["n"], model.pairs)

        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            tracks, needed = reconstruct(_hits(inputs), tree_of(weights), model.config, capacity)
            return tracks_first(tracks) | {"overflow": _overflow(needed, capacity)}

        return program

    return export_model(
        directory,
        program_of,
        weights,
        _chain_signature(model, buckets),
        name=name,
        version=version,
        by_bucket=True,
        description="track finding with a graph network and a Kalman fit: hits to tracks",
        config=model.config.to_json(),
        provenance={"card": model.card},
        overwrite=overwrite,
        report=report,
    )


def _chain_signature(model: TrackingModel, buckets: tuple[int, ...]) -> Signature:
    features = 3
    modules = len(model.detector.layer)
    return Signature(
        inputs=(
            Tensor(name="position", datatype="FP32", shape=("n", 3), finite=True),
            Tensor(name="layer", datatype="INT32", shape=("n",), limits=(0, n_layers(model.detector) - 1)),
            Tensor(name="module", datatype="INT32", shape=("n",), limits=(NOISE, modules - 1)),
            Tensor(name="local", datatype="FP32", shape=("n", 2), finite=True),
            Tensor(name="variance", datatype="FP32", shape=("n", 2), finite=True),
            Tensor(name="features", datatype="FP32", shape=("n", features), finite=True),
        ),
        outputs=(
            Tensor(name="hit_track", datatype="INT32", shape=("n",)),
            Tensor(name="parameters", datatype="FP32", shape=("tracks", 5)),
            Tensor(name="covariance", datatype="FP32", shape=("tracks", 5, 5)),
            Tensor(name="chi2", datatype="FP32", shape=("tracks",)),
            Tensor(name="n_hits", datatype="INT32", shape=("tracks",)),
        ),
        buckets=tuple({"n": length} for length in buckets),
        batched=False,
        masks={"n": "valid"},
        counts={"tracks": "n_tracks"},
        overflow="overflow",
    )


def _hits(inputs: dict[str, Any]) -> Hits:
    valid = inputs["valid"]
    numbers = {name: jnp.where(valid, inputs[name], NOISE) for name in ("layer", "module")}
    return Hits(**{**inputs, **numbers})


def tracks_first(tracks: Tracks) -> dict[str, Any]:
    """The outputs of the chain: tracks first, rows without one behind; numbered anew.

    Args:
        tracks: padded, the valid ones anywhere.
    """
    order = jnp.argsort(~tracks.valid, stable=True)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    number = jnp.where(tracks.hit_track >= 0, place[jnp.maximum(tracks.hit_track, 0)], NOISE)
    return {
        "hit_track": number.astype(jnp.int32),
        "parameters": tracks.parameters[order],
        "covariance": tracks.covariance[order],
        "chi2": tracks.chi2[order],
        "n_hits": tracks.n_hits[order],
        "n_tracks": tracks.valid.sum(dtype=jnp.int32),
    }


def _overflow(needed: TrackingSizes, capacity: TrackingCapacity) -> Any:
    allowed = limits(capacity)
    return jnp.stack([size > allowed[name] for name, size in needed._asdict().items()]).any()
