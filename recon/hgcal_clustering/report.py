"""One report for several working points on the same events: console table, Markdown, JSON and plots.

JSON layout (schema `recon.hgcal.report/1`; what was not measured is null, never NaN):

```
{"schema", "title",
 "selection": {...},                                              # ShowerSelection
 "finders": [{
    "name", "settings": {...},                                    # HgcalConfig
    "events", "hits_per_event", "tracksters_per_event",
    "rates": {"efficiency": {passed, total, value, low, high}, "efficiency_simple", "purity", "duplicate",
              "fake", "merge", "split"},                          # Clopper-Pearson, one sigma
    "energy": {particles, response, response_error, resolution, resolution_error},       # of those that were found
    "energy_of_all": {...},                                       # the same of all that should be found
    "purity": {median, mean},                                     # of the trackster with most of the particle
    "agreement": {homogeneity, completeness, v, clustered},       # means over events
    "cpu_seconds": {step: seconds per event}, "cpu_seconds_total": number,
    "curves": {"efficiency_vs_energy": {"edges", "passed", "total", "outside"}, ...},
    "responses": {"response_vs_energy": {"edges", "value", "error"}, ...}}]}
```
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from recon.hgcal_clustering.evaluation import FinderResult
from recon.hgcal_clustering.metrics import CLUSTER_RATES, PARTICLE_RATES, ShowerSelection, rate
from recon.hgcal_clustering.report_plots import binned_curves, response_points, write_plots
from recon.hgcal_clustering.response import energy_response, summarise
from recon.report import (
    console_table,
    curve_json,
    finite,
    format_number,
    format_ratio,
    markdown_table,
    ratio_json,
)

SCHEMA = "recon.hgcal.report/1"

RATES = {
    "efficiency_simple": "efficiency",
    "efficiency": "efficiency (TICL)",
    "purity": "pure (TICL)",
    "duplicate": "duplicate rate",
    "fake": "fake rate",
    "merge": "merge rate",
    "split": "split rate",
}
"""Names of `recon.hgcal_clustering.metrics.rate` in the order of the report, and what they are called there."""

_DEFINITIONS = """\
Particles to find are those of the selection above that leave at least {deposit:g} of their energy in the hits.
Efficiency: particles of which one trackster holds more than {shared:g} of the deposited energy and is made by them to
more than {purity:g} / particles to find. TICL: one trackster shares at least {shared:g} of the particle's energy /
particles to find; pure: the best score of a trackster seen from the particle is below {pure:g} / particles to find;
duplicate: more than one is / particles to find. Fake: no particle of any kind, pile-up included, with a score below
{fake:g} seen from the trackster / tracksters above {energy:g} GeV; merge: more than one / the same; split: tracksters
that share a particle with a better one / the same. Errors are Clopper-Pearson intervals of 68.3 %.
Purity: median over the particles of the part of their trackster that they made; the trackster is the one with most of
the particle. Response: median of its regressed energy over the true energy; resolution: half the interval that holds
68.3 %, over the median; both for the particles that count as found in the efficiency, and for all.
Homogeneity, completeness and V: those of a clustering with energies in the place of counts, means over events.
"""


def write_report(
    directory: Path, results: Sequence[FinderResult], *, title: str, selection: ShowerSelection
) -> dict[str, Path]:
    """Write `report.md`, `report.json` and the plots of some working points.

    Args:
        directory: to write into; made if missing.
        results: one entry a working point, of the same events with the same selection.
        title: of the report and above the plots.
        selection: that the results were evaluated with.

    Returns:
        The files by their name without suffix: "report" (Markdown), "json", and every plot.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plots = write_plots(directory, results, selection, title)
    json_file, markdown_file = directory / "report.json", directory / "report.md"
    content = to_json(results, title=title, selection=selection)
    json_file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    images = "".join(f"\n![{name.replace('_', ' ')}]({path.name})\n" for name, path in plots.items())
    markdown_file.write_text(to_markdown(results, title=title, selection=selection) + images, "utf-8")
    return {"report": markdown_file, "json": json_file, **plots}


def _mean(values: Sequence[int] | np.ndarray) -> float:
    measured = np.asarray(values, np.float64)
    measured = measured[np.isfinite(measured)]
    return float(measured.mean()) if measured.size else math.nan


def _purity(result: FinderResult) -> dict[str, float]:
    """Median and mean over the particles to find; those without a trackster count as 0."""
    purity = np.nan_to_num(result.evaluation.particles.purity)
    if not purity.size:
        return {"median": math.nan, "mean": math.nan}
    return {"median": float(np.median(purity)), "mean": float(purity.mean())}


def _energy(result: FinderResult, *, found_only: bool) -> dict[str, float]:
    summary = summarise(energy_response(result.evaluation.particles, found_only=found_only))
    return {name: float(value) for name, value in summary._asdict().items()}


