"""What the commands of the HGCal task share: algorithms and their settings, input files, the cells of their hits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from tyro.conf import arg

from recon.commands import Report
from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.attachment import attach_cells
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.geometry import EndcapGeometry, load_calorimeter
from recon.hgcal_clustering.layers import GeometryName
from recon.hgcal_clustering.lookup import load_lookup
from recon.hgcal_clustering.pipeline import load_cells
from recon.hgcal_clustering.shipped import load_model, model_names
from recon.io.root_calorimeter import CalorimeterFile, describe_calorimeter_file, read_calorimeter_file
from recon.types import CalorimeterEvent

AlgorithmName = Literal["clue3d", "hits", "imaging", "clusters", "hybrid", "hybrid-timing", "tuned"]
Algorithm = Annotated[
    AlgorithmName,
    arg(
        help="clue3d: CLUE in the layers, then CLUE3D; hits: CLUE on hits in three dimensions; imaging: density peaks "
        "in the layers, then lines of sight; clusters: CLUE on layer clusters; hybrid: its seeds and a network; "
        "hybrid-timing: a network that sees when hits were made; tuned: clusters with parameters tuned on simulation"
    ),
]
Settings = Annotated[
    Path | None, arg(help="settings as JSON, as in the metadata of an output; in place of --algorithm")
]
GeometryChoice = Annotated[
    Literal["auto", "v16", "v10", "none"],
    arg(
        help="detector whose cells the hits name; auto: what the file says; none: search by the positions of the hits, "
        "as if all were in silicon"
    ),
]


class Source(NamedTuple):
    """A file of calorimeter events and the detector that they are from.

    Attributes:
        file: what the file says of itself.
        geometry: `None` where the cells are not known.
    """

    file: CalorimeterFile
    geometry: EndcapGeometry | None

    def events(self, *, start: int | None = None, stop: int | None = None) -> Iterator[CalorimeterEvent]:
        """The events; those of CMS get the noise of the cells below their hits."""
        if not self.file.nano:
            yield from read_calorimeter_file(self.file, entry_start=start, entry_stop=stop)
            return
        geometry = self.geometry or EndcapGeometry()
        calorimeter, lookup = load_calorimeter(geometry), load_lookup(geometry)
        for event in read_calorimeter_file(
            self.file, calorimeter.layer_z, entry_start=start, entry_stop=stop
        ):
            yield event._replace(hits=attach_cells(event.hits, calorimeter, lookup))

    @property
    def pileup(self) -> float:
        """Simultaneous collisions that the file was simulated with; 0 where it does not say."""
        simulation = self.file.metadata.get("simulation")
        return float(simulation.get("pileup", 0)) if isinstance(simulation, dict) else 0.0


def open_source(path: Path, geometry: str = "auto") -> Source:
    """Look into a file of hits.

    Args:
        path: ROOT file, ours or NanoAOD-like.
        geometry: one of `GeometryChoice`.

    Raises:
        DataError: a file that is missing, truncated, damaged or holds no calorimeter events.
        ConfigError: hits of CMS, which name no layers, without a geometry.
    """
    file = describe_calorimeter_file(path)
    if file.nano and geometry in ("auto", "none"):
        raise ConfigError(f"{path} is a file of CMS, which names no layers: say --geometry v16 or v10")
    if geometry == "none":
        return Source(file, None)
    return Source(file, _geometry_of(file) if geometry == "auto" else EndcapGeometry(name=geometry))  # type: ignore[arg-type]  # tyro lets no other name through


def _geometry_of(file: CalorimeterFile) -> EndcapGeometry | None:
    """The geometry that the metadata name: `calorimeter` whole, or that of the simulation."""
    whole, simulation = file.metadata.get("calorimeter"), file.metadata.get("simulation")
    if isinstance(whole, dict):
        try:
            return EndcapGeometry(**whole)
        except TypeError as error:
            raise DataError(f"{file.path}: the metadata describe no calorimeter: {error}") from error
    name: Any = simulation.get("geometry") if isinstance(simulation, dict) else None
    return EndcapGeometry(name=name) if name in get_args(GeometryName) else None


def settings_of(algorithm: str, file: Path | None, geometry: EndcapGeometry | None) -> HgcalConfig:
    """Settings of CMS for an algorithm and a detector, those of a trained model, or those of a file.

    Args:
        algorithm: one of `Algorithm`.
        file: JSON, the directory of a model, or one with `config.json`.
        geometry: says where the front section ends.

    Raises:
        ConfigError: no such file, no JSON, or settings that do not exist.
    """
    if file is None:
        if algorithm in model_names():
            return load_model(algorithm).config
        config = HgcalConfig(method=algorithm)
        if geometry is None:
            return config
        front = geometry.layers().n_electromagnetic
        return replace(config, calibration=replace(config.calibration, front_layers=front))
    if (file / "weights.safetensors").is_file():
        return load_model(file).config
    path = file / "config.json" if file.is_dir() else file
    try:
        tree = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    return HgcalConfig.from_json(tree)


def cells_of(source: Source, config: HgcalConfig, report: Report) -> CellGraph | None:
    """The graph of the cells, made where the cache lacks it; `None` where the search goes by position.

    Args:
        source: the file.
        config: settings, whose radii the graph is made for.
        report: shows that something is being made.
    """
    # Cells of CMS are attached by position: two hits may share one where the geometries differ.
    if source.geometry is None or source.file.nano or config.method == "hits":
        return None
    return load_graph(source.geometry, config, report)


def load_graph(geometry: EndcapGeometry, config: HgcalConfig, report: Report) -> CellGraph:
    """The graph of the cells of a detector; it takes half a minute to make, and is kept in the cache."""
    report("neighbours of the cells", 0, 1)
    radii = (config.layers.d_c, config.layers.d_c_tiles, config.layers.outlier_delta_factor)
    if (graph := _loaded.get((geometry, *radii))) is None:
        # One at a time: a graph takes hundreds of megabytes.
        _loaded.clear()
        graph = _loaded[(geometry, *radii)] = load_cells(config, geometry)
    report("neighbours of the cells", 1, 1)
    return graph


_loaded: dict[tuple[EndcapGeometry, float, float, float], CellGraph] = {}
