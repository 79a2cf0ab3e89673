"""One report for several track finders on the same events: console table, Markdown, JSON and plots.

JSON layout (schema `recon.tracking.report/1`; what was not measured is null, never NaN):

```
{"schema", "title",
 "selection": {pt_min, eta_max, eta_min, radius_max, min_hits},   # TargetSelection
 "candidates": {pt_min, min_hits},                                # CandidateSelection
 "finders": [{
    "name", "note",
    "counts": {events, targets, found, ...},                      # EventCounts
    "rates": {"efficiency": {passed, total, value, low, high}, "perfect_efficiency", "lhc_efficiency",
              "lhc_purity", "fake_rate", "impure_rate", "duplicate_rate"},      # Clopper-Pearson, one sigma
    "trackml_score": number,
    "parameters": {"d0": {"unit", "residual": {n, mean, median, width, width_error, core}, "pull"}, ...},
    "cpu_seconds": {stage: seconds per event}, "cpu_seconds_total": number,
    "curves": {"efficiency_vs_pt": {"edges": [...], "passed": [...], "total": [...], "outside"}, ...}}]}
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from recon.errors import ConfigError
from recon.metrics import Binned
from recon.report import (
    console_table,
    curve_json,
    finite,
    format_number,
    format_ratio,
    markdown_table,
    ratio_json,
)
from recon.tracking.metrics import CandidateSelection, Evaluation, TargetSelection
from recon.tracking.report_plots import binned_curves, write_plots
from recon.tracking.resolution import PARAMETERS, Spread, spread

SCHEMA = "recon.tracking.report/1"

UNITS = ("mm", "mm", "rad", "rad", "1/GeV")
"""Of the track parameters, in their order."""

RATES = {
    "efficiency": "efficiency (double majority)",
    "perfect_efficiency": "efficiency (perfect)",
    "lhc_efficiency": "efficiency (LHC)",
    "lhc_purity": "purity (LHC)",
    "fake_rate": "fake rate",
    "impure_rate": "impure tracks",
    "duplicate_rate": "duplicate rate",
}
"""Properties of `EventCounts` in the order of the report, and what they are called there."""

_DEFINITIONS = """\
Efficiency: targets that were found / targets. Double majority: more than half of the track's hits are the
particle's and more than half of the particle's hits are on the track. Perfect: all of its hits and no other. LHC:
at least 75 % of the track's hits are the particle's; its purity is the fraction of candidates for which that holds.
Fake rate: candidates without a double-majority match to any particle / candidates. Impure: candidates with at
most half of their hits from any one particle / candidates. Duplicates: candidates with a double-majority match to
a particle that a better candidate has too / candidates. Errors are Clopper-Pearson intervals of 68.3 %.
Resolutions and pull widths: half the interval from the 15.87 % to the 84.13 % quantile, for tracks with a
double-majority match to a target.
"""


@dataclass(frozen=True, kw_only=True)
class FinderResult:
    """What one track finder did with the events.

    Attributes:
        name: for tables and legends.
        evaluation: merged over the events; see `recon.tracking.metrics.merge`.
        cpu_seconds: mean CPU time of every stage per event, s; empty if not measured.
        note: how the finder was set, for the JSON.
    """

    name: str
    evaluation: Evaluation
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def cpu_total(self) -> float:
        """CPU time of all stages per event, s; NaN if not measured."""
        return sum(self.cpu_seconds.values()) if self.cpu_seconds else math.nan


def write_report(
    directory: Path,
    results: Sequence[FinderResult],
    *,
    title: str = "Track finding",
    selection: TargetSelection | None = None,
    candidates: CandidateSelection | None = None,
) -> dict[str, Path]:
    """Write `report.md`, `report.json` and the plots of several finders.

    Args:
        directory: to write into; made if missing.
        results: one entry a finder, evaluated on the same events with the same selection.
        title: of the report and above the plots, for example the sample.
        selection: that the results were evaluated with; the defaults if not given.
        candidates: the same.

    Returns:
        The files by their name without suffix: "report" (Markdown), "json", and every plot.

    Raises:
        ConfigError: no results, or two of one name.

    Example:
        >>> from recon.tracking.metrics import merge
        >>> def report(directory, found, peer):
        ...     network = FinderResult(name="graph network", evaluation=merge(found), cpu_seconds={"graph": 0.1})
        ...     return write_report(directory, [network, FinderResult(name="ACTS CKF", evaluation=merge(peer))])
    """
    _check(results)
    directory.mkdir(parents=True, exist_ok=True)
    selection = TargetSelection() if selection is None else selection
    candidates = CandidateSelection() if candidates is None else candidates
    evaluations = {result.name: result.evaluation for result in results}
    plots = write_plots(
        directory, evaluations, {result.name: result.cpu_seconds for result in results}, title
    )
    content = to_json(results, title=title, selection=selection, candidates=candidates)
    json_file, markdown_file = directory / "report.json", directory / "report.md"
    json_file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    text = to_markdown(results, title=title, selection=selection, candidates=candidates)
    images = "".join(f"\n![{name.replace('_', ' ')}]({path.name})\n" for name, path in plots.items())
    markdown_file.write_text(text + images, "utf-8")
    return {"report": markdown_file, "json": json_file, **plots}


def _check(results: Sequence[FinderResult]) -> None:
    names = [result.name for result in results]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"a report needs one or more finders with different names, not {names}")


def _spreads(result: FinderResult, column: str) -> list[Spread]:
    tracks = result.evaluation.tracks
    values = getattr(tracks, column)[tracks.target]
    return [spread(values[:, row]) for row in range(len(PARAMETERS))]


def summary_rows(results: Sequence[FinderResult]) -> list[tuple[str, list[str]]]:
    """Rows of the summary table: what is measured, and one text a finder."""
    counts = [result.evaluation.counts for result in results]
    rows = [("events", [str(c.events) for c in counts])]
    rows += [(label, [format_ratio(getattr(c, rate)) for c in counts]) for rate, label in RATES.items()]
    rows += [("TrackML score", [format_number(c.mean_score, 4) for c in counts])]
    rows += [
        (label, [format_number(getattr(c, name) / c.events if c.events else math.nan, 4) for c in counts])
        for name, label in (("targets", "targets per event"), ("candidates", "candidates per event"))
    ]
    residuals, pulls = ([_spreads(r, column) for r in results] for column in ("residual", "pull"))
    for row, (name, unit) in enumerate(zip(PARAMETERS, UNITS, strict=True)):
        rows.append((f"{name} resolution [{unit}]", [format_number(each[row].width) for each in residuals]))
        rows.append((f"{name} pull width", [format_number(each[row].width) for each in pulls]))
    rows.append(("CPU time per event [s]", [format_number(result.cpu_total) for result in results]))
    return [(label, texts) for label, texts in rows if set(texts) != {"-"}]


def summary_table(results: Sequence[FinderResult], title: str = "Track finding") -> Table:
    """Summary for the console, one column a finder.

    Raises:
        ConfigError: no results, or two of one name.
    """
    _check(results)
    return console_table([result.name for result in results], summary_rows(results), title)


def to_markdown(
    results: Sequence[FinderResult], *, title: str, selection: TargetSelection, candidates: CandidateSelection
) -> str:
    """Report as Markdown, without images."""
    names = [result.name for result in results]
    summary = markdown_table(["", *names], [[label, *texts] for label, texts in summary_rows(results)])
    targets = (
        f"Targets: charged particles from the generator with pT > {selection.pt_min:g} GeV, "
        f"{selection.eta_min:g} <= |eta| < {selection.eta_max:g}, production radius < {selection.radius_max:g} mm "
        f"and at least {selection.min_hits} hits. Candidates: tracks with at least {candidates.min_hits} hits and a "
        f"fitted pT > {candidates.pt_min:g} GeV in the same range of eta.\n"
    )
    text = f"# {title}\n\n{targets}\n{summary}\n{_DEFINITIONS}"
    stages = list(dict.fromkeys(stage for result in results for stage in result.cpu_seconds))
    if stages:
        rows = [[s, *(format_number(r.cpu_seconds.get(s, math.nan)) for r in results)] for s in stages]
        text += "\nCPU time per event in seconds:\n\n" + markdown_table(["stage", *names], rows)
    return text


def _finder_json(result: FinderResult, curves: Mapping[str, Binned]) -> dict[str, Any]:
    counts = result.evaluation.counts
    residuals, pulls = _spreads(result, "residual"), _spreads(result, "pull")
    return {
        "name": result.name,
        "note": result.note,
        "counts": asdict(counts),
        "rates": {rate: ratio_json(getattr(counts, rate)) for rate in RATES},
        "trackml_score": finite(counts.mean_score),
        "parameters": {
            name: {
                "unit": UNITS[row],
                "residual": {key: finite(value) for key, value in residuals[row]._asdict().items()},
                "pull": {key: finite(value) for key, value in pulls[row]._asdict().items()},
            }
            for row, name in enumerate(PARAMETERS)
        },
        "cpu_seconds": {stage: float(seconds) for stage, seconds in result.cpu_seconds.items()},
        "cpu_seconds_total": finite(result.cpu_total),
        "curves": {name: curve_json(binned) for name, binned in curves.items()},
    }


def to_json(
    results: Sequence[FinderResult], *, title: str, selection: TargetSelection, candidates: CandidateSelection
) -> dict[str, Any]:
    """Report as a tree of plain values in the layout at the top of this module."""
    curves = binned_curves({result.name: result.evaluation for result in results})
    return {
        "schema": SCHEMA,
        "title": title,
        "selection": {key: finite(value) for key, value in asdict(selection).items()},
        "candidates": {key: finite(value) for key, value in asdict(candidates).items()},
        "finders": [
            _finder_json(result, {name: each[result.name] for name, each in curves.items()})
            for result in results
        ],
    }
