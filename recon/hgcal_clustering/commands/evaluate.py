"""`recon evaluate hgcal`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recon.commands import Json, Report, console, progress_bars, write_json
from recon.errors import DataError
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.commands.options import (
    AlgorithmName,
    GeometryChoice,
    Source,
    cells_of,
    open_source,
    settings_of,
)
from recon.hgcal_clustering.evaluation import FinderResult, Trial, WorkingPoint, evaluate_points
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.hgcal_clustering.metrics import ShowerSelection
from recon.hgcal_clustering.report import summary_table, to_json, write_report


def evaluate(
    files: Positional[tuple[Path, ...]],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/evaluation-hgcal"),
    algorithms: tuple[AlgorithmName, ...] = ("clue3d",),
    settings: tuple[Path, ...] = (),
    events: int | None = None,
    geometry: GeometryChoice = "auto",
    energy_min: float = 1.0,
    eta_min: float = 1.5,
    eta_max: float = 3.0,
    pileup_too: bool = False,
    json: Json = None,
) -> None:
    """Compare found showers with the true particles, several algorithms and settings side by side.

    Args:
        files: simulated events; of different pile-up, to see its effect.
        output: directory of the report (Markdown, JSON, plots).
        algorithms: with the settings of CMS, a column each.
        settings: files of settings, a column each, named after the file.
        events: most events of each file.
        geometry: of the hits.
        energy_min: least energy of the particles to find, GeV.
        eta_min: least absolute pseudorapidity of the particles to find.
        eta_max: largest.
        pileup_too: particles of the pile-up are to be found, too.
        json: write the report here as JSON, too.
    """
    sources = [open_source(file, geometry) for file in files]
    if not sum(source.file.n_events for source in sources):
        raise DataError(f"there are no events in {', '.join(map(str, files))}")
    selection = ShowerSelection(
        energy_min=energy_min, eta_min=eta_min, eta_max=eta_max, hard_scatter=not pileup_too
    )
    points = _points(algorithms, settings, sources[0].geometry)
    results = compare(sources, points, selection, events=events)
    n = len(results[0].n_hits)
    title = f"Showers in {n} event{'s' if n > 1 else ''} of {', '.join(file.name for file in files)}"
    written = write_report(output, results, title=title, selection=selection)
    console.print(summary_table(results, selection, title))
    console.print(f"report in {written['report']}")
    write_json(json, to_json(results, title=title, selection=selection))


def _points(
    algorithms: Sequence[str], settings: Sequence[Path], geometry: EndcapGeometry | None
) -> list[WorkingPoint]:
    points = [WorkingPoint(name, settings_of(name, None, geometry)) for name in algorithms]
    return points + [WorkingPoint(file.stem, settings_of("clue3d", file, geometry)) for file in settings]


def compare(
    sources: Sequence[Source],
    points: Sequence[WorkingPoint],
    selection: ShowerSelection,
    *,
    events: int | None = None,
) -> list[FinderResult]:
    """Run working points over the same events, and show how far they are.

    Args:
        sources: files of events.
        points: one column of the report each.
        selection: which particles and tracksters count.
        events: most events of each file.

    Raises:
        DataError: an event that cannot be used, by file.
    """
    counts = [
        source.file.n_events if events is None else min(events, source.file.n_events) for source in sources
    ]
    with progress_bars() as report:
        trials = _trials(sources, points, events, report)
        return evaluate_points(trials, points, selection, lambda done: report("events", done, sum(counts)))


def _trials(
    sources: Sequence[Source], points: Sequence[WorkingPoint], events: int | None, report: Report
) -> Iterator[Trial]:
    cells: Mapping[str, CellGraph | None] = {}
    geometry: EndcapGeometry | None = None
    for source in sources:
        if not cells or source.geometry != geometry or source.file.nano:
            cells = {point.name: cells_of(source, point.config, report) for point in points}
            geometry = source.geometry
        for event in source.events(stop=events):
            if event.truth is None:
                raise DataError(f"{source.file.path}, event {event.number}: no truth to compare with")
            yield Trial(event, source.pileup, cells)
