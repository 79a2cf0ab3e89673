"""Chains of the calorimeter as artefacts: hits to layer clusters, and hits to tracksters.

The neighbours of all cells travel as weights: for a whole endcap a table of 343 MB, which a server reads once for all
sizes of events. Each artefact has its own copy, since an artefact is complete; CLUE on hits in three dimensions needs
none. Of the hybrid clustering only the network is an artefact: see `recon.hgcal_clustering.hybrid_export`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recon.export import Program, Report, Signature, Sizes, Tensor, export_model, quiet
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.chain import capacity_for, hit_chain, layer_chain, shower_chain
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.remote import CLUSTERS, HIT_INPUTS, INPUTS, MODEL, TRACKSTERS, model_name
from recon.types import Clusters, RecHits, Tracksters

HIT_BUCKETS = (16_384, 65_536, 262_144)
"""Padded numbers of hits: up to an endcap at 200 pile-up collisions."""
LAYERS = "hgcal_layers"
"""Name of the artefact of CLUE in the layers."""
_INTEGERS = ("size", "layer", "seed", "cluster", "trackster")
_WHAT = {
    "clue3d": "CLUE and CLUE3D",
    "clusters": "CLUE in the layers and on layer clusters",
    "imaging": "Density peaks and lines of sight",
}
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
    """Write a whole chain, hits to layer clusters to tracksters; arguments as for `export_layers`.

    Raises:
        ConfigError: a method that is no such chain: `hits`, `hybrid`.
    """
    config = config or HgcalConfig()

    def program_of(sizes: Sizes) -> Program:
        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            clusters, tracksters, overflow = shower_chain(
                CellGraph(**weights), _hits(inputs), config, capacity_for(sizes["n"])
            )
            return {
                **_cluster_outputs(clusters),
                **_trackster_outputs(tracksters),
                "cluster_trackster": tracksters.member_trackster,
                "overflow": overflow,
            }

        return program

    counts = {"clusters": "n_clusters", "tracksters": "n_tracksters"}
    outputs = {**CLUSTERS, "cluster_trackster": (), **TRACKSTERS}
    return export_model(
        directory, program_of, _weights(cells), _signature(cells, n_layers, buckets, outputs, counts),
        name=name, version=version, by_bucket=True, overwrite=overwrite, report=report,
        description=f"{_WHAT.get(config.method)} in the HGCAL: hits, one a cell, to layer clusters and tracksters",
        config=config.to_json(),
    )  # fmt: skip


def export_hits(
    directory: Path,
    n_layers: int,
    config: HgcalConfig | None = None,
    *,
    name: str = model_name("hits"),
    version: str = "1",
    buckets: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
    report: Report = quiet,
) -> Path:
    """Write CLUE on hits in three dimensions, hits to tracksters; arguments as for `export_layers`."""
    config = config or HgcalConfig(method="hits")

    def program_of(sizes: Sizes) -> Program:
        def program(weights: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
            nothing = {
                "cell": jnp.zeros_like(inputs["layer"]),
                "sigma_noise": jnp.zeros_like(inputs["energy"]),
            }
            tracksters, overflow = hit_chain(_hits(inputs | nothing), config, capacity_for(sizes["n"]))
            found = _trackster_outputs(tracksters)
            return {**found, "hit_trackster": tracksters.member_trackster, "overflow": overflow}

        return program

    signature = Signature(
        inputs=_inputs(HIT_INPUTS, n_layers, 0),
        outputs=_outputs({"hit_trackster": (), **TRACKSTERS}),
        counts={"tracksters": "n_tracksters"},
        **_shape_of(buckets),
    )
    return export_model(
        directory, program_of, {}, signature,
        name=name, version=version, by_bucket=True, overwrite=overwrite, report=report,
        description="CLUE in three dimensions in the HGCAL: hits to tracksters",
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


def _trackster_outputs(tracksters: Tracksters) -> dict[str, Any]:
    columns = {f"trackster_{field}": getattr(tracksters, field) for field in _FIELDS["trackster"]}
    return columns | {"n_tracksters": tracksters.valid.sum(dtype=jnp.int32)}


def _signature(
    cells: CellGraph,
    n_layers: int,
    buckets: tuple[int, ...],
    outputs: dict[str, tuple[int, ...]],
    counts: dict[str, str],
) -> Signature:
    return Signature(
        inputs=_inputs(INPUTS, n_layers, cells.n_cells),
        outputs=_outputs({"hit_cluster": (), **outputs}),
        counts=counts,
        **_shape_of(buckets),
    )


def _shape_of(buckets: tuple[int, ...]) -> dict[str, Any]:
    """What all signatures have in common."""
    return {
        "buckets": tuple({"n": length} for length in buckets),
        "batched": False,
        "masks": {"n": "valid"},
        "overflow": "overflow",
    }


def _inputs(names: tuple[str, ...], n_layers: int, n_cells: int) -> tuple[Tensor, ...]:
    known = {
        "position": Tensor(name="position", datatype="FP32", shape=("n", 3), finite=True),
        "energy": Tensor(name="energy", datatype="FP32", shape=("n",), finite=True),
        "layer": Tensor(name="layer", datatype="INT32", shape=("n",), limits=(0, n_layers - 1)),
        "cell": Tensor(name="cell", datatype="INT32", shape=("n",), limits=(0, n_cells - 1)),
        "sigma_noise": Tensor(name="sigma_noise", datatype="FP32", shape=("n",), finite=True),
    }
    return tuple(known[name] for name in names)


def _outputs(rows: dict[str, tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Outputs by name and shape of a row; the name says what the rows are."""
    made = []
    for name, row in rows.items():
        kind, _, field = name.partition("_")
        datatype = "INT32" if field in _INTEGERS else "FP32"
        axis = "n" if kind == "hit" else f"{kind}s"
        made.append(Tensor(name=name, datatype=datatype, shape=(axis, *row)))
    return tuple(made)