def summary_rows(results: Sequence[FinderResult], selection: ShowerSelection) -> list[tuple[str, list[str]]]:
    """Rows of the summary table: what is measured, and one text a working point; rows nobody measured are left out."""
    rows = [("events", [str(len(r.n_hits)) for r in results])]
    rows += [
        (label, [f"{_mean(values(r)):,.0f}" for r in results])
        for label, values in (
            ("hits per event", lambda r: r.n_hits),
            ("tracksters per event", lambda r: r.n_tracksters),
        )
    ]
    rows += [("particles to find", [str(len(r.evaluation.particles.energy)) for r in results])]
    rows += [
        (label, [format_ratio(rate(r.evaluation, name, selection)) for r in results])
        for name, label in RATES.items()
    ]
    rows += [("purity", [format_number(_purity(r)["median"]) for r in results])]
    for found_only, ending in ((True, ""), (False, ", all")):
        each = [_energy(r, found_only=found_only) for r in results]
        for name in ("response", "resolution"):
            texts = [_with_error(energy[name], energy[f"{name}_error"]) for energy in each]
            rows.append((f"{name}{ending}", texts))
    rows += [
        (name, [format_number(_mean(getattr(r.evaluation.events, column))) for r in results])
        for name, column in (("homogeneity", "homogeneity"), ("completeness", "completeness"), ("V", "v"))
    ]
    rows.append(
        ("energy in tracksters", [format_number(_mean(r.evaluation.events.clustered)) for r in results])
    )
    rows.append(("CPU time per event [s]", [format_number(_total(r)) for r in results]))
    return [(label, texts) for label, texts in rows if set(texts) != {"-"}]


def _with_error(value: float, error: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if math.isnan(error) else f"{value:.3f} ± {error:.3f}"


def _total(result: FinderResult) -> float:
    return sum(result.cpu_seconds.values()) if result.cpu_seconds else math.nan


def summary_table(results: Sequence[FinderResult], selection: ShowerSelection, title: str) -> Table:
    """Summary for the console, one column a working point."""
    return console_table([result.name for result in results], summary_rows(results, selection), title)


def to_markdown(results: Sequence[FinderResult], *, title: str, selection: ShowerSelection) -> str:
    """Report as Markdown, without images."""
    names = [result.name for result in results]
    rows = [[label, *texts] for label, texts in summary_rows(results, selection)]
    kind = "of the hard scatter " if selection.hard_scatter else ""
    chosen = (
        f"Selection: particles {kind}of {selection.energy_min:g} GeV or more with {selection.eta_min:g} <= |eta| <= "
        f"{selection.eta_max:g}.\n"
    )
    definitions = _DEFINITIONS.format(
        deposit=selection.deposit_min,
        shared=selection.shared_min,
        purity=selection.purity_min,
        pure=selection.pure_score,
        fake=selection.fake_score,
        energy=selection.cluster_energy_min,
    )
    text = f"# {title}\n\n{chosen}\n{markdown_table(['', *names], rows)}\n{definitions}"
    steps = list(dict.fromkeys(step for result in results for step in result.cpu_seconds))
    if steps:
        times = [[s, *(format_number(r.cpu_seconds.get(s, math.nan)) for r in results)] for s in steps]
        text += "\nCPU time per event in seconds:\n\n" + markdown_table(["step", *names], times)
    return text


def _finder_json(result: FinderResult, selection: ShowerSelection, curves: dict[str, Any]) -> dict[str, Any]:
    evaluation = result.evaluation

    def numbers(tree: dict[str, float]) -> dict[str, float | int | None]:
        return {name: finite(value) for name, value in tree.items()}

    return {
        "name": result.name,
        "settings": result.config.to_json(),
        "events": len(result.n_hits),
        "hits_per_event": finite(_mean(result.n_hits)),
        "tracksters_per_event": finite(_mean(result.n_tracksters)),
        "rates": {
            name: ratio_json(rate(evaluation, name, selection)) for name in (*PARTICLE_RATES, *CLUSTER_RATES)
        },
        "energy": numbers(_energy(result, found_only=True)),
        "energy_of_all": numbers(_energy(result, found_only=False)),
        "purity": numbers(_purity(result)),
        "agreement": numbers({name: _mean(column) for name, column in evaluation.events._asdict().items()}),
        "cpu_seconds": {step: float(seconds) for step, seconds in result.cpu_seconds.items()},
        "cpu_seconds_total": finite(_total(result)),
        "curves": curves,
        "responses": {
            name: {
                "edges": points.edges.tolist(),
                "value": [finite(float(value)) for value in points.y],
                "error": [
                    finite(float(high - value)) for high, value in zip(points.high, points.y, strict=True)
                ],
            }
            for name, points in response_points(result).items()
        },
    }


def to_json(results: Sequence[FinderResult], *, title: str, selection: ShowerSelection) -> dict[str, Any]:
    """Report as a tree of plain values in the layout at the top of this module."""
    curves = binned_curves(results, selection)
    return {
        "schema": SCHEMA,
        "title": title,
        "selection": {name: finite(value) for name, value in asdict(selection).items()},
        "finders": [
            _finder_json(
                result, selection, {name: curve_json(each[result.name]) for name, each in curves.items()}
            )
            for result in results
        ],
    }
