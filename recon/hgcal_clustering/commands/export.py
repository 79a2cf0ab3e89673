"""`recon export hgcal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from recon.commands import console, progress_bars
from recon.hgcal_clustering.commands.options import Settings, load_graph, settings_of
from recon.hgcal_clustering.export import HIT_BUCKETS, LAYERS, export_chain, export_layers
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.hgcal_clustering.remote import MODEL


def export(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    parts: tuple[Literal["chain", "layers"], ...] = ("chain", "layers"),
    geometry: Literal["v16", "v10"] = "v16",
    settings: Settings = None,
    version: str = "1",
    hits: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
) -> None:
    """Write CLUE3D, hits to tracksters, as artefact `hgcal` and CLUE, hits to layer clusters, as `hgcal_layers`.

    Args:
        output: the model repository.
        parts: which of both.
        geometry: detector whose cells are written.
        settings: file of settings; those of CMS if not given.
        version: of the artefacts, a whole number.
        hits: padded numbers of hits that the programs are compiled for.
        overwrite: replace artefacts of this version.
    """
    detector = EndcapGeometry(name=geometry)
    config = settings_of("clue3d", settings, detector)
    with progress_bars() as report:
        cells = load_graph(detector, config, report)
        kinds = {"chain": (export_chain, MODEL), "layers": (export_layers, LAYERS)}
        written = [
            kinds[part][0](
                output,
                cells,
                len(detector.layers().z),
                config,
                name=kinds[part][1],
                version=version,
                buckets=hits,
                overwrite=overwrite,
                report=lambda done, total, part=part: report(part, done, total),  # type: ignore[misc]  # bound now
            )
            for part in parts
        ]
    console.print(f"{cells.n_cells:,} cells with their neighbours: {cells.n_bytes / 1e6:.0f} MB a model")
    for folder in written:
        console.print(f"written: {folder}")
