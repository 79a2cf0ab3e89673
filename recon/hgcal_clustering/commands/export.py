"""`recon export hgcal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from recon.commands import console, progress_bars
from recon.errors import ConfigError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.commands.options import Settings, load_graph, settings_of
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.export import HIT_BUCKETS, LAYERS, export_chain, export_hits, export_layers
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.hgcal_clustering.hybrid_export import export_network
from recon.hgcal_clustering.remote import model_name
from recon.hgcal_clustering.shipped import load_network

Part = Literal["chain", "layers", "tuned", "clusters", "imaging", "hits", "hybrid", "hybrid-timing"]
_METHODS = {"chain": "clue3d", "layers": "clue3d", "tuned": "clusters", "hybrid-timing": "hybrid"}
"""Methods of `HgcalConfig` of the parts that are not named after theirs."""


def export(
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("models"),
    parts: tuple[Part, ...] = ("chain", "layers"),
    geometry: Literal["v16", "v10"] = "v16",
    settings: Settings = None,
    version: str = "1",
    hits: tuple[int, ...] = HIT_BUCKETS,
    overwrite: bool = False,
) -> None:
    """Write CLUE3D, hits to tracksters, as artefact `hgcal` and CLUE, hits to layer clusters, as `hgcal_layers`.

    Args:
        output: the model repository.
        parts: which: `chain` (CLUE3D), `layers`; other algorithms of `recon reconstruct hgcal` become `hgcal_tuned`,
            `hgcal_hits`, ...; of `hybrid` and `hybrid-timing` the network is written, all else stays with who asks.
        geometry: detector whose cells are written.
        settings: file of settings; those of CMS, or of the trained model, if not given.
        version: of the artefacts, a whole number.
        hits: padded numbers of hits that the programs are compiled for.
        overwrite: replace artefacts of this version.
    """
    detector = EndcapGeometry(name=geometry)
    configs = {part: config_of(part, settings, detector) for part in parts}
    common: dict[str, Any] = {"version": version, "overwrite": overwrite}
    written = []
    with progress_bars() as report:
        for part, config in configs.items():
            needs_cells = config.method not in ("hits", "hybrid")
            cells = load_graph(detector, config, report) if needs_cells else None
            heard = {"report": lambda done, total, part=part: report(part, done, total)}
            written.append((write_part(output, part, config, detector, cells, hits, common | heard), cells))
    for folder, cells in written:
        size = "" if cells is None else f", {cells.n_bytes / 1e6:.0f} MB for {cells.n_cells:,} cells"
        console.print(f"written: {folder}{size}")


def config_of(part: str, settings: Path | None, detector: EndcapGeometry) -> HgcalConfig:
    """The settings of a part.

    Raises:
        ConfigError: a file of settings of another method than the part's.
    """
    method = _METHODS.get(part, part)
    config = settings_of("clue3d" if method == "clue3d" else part, settings, detector)
    if part != "layers" and config.method != method:
        raise ConfigError(
            f"{settings} has the method {config.method!r}; --parts {part} is {method!r}: name the part of the method"
        )
    return config


def write_part(
    output: Path,
    part: str,
    config: HgcalConfig,
    detector: EndcapGeometry,
    cells: CellGraph | None,
    hits: tuple[int, ...],
    common: dict[str, Any],
) -> Path:
    """Write one artefact.

    Args:
        output: the model repository.
        part: one of `Part`.
        config: its settings.
        detector: says how many layers there are.
        cells: of the detector; `None` where the part needs none.
        hits: padded numbers of hits.
        common: further arguments of all exporters.
    """
    n_layers = len(detector.layers().z)
    name = {"chain": model_name("clue3d"), "layers": LAYERS}.get(part, model_name(part))
    if config.method == "hybrid":
        network = load_network(config.hybrid.weights, config.hybrid.network)
        return export_network(output, network, config, name=name, **common)
    if cells is None:
        return export_hits(output, n_layers, config, name=name, buckets=hits, **common)
    write = export_layers if part == "layers" else export_chain
    return write(output, cells, n_layers, config, name=name, buckets=hits, **common)
