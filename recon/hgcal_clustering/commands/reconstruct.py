"""`recon reconstruct hgcal`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

from recon import __version__
from recon.commands import (
    HERE,
    Json,
    Output,
    Remote,
    Report,
    console,
    is_csv,
    progress_bars,
    write_json,
)
from recon.engines import Engine, connect
from recon.errors import ConfigError, DataError
from recon.hgcal_clustering.commands.options import (
    Algorithm,
    GeometryChoice,
    Settings,
    Source,
    cells_of,
    open_source,
    settings_of,
)
from recon.hgcal_clustering.commands.point_cloud import cluster_point_cloud
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.hybrid_remote import HybridFinder
from recon.hgcal_clustering.pipeline import Showers, find_showers
from recon.hgcal_clustering.remote import ShowerFinder, model_name
from recon.io.root_showers import StoredShowers, write_showers
from recon.pipeline import Job
from recon.types import CalorimeterEvent

Endcap = Literal["both", "positive", "negative"]


def reconstruct(
    file: Positional[Path],
    *,
    output: Output,
    algorithm: Algorithm = "clue3d",
    settings: Settings = None,
    endcap: Endcap = "both",
    geometry: GeometryChoice = "auto",
    layout: Literal["ttree", "rntuple"] = "ttree",
    max_layer_clusters: int | None = None,
    max_tracksters: int | None = None,
    remote: Remote = HERE,
    d_c: float | None = None,
    rho_c: float | None = None,
    outlier_delta_factor: float = 2.0,
    json: Json = None,
) -> None:
    """Find the showers of every event in a file, or the clusters of a cloud of points.

    Args:
        file: ROOT file of hits, ours or NanoAOD-like; or points as CSV with the columns x0, x1, ... and weight.
        output: ROOT file of showers; CSV of the points with the cluster of each for points.
        algorithm: what to find showers with.
        settings: file of settings.
        endcap: hits of the other one belong to nothing.
        geometry: of the hits.
        layout: TTree or RNTuple.
        max_layer_clusters: refuse events with more.
        max_tracksters: refuse events with more.
        remote: finds the showers in the place of this process, by the exported chain `hgcal`, `hgcal_tuned`, ...; for
            `hybrid` it answers for the network.
        d_c: radius of the density, for points.
        rho_c: least density of a seed, for points.
        outlier_delta_factor: in units of d_c, how far points below rho_c look for a denser one, for points.
        json: write the numbers of layer clusters and tracksters of every event here.
    """
    engine = remote.settings()
    output.parent.mkdir(parents=True, exist_ok=True)
    if is_csv(file):
        write_json(json, cluster_point_cloud(file, output, d_c, rho_c, outlier_delta_factor))
        return
    if is_csv(output) or d_c is not None or rho_c is not None:
        raise ConfigError(f"CSV files, --d-c and --rho-c go with points, not with {file}")
    source = open_source(file, geometry)
    config = settings_of(algorithm, settings, source.geometry)
    limits = {"max_layer_clusters": max_layer_clusters, "max_tracksters": max_tracksters}
    counts: list[dict[str, int]] = []
    with progress_bars() as report, ExitStack() as stack:
        if remote.server is None:
            found = _here(source, config, endcap, limits, report)
        else:
            if settings is not None or any(limits.values()):
                raise ConfigError("--settings and limits go without --server, which has its own")
            caller = stack.enter_context(
                closing(connect(remote.server, model=model_name(algorithm), **engine))
            )
            finder = _finder(caller, source, config, report)
            found = stack.enter_context(closing(_there(source, finder, endcap, remote.streams)))
        metadata = _metadata(source, config, remote.server, endcap) | {"algorithm": algorithm}
        stored = _counted(found, counts, source.file.n_events, report)
        write_showers(output, stored, layout=layout, metadata=metadata)
    _tell(counts, file, output)
    write_json(json, metadata | {"events": counts, "output": str(output)})


def _metadata(source: Source, config: HgcalConfig, server: str | None, endcap: str) -> dict[str, object]:
    """What finds the showers again."""
    finder = {"settings": config.to_json()} if server is None else {"server": server}
    return {"program": f"recon {__version__}", "input": str(source.file.path), "endcap": endcap, **finder}


def one_endcap(event: CalorimeterEvent, endcap: str) -> CalorimeterEvent:
    """The event with the hits of the other endcap switched off."""
    if endcap == "both":
        return event
    side = (event.hits.position[:, 2] > 0) == (endcap == "positive")
    return event._replace(hits=event.hits._replace(valid=event.hits.valid & side))


def _here(
    source: Source, config: HgcalConfig, endcap: str, limits: dict[str, int | None], report: Report
) -> Iterator[tuple[CalorimeterEvent, Showers]]:
    """Events and their showers, one after the other in this process."""
    cells = cells_of(source, config, report)
    for event in source.events():
        try:
            yield event, find_showers(one_endcap(event, endcap), config, cells=cells, **limits)  # type: ignore[arg-type]  # names of arguments
        except DataError as error:
            raise DataError(f"{source.file.path}, event {event.number}: {error}") from error


def _finder(
    engine: Engine, source: Source, config: HgcalConfig, report: Report
) -> ShowerFinder | HybridFinder:
    """What asks an engine for the showers of an event."""
    if config.method == "hybrid":
        return HybridFinder(engine, config, cells_of(source, config, report))
    return ShowerFinder(engine, config.method)


def _there(
    source: Source, finder: ShowerFinder | HybridFinder, endcap: str, streams: int
) -> Generator[tuple[CalorimeterEvent, Showers], None, None]:
    """Events and their showers from an engine, several on their way at once."""
    events = (one_endcap(event, endcap) for event in source.events())
    job = Job(events, {"showers": finder}, streams=streams)
    with closing(job.results()) as results:
        for event, products in results:
            yield event, products["showers"]


def _counted(
    found: Iterator[tuple[CalorimeterEvent, Showers]],
    counts: list[dict[str, int]],
    total: int,
    report: Report,
) -> Iterator[StoredShowers]:
    for event, showers in found:
        layered = 0 if showers.clusters is None else len(showers.clusters.valid)
        hits = int(np.sum(showers.hit_trackster >= 0))
        counts.append(
            {
                "event": event.number,
                "hits": len(showers.hit_trackster),
                "hits_in_tracksters": hits,
                "layer_clusters": layered,
                "tracksters": len(showers.tracksters.valid),
            }
        )
        report("events", len(counts), total)
        yield StoredShowers(event.number, *showers)


def _tell(counts: list[dict[str, int]], file: Path, output: Path) -> None:
    total = {name: sum(event[name] for event in counts) for name in ("tracksters", "layer_clusters", "hits")}
    layered = f" of {total['layer_clusters']:,} layer clusters" if total["layer_clusters"] else ""
    console.print(
        f"{total['tracksters']:,} tracksters{layered} from {total['hits']:,} hits in {len(counts)} events of {file} "
        f"written to {output}"
    )
