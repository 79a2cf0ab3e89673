"""The hybrid clustering with its network on a server: layers, graph and the choice of members stay on this machine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from recon.engines import Call, Engine, Inputs, Outputs, check_shapes
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.checks import check_rechits
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.hybrid import showers_of
from recon.hgcal_clustering.pipeline import (
    Showers,
    cluster_layers,
    endcaps,
    find_layer_clusters,
    showers_from_clusters,
    times_of,
)
from recon.hgcal_clustering.rows import join_rows, nothing
from recon.hgcal_clustering.shower_graph import ShowerGraph, shower_graph
from recon.types import CalorimeterEvent, Clusters


class _Endcap(NamedTuple):
    """One endcap on its way; without layer clusters nobody is asked."""

    graph: ShowerGraph
    rows: Int[np.ndarray, " k"]
    call: Call | None


class _Underway(NamedTuple):
    clusters: Clusters
    endcaps: list[_Endcap]


class HybridFinder:
    """A module of `recon.pipeline.Job`: events to showers, as `find_showers` gives them with the method `hybrid`.

    Args:
        engine: that serves the artefact of `recon.hgcal_clustering.hybrid_export`.
        config: settings of the model whose network that is.
        cells: graph of the calorimeter; see `find_showers`.
    """

    def __init__(self, engine: Engine, config: HgcalConfig, cells: CellGraph | None = None) -> None:
        self._engine, self._config, self._cells = engine, config, cells

    def acquire(self, event: CalorimeterEvent) -> _Underway:
        """Find the layer clusters and send the graphs of both endcaps."""
        hits, config = event.hits, self._config
        check_rechits(hits)
        density, tile = cluster_layers(hits, config, self._cells)
        clusters = find_layer_clusters(hits, density, config, scintillator=tile)
        times = times_of(clusters, event.times, config)
        sent = []
        for one, rows in endcaps(clusters):
            graph, _ = shower_graph(one, config.hybrid.graph, None if times is None else times.at(rows))
            call = self._engine.acquire(pack_graph(graph)) if len(graph.row) else None
            sent.append(_Endcap(graph, rows, call))
        return _Underway(clusters, sent)

    def produce(self, event: CalorimeterEvent, state: _Underway) -> Showers:
        """Wait for the probabilities and put the showers together."""
        parts = []
        for graph, rows, call in state.endcaps:
            if call is None:
                parts.append((nothing(len(rows)), rows))
                continue
            probability = unpack_probability(graph, self._engine.produce(call))
            parts.append((showers_of(graph, probability, self._config.hybrid, len(rows)), rows))
        density = join_rows(parts, len(state.clusters.valid))
        return showers_from_clusters(state.clusters, density, self._config)

    def cancel(self, state: _Underway) -> None:
        """Give the calls up."""
        for endcap in state.endcaps:
            if endcap.call is not None:
                endcap.call.cancel()


def pack_graph(graph: ShowerGraph) -> Inputs:
    """A graph, not padded, as the inputs of the artefact."""
    return {name: np.ascontiguousarray(column) for name, column in graph._asdict().items()}


def unpack_probability(graph: ShowerGraph, outputs: Outputs) -> Float[np.ndarray, "n k1"]:
    """The artefact's output for a graph.

    Raises:
        DataError: it is not that of this graph.
    """
    n, slots = graph.candidate.shape
    check_shapes(outputs, {"probability": (n, slots + 1)})
    return outputs["probability"].astype(np.float64)
