"""CLUE and CLUE3D as artefacts: hits to layer clusters, and the whole chain to tracksters.

The neighbours of all cells travel as weights: for a whole endcap a table of 343 MB, which a server reads once for all
sizes of events. Each of the two artefacts has its own copy, since an artefact is complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recon.export import Program, Report, Signature, Sizes, Tensor, export_model, quiet
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.chain import capacity_for, layer_chain, shower_chain
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.remote import CLUSTERS, MODEL, TRACKSTERS
from recon.types import Clusters, RecHits, Tracksters

HIT_BUCKETS = (16_384, 65_536, 262_144)
"""Padded numbers of hits: up to an endcap at 200 pile-up collisions."""
LAYERS = "hgcal_layers"
"""Name of the artefact of CLUE in the layers."""
_INTEGERS = ("size", "layer", "seed", "trackster")
_FIELDS = {"cluster": Clusters._fields[1:-1], "trackster": Tracksters._fields[1:-1]}


def export_layers(
    directory: Path,
    cells: CellGraph,
    n_layers: int,
    config: HgcalConfig | None = None,
    *,
    name: str = LAYERS,
    version: str = "1",
    buckets: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write CLUE in the layers: hits to layer clusters.

    Args:
        directory: the model repository.
        cells: neighbours of the cells of the calorimeter.
        n_layers: of the calorimeter.
        config: settings; those of CMS if not given.
        name: of the artefact.
        version: of the artefact.
        buckets: padded numbers of hits.
        overwrite: replace an artefact of this name and version.
        report: hears (programs written, programs in all).

    Returns:
        The folder of the artefact.
    """
    config = config or HgcalConfig()

    def program_of(sizes: Sizes) -> Program:
        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            clusters, overflow = layer_chain(
                CellGraph(**weights), _hits(inputs), config, capacity_for(sizes["n"])
            )
            return _cluster_outputs(clusters) | {"overflow": overflow}

        return program

    signature = _signature(cells, n_layers, buckets, CLUSTERS, {"clusters": "n_clusters"})
    return export_model(
        directory, program_of, _weights(cells), signature,
        name=name, version=version, by_bucket=True, overwrite=overwrite, report=report,
        description="CLUE in the layers of the HGCAL: hits, one a cell, to layer clusters",
        config=config.to_json(),
    )  # fmt: skip


def export_chain(
    directory: Path,
    cells: CellGraph,
    n_layers: int,
    config: HgcalConfig | None = None,
    *,
    name: str = MODEL,
    version: str = "1",
    buckets: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write the whole chain, hits to tracksters; arguments as for `export_layers`."""
    config = config or HgcalConfig()

    def program_of(sizes: Sizes) -> Program:
        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            clusters, tracksters, overflow = shower_chain(
                CellGraph(**weights), _hits(inputs), config, capacity_for(sizes["n"])
            )
            found = {f"trackster_{field}": getattr(tracksters, field) for field in _FIELDS["trackster"]}
            return {
                **_cluster_outputs(clusters),
                **found,
                "cluster_trackster": tracksters.member_trackster,
                "n_tracksters": tracksters.valid.sum(dtype=jnp.int32),
                "overflow": overflow,
            }

        return program

    counts = {"clusters": "n_clusters", "tracksters": "n_tracksters"}
    outputs = {**CLUSTERS, "cluster_trackster": (), **TRACKSTERS}
    return export_model(
        directory, program_of, _weights(cells), _signature(cells, n_layers, buckets, outputs, counts),
        name=name, version=version, by_bucket=True, overwrite=overwrite, report=report,
        description="CLUE and CLUE3D in the HGCAL: hits, one a cell, to layer clusters and tracksters",
        config=config.to_json(),
    )  # fmt: skip


def _weights(cells: CellGraph) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in jax.device_get(cells)._asdict().items()}


def _hits(inputs: dict[str, Any]) -> RecHits:
    return RecHits(**inputs)


def _cluster_outputs(clusters: Clusters) -> dict[str, Any]:
    columns = {f"cluster_{field}": getattr(clusters, field) for field in _FIELDS["cluster"]}
    count = clusters.valid.sum(dtype=jnp.int32)
    return columns | {"hit_cluster": clusters.member_cluster, "n_clusters": count}


def _signature(
    cells: CellGraph,
    n_layers: int,
    buckets: tuple[int, ...],
    outputs: dict[str, tuple[int, ...]],
    counts: dict[str, str],
) -> Signature:
    made = [Tensor(name="hit_cluster", datatype="INT32", shape=("n",))]
    for name, row in outputs.items():
        kind, _, field = name.partition("_")
        datatype = "INT32" if field in _INTEGERS else "FP32"
        made.append(Tensor(name=name, datatype=datatype, shape=(f"{kind}s", *row)))
    return Signature(
        inputs=(
            Tensor(name="position", datatype="FP32", shape=("n", 3), finite=True),
            Tensor(name="energy", datatype="FP32", shape=("n",), finite=True),
            Tensor(name="layer", datatype="INT32", shape=("n",), limits=(0, n_layers - 1)),
            Tensor(name="cell", datatype="INT32", shape=("n",), limits=(0, cells.n_cells - 1)),
            Tensor(name="sigma_noise", datatype="FP32", shape=("n",), finite=True),
        ),
        outputs=tuple(made),
        buckets=tuple({"n": length} for length in buckets),
        batched=False,
        masks={"n": "valid"},
        counts=counts,
        overflow="overflow",
    )
