"""`recon evaluate tracking`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from recon.errors import DataError
from recon.tracking.commands.options import Json, ModelName, console, progress_bars, read, write_json
from recon.tracking.evaluation import evaluate_acts, evaluate_network
from recon.tracking.metrics import CandidateSelection, TargetSelection
from recon.tracking.report import FinderResult, summary_table, to_json, write_report
from recon.tracking.shipped import DEFAULT, TrackingModel, load_model
from recon.types import Event


def evaluate(
    files: Positional[tuple[Path, ...]],
    *,
    output: Annotated[Path, arg(aliases=["-o"])] = Path("out/evaluation"),
    model: ModelName = DEFAULT,
    peer: Literal["acts", "none"] = "none",
    working_points: tuple[str, ...] = ("default", "tuned"),
    events: int | None = None,
    pt_min: float = 1.0,
    eta_max: float = 4.0,
    json: Json = None,
) -> None:
    """Compare found tracks with the truth, and with those of ACTS on the very same events.

    Args:
        files: simulated events, ROOT or TrackML.
        output: directory of the report (Markdown, JSON, plots).
        model: a shipped model or the directory of your own.
        peer: whether ACTS (the `sim` extra) runs on the same events.
        working_points: settings of ACTS's combinatorial Kalman filter.
        events: most events of each file.
        pt_min: smallest transverse momentum of the particles to find, GeV.
        eta_max: largest pseudorapidity of the particles to find.
        json: write the report here as JSON, too.
    """
    sample = [event for file in files for event in read(file, limit=events)]
    if not sample:
        raise DataError(f"there are no events in {', '.join(map(str, files))}")
    selection = TargetSelection(pt_min=pt_min, eta_max=eta_max)
    results = compare(sample, load_model(model), working_points if peer == "acts" else (), selection)
    title = f"Track finding in {len(sample)} events of {', '.join(file.name for file in files)}"
    written = write_report(output, results, title=title, selection=selection)
    console.print(summary_table(results, title))
    console.print(f"report in {written['report']}")
    write_json(json, to_json(results, title=title, selection=selection, candidates=CandidateSelection()))


def compare(
    events: Sequence[Event],
    finder: TrackingModel,
    working_points: Sequence[str],
    selection: TargetSelection,
    *,
    length: int | None = None,
) -> list[FinderResult]:
    """Run the graph network and the working points of ACTS over the same events, and show how far they are.

    Args:
        events: the sample.
        finder: the graph network.
        working_points: of ACTS.
        selection: particles to find.
        length: as for `find_tracks`.
    """
    with progress_bars() as report:
        results = [evaluate_network(events, finder, selection, report, length=length)]
        results += [evaluate_acts(events, point, selection, report) for point in working_points]
    return results
